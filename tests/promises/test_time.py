"""Promises 1 to 3, 6 and 7: expiry, refreshes and the gap between token requests."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from tests.helpers import FakeTokenManager, make_config, run_virtually, start_getters
from tests.promises.kit import ASKS
from trio_anon_session import (
    AnonymousSession,
    MalformedTokenResponseError,
    TokenInfo,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIMES = st.one_of(
    st.sampled_from([0.25, 1.0, 2.0, 30.0, 600.0, 601.0, 3600.0, 86400.0]),
    st.floats(0.1, 1e5, allow_nan=False),
)
BUFFERS = st.one_of(st.sampled_from([0.0, 30.0, 600.0]), st.floats(0.0, 1e5))


@given(
    lifetime=LIFETIMES,
    stale_buffer=BUFFERS,
    expired_buffer=BUFFERS,
    jitter=st.sampled_from([0.0, 1.0, 1e5]),
    latencies=st.lists(st.floats(0.0, 40.0), max_size=4),
    refresh=st.sampled_from(["eager", "on_request"]),
    pauses=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=12),
    faults=st.lists(st.sampled_from([503, 400, 0]), max_size=6),
)
@example(1.0, 0.0, 0.0, 0.0, [], "eager", [0.0, 1.0, 1.0, 1.0], [])
@example(4.0, 600.0, 30.0, 0.0, [3.0], "on_request", [0.5, 0.25, 0.25], [])
def test_promise_01_the_server_accepts_each_returned_token(
    lifetime: float,
    stale_buffer: float,
    expired_buffer: float,
    jitter: float,
    latencies: list[float],
    refresh: str,
    pauses: list[float],
    faults: list[int],
) -> None:
    """With any lifetimes, buffers and faults, the server accepts each token that a caller gets."""

    async def main() -> None:
        plan = [Fault(delay=delay) for delay in latencies]
        plan += [Fault.server_error(status) if status else Fault() for status in faults]
        server = TokenServer(FaultPlan(token=plan), lifetime=lifetime)
        async with open_test_session(
            server,
            stale_buffer=stale_buffer,
            expired_buffer=expired_buffer,
            refresh_jitter=jitter,
            refresh=refresh,
            max_retries=8,
        ) as session:
            for pause in pauses:
                await trio.sleep(pause * lifetime)
                try:
                    token = await session.get_access_token()
                except (TokenUnavailableError, httpx.RequestError):
                    continue
                assert server.tokens[token].verdict_at(trio.current_time()) == "good"

    run_virtually(main)


class _AfterFirstStep(trio.abc.Instrument):
    """Calls a function when a task has reached its first checkpoint."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name = name
        self.action: Callable[[], object] | None = action

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Call the function after the task's first step."""
        if task.name == self.name and self.action is not None:
            action, self.action = self.action, None
            action()


@pytest.mark.parametrize("ask", ["get", "exchange"])
async def test_promise_01_a_getter_decides_after_its_checkpoint(
    autojump_clock: MockClock, ask: str
) -> None:
    """A get or an exchange does not return a token that was dropped during its checkpoint."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        old = await session.get_access_token()
        got: list[str] = []

        async def get() -> None:
            got.append(await ASKS[ask](session))

        instrument = _AfterFirstStep("the getter", lambda: session.invalidate(old))
        trio.lowlevel.add_instrument(instrument)
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # the call needs its own task
            nursery.start_soon(get, name="the getter")
        trio.lowlevel.remove_instrument(instrument)
        assert instrument.action is None
        assert got == ["token-2"]


async def test_promise_01_every_getter_is_a_checkpoint(autojump_clock: MockClock) -> None:
    """Each async method executes a checkpoint, with a token or without; nowait does not."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        for _ in range(2):
            with assert_checkpoints():
                await session.get_access_token()
        with assert_checkpoints():
            await session.exchange_token("item_read")
        with assert_no_checkpoints():
            session.get_access_token_nowait()
        for _ in range(2):
            with assert_checkpoints():
                await session.revoke_tokens()


