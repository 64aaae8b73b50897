"""Promises 16 to 20: a token that is dropped, and a session that ends."""

from __future__ import annotations

import gc
import itertools
import logging
import signal
import warnings
from typing import TYPE_CHECKING, Literal

import httpx
import pytest
import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, run_virtually, start_getters
from trio_anon_session import (
    AnonymousSession,
    Closed,
    Config,
    RevocationError,
    SessionClosedError,
    TokenInfo,
    TokenManager,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import (
    Fault,
    FaultPlan,
    TokenServer,
    open_loopback,
    open_test_session,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio_anon_session import TokenRequestOptions


# 16


async def test_promise_16_a_hundred_reports_of_one_token_cause_one_grant(
    autojump_clock: MockClock,
) -> None:
    """However many tasks report 401 for A, at once or late, one grant follows."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        dead = await session.get_access_token()
        got: set[str] = set()

        async def report(delay: float) -> None:
            await trio.sleep(delay)
            session.invalidate(dead)
            got.add(await session.get_access_token())

        async with trio.open_nursery() as nursery:
            for number in range(100):
                # While the grant for B is in flight, and while B is current.
                nursery.start_soon(report, number / 20)
        assert got == {"token-2"}
        assert len(manager.sent) == 2
        assert session.statistics().invalidations == 1


async def test_promise_16_a_late_report_while_an_expired_token_is_replaced(
    autojump_clock: MockClock,
) -> None:
    """A report for A after it has expired does not throw away the grant for B in flight."""
    config = make_config(refresh="on_request")
    manager = FakeTokenManager(config, latency=2.0)
    async with AnonymousSession(config, manager) as session:
        dead = await session.get_access_token()
        await trio.sleep(3600.0)
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(1.0)
            session.invalidate(dead)
        assert getter.token == "token-2"
        assert getter.ended_at - getter.began_at == 2.0
        assert len(manager.sent) == 2


# 17


@pytest.mark.parametrize("how", ["invalidate", "revoke"])
async def test_promise_17_a_grant_begun_before_brings_nothing(
    autojump_clock: MockClock, how: str
) -> None:
    """A token whose grant was in flight when the current one was dropped is discarded."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        dropped = await session.exchange_token("x")
        await trio.sleep_until(dropped.stale_at - 1.0)
        manager.latency = 10.0
        await trio.sleep(3.0)
        assert manager.in_flight == 1
        if how == "invalidate":
            session.invalidate(dropped.access_token)
        else:
            await session.revoke_tokens()
        manager.latency = 0.0
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
        assert getter.token == "token-3"
        await wait_all_tasks_blocked()
        # The late answer of a grant from before a revoke is revoked, too.
        assert manager.revoked == ([] if how == "invalidate" else ["token-1", "token-2"])


async def test_promise_17_a_revoke_before_the_first_token_discards_it(
    autojump_clock: MockClock,
) -> None:
    """With nothing held but a grant in flight, revoke discards its token, and revokes it."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(0.5)
            await session.revoke_tokens()
            assert manager.revoked == []
        assert getter.token == "token-2"
        assert manager.revoked == ["token-1"]
        # The endpoint did nothing wrong: no pause but the gap between grants.
        assert session.statistics().failures == 0
        assert manager.sent[1] - manager.sent[0] == 1.0


async def test_promise_17_not_even_a_getter_on_its_way_gets_a_dropped_token(
    autojump_clock: MockClock,
) -> None:
    """Getters at their checkpoint when the token is revoked get the next one."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 20)
            nursery.start_soon(session.revoke_tokens)
            getters += start_getters(nursery, session, 20)
            await wait_all_tasks_blocked()
            revoked_at = trio.current_time()
        late = [getter for getter in getters if getter.ended_at > revoked_at]
        assert {getter.token for getter in getters} <= {"token-1", "token-2"}
        assert all(getter.token == "token-2" for getter in late)


@given(
    drops=st.lists(
        st.tuples(st.floats(0.0, 30.0), st.sampled_from(["invalidate", "revoke"])), max_size=6
    ),
    gets=st.lists(st.floats(0.0, 40.0), min_size=1, max_size=15),
    latency=st.floats(0.0, 3.0),
    lifetime=st.floats(4.0, 30.0),
)
def test_promise_17_no_token_outlives_its_drop(
    drops: list[tuple[float, str]], gets: list[float], latency: float, lifetime: float
) -> None:
    """No getter gets a token whose grant was sent before the last drop, at any timing."""

    async def main() -> None:
        config = make_config()
        manager = FakeTokenManager(config, lifetime=lifetime, latency=latency)
        dropped_at = -1.0

        async def drop_at(moment: float, how: str) -> None:
            nonlocal dropped_at
            await trio.sleep_until(moment)
            if how == "invalidate":
                token = session.get_access_token_nowait_or_none()
                if token is not None:
                    dropped_at = trio.current_time()
                    session.session.invalidate(token)
            else:
                dropped_at = trio.current_time()
                await session.session.revoke_tokens()

        async def get_at(moment: float) -> None:
            await trio.sleep_until(moment)
            with trio.move_on_after(60.0):
                try:
                    token = await session.session.exchange_token("x")
                except TokenUnavailableError:
                    return
                assert token.sent_at >= dropped_at

        async with AnonymousSession(config, manager) as opened:
            session = _Asked(opened)
            async with trio.open_nursery() as nursery:
                for moment, how in drops:
                    nursery.start_soon(drop_at, moment, how)
                for moment in gets:
                    nursery.start_soon(get_at, moment)

    run_virtually(main)


class _Asked:
    def __init__(self, session: AnonymousSession) -> None:
        self.session = session

    def get_access_token_nowait_or_none(self) -> str | None:
        try:
            return self.session.get_access_token_nowait()
        except trio.WouldBlock:
            return None


class _SharedTokenManager(FakeTokenManager):
    """A fake of a shared manager: it returns a token of another process, if it has one."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.dropped: list[str] = []
        self.shared: TokenInfo | None = None
        self.drop_error: Exception | None = None
        self.listeners: list[Callable[[TokenInfo], object]] = []

    def drop(self, token: TokenInfo) -> None:
        """Record the token."""
        self.dropped.append(token.access_token)
        if self.drop_error is not None:
            raise self.drop_error

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Register the listener."""
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return the shared token, if there is one, or a new one."""
        own = await super().get_tokens_client_credentials_grant(options)
        return self.shared or own


async def test_promise_17_a_shared_token_is_new_if_it_is_a_different_one(
    autojump_clock: MockClock,
) -> None:
    """Another process's older token is taken after a drop; the dropped one itself is not."""
    config = make_config(max_retries=1, retry_interval=1.0, refresh="on_request")
    manager = _SharedTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        await trio.sleep(500.0)
        first = manager.shared = TokenInfo.from_answer("shared-1", 3600.0, 0.0, config)
        assert await session.exchange_token("x") == first
        session.invalidate("shared-1")
        with pytest.raises(TokenUnavailableError, match="dropped"):
            await session.get_access_token()
        manager.shared = TokenInfo.from_answer("shared-2", 3600.0, 100.0, config)
        await trio.sleep(60.0)
        assert await session.get_access_token() == "shared-2"


async def test_promise_17_an_older_copy_of_any_dropped_token_is_refused(
    autojump_clock: MockClock,
) -> None:
    """Neither does a token come back that was dropped before the one dropped last."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        first = await session.exchange_token("x")
        session.invalidate(first.access_token)
        session.invalidate(await session.get_access_token())
        manager.outcomes = [first]
        with pytest.raises(TokenUnavailableError, match="dropped"):
            await session.get_access_token()


async def test_promise_17_a_token_that_the_server_gives_again_is_as_good_as_new(
    autojump_clock: MockClock,
) -> None:
    """Once the server has said that a dropped token lives, a copy of that age counts too."""
    config = make_config(min_refresh_interval=1.0)
    manager = FakeTokenManager(config, lifetime=100.0)
    async with AnonymousSession(config, manager) as session:
        session.invalidate(await session.get_access_token())
        again = TokenInfo.from_answer("token-1", 100.0, 1.0, config)
        manager.outcomes = [again, again]
        assert await session.get_access_token() == "token-1"
        # The refresh at the stale boundary, which brings what was sent before it.
        await trio.sleep(60.0)
        assert session.statistics().failures == 0
        assert session.statistics().same_token_answers == 1


@pytest.mark.parametrize(
    ("sent_at", "is_new"), [(0.0, False), (499.0, False), (500.0, True), (600.0, True)]
)
async def test_promise_17_a_token_that_the_server_gave_again_to_another_process_is_new(
    autojump_clock: MockClock, sent_at: float, is_new: bool
) -> None:
    """What counts is when it was granted anew: after the drop, and not after this question."""
    config = make_config(max_retries=0, refresh="on_request")
    manager = _SharedTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        manager.shared = TokenInfo.from_answer("shared-1", 3600.0, 0.0, config)
        await session.get_access_token()
        await trio.sleep(500.0)
        session.invalidate("shared-1")
        await trio.sleep(500.0)
        manager.shared = TokenInfo.from_answer("shared-1", 3600.0, sent_at, config)
        if is_new:
            assert (await session.exchange_token("x")).sent_at == sent_at
        else:
            with pytest.raises(TokenUnavailableError, match="dropped"):
                await session.get_access_token()


async def test_promise_17_a_shared_manager_is_told_of_each_dropped_token(
    autojump_clock: MockClock,
) -> None:
    """It knows before ``invalidate`` returns, and before a revocation is sent."""
    manager = _SharedTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        session.invalidate(await session.get_access_token())
        assert manager.dropped == ["token-1"]
        session.invalidate("token-1")
        await session.get_access_token()
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.revoke_tokens()
        assert manager.dropped == ["token-1", "token-2"]


async def test_promise_17_a_token_that_another_session_dropped_is_dropped_here(
    autojump_clock: MockClock,
) -> None:
    """A session listens to its shared manager while it is open, and reports nothing back."""
    manager = _SharedTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        first = await session.exchange_token("x")
        (listener,) = manager.listeners
        listener(first)
        assert session.state is TokenState.EMPTY
        # Late: another token is current.
        assert await session.get_access_token() == "token-2"
        listener(first)
        assert session.get_access_token_nowait() == "token-2"
    assert manager.listeners == []
    assert manager.dropped == []
    listener(first)


async def test_promise_14_a_drop_that_raises_stops_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that a shared manager raises from ``drop`` is logged."""
    manager = _SharedTokenManager(make_config())
    manager.drop_error = OSError("no store")
    async with AnonymousSession(manager.config, manager) as session:
        session.invalidate(await session.get_access_token())
        assert await session.get_access_token() == "token-2"
    assert "drop raised OSError" in caplog.text
    assert "no store" not in caplog.text


# 18


async def test_promise_18_revoke_forgets_first(autojump_clock: MockClock) -> None:
    """While the request is on its way, and after it has failed, the token is not returned."""
    server = TokenServer(FaultPlan(revoke_then=Fault.server_error(503)))
    async with open_test_session(server, max_retries=2) as session:
        old = await session.get_access_token()
        async with trio.open_nursery() as nursery:

            async def revoke() -> None:
                with pytest.raises(RevocationError) as caught:
                    await session.revoke_tokens()
                assert caught.value.attempts == 3
                assert caught.value.status_code == 503

            nursery.start_soon(revoke)
            await wait_all_tasks_blocked()
            assert session.state is TokenState.EMPTY
            assert await session.get_access_token() != old
        assert len(server.revoke_requests()) == 3
        assert await session.get_access_token() != old
        assert session.statistics().revocations == 0


async def test_promise_18_two_at_once_send_one_request(autojump_clock: MockClock) -> None:
    """Both wait for the one request, and both hear how it ended."""
    server = TokenServer(FaultPlan(revoke=[Fault(delay=3.0), Fault.refusal("invalid_request")]))
    async with open_test_session(server) as session:
        await session.get_access_token()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.revoke_tokens)
            nursery.start_soon(session.revoke_tokens)
        assert trio.current_time() - start == 3.0
        assert len(server.revoke_requests()) == server.revocations == 1
        await session.revoke_tokens()
        assert len(server.revoke_requests()) == 1
        await session.get_access_token()
        errors: list[RevocationError] = []

        async def revoke() -> None:
            with pytest.raises(RevocationError) as caught:
                await session.revoke_tokens()
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(revoke)
            nursery.start_soon(revoke)
        assert len(server.revoke_requests()) == 2
        assert errors[0] is not errors[1]
        assert errors[0].__cause__ is errors[1].__cause__ is not None


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (RevocationError("no way", status_code=503, request_id="abc"), "^no way$"),
        (TokenUnavailableError("no way", status_code=503, request_id="abc"), "revoked: no way$"),
        (OSError("hush"), "revoked: the token manager raised OSError$"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_promise_18_what_a_revocation_failed_of_is_told(
    autojump_clock: MockClock, cause: Exception, told: str
) -> None:
    """Whatever the manager raised, it is a RevocationError with the facts and the attempts."""
    manager = FakeTokenManager(make_config(max_retries=1))
    manager.revoke_outcomes = [cause, cause]
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        with pytest.raises(RevocationError, match=told) as caught:
            await session.revoke_tokens()
    assert caught.value.attempts == len(manager.revoked) == 2
    known = isinstance(cause, TokenRequestError)
    assert caught.value.status_code == (503 if known else None)
    assert caught.value.request_id == ("abc" if known else None)
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("status", [200, 503])
async def test_promise_18_a_revoked_token_never_comes_back(
    autojump_clock: MockClock, status: int
) -> None:
    """Not even from a server that answers the next grant with it, revoked or not."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        old = await session.exchange_token("x")
        if status == 503:
            manager.revoke_outcomes = [TokenUnavailableError("down")]
            with pytest.raises(RevocationError):
                await session.revoke_tokens()
        else:
            await session.revoke_tokens()
        again = TokenInfo.from_answer(old.access_token, 3600.0, 100.0, config)
        manager.outcomes = [again]
        with pytest.raises(TokenUnavailableError, match="to be revoked"):
            await session.get_access_token()
        await trio.sleep(60.0)
        assert await session.get_access_token() == "token-2"


async def test_promise_18_a_later_revoke_does_not_bring_back_an_earlier_token(
    autojump_clock: MockClock,
) -> None:
    """Of several tokens that were revoked each stays refused while it may live."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        first = await session.exchange_token("x")
        await session.revoke_tokens()
        await session.get_access_token()
        await session.revoke_tokens()
        manager.outcomes = [first]
        with pytest.raises(TokenUnavailableError, match="to be revoked"):
            await session.get_access_token()


async def test_promise_18_revoke_has_forgotten_before_it_yields(
    autojump_clock: MockClock,
) -> None:
    """A caller that is cancelled at the first checkpoint has revoked all the same."""
    server = TokenServer()
    async with open_test_session(server) as session:
        await session.get_access_token()
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.revoke_tokens()
        assert scope.cancelled_caught
        assert session.state is TokenState.EMPTY
        await wait_all_tasks_blocked()
        assert server.live_tokens() == []


@pytest.mark.parametrize("status", [200, 400])
async def test_promise_18_a_token_that_the_server_does_not_know_is_gone(
    autojump_clock: MockClock, status: Literal[200, 400]
) -> None:
    """200 and ``invalid_token`` both mean that the token is gone."""
    server = TokenServer(revoke_unknown=status)
    async with open_test_session(server) as session:
        server.revoke(await session.get_access_token())
        await session.revoke_tokens()
        assert session.statistics().revocations == 1
        assert len(server.revoke_requests()) == 1


async def test_promise_18_a_503_is_retried(autojump_clock: MockClock) -> None:
    """A passing fault means that the token still lives: the request is repeated."""
    server = TokenServer(FaultPlan(revoke=[Fault.server_error(503), Fault.rate_limited("7")]))
    async with open_test_session(server) as session:
        token = await session.get_access_token()
        await session.revoke_tokens()
        first, second, third = (request.at for request in server.revoke_requests())
        assert 1.0 <= second - first <= 3.0
        assert third - second == pytest.approx(7.0)
        assert server.tokens[token].revoked_at == third


async def test_promise_18_a_cancelled_revoke_goes_on(autojump_clock: MockClock) -> None:
    """Whoever asked may leave: the session goes on revoking."""
    server = TokenServer(FaultPlan(revoke=[Fault.server_error(503)]))
    async with open_test_session(server) as session:
        token = await session.get_access_token()
        with trio.move_on_after(0.5):
            await session.revoke_tokens()
        assert server.revocations == 0
        await session.revoke_tokens()
        assert server.tokens[token].revoked_at is not None


# 19


@pytest.mark.parametrize("how", ["return", "exception", "cancellation"])
@pytest.mark.parametrize("while_", ["granting", "refreshing", "retrying", "revoking", "idle"])
async def test_promise_19_leaving_is_prompt_whatever_hangs(
    autojump_clock: MockClock, how: str, while_: str
) -> None:
    """The clock does not move while the block is left; held getters and later ones are told."""
    server = TokenServer()
    getters = []
    tasks_before = _tasks()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            try:
                async with open_test_session(server, refresh="on_request") as session:
                    if while_ in ("refreshing", "revoking", "idle"):
                        await session.get_access_token()
                    server.faults = FaultPlan(token_then=Fault.hang(), revoke_then=Fault.hang())
                    match while_:
                        case "granting":
                            getters = start_getters(nursery, session, 5)
                        case "retrying":
                            server.faults = FaultPlan(token_then=Fault.server_error())
                            getters = start_getters(nursery, session, 5)
                        case "refreshing":
                            await trio.sleep(3600.0 - 300.0)
                            await session.get_access_token()
                        case "revoking":
                            nursery.start_soon(_revoke_until_closed, session)
                    await wait_all_tasks_blocked(0.01)
                    left_at = trio.current_time()
                    if how == "exception":
                        raise ZeroDivisionError
                    if how == "cancellation":
                        scope.cancel()
                        await trio.sleep_forever()
            except ZeroDivisionError:
                assert how == "exception"
        assert scope.cancelled_caught == (how == "cancellation")
        assert trio.current_time() == left_at
    assert trio.current_time() == left_at
    assert {type(getter.error) for getter in getters} <= {SessionClosedError}
    assert _tasks() == tasks_before
    with pytest.raises(SessionClosedError):
        await session.get_access_token()
    with pytest.raises(SessionClosedError):
        session.get_access_token_nowait()
    with pytest.raises(SessionClosedError):
        await session.exchange_token("x")
    with pytest.raises(SessionClosedError):
        await session.revoke_tokens()
    with pytest.raises(SessionClosedError):
        await session.states.wait_value(TokenState.FRESH)
    session.invalidate("anything")
    assert session.state is TokenState.EMPTY
    assert session.token_info is None
    assert session.statistics().getters_held == 0


async def _revoke_until_closed(session: AnonymousSession) -> None:
    with pytest.raises(SessionClosedError):
        await session.revoke_tokens()


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("how", ["return", "exception", "cancellation"])
async def test_promise_19_revoke_on_exit_has_its_own_limit(
    autojump_clock: MockClock, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A hung revocation takes ``shutdown_timeout``, shielded, and is logged, not raised."""
    server = TokenServer(FaultPlan(revoke_then=Fault.hang()))
    with trio.CancelScope() as scope:
        try:
            async with open_test_session(
                server, revoke_on_exit=True, shutdown_timeout=3.0
            ) as session:
                await session.get_access_token()
                start = trio.current_time()
                if how == "exception":
                    raise ZeroDivisionError
                if how == "cancellation":
                    scope.cancel()
                    await trio.sleep_forever()
        except ZeroDivisionError:
            assert how == "exception"
    assert trio.current_time() - start == 3.0
    assert len(server.revoke_requests()) == 1
    assert [record.levelno for record in caplog.records if record.name == "trio_anon_session"] == [
        logging.WARNING
    ]
    assert "not revoked on exit" in caplog.text


async def test_promise_19_revoke_on_exit_revokes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The token, and one whose revocation was still under way, are dead after the block."""
    server = TokenServer(FaultPlan(revoke=[Fault.server_error(503)]))
    async with open_test_session(server, revoke_on_exit=True) as session:
        await session.get_access_token()
        with trio.move_on_after(0.1):
            await session.revoke_tokens()
        await session.get_access_token()
    assert server.live_tokens() == []
    assert server.revocations == 2
    assert not caplog.records


async def test_promise_19_without_revoke_on_exit_nothing_is_sent(
    autojump_clock: MockClock,
) -> None:
    """By default the token lives on, and so it does with nothing held."""
    server = TokenServer()
    async with open_test_session(server) as session:
        await session.get_access_token()
    async with open_test_session(server, revoke_on_exit=True):
        pass
    assert len(server.live_tokens()) == 1
    assert server.revoke_requests() == []


@pytest.mark.slow
async def test_promise_19_no_socket_survives_the_session() -> None:
    """A session's own client is closed with it: no connection is left, in use or idle."""
    with trio.fail_after(30.0):
        server = TokenServer()
        async with open_loopback(server) as url:
            async with AnonymousSession(server.config(url)) as session:
                await session.get_access_token()
                server.faults = FaultPlan(token_then=Fault.hang())
                session.invalidate(await session.get_access_token())
                with trio.move_on_after(0.1):
                    await session.get_access_token()
        # A socket that is still open warns when it is collected, and warnings are errors.
        del session
        gc.collect()


# 20


class _OwnError(BaseException):
    pass


class _Stop(BaseException):
    """What a body raises to stop the program."""


# A crash that is no Exception wins over a body's Exception: see tests/cancellation/test_interrupts.
@pytest.mark.parametrize(
    ("kind", "crash"),
    [
        (ValueError, None),
        *itertools.product(
            [KeyboardInterrupt, SystemExit, _OwnError, GeneratorExit],
            [None, _OwnError, KeyboardInterrupt],
        ),
    ],
)
async def test_promise_20_the_bodys_exception_comes_out_as_itself(
    autojump_clock: MockClock, kind: type[BaseException], crash: type[BaseException] | None
) -> None:
    """Bare, with its traceback and context, also if the refresh task breaks down with it."""
    manager = FakeTokenManager(make_config())
    own, context = kind(), LookupError()
    caught: BaseException | None = None
    try:
        async with AnonymousSession(manager.config, manager) as session:
            if crash is not None:
                manager.outcomes = [crash()]
                # Shielded: the crash cancels the block, which goes on to raise its own.
                with trio.CancelScope(shield=True):
                    await _get_until_closed(session)
            try:
                raise context
            except LookupError:
                raise own  # noqa: B904  # its context is what is looked at
    except BaseException as error:
        caught = error
    assert caught is own
    assert caught.__context__ is context
    frames = []
    traceback = caught.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames == [
        "test_promise_20_the_bodys_exception_comes_out_as_itself",
    ]


@pytest.mark.parametrize("owned", [True, False])
async def test_promise_20_an_own_exception_in_a_cancelled_scope_comes_out_as_itself(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, owned: bool
) -> None:
    """No cancellation takes its place, and nobody blames a background task for one."""
    manager = None if owned else FakeTokenManager(make_config())
    with pytest.raises(_OwnError):
        with trio.CancelScope() as scope:
            async with AnonymousSession(make_config(), manager):
                scope.cancel()
                raise _OwnError
    assert not caplog.records


async def test_promise_20_a_crash_beside_an_own_exception_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the type of what a background task raised, and shows no word of it."""
    manager = FakeTokenManager(make_config())
    manager.outcomes = [_OwnError("hush")]
    with pytest.raises(_Stop):
        async with AnonymousSession(manager.config, manager) as session:
            try:
                await session.get_access_token()
            finally:
                raise _Stop
    assert "background task raised _OwnError" in caplog.text
    assert "hush" not in caplog.text


async def test_promise_20_a_crash_keeps_its_own_context(autojump_clock: MockClock) -> None:
    """What comes out of the block shows what it was raised for, and not the cancellation."""

    class Broken(FakeTokenManager):
        async def get_tokens_client_credentials_grant(
            self, options: TokenRequestOptions | None = None
        ) -> TokenInfo:
            try:
                raise context
            except LookupError:
                raise _OwnError  # noqa: B904  # its context is what is looked at

    context = LookupError()
    manager = Broken(make_config())
    with pytest.raises(_OwnError) as caught:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
    assert caught.value.__context__ is context


async def _get_until_closed(session: AnonymousSession) -> None:
    with pytest.raises(SessionClosedError):
        await session.get_access_token()


async def test_promise_20_a_group_of_the_bodys_is_left_as_it_is(
    autojump_clock: MockClock,
) -> None:
    """An ExceptionGroup that the body raises is the user's, and comes out as itself."""
    manager = FakeTokenManager(make_config())
    group = ExceptionGroup("mine", [ValueError("x")])
    with pytest.raises(ExceptionGroup) as caught:
        async with AnonymousSession(manager.config, manager):
            raise group
    assert caught.value is group


async def test_promise_20_a_crash_comes_out_of_a_cancelled_body_as_itself(
    autojump_clock: MockClock,
) -> None:
    """A body that had nurseries of its own leaves no Cancelled behind in a group."""
    manager = FakeTokenManager(make_config())
    crash = manager.outcomes = [_OwnError()]
    with pytest.raises(_OwnError):
        async with AnonymousSession(manager.config, manager) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.get_access_token)
                nursery.start_soon(trio.sleep_forever)
    assert crash == []


async def test_promise_20_own_errors_of_a_cancelled_group_survive_a_crash(
    autojump_clock: MockClock,
) -> None:
    """What stops the program comes out of a cancelled body, without the cancellation."""
    manager = FakeTokenManager(make_config())
    manager.outcomes = [_OwnError()]

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise _Stop

    with pytest.raises(BaseExceptionGroup) as caught:
        async with AnonymousSession(manager.config, manager) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.get_access_token)
                nursery.start_soon(fail_when_cancelled)
    assert [type(error) for error in caught.value.exceptions] == [_Stop]


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 2.0])
async def test_promise_20_cancellation_comes_out_as_itself(
    autojump_clock: MockClock, moment: float
) -> None:
    """An outer scope that is cancelled catches its own cancellation, bare."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    with trio.move_on_after(moment) as scope:
        try:
            async with AnonymousSession(manager.config, manager) as session:
                await session.get_access_token()
                await trio.sleep_forever()
        except BaseException as error:
            assert type(error) is trio.Cancelled  # noqa: PT017  # it must go on, too
            raise
    assert scope.cancelled_caught


async def test_promise_20_the_session_lives_until_its_block_is_left(
    autojump_clock: MockClock,
) -> None:
    """A cancelled body's own shielded cleanup still has a token, and a new one if need be."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    with trio.move_on_after(5.0) as scope:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    assert await session.get_access_token() == "token-1"
                    session.invalidate("token-1")
                    assert await session.get_access_token() == "token-2"
    assert scope.cancelled_caught


