"""The scenes that measure crowds: who is counted, and which limits stand beside the figures."""

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
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from benchmarks.measure import Comparison, Row

pytestmark = pytest.mark.nightly

FEW = Effort(turns=1, calls=1, crowd=1_000)


def ours(comparisons: Sequence[Comparison], figure: str) -> Row:
    """Return the library's row in a figure."""
    rows = next(each.rows for each in comparisons if each.figure == figure)
    return next(row for row in rows if row.is_ours)


@pytest.mark.parametrize("measure", [crowds.total, crowds.stall, crowds.weight])
@pytest.mark.parametrize("gates", release.GATES.values(), ids=release.GATES)
async def test_crowds(measure: release.Measure, gates: crowds.Gates) -> None:
    """Nobody passes a gate before it is opened, and then the whole crowd does."""
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


async def test_one_grant_for_a_crowd() -> None:
    """All of a crowd share one grant."""
    grants = Grants()
    await crowds.total(partial(release.session, grants), 100)
    assert grants.sent == 1


def test_release() -> None:
    """Each size that is not left out has three figures, with the memory's limit."""
    comparisons = release.run(FEW)
    assert [(each.figure, each.size) for each in comparisons] == [
        ("the release", 1_000),
        ("the longest stall of another task", 1_000),
        ("the memory of each", 1_000),
    ]
    for each in comparisons:
        assert [row.subject for row in each.rows] == list(release.GATES)
    row = ours(comparisons, "the memory of each")
    assert row.limit == Limit(3_900, "amount")
    assert not row.is_over


async def test_shares() -> None:
    """A share among many stands beside that among few, and the library's has a limit."""
    comparisons = await release._totals(30, 1, few=10)
    assert [each.figure for each in comparisons] == [
        "the release",
        "one's share of the release, get_access_token",
        "one's share of the release, trio.Event",
    ]
    assert [row.subject for row in comparisons[1].rows] == ["among 30", "among 10"]
    assert [row.limit for row in comparisons[1].rows] == [Limit(2.0), None]
    assert [row.limit for row in comparisons[2].rows] == [None, None]


def test_failure() -> None:
    """Each getter is told by an exception of its own; those beside it share one, or do not."""
    comparisons = failure.run(FEW)
    assert [(each.figure, each.size) for each in comparisons] == [
        ("a failure told", 1_000),
        ("the memory of what each was told", 1_000),
        ("distinct exceptions", 1_000),
    ]
    distinct = {row.subject: row.amount.median for row in comparisons[-1].rows}
    assert distinct == {
        "get_access_token": 1_000,
        "trio.Event, one shared exception": 1,
        "trio.Event, a plain exception each": 1_000,
    }


@pytest.mark.parametrize(
    "gates", failure.GATES.values(), ids=[who.subject for who in failure.GATES]
)
async def test_everyone_is_told(gates: failure.FailingGates) -> None:
    """Each of a crowd hands over what it was told."""
    told: list[Exception] = []
    await crowds.total(partial(gates, told.append), 30)
    assert len(told) == 30


async def test_one_rejection_for_a_crowd() -> None:
    """All of a crowd are told of one grant."""
    rejections = failure.Rejections()
    await crowds.total(partial(failure.session, failure._forget, rejections), 100)
    assert rejections.sent == 1


def test_sessions() -> None:
    """Start, close and memory, with a limit for what a session takes on top of a nursery."""
    comparisons = sessions.run(FEW)
    assert [(each.figure, each.size) for each in comparisons] == [
        (figure, size)
        for size in (1, 1_000)
        for figure in ("the start of each", "the close of each", "the memory of each")
    ]
    limited = {row.subject: row.limit for row in comparisons[-1].rows if row.limit}
    assert limited == {"that session, on top of the nursery": Limit(1_500, "amount")}
    assert not any(row.is_over for row in comparisons[-1].rows)


@pytest.mark.parametrize("measure", [sessions.timed, sessions.weight])
async def test_sessions_are_open_at_once(measure: Callable[..., Awaitable[object]]) -> None:
    """All are opened before the first is closed, and all are closed."""
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


def test_under_load() -> None:
    """Nobody is held by a refresh, and that and the slowest getters have limits."""
    comparisons = under_load.run(FEW)
    assert [each.figure for each in comparisons] == [
        "a getter's time, p50",
        "a getter's time, p99",
        "a getter's time, p99.9",
        "getters held after the first token",
        "refreshes meanwhile",
    ]
    assert ours(comparisons, "a getter's time, p99.9").limit == Limit(1.1)
    held = ours(comparisons, "getters held after the first token")
    assert held.limit == Limit(0, "amount")
    assert held.amount.high == 0
    refreshing, fresh = comparisons[-1].rows
    assert refreshing.amount.low >= 1
    assert fresh.amount.high == 0


def test_the_load() -> None:
    """It is 50,000 calls a second, and goes on a while after the last refresh."""
    load = trio.run(under_load.without_session, 0, clock=under_load.WorkClock())
    assert len(load.times) == 12_500
    clock = under_load.WorkClock()
    load = trio.run(under_load.with_session, under_load.Renewals, 1, clock=clock)
    assert len(load.times) == 37_500


def test_percentiles() -> None:
    """A share of the calls takes no longer than the time of that share."""
    load = under_load.Load([float(number) for number in range(1001)])
    assert [load.time_of(share) for share in (0.5, 0.99, 0.999)] == [500.0, 990.0, 999.0]


def test_work_clock() -> None:
    """An hour with nothing to do is skipped."""
    clock = under_load.WorkClock()
    before = clock.current_time()
    trio.run(trio.sleep, 3600.0, clock=clock)
    assert clock.current_time() - before >= 3600.0
