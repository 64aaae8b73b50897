"""Promise 19: the end of the block, and the session after it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, start_getters
from trio_anon_session import (
    AnonymousSession,
    SessionClosedError,
    TokenInfo,
    TokenManager,
    TokenState,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_anon_session import TokenRequestOptions


@pytest.mark.parametrize("how", ["return", "exception", "cancellation"])
@pytest.mark.parametrize("while_", ["granting", "refreshing", "retrying", "revoking", "idle"])
async def test_promise_19_leaving_is_immediate_whatever_hangs(
    autojump_clock: MockClock, how: str, while_: str
) -> None:
    """Leaving the block is immediate, and all current and later waits raise SessionClosedError."""
    server = TokenServer()
    getters = []
    tasks_before = _tasks()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            try:
                async with open_test_session(server, refresh="on_request") as session:
                    nursery.start_soon(_until_closed, session.states.wait_value, _no_state)
                    nursery.start_soon(_until_closed, _follow, session)
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
                            nursery.start_soon(_until_closed, session.revoke_tokens)
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
    await _until_closed(session.get_access_token)
    await _until_closed(session.exchange_token, "x")
    await _until_closed(session.revoke_tokens)
    await _until_closed(session.states.wait_value, TokenState.FRESH)
    with pytest.raises(SessionClosedError):
        session.get_access_token_nowait()
    session.invalidate("anything")
    assert session.state is TokenState.EMPTY
    assert session.token_info is None
    assert session.statistics().getters_held == 0


async def _until_closed(async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
    with pytest.raises(SessionClosedError):
        await async_fn(*args)


def _no_state(state: TokenState) -> bool:
    return False


async def _follow(session: AnonymousSession) -> None:
    async for _ in session.states.transitions():
        pass


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_promise_19_a_revocation_that_has_just_begun_delays_nothing(
    autojump_clock: MockClock,
) -> None:
    """Leaving the block is immediate, also if a revocation began at the same moment."""
    manager = FakeTokenManager(make_config())
    manager.revoke_latency = 100.0

    async def revoke_soon(session: AnonymousSession) -> None:
        await trio.sleep(1.0)
        await session.revoke_tokens()

    # Trio decides which of the two tasks that sleep runs first.
    for _ in range(20):
        async with trio.open_nursery() as nursery:
            async with AnonymousSession(manager.config, manager) as session:
                await session.get_access_token()
                nursery.start_soon(_until_closed, revoke_soon, session)
                await trio.sleep(1.0)
                left_at = trio.current_time()
            assert trio.current_time() == left_at


@pytest.mark.parametrize("how", ["return", "exception", "cancellation", "late cancellation"])
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
                if how == "late cancellation":
                    # The cancellation comes while the block is being left and the revocation hangs.
                    scope.deadline = start + 1.0
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
    """The exit revokes the token, and finishes a revocation that was still in progress."""
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
    """By default, the exit sends no revocation, and neither does a session without a token."""
    server = TokenServer()
    async with open_test_session(server) as session:
        await session.get_access_token()
    async with open_test_session(server, revoke_on_exit=True):
        pass
    assert len(server.live_tokens()) == 1
    assert server.revoke_requests() == []


class _Shielded(FakeTokenManager):
    """A fake token manager whose token requests cannot be cancelled."""

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return a token, also if the call is cancelled."""
        with trio.CancelScope(shield=True):
            return await super().get_tokens_client_credentials_grant(options)
        raise AssertionError


@pytest.mark.parametrize("revoke_on_exit", [True, False])
async def test_promise_19_a_token_that_arrives_at_the_exit_is_not_used(
    autojump_clock: MockClock, revoke_on_exit: bool
) -> None:
    """A token that arrives during the exit is not returned, and ``revoke_on_exit`` revokes it."""
    manager = _Shielded(make_config(revoke_on_exit=revoke_on_exit), latency=1.0)
    async with trio.open_nursery() as nursery:
        async with AnonymousSession(manager.config, manager) as session:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(0.5)
    assert isinstance(getter.error, SessionClosedError)
    assert session.state is TokenState.EMPTY
    assert session.statistics().grants == 0
    with pytest.raises(SessionClosedError):
        await session.get_access_token()
    assert manager.revoked == (["token-1"] if revoke_on_exit else [])


async def test_promise_19_a_token_that_comes_twice_is_revoked_once(
    autojump_clock: MockClock,
) -> None:
    """If a late answer has the token that the exit revokes, only one revocation is sent."""
    manager = _Shielded(make_config(revoke_on_exit=True))
    async with AnonymousSession(manager.config, manager) as session:
        token = await session.exchange_token("x")
        manager.latency, manager.outcomes = 1.0, [token]
        await trio.sleep_until(token.stale_at + 0.5)
    assert manager.revoked == ["token-1"]


async def test_promise_19_a_given_manager_is_left_open(autojump_clock: MockClock) -> None:
    """After the block, a manager that the program passed to the session is still open."""
    server = TokenServer()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client:
        async with TokenManager(server.config(), http_client=client) as manager:
            async with AnonymousSession(server.config(), manager):
                pass
            assert await manager.get_tokens_client_credentials_grant()