@pytest.mark.parametrize("refresh", ["eager", "on_request"])
async def test_promise_02_usable_tokens_need_no_wait_for_the_endpoint(
    autojump_clock: MockClock, refresh: str
) -> None:
    """With a FRESH or STALE token, calls take no time although the endpoint hangs."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.hang()), lifetime=3600.0)
    async with open_test_session(server, refresh=refresh) as session:
        token = await session.get_access_token()
        start = session.token_info.sent_at if session.token_info else math.nan
        for moment in (1.0, 2999.0, 3000.0, 3000.0, 3200.0, 3569.0):
            await trio.sleep_until(start + moment)
            assert await session.get_access_token() == token
            assert session.get_access_token_nowait() == token
            assert (await session.exchange_token("x")).access_token == token
            assert trio.current_time() == start + moment


async def test_promise_03_eager_refreshes_at_the_stale_boundary_without_traffic(
    autojump_clock: MockClock,
) -> None:
    """An eager session refreshes exactly at each stale boundary, without any call."""
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep(4 * 3600.0)
        assert [at - start for at in manager.sent] == [0.0, 3000.0, 6000.0, 9000.0, 12000.0]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("refresh", ["eager", "on_request"])
async def test_promise_03_a_getter_that_meets_a_stale_token_starts_the_refresh(
    autojump_clock: MockClock, refresh: str, ask: str
) -> None:
    """A call with a STALE token starts the refresh in an on-request or parked session.

    Without calls, such a session sends nothing.
    """
    config = make_config(refresh=refresh, idle_timeout=100.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep_until(start + 3100.0)
        assert len(manager.sent) == 1
        assert await ASKS[ask](session) == "token-1"
        await wait_all_tasks_blocked()
        assert [at - start for at in manager.sent] == [0.0, 3100.0]
        assert session.get_access_token_nowait() == "token-2"
        await trio.sleep(10 * 3600.0)
        assert len(manager.sent) == 2


@given(
    lifetime=st.floats(2.0, 5000.0),
    stale_buffer=st.floats(1.0, 5000.0),
    jitter=st.sampled_from([0.0, 10.0]),
    speed=st.floats(0.0, 0.99),
    workers=st.integers(1, 5),
)
def test_promise_03_no_getter_is_held_after_the_first_token(
    lifetime: float, stale_buffer: float, jitter: float, speed: float, workers: int
) -> None:
    """If each refresh ends within the stale window, no caller waits after the first token."""

    async def main() -> None:
        config = make_config(stale_buffer=stale_buffer, refresh_jitter=jitter)
        manager = FakeTokenManager(config, lifetime=lifetime)
        async with AnonymousSession(config, manager) as session:
            token = await session.exchange_token("x")
            # This stale window remains after the largest possible jitter.
            window = (token.expires_at - token.stale_at) / (2 if jitter else 1)
            manager.latency = min(speed * window, config.request_timeout)

            async def work(pause: float) -> None:
                while True:
                    await session.get_access_token()
                    await trio.sleep(pause)

            with trio.move_on_after(8 * lifetime):
                async with trio.open_nursery() as nursery:
                    for number in range(workers):
                        nursery.start_soon(work, lifetime / (7.3 + number))
            assert session.statistics().getters_held_total == 1
            assert session.statistics().grants > 5

    run_virtually(main)


@given(
    jitter=st.floats(0.0, 1e4),
    lifetime=st.floats(10.0, 1e5),
    refresh=st.sampled_from(["eager", "on_request"]),
)
def test_promise_03_jitter_moves_the_stored_boundary_later(
    jitter: float, lifetime: float, refresh: str
) -> None:
    """The refresh starts at the token's ``stale_at``, which includes the jitter."""

    async def main() -> None:
        config = make_config(refresh_jitter=jitter, refresh=refresh)
        manager = FakeTokenManager(config, lifetime=lifetime)
        async with AnonymousSession(config, manager) as session:
            token = await session.exchange_token("x")
            plain = TokenInfo.from_answer("t", lifetime, token.sent_at, make_config())
            window = plain.expires_at - plain.stale_at
            latest = plain.stale_at + min(jitter, window / 2)
            assert plain.stale_at <= token.stale_at <= latest + 1e-9
            for moment in (token.stale_at - 1e-3, token.stale_at):
                await trio.sleep_until(moment)
                session.get_access_token_nowait()
                await wait_all_tasks_blocked()
                assert manager.sent[1:] == ([moment] if moment == token.stale_at else [])

    run_virtually(main)


