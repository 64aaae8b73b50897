"""Promises 1 to 7: what time makes of a token."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
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

from tests.helpers import (
    FakeTokenManager,
    TwoClocks,
    make_config,
    run_virtually,
    start_getters,
)
from trio_anon_session import (
    AnonymousSession,
    MalformedTokenResponseError,
    TokenInfo,
    TokenState,
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


# 1


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
def test_promise_01_no_token_that_the_server_refuses(
    lifetime: float,
    stale_buffer: float,
    expired_buffer: float,
    jitter: float,
    latencies: list[float],
    refresh: str,
    pauses: list[float],
    faults: list[int],
) -> None:
    """A getter never receives a token that has expired at the server, whatever is drawn."""

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
    """Does something in the moment in which a task has come to its first checkpoint."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name = name
        self.action: Callable[[], object] | None = action

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Act after the task's first step."""
        if task.name == self.name and self.action is not None:
            action, self.action = self.action, None
            action()


@pytest.mark.parametrize("ask", ["get", "exchange"])
async def test_promise_01_a_getter_decides_after_its_checkpoint(
    autojump_clock: MockClock, ask: str
) -> None:
    """A token that is dropped while a get or an exchange yields is not what it returns."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        old = await session.get_access_token()
        got: list[str] = []

        async def get() -> None:
            if ask == "get":
                got.append(await session.get_access_token())
            else:
                got.append((await session.exchange_token("x")).access_token)

        instrument = _AfterFirstStep("the getter", lambda: session.invalidate(old))
        trio.lowlevel.add_instrument(instrument)
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # a task whose steps are its own
            nursery.start_soon(get, name="the getter")
        trio.lowlevel.remove_instrument(instrument)
        assert instrument.action is None
        assert got == ["token-2"]


async def test_promise_01_every_getter_is_a_checkpoint(
    autojump_clock: MockClock,
) -> None:
    """The async getters are checkpoints, token at hand or not; nowait is none."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        with assert_checkpoints():
            await session.get_access_token()
        with assert_checkpoints():
            await session.get_access_token()
        with assert_checkpoints():
            await session.exchange_token("item_read")
        with assert_no_checkpoints():
            session.get_access_token_nowait()
        with assert_checkpoints():
            await session.revoke_tokens()
        with assert_checkpoints():
            await session.revoke_tokens()


async def test_promise_01_a_boundary_belongs_to_the_later_state(
    autojump_clock: MockClock,
) -> None:
    """One tick before a boundary is the earlier state, the boundary itself the later one."""
    config = make_config(refresh="on_request")
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        await session.get_access_token()
        for moment, state in (
            (3000.0 - 1e-6, TokenState.FRESH),
            (3000.0, TokenState.STALE),
            (3570.0 - 1e-6, TokenState.STALE),
            (3570.0, TokenState.EXPIRED),
        ):
            await trio.sleep_until(start + moment)
            assert session.state is state
        with pytest.raises(trio.WouldBlock):
            session.get_access_token_nowait()


# 2


@pytest.mark.parametrize("refresh", ["eager", "on_request"])
async def test_promise_02_usable_tokens_come_at_once_while_the_endpoint_hangs(
    autojump_clock: MockClock, refresh: str
) -> None:
    """FRESH and STALE getters do not let the clock move, whatever the endpoint does."""
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


# 3


async def test_promise_03_eager_refreshes_at_the_stale_boundary_without_traffic(
    autojump_clock: MockClock,
) -> None:
    """The refresh task grants at each stale boundary to the tick, with nobody asking."""
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep(4 * 3600.0)
        assert [at - start for at in manager.sent] == [0.0, 3000.0, 6000.0, 9000.0, 12000.0]