@pytest.mark.parametrize("groups", [True, False])
def test_promise_20_loose_exception_groups_change_nothing(groups: bool) -> None:
    """A run without strict exception groups sees the same exceptions, bare."""

    async def main() -> None:
        manager = FakeTokenManager(make_config())
        with pytest.raises(ValueError, match="own"):
            async with AnonymousSession(manager.config, manager):
                raise ValueError("own")
        manager.outcomes = [_OwnError()]
        with pytest.raises(_OwnError):
            async with AnonymousSession(manager.config, manager) as session:
                await session.get_access_token()
        manager.outcomes = [_OwnError()]
        with pytest.raises(_OwnError):
            async with AnonymousSession(manager.config, manager) as session:
                try:
                    await session.get_access_token()
                finally:
                    raise ValueError("own")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", trio.TrioDeprecationWarning)
        trio.run(main, strict_exception_groups=groups)


class _Shielded(FakeTokenManager):
    """A fake whose grants cannot be cancelled."""

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Grant, whatever happens."""
        with trio.CancelScope(shield=True):
            return await super().get_tokens_client_credentials_grant(options)
        raise AssertionError


@pytest.mark.parametrize("revoke_on_exit", [True, False])
async def test_promise_19_a_grant_that_lands_while_the_session_ends_revives_nothing(
    autojump_clock: MockClock, revoke_on_exit: bool
) -> None:
    """A token that comes in the moment of leaving is not handed out, and is revoked if asked."""
    manager = _Shielded(make_config(revoke_on_exit=revoke_on_exit), latency=1.0)
    async with trio.open_nursery() as nursery:
        async with AnonymousSession(manager.config, manager) as session:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(0.5)
    assert isinstance(getter.error, SessionClosedError)
    assert session.state is TokenState.EMPTY
    with pytest.raises(SessionClosedError):
        await session.get_access_token()
    assert manager.revoked == (["token-1"] if revoke_on_exit else [])


async def test_promise_20_a_manager_that_fails_at_cleanup_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What a token manager raises because it was cancelled does not come out of the block."""

    class Hasty(FakeTokenManager):
        async def get_tokens_client_credentials_grant(
            self, options: TokenRequestOptions | None = None
        ) -> TokenInfo:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                raise BaseExceptionGroup("x", [error, ValueError("x")]) from None
            raise AssertionError

    manager = Hasty(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        with trio.move_on_after(1.0):
            await session.get_access_token()
    assert "the end of the session made ExceptionGroup" in caplog.text


async def test_promise_20_what_breaks_the_session_comes_out_though_it_is_an_exception(
    autojump_clock: MockClock,
) -> None:
    """A group that is broken by half, and leaves but a ValueError, is not lost in the log."""

    class Leaky(FakeTokenManager):
        async def get_tokens_client_credentials_grant(
            self, options: TokenRequestOptions | None = None
        ) -> TokenInfo:
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as error:
                    cancelled = error
                    raise
            raise BaseExceptionGroup("x", [cancelled, ValueError("x")])

    manager = Leaky(make_config())
    with pytest.raises(ExceptionGroup) as caught:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let an interrupt be one, also in a background job, where shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("moment", ["enter", "exit"])
def test_promise_20_an_interrupt_at_the_edges_of_the_block(moment: str) -> None:
    """Ctrl-C while the block is entered or left is a KeyboardInterrupt, and nothing worse."""

    async def main() -> None:
        manager = FakeTokenManager(make_config())

        def interrupt(event: object) -> None:
            if isinstance(event, Closed):
                signal.raise_signal(signal.SIGINT)

        observers = [interrupt] if moment == "exit" else []
        async with AnonymousSession(manager.config, manager, observers=observers):
            if moment == "enter":
                signal.raise_signal(signal.SIGINT)
                await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_promise_20_an_interrupt_waits_until_the_block_is_left(
    autojump_clock: MockClock,
) -> None:
    """Ctrl-C between two steps of entering or leaving leaves no task or socket behind."""
    protected: list[bool] = []

    class Look(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())

    def look(event: object) -> None:
        if isinstance(event, Closed):
            protected.append(trio.lowlevel.currently_ki_protected())

    manager = FakeTokenManager(make_config())
    instrument = Look()
    trio.lowlevel.add_instrument(instrument)
    async with AnonymousSession(manager.config, manager, observers=[look]):
        assert not trio.lowlevel.currently_ki_protected()
    trio.lowlevel.remove_instrument(instrument)
    assert len(protected) > 1
    assert all(protected)


async def test_promise_19_a_given_manager_is_left_open(autojump_clock: MockClock) -> None:
    """A session closes what it made, and leaves alone what it was given."""
    server = TokenServer()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client:
        async with TokenManager(server.config(), http_client=client) as manager:
            async with AnonymousSession(server.config(), manager):
                pass
            assert await manager.get_tokens_client_credentials_grant()


async def test_promise_19_who_waits_for_a_state_is_told_of_the_end(
    autojump_clock: MockClock,
) -> None:
    """Waits and loops on the states end with SessionClosedError."""
    manager = FakeTokenManager(make_config())

    async def wait() -> None:
        with pytest.raises(SessionClosedError):
            await session.states.wait_value(TokenState.FRESH)

    async def follow() -> None:
        with pytest.raises(SessionClosedError):
            async for _ in session.states.transitions():
                raise AssertionError

    async with trio.open_nursery() as nursery:
        async with AnonymousSession(manager.config, manager) as session:
            nursery.start_soon(wait)
            nursery.start_soon(follow)
            await wait_all_tasks_blocked()