@pytest.mark.parametrize("latency", [7.5, 8.0], ids=["at the boundary", "later"])
async def test_promise_06_an_answer_that_comes_too_late_is_a_failed_grant(
    autojump_clock: MockClock, latency: float
) -> None:
    """A token that is EXPIRED on arrival counts as a failure, and the round continues."""
    manager = FakeTokenManager(make_config(), lifetime=10.0, latency=latency)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(1.0)
            manager.latency = 0.0
        assert getter.token == "token-2"
        assert session.statistics().failures == 1
        assert "expired when it arrived" in (session.statistics().last_error or "")


@given(
    lifetime=st.floats(0.01, 20.0),
    gap=st.floats(0.05, 5.0),
    reuses=st.booleans(),
    statuses=st.lists(st.sampled_from([200, 429, 500, 400]), max_size=10),
    retry_after=st.sampled_from([None, "0", "Thu, 01 Jan 1970 00:00:00 GMT"]),
    strategy=st.sampled_from([None, lambda attempt, error: 0.0]),
    workers=st.integers(1, 3),
)
def test_promise_07_token_requests_keep_their_gap(
    lifetime: float,
    gap: float,
    reuses: bool,
    statuses: list[int],
    retry_after: str | None,
    strategy: object,
    workers: int,
) -> None:
    """With any lifetimes, faults and 401s, token requests are at least the gap apart."""

    async def main() -> None:
        faults = [
            Fault.server_error(status, retry_after=retry_after) if status != 200 else None
            for status in statuses
        ]
        server = TokenServer(FaultPlan(token=faults), lifetime=lifetime, reuses_tokens=reuses)
        async with open_test_session(
            server,
            min_refresh_interval=gap,
            retry_interval=0.001,
            retry_strategy=strategy,
            max_retries=3,
        ) as session:

            async def work() -> None:
                while True:
                    try:
                        session.invalidate(await session.get_access_token())
                    except httpx.RequestError:
                        await trio.sleep(gap / 10)

            with trio.move_on_after(12 * gap):
                async with trio.open_nursery() as nursery:
                    for _ in range(workers):
                        nursery.start_soon(work)
        times = [request.at for request in server.token_requests()]
        assert len(times) > 1
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= gap - 1e-9

    run_virtually(main)


async def test_promise_07_the_same_token_again_is_counted_and_paced(
    autojump_clock: MockClock,
) -> None:
    """If a server returns the same token until it expires, the session counts and limits that."""
    server = TokenServer(lifetime=600.0, reuses_tokens=True)
    async with open_test_session(server, stale_buffer=600.0) as session:
        first = await session.get_access_token()
        await trio.sleep(590.0)
        statistics = session.statistics()
        assert statistics.same_token_answers == statistics.grants - 1 >= 1
        assert len(server.token_requests()) < 20
        await trio.sleep(20.0)
        assert await session.get_access_token() != first


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [
        *((text, None) for text in ["0", "-1", "true", "1e400", "NaN", '"soon"', "[]"]),
        *((text, 1234.0) for text in [None, "null"]),
        ('"3599"', 3599.0),
        ("3600.5", 3600.0),
        ("0.5", 0.5),
        ("9" * 40, 2.0**31),
    ],
    ids=ascii,
)
async def test_promise_07_every_lifetime_has_a_defined_result(
    autojump_clock: MockClock, text: str | None, lifetime: float | None
) -> None:
    """Positive numbers and strings of digits are valid as ``expires_in``, up to a limit.

    A missing value means the default, and any other value raises an error.
    """
    server = TokenServer(FaultPlan(token_then=Fault(fields={"expires_in": text})))
    async with open_test_session(server, default_lifetime=1234.0, max_retries=0) as session:
        if lifetime is None:
            with pytest.raises(MalformedTokenResponseError, match="expires_in"):
                await session.get_access_token()
        else:
            assert (await session.exchange_token("x")).lifetime == lifetime