async def test_promise_03_on_request_refreshes_only_when_asked_inside_the_stale_window(
    autojump_clock: MockClock,
) -> None:
    """Without traffic nothing is sent; the first getter of the stale window starts one."""
    config = make_config(refresh="on_request")
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep_until(start + 3100.0)
        assert len(manager.sent) == 1
        assert session.get_access_token_nowait() == "token-1"
        await wait_all_tasks_blocked()
        assert [at - start for at in manager.sent] == [0.0, 3100.0]
        assert await session.get_access_token() == "token-2"
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
    """With answers inside the stale window, no getter is ever held again, under any load."""

    async def main() -> None:
        config = make_config(stale_buffer=stale_buffer, refresh_jitter=jitter)
        manager = FakeTokenManager(config, lifetime=lifetime)
        async with AnonymousSession(config, manager) as session:
            token = await session.exchange_token("x")
            # The window that is left when the jitter has taken the most that it may.
            window = (token.expires_at - token.stale_at) / (2 if jitter else 1)
            manager.latency = min(speed * window, config.request_timeout)

            async def work(pause: float) -> None:
                while True:
                    await session.get_access_token()
                    await trio.sleep(pause)

            with trio.move_on_after(20 * lifetime):
                async with trio.open_nursery() as nursery:
                    for number in range(workers):
                        nursery.start_soon(work, lifetime / (7.3 + number))
            assert session.statistics().getters_held_total == 1
            assert session.statistics().grants > 10

    run_virtually(main)


@given(jitter=st.floats(0.0, 1e4), lifetime=st.floats(10.0, 1e5))
def test_promise_03_jitter_moves_the_stored_boundary_later(jitter: float, lifetime: float) -> None:
    """Jitter is drawn once into ``stale_at``, within half the window, and the timer uses it."""

    async def main() -> None:
        config = make_config(refresh_jitter=jitter)
        manager = FakeTokenManager(config, lifetime=lifetime)
        async with AnonymousSession(config, manager) as session:
            token = await session.exchange_token("x")
            plain = TokenInfo.from_answer("t", lifetime, token.sent_at, make_config())
            window = plain.expires_at - plain.stale_at
            latest = plain.stale_at + min(jitter, window / 2)
            assert plain.stale_at <= token.stale_at <= latest + 1e-9
            await trio.sleep_until(token.stale_at)
            await wait_all_tasks_blocked()
            assert manager.sent[-1] == token.stale_at

    run_virtually(main)


