"""Promises 8 to 10: one grant for everybody, and nobody stuck."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import (
    FakeTokenManager,
    Getter,
    TwoClocks,
    make_config,
    run_virtually,
    start_getters,
)
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    SessionClosedError,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

# 8


async def test_promise_08_ten_thousand_getters_make_one_request(
    autojump_clock: MockClock,
) -> None:
    """All getters of an empty session are served by one grant."""
    server = TokenServer(FaultPlan(token=[Fault(delay=1.0)]))
    async with open_test_session(server) as session:
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 10_000)
        assert {getter.token for getter in getters} == set(server.tokens)
        assert server.grants == len(server.token_requests()) == 1
        assert session.statistics().getters_held == 0
        assert session.statistics().getters_held_total == 10_000


@given(
    latency=st.floats(0.0, 20.0),
    arrivals=st.lists(st.floats(0.0, 60.0), min_size=2, max_size=12),
    invalidations=st.lists(st.floats(0.0, 60.0), max_size=4),
    revocations=st.lists(st.floats(0.0, 60.0), max_size=2),
    lifetime=st.floats(1.0, 40.0),
)
def test_promise_08_never_two_grants_in_flight(
    latency: float,
    arrivals: list[float],
    invalidations: list[float],
    revocations: list[float],
    lifetime: float,
) -> None:
    """Gets, invalidations and revokes at any moment never have two grants in flight."""

    async def main() -> None:
        config = make_config(max_retries=20)
        manager = FakeTokenManager(config, lifetime=lifetime, latency=latency)
        async with AnonymousSession(config, manager) as session, trio.open_nursery() as nursery:

            async def get_at(moment: float) -> None:
                await trio.sleep_until(moment)
                with trio.move_on_after(100.0):
                    try:
                        await session.get_access_token()
                    except TokenUnavailableError:
                        assert latency > 0

            async def invalidate_at(moment: float) -> None:
                await trio.sleep_until(moment)
                if session.token_info is not None:
                    session.invalidate(session.token_info.access_token)

            async def revoke_at(moment: float) -> None:
                await trio.sleep_until(moment)
                await session.revoke_tokens()

            for moment in arrivals:
                nursery.start_soon(get_at, moment)
            for moment in invalidations:
                nursery.start_soon(invalidate_at, moment)
            for moment in revocations:
                nursery.start_soon(revoke_at, moment)
        assert manager.most_in_flight == 1

    run_virtually(main)


# 9


@pytest.mark.parametrize("leaves_at", [0.0, 0.4, 0.999, 1.0])
@pytest.mark.parametrize("who", [0, 1, 9])
async def test_promise_09_a_getter_that_leaves_changes_nothing(
    autojump_clock: MockClock, leaves_at: float, who: int
) -> None:
    """Cancelling any getter, the first included, leaves one grant and the others served."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 10)
            await wait_all_tasks_blocked()
            await trio.sleep(leaves_at)
            getters[who].scope.cancel()
        assert len(manager.sent) == 1
        others = getters[:who] + getters[who + 1 :]
        assert {getter.token for getter in others} == {"token-1"}
        assert {getter.ended_at - getter.began_at for getter in others} == {1.0}


async def test_promise_09_a_getter_with_a_deadline_leaves_on_time(
    autojump_clock: MockClock,
) -> None:
    """The gate is not held across I/O: a deadline of 0.1 s is one of 0.1 s."""
    manager = FakeTokenManager(make_config(), latency=30.0)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 3)
            getters[0].scope.deadline = trio.current_time() + 0.1
            await wait_all_tasks_blocked()
            await trio.sleep(0.1)
            await wait_all_tasks_blocked(0.001)
            assert getters[0].ended
            assert getters[0].ended_at - getters[0].began_at == 0.1
            nursery.cancel_scope.cancel()


