"""The scenes that measure crowds: what they count, and which figures have limits."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from benchmarks import crowds
from benchmarks.measure import Effort, Limit
from benchmarks.scenes import failure, release, sessions, under_load
from benchmarks.sources import Grants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.nightly

FEW = Effort(turns=1, calls=1, crowd=1_000)


@pytest.mark.parametrize("measure", [crowds.total, crowds.stall, crowds.weight])
@pytest.mark.parametrize("gates", release.GATES.values(), ids=release.GATES)
async def test_crowds(measure: release.Measure, gates: crowds.Gates) -> None:
    """No task passes a gate before it opens, and then the whole crowd does."""
    passed = 0

    @asynccontextmanager
    async def counted() -> AsyncIterator[crowds.Gate]:
        async with gates() as gate:

            async def wait() -> None:
                nonlocal passed
                await gate.wait()
                passed += 1

            async def open_it() -> None:
                assert passed == 0
                await gate.open()

            yield crowds.Gate(wait, open_it)

    assert await measure(counted, 30) > 0
    assert passed == 30


async def test_one_request_for_a_crowd() -> None:
    """A crowd of callers shares one token request, or one rejection."""
    grants, rejections = Grants(), failure.Rejections()
    await crowds.total(partial(release.session, grants), 100)
    await crowds.total(partial(failure.session, failure._forget, rejections), 100)
    assert (grants.sent, rejections.sent) == (1, 1)


@pytest.mark.parametrize(
    "gates", failure.GATES.values(), ids=[who.subject for who in failure.GATES]
)
async def test_each_getter_gets_an_error(gates: failure.FailingGates) -> None:
    """Each getter of a crowd gets an error."""
    told: list[Exception] = []
    await crowds.total(partial(gates, told.append), 30)
    assert len(told) == 30


@pytest.mark.parametrize("measure", [sessions.timed, sessions.weight])
async def test_sessions_are_open_at_once(measure: Callable[..., Awaitable[object]]) -> None:
    """All sessions are opened before the first one is closed, and all are closed."""
    now = most = 0

    class Watched(sessions.Nursery):
        __slots__ = ()

        async def __aenter__(self) -> None:
            nonlocal now, most
            await super().__aenter__()
            now += 1
            most = max(most, now)

        async def __aexit__(self, *exc_info: Any) -> None:
            nonlocal now
            now -= 1
            await super().__aexit__(*exc_info)  # noqa: ASYNC102  # it is cancelled

    await measure(Watched, 30)
    assert (most, now) == (30, 0)


@pytest.mark.parametrize(
    ("scene", "limit"),
    [(release, Limit(3_900, "amount")), (sessions, Limit(1_500, "amount"))],
)
def test_limits_of_memory(scene: Any, limit: Limit) -> None:
    """The memory of a waiting getter, and of a session, has a limit, which is kept."""
    *_, memory = scene.run(FEW)
    assert memory.figure == "the memory of each"
    [row] = [row for row in memory.rows if row.limit is not None]
    assert row.limit == limit
    assert not row.is_over


def test_under_load() -> None:
    """Under load, no getter waits for a refresh; this and the slowest getters have limits."""
    *_, slowest, held, refreshes = under_load.run(FEW)
    assert next(row for row in slowest.rows if row.is_ours).limit == Limit(1.1)
    row = next(row for row in held.rows if row.is_ours)
    assert (row.limit, row.amount.high) == (Limit(0, "amount"), 0)
    refreshing, fresh = refreshes.rows
    assert refreshing.amount.low >= 1
    assert fresh.amount.high == 0


async def test_shares() -> None:
    """The library's share among many, compared with the share among few, has a limit."""
    _, ours, other = await release._totals(30, 1, few=10)
    assert [row.subject for row in ours.rows] == ["among 30", "among 10"]
    assert [row.limit for row in ours.rows] == [Limit(2.0), None]
    assert [row.limit for row in other.rows] == [None, None]


def test_failure() -> None:
    """Each getter gets its own exception; waiters on an event share one, or get their own."""
    distinct = {row.subject: row.amount.median for row in failure.run(FEW)[-1].rows}
    assert distinct == {
        "get_access_token": 1_000,
        "trio.Event, one shared exception": 1,
        "trio.Event, a plain exception each": 1_000,
    }


def test_the_load() -> None:
    """The load has the expected number of calls, and reports percentiles of their times."""
    load = trio.run(under_load.without_session, 0, clock=under_load.WorkClock())
    assert len(load.times) == 12_500
    clock = under_load.WorkClock()
    load = trio.run(under_load.with_session, under_load.Renewals, 1, clock=clock)
    assert len(load.times) == 37_500
    load = under_load.Load([float(number) for number in range(1001)])
    assert [load.time_of(share) for share in (0.5, 0.99, 0.999)] == [500.0, 990.0, 999.0]


def test_work_clock() -> None:
    """The work clock skips an hour in which no task runs."""
    clock = under_load.WorkClock()
    before = clock.current_time()
    trio.run(trio.sleep, 3600.0, clock=clock)
    assert clock.current_time() - before >= 3600.0