@pytest.mark.parametrize("refresh", ["eager", "on_request"])
async def test_promise_03_a_getter_that_meets_a_stale_token_starts_the_refresh(
    autojump_clock: MockClock, refresh: str
) -> None:
    """In both modes a STALE get starts a refresh where none runs: here the mode is parked."""
    config = make_config(refresh=refresh, idle_timeout=100.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(3200.0)
        assert len(manager.sent) == 1
        assert await session.get_access_token() == "token-1"
        await wait_all_tasks_blocked()
        assert session.get_access_token_nowait() == "token-2"


async def test_promise_03_getters_meet_the_jittered_boundary_too(
    autojump_clock: MockClock,
) -> None:
    """A getter starts the refresh at the stored ``stale_at`` to the tick, and not before."""
    config = make_config(refresh="on_request", refresh_jitter=100.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        token = await session.exchange_token("x")
        await trio.sleep_until(token.stale_at - 1e-3)
        session.get_access_token_nowait()
        await wait_all_tasks_blocked()
        assert len(manager.sent) == 1
        await trio.sleep_until(token.stale_at)
        session.get_access_token_nowait()
        await wait_all_tasks_blocked()
        assert manager.sent[1:] == [token.stale_at]


def test_promise_03_jitter_is_drawn_anew_for_each_token() -> None:
    """Tokens of one fleet get different boundaries, spread over all of the jitter."""
    random.seed(0)
    config = make_config(refresh_jitter=100.0)
    moved = [TokenInfo.from_answer("t", 3600.0, 0.0, config).stale_at - 3000.0 for _ in range(200)]
    assert len(set(moved)) > 100
    assert 0.0 <= min(moved) < 20.0
    assert 80.0 < max(moved) <= 100.0


# 4


async def test_promise_04_a_getter_told_in_the_pause_wakes_a_parked_session(
    autojump_clock: MockClock,
) -> None:
    """Who is told when to come again finds that it was tried by then."""
    config = make_config(
        idle_timeout=6.0, stale_buffer=0.0, expired_buffer=0.0, max_retries=0, retry_interval=16.0
    )
    manager = FakeTokenManager(config, lifetime=100.0)
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep_until(start + 99.0)
        await session.get_access_token()
        # An attempt that ends after the session has parked.
        manager.latency = 20.0
        manager.outcomes = [TokenUnavailableError("down", retry_after=8.0)] * 9
        await trio.sleep_until(start + 123.0)
        with pytest.raises(TokenUnavailableError) as caught:
            await session.get_access_token()
        assert caught.value.retry_after == 5.0
        await trio.sleep(6.0)
        assert [at - start for at in manager.sent] == [0.0, 100.0, 128.0]


@pytest.mark.parametrize("ask", ["get", "nowait", "exchange"])
async def test_promise_04_an_idle_session_parks_and_any_get_wakes_it(
    autojump_clock: MockClock, ask: str
) -> None:
    """Eager refreshing parks after ``idle_timeout``; any kind of get keeps it going."""
    config = make_config(idle_timeout=7000.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(100 * 3600.0)
        # At 3000 and 6000 somebody had asked less than 7000 s ago, at 9000 nobody had.
        assert len(manager.sent) == 3
        assert session.state is TokenState.EXPIRED
        assert session.statistics().next_refresh_in is None
        await session.get_access_token()
        assert len(manager.sent) == 4
        await trio.sleep(1000.0)
        match ask:
            case "get":
                await session.get_access_token()
            case "nowait":
                session.get_access_token_nowait()
            case "exchange":
                await session.exchange_token("x")
        await trio.sleep(100 * 3600.0)
        # Asked at 1000: refreshed at 3000 and 6000, and parked at 9000.
        assert len(manager.sent) == 6


@pytest.mark.parametrize("idle_timeout", [10.0, 1000.0])
async def test_promise_04_nowait_on_an_expired_token_starts_nothing(
    autojump_clock: MockClock, idle_timeout: float
) -> None:
    """A parked session whose token has expired is not woken by nowait, soon or later."""
    config = make_config(idle_timeout=idle_timeout)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(2 * 3600.0)
        for _ in range(3):
            with pytest.raises(trio.WouldBlock):
                session.get_access_token_nowait()
            await trio.sleep(100.0)
        assert len(manager.sent) == 1


async def test_promise_04_an_eager_session_keeps_trying_through_an_outage(
    autojump_clock: MockClock,
) -> None:
    """Without a getter, attempts go on past expiry, no more than one each pause."""
    server = TokenServer(
        FaultPlan(token=[None], token_then=Fault.server_error(503)), lifetime=3600.0
    )
    async with open_test_session(server) as session:
        await session.get_access_token()
        await trio.sleep(6 * 3600.0)
        assert session.state is TokenState.EXPIRED
        times = [request.at for request in server.token_requests()]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times[20:])]
        assert gaps == pytest.approx([60.0] * len(gaps))
        assert len(times) > 6 * 60 - 60
        server.faults = FaultPlan()
        await trio.sleep(61.0)
        assert session.get_access_token_nowait()


async def test_promise_04_a_program_that_asks_by_nowait_alone_survives_an_outage(
    autojump_clock: MockClock,
) -> None:
    """Nowait on an expired token counts as use: the session does not park under it."""
    config = make_config(idle_timeout=100.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        manager.outcomes = [TokenUnavailableError("down") for _ in range(40)]
        for _ in range(6000):
            await trio.sleep(1.0)
            with contextlib.suppress(trio.WouldBlock):
                session.get_access_token_nowait()
        assert session.get_access_token_nowait() == "token-2"


async def test_promise_04_at_exactly_the_idle_timeout_a_session_is_parked(
    autojump_clock: MockClock,
) -> None:
    """Asked last ``idle_timeout`` before the stale boundary, to the tick: no refresh there."""
    config = make_config(idle_timeout=3000.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(86400.0)
        assert len(manager.sent) == 1


async def test_promise_04_a_get_that_fails_wakes_a_parked_session(
    autojump_clock: MockClock,
) -> None:
    """A held getter counts as use, token or not: the session keeps trying after its error."""
    config = make_config(idle_timeout=100.0, max_retries=0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(2 * 3600.0)
        manager.outcomes = [TokenUnavailableError("down")]
        with pytest.raises(TokenUnavailableError):
            await session.get_access_token()
        await trio.sleep(10.0)
        assert session.get_access_token_nowait() == "token-2"


# 5


def test_promise_05_a_suspend_of_hours_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspend the dead token is not handed out, though Trio's clock stood still."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        manager = FakeTokenManager(make_config(), lifetime=3600.0)
        async with AnonymousSession(manager.config, manager) as session:
            assert await session.get_access_token() == "token-1"
            clock.suspend(2 * 3600.0)
            assert session.state is TokenState.EXPIRED
            with pytest.raises(trio.WouldBlock):
                session.get_access_token_nowait()
            async with trio.open_nursery() as nursery:
                (getter,) = start_getters(nursery, session, 1)
                await clock.advance(1.0)
            assert getter.token == "token-2"
            assert len(manager.sent) == 2

    trio.run(main, clock=clock)


def test_promise_05_the_sleeping_task_looks_up_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An eager session refreshes after a suspend without traffic, a minute late at most."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        manager = FakeTokenManager(make_config(), lifetime=3600.0)
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            await clock.advance(100.0)
            clock.suspend(3000.0)
            await clock.advance(59.0)
            await clock.advance(1.0)
            assert len(manager.sent) == 2
            assert session.get_access_token_nowait() == "token-2"

    trio.run(main, clock=clock)


def test_promise_05_a_suspend_during_the_grant_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clocks are read before sending: a token that died on its way is not taken."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        config = make_config(max_retries=0)
        manager = FakeTokenManager(config, lifetime=3600.0, latency=10.0)
        async with AnonymousSession(config, manager) as session, trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await wait_all_tasks_blocked()
            clock.suspend(3600.0)
            await clock.advance(10.0)
            assert isinstance(getter.error, TokenUnavailableError)
            assert "expired when it arrived" in str(getter.error)

    trio.run(main, clock=clock)


def test_promise_05_a_wall_clock_set_back_extends_no_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio's clock alone ends a life when the wall clock has been set back."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        config = make_config(refresh="on_request")
        manager = FakeTokenManager(config, lifetime=3600.0)
        async with AnonymousSession(config, manager) as session:
            await session.get_access_token()
            clock.set_wall(by=-7200.0)
            for seconds, state in ((3569.0, TokenState.STALE), (1.0, TokenState.EXPIRED)):
                await clock.advance(seconds)
                assert session.state is state

    trio.run(main, clock=clock)


def test_promise_05_a_wall_clock_set_forward_costs_one_grant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A jump forward costs one grant at most, and the pace is the old one afterwards."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        manager = FakeTokenManager(make_config(), lifetime=3600.0)
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            await clock.advance(500.0)
            clock.set_wall(by=10 * 86400.0)
            assert await session.get_access_token() == "token-2"
            await clock.advance(2940.0)
            assert len(manager.sent) == 2
            await clock.advance(60.0)
            assert len(manager.sent) == 3

    trio.run(main, clock=clock)


async def test_promise_05_under_mock_clock_the_wall_clock_says_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test under ``MockClock`` does not flicker because the real clock moves."""
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        later = time.time() + 1e6
        monkeypatch.setattr(time, "time", lambda: later)
        assert session.state is TokenState.FRESH
        assert session.get_access_token_nowait() == "token-1"


def test_promise_05_a_wall_clock_set_back_gives_no_getter_an_expired_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Getters, too, believe Trio's clock when the wall clock has been set back."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        config = make_config(refresh="on_request")
        manager = FakeTokenManager(config, lifetime=3600.0)
        async with AnonymousSession(config, manager) as session:
            await session.get_access_token()
            clock.set_wall(by=-7200.0)
            await clock.advance(3570.0)
            with pytest.raises(trio.WouldBlock):
                session.get_access_token_nowait()

    trio.run(main, clock=clock)


def test_promise_05_a_suspend_brings_the_boundary_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspend the refresh comes at the boundary, not at the next look up after it."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        manager = FakeTokenManager(make_config(), lifetime=3600.0)
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            start = trio.current_time()
            # Out of step with the minutes in which the task looks up.
            await clock.advance(130.0)
            clock.suspend(2000.0)
            await clock.advance(869.0)
            assert len(manager.sent) == 1
            await clock.advance(1.0)
            assert [at - start for at in manager.sent] == [0.0, 1000.0]

    trio.run(main, clock=clock)


# 6


async def test_promise_06_an_answer_that_comes_too_late_is_a_failed_grant(
    autojump_clock: MockClock,
) -> None:
    """A token that would be EXPIRED on arrival is a failure, and the round goes on."""
    server = TokenServer(FaultPlan(token=[Fault(delay=8.0), Fault(delay=7.4)]), lifetime=10.0)
    async with open_test_session(server, request_timeout=20.0) as session:
        token = await session.get_access_token()
        assert session.statistics().failures == 1
        # It is STALE already, and the next one may be there before the getter has its turn.
        assert token in list(server.tokens)[1:]
        assert "expired when it arrived" in (session.statistics().last_error or "")


async def test_promise_06_an_answer_at_the_very_boundary_is_a_failed_grant(
    autojump_clock: MockClock,
) -> None:
    """The boundary belongs to the later state on arrival, too."""
    manager = FakeTokenManager(make_config(), lifetime=10.0, latency=7.5)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(1.0)
            manager.latency = 0.0
        assert getter.token == "token-2"
        assert session.statistics().failures == 1


# 7


@given(
    lifetime=st.floats(0.01, 20.0),
    gap=st.floats(0.05, 5.0),
    reuses=st.booleans(),
    statuses=st.lists(st.sampled_from([200, 429, 500, 400]), max_size=10),
    retry_after=st.sampled_from([None, "0", "Thu, 01 Jan 1970 00:00:00 GMT"]),
    strategy=st.sampled_from([None, lambda attempt, error: 0.0]),
    workers=st.integers(1, 3),
)
def test_promise_07_grants_keep_their_distance(
    lifetime: float,
    gap: float,
    reuses: bool,
    statuses: list[int],
    retry_after: str | None,
    strategy: object,
    workers: int,
) -> None:
    """No two token requests are closer than the gap: lifetimes, faults and 401s drawn."""

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
                        await trio.sleep(0.01)

            with trio.move_on_after(30 * gap):
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
    """A server that re-issues one token with what is left of it is not asked in a loop."""
    server = TokenServer(lifetime=600.0, reuses_tokens=True)
    async with open_test_session(server, stale_buffer=600.0) as session:
        first = await session.get_access_token()
        await trio.sleep(590.0)
        assert session.statistics().same_token_answers >= 1
        assert len(server.token_requests()) < 20
        await trio.sleep(20.0)
        assert await session.get_access_token() != first


@pytest.mark.parametrize("text", ["0", "-1", "true", "1e400", "NaN", '"soon"', '""', "[]", "{}"])
async def test_promise_07_a_lifetime_that_is_none_is_malformed(
    autojump_clock: MockClock, text: str
) -> None:
    """What is no positive finite number of seconds is a malformed answer."""
    server = TokenServer(FaultPlan(token_then=Fault(fields={"expires_in": text})))
    async with open_test_session(server, max_retries=0) as session:
        with pytest.raises(MalformedTokenResponseError, match="expires_in"):
            await session.get_access_token()


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [
        ('"3599"', 3599.0),
        (None, 1234.0),
        ("null", 1234.0),
        ("9" * 40, 2.0**31),
        ('"' + "9" * 5000 + '"', 2.0**31),
        ("3600.5", 3600.0),
        ("0.5", 0.5),
    ],
)
async def test_promise_07_odd_lifetimes_have_a_defined_result(
    autojump_clock: MockClock, text: str | None, lifetime: float
) -> None:
    """Digits are read, nothing means the default, too much is capped, a fraction is cut."""
    server = TokenServer(FaultPlan(token_then=Fault(fields={"expires_in": text})))
    async with open_test_session(server, default_lifetime=1234.0) as session:
        assert (await session.exchange_token("x")).lifetime == lifetime