async def test_promise_09_the_grant_outlives_all_its_getters(autojump_clock: MockClock) -> None:
    """When every getter has left, the grant comes in all the same."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        with trio.move_on_after(0.5):
            await session.get_access_token()
        await trio.sleep(0.6)
        assert session.get_access_token_nowait() == "token-1"
        assert len(manager.sent) == 1


@given(
    cancellations=st.lists(st.tuples(st.integers(0, 7), st.floats(0.0, 3.0)), max_size=8),
    outcomes=st.lists(st.sampled_from(["token", "fails", "rejected"]), max_size=5),
    latency=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_promise_09_cancellations_at_any_moment(
    cancellations: list[tuple[int, float]], outcomes: list[str], latency: float
) -> None:
    """Whoever is cancelled whenever, the others end, and end alike."""

    async def main() -> None:
        config = make_config(max_retries=2, retry_interval=0.5)
        manager = FakeTokenManager(config, latency=latency)
        kinds = {
            "token": None,
            "fails": TokenUnavailableError("down"),
            "rejected": CredentialsRejectedError("no"),
        }
        manager.outcomes = [
            kinds[name] or manager.new_token(trio.current_time()) for name in outcomes
        ]
        async with AnonymousSession(config, manager) as session:
            async with trio.open_nursery() as nursery:
                getters = start_getters(nursery, session, 8)

                async def cancel(number: int, moment: float) -> None:
                    await trio.sleep(moment)
                    getters[number].scope.cancel()

                for number, moment in cancellations:
                    nursery.start_soon(cancel, number, moment)
            stayed = [getter for getter in getters if not getter.scope.cancelled_caught]
            assert len({getter.token for getter in stayed}) <= 1
            assert len({type(getter.error) for getter in stayed}) <= 1
            assert all(getter.token or getter.error for getter in stayed)
            assert session.statistics().getters_held == 0

    run_virtually(main)


# 10


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
async def test_promise_10_every_end_of_a_refresh_wakes_everybody(
    autojump_clock: MockClock, outcome: object, error: type[Exception] | None
) -> None:
    """Success, rejection, failure, nonsense, breakdown: no held getter stays held."""
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


async def test_promise_10_a_woken_getter_looks_again(autojump_clock: MockClock) -> None:
    """A token that is dropped before a getter's turn at the gate is not what it returns."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        got: list[str] = []

        async def get_and_invalidate() -> None:
            token = await session.get_access_token()
            got.append(token)
            if token == "token-1":
                session.invalidate(token)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(get_and_invalidate)
        # The first one to have its turn drops the token under the noses of the others.
        assert got == ["token-1"] + ["token-2"] * 49
        assert [later - manager.sent[0] for later in manager.sent] == [0.0, 1.0]


async def test_promise_10_a_getter_released_into_a_failing_round_is_told(
    autojump_clock: MockClock,
) -> None:
    """A getter whose token is dropped before its turn joins the next round, to its end."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config, latency=1.0)
    async with AnonymousSession(config, manager) as session:
        manager.outcomes = [manager.new_token(trio.current_time()), TokenUnavailableError("down")]
        errors: list[Exception] = []

        async def get_and_invalidate(getter: Getter) -> None:
            await getter.run(session)
            if getter.token is not None:
                session.invalidate(getter.token)

        getters = [Getter() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for getter in getters:
                nursery.start_soon(get_and_invalidate, getter)
        errors = [getter.error for getter in getters if isinstance(getter.error, Exception)]
        assert len(errors) == 4
        assert {type(error) for error in errors} == {TokenUnavailableError}


def test_promise_10_a_getter_is_let_go_when_the_wall_clock_is_set_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a wall clock ahead made EXPIRED is good again when it is set back."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        config = make_config(refresh="on_request", retry_strategy=lambda attempt, error: 1e3)
        manager = FakeTokenManager(config)
        async with AnonymousSession(config, manager) as session, trio.open_nursery() as nursery:
            token = await session.get_access_token()
            await clock.advance(10.0)
            clock.set_wall(by=7200.0)
            manager.outcomes = [TokenUnavailableError("down")]
            [getter] = start_getters(nursery, session, 1)
            await clock.advance(1.0)
            assert session.statistics().getters_held == 1
            clock.set_wall(by=-7200.0)
            await clock.advance(60.0)
            assert getter.token == token

    trio.run(main, clock=clock)


@pytest.mark.parametrize("is_left", [True, False])
@pytest.mark.parametrize("max_retries", [0, 5])
@pytest.mark.parametrize("is_good", [True, False])
@pytest.mark.parametrize("turns", range(1, 10))
def test_promise_10_callers_that_come_while_others_are_woken(
    turns: int, max_retries: int, is_good: bool, is_left: bool
) -> None:
    """They may find a lock of the gate taken, and get a token or an error of their own."""

    async def main() -> None:
        manager = FakeTokenManager(make_config(max_retries=max_retries), latency=1.0)
        if not is_good:
            manager.outcomes = [OSError()]
        async with trio.open_nursery() as nursery:
            async with AnonymousSession(manager.config, manager) as session:
                getters = start_getters(nursery, session, 32)
                # The request ends in the same moment.
                await trio.sleep(1.0)
                for _ in range(turns):
                    getters += start_getters(nursery, session, 32)
                    await trio.lowlevel.checkpoint()
                if not is_left:
                    await trio.sleep(30.0)
        errors = [getter.error for getter in getters if getter.error is not None]
        assert {type(error) for error in errors} <= {SessionClosedError, TokenUnavailableError}
        assert not any(isinstance(error.__context__, trio.WouldBlock) for error in errors)
        assert all(getter.ended for getter in getters)

    run_virtually(main)
