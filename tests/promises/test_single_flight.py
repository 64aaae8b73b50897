"""Promises 8 to 10: one token request for all callers, and no caller waits indefinitely."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import (
    FakeTokenManager,
    Getter,
    make_config,
    run_virtually,
    start_getters,
)
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    Event,
    RefreshFailed,
    SessionClosedError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session


async def test_promise_08_ten_thousand_getters_make_one_request(
    autojump_clock: MockClock,
) -> None:
    """One token request serves 10,000 callers of a session without a token."""
    server = TokenServer(FaultPlan(token=[Fault(delay=1.0)]))
    async with open_test_session(server) as session:
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 10_000)
        assert {getter.token for getter in getters} == set(server.tokens)
        assert server.grants == len(server.token_requests()) == 1
        assert session.statistics().getters_held == 0
        assert session.statistics().getters_held_total == 10_000


@pytest.mark.parametrize("leaves_at", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("who", [0, 1, 9])
async def test_promise_09_a_caller_that_leaves_changes_nothing(
    autojump_clock: MockClock, leaves_at: float, who: int
) -> None:
    """Any caller can be cancelled without delay, and one token request serves the others."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 10)
            await wait_all_tasks_blocked()
            await trio.sleep(leaves_at)
            leaver = getters.pop(who)
            leaver.scope.cancel()
        assert leaver.ended_at - leaver.began_at == leaves_at
        assert len(manager.sent) == 1
        assert {getter.token for getter in getters} == {"token-1"}
        assert {getter.ended_at - getter.began_at for getter in getters} == {1.0}


async def test_promise_09_the_grant_outlives_all_its_getters(autojump_clock: MockClock) -> None:
    """The token request continues after its only caller is cancelled."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        with trio.move_on_after(0.5):
            await session.get_access_token()
        await trio.sleep(0.6)
        assert session.get_access_token_nowait() == "token-1"
        assert len(manager.sent) == 1


class _BrokenError(BaseException):
    pass


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (None, None),
        (CredentialsRejectedError("no"), CredentialsRejectedError),
        (TokenUnavailableError("down", retryable=False), TokenUnavailableError),
        (ZeroDivisionError(), TokenUnavailableError),
        ("no token", TokenUnavailableError),
        (_BrokenError(), SessionClosedError),
    ],
)
async def test_promise_10_every_end_of_a_request_wakes_all_callers(
    autojump_clock: MockClock, outcome: object, error: type[Exception] | None
) -> None:
    """When a token request ends in any way, all waiting callers get a token or an error."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config, latency=1.0)
    if outcome is not None:
        manager.outcomes = [outcome]
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        try:
            async with AnonymousSession(config, manager) as session:
                getters = start_getters(nursery, session, 100)
                await trio.sleep(2.0)
        except _BrokenError:
            pass
    assert {type(getter.error) for getter in getters} == {error or type(None)}
    assert {getter.ended_at - start for getter in getters} == {1.0}


@pytest.mark.parametrize("next_fails", [False, True])
async def test_promise_10_a_woken_caller_checks_its_token_again(
    autojump_clock: MockClock, next_fails: bool
) -> None:
    """A caller whose token is dropped before it runs again waits for the next round."""
    manager = FakeTokenManager(make_config(max_retries=0), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        if next_fails:
            manager.outcomes = [
                manager.new_token(trio.current_time()),
                TokenUnavailableError("down"),
            ]
        getters = [Getter() for _ in range(50)]

        async def get_and_invalidate(getter: Getter) -> None:
            await getter.run(session)
            if getter.token == "token-1":
                session.invalidate("token-1")

        async with trio.open_nursery() as nursery:
            for getter in getters:
                nursery.start_soon(get_and_invalidate, getter)
        # The first caller that runs drops the token before the others run.
        tokens = Counter(getter.token for getter in getters)
        assert tokens == {"token-1": 1, None if next_fails else "token-2": 49}
        errors = {type(getter.error) for getter in getters if getter.token is None}
        assert errors == ({TokenUnavailableError} if next_fails else set())
        assert [later - manager.sent[0] for later in manager.sent] == [0.0, 1.0]


@pytest.mark.parametrize("is_left", [True, False])
@pytest.mark.parametrize("max_retries", [0, 5])
@pytest.mark.parametrize("is_good", [True, False])
@pytest.mark.parametrize("turns", [1, 4, 9])
def test_promise_10_callers_that_come_while_others_are_woken(
    turns: int, max_retries: int, is_good: bool, is_left: bool
) -> None:
    """Callers that come while others are woken up get a token or an error, and none hangs."""

    async def main() -> None:
        manager = FakeTokenManager(make_config(max_retries=max_retries), latency=1.0)
        if not is_good:
            manager.outcomes = [OSError()]
        async with trio.open_nursery() as nursery:
            async with AnonymousSession(manager.config, manager) as session:
                getters = start_getters(nursery, session, 32)
                # The request ends at the same moment.
                await trio.sleep(1.0)
                for _ in range(turns):
                    getters += start_getters(nursery, session, 32)
                    await trio.lowlevel.checkpoint()
                if not is_left:
                    await trio.sleep(30.0)
                    assert all(getter.ended for getter in getters)
        errors = [getter.error for getter in getters if getter.error is not None]
        assert {type(error) for error in errors} <= {SessionClosedError, TokenUnavailableError}
        assert not any(isinstance(error.__context__, trio.WouldBlock) for error in errors)
        assert all(getter.ended for getter in getters)

    run_virtually(main)


async def take_turns(count: int) -> None:
    """Let all tasks that can run take this number of turns."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def test_promise_10_a_token_arrives_before_the_turn_of_a_caller(
    autojump_clock: MockClock,
) -> None:
    """A caller that has to queue at the gate gets a token that arrives before its turn."""
    manager = FakeTokenManager(make_config(max_retries=0))
    manager.outcomes = [TokenUnavailableError("down", retry_after=1.0)]
    has_failed = trio.Event()

    def observe(event: Event) -> None:
        if isinstance(event, RefreshFailed):
            has_failed.set()

    async with AnonymousSession(manager.config, manager, observers=[observe]) as session:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            # They leave the gate eight at a time, so it is busy for 60 turns.
            start_getters(nursery, session, 480)
            await has_failed.wait()
            await take_turns(20)
            # The pause ends, and the next request returns a token within a few turns.
            autojump_clock.jump(1.0)
            late = start_getters(nursery, session, 8)
            await take_turns(20)
            assert session.state is TokenState.FRESH
            assert not any(getter.ended for getter in late)
    assert {(getter.token, getter.ended_at - start) for getter in late} == {("token-1", 1.0)}
