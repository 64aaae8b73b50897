"""Promise 18: revoked tokens."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    RevocationError,
    TokenInfo,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session


async def test_promise_18_revoke_drops_the_token_first(autojump_clock: MockClock) -> None:
    """During a revocation, and after it has failed, the session does not return the token."""
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


async def test_promise_18_two_concurrent_revocations_send_one_request(
    autojump_clock: MockClock,
) -> None:
    """Two concurrent revocations send one request; both return, or each raises its own error."""
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
    ("cause", "message"),
    [
        (RevocationError("no way", status_code=503, request_id="abc"), "^no way$"),
        (TokenUnavailableError("no way", status_code=503, request_id="abc"), "revoked: no way$"),
        (OSError("hush"), "revoked: the token manager raised OSError$"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_promise_18_why_a_revocation_failed_is_raised(
    autojump_clock: MockClock, cause: Exception, message: str
) -> None:
    """Any exception of the manager is raised as a RevocationError with its facts.

    The error also has the number of attempts.
    """
    manager = FakeTokenManager(make_config(max_retries=1))
    manager.revoke_outcomes = [cause, cause]
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        with pytest.raises(RevocationError, match=message) as caught:
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
    """If the server grants a revoked token again, the session refuses it.

    This also holds if the revocation has failed.
    """
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
        with pytest.raises(TokenUnavailableError, match="that the session revokes"):
            await session.get_access_token()
        await trio.sleep(60.0)
        assert await session.get_access_token() == "token-2"


@pytest.mark.parametrize("status", [200, 400])
async def test_promise_18_a_token_that_the_server_does_not_know_is_gone(
    autojump_clock: MockClock, status: Literal[200, 400]
) -> None:
    """A status of 200 and the error ``invalid_token`` both count as a success."""
    server = TokenServer(revoke_unknown=status)
    async with open_test_session(server) as session:
        server.revoke(await session.get_access_token())
        await session.revoke_tokens()
        assert session.statistics().revocations == 1
        assert len(server.revoke_requests()) == 1


async def test_promise_18_a_503_is_retried(autojump_clock: MockClock) -> None:
    """A revocation that is answered with 503 or 429 is repeated until it succeeds."""
    server = TokenServer(FaultPlan(revoke=[Fault.server_error(503), Fault.rate_limited("7")]))
    async with open_test_session(server) as session:
        token = await session.get_access_token()
        await session.revoke_tokens()
        first, second, third = (request.at for request in server.revoke_requests())
        assert 1.0 <= second - first <= 3.0
        assert third - second == pytest.approx(7.0)
        assert server.tokens[token].revoked_at == third


@pytest.mark.parametrize("cancelled_after", [0.0, 0.5], ids=["at its checkpoint", "later"])
async def test_promise_18_a_cancelled_revoke_continues(
    autojump_clock: MockClock, cancelled_after: float
) -> None:
    """A cancelled `revoke_tokens` has dropped the token, and the session continues to revoke it."""
    server = TokenServer(FaultPlan(revoke=[Fault.server_error(503)]))
    async with open_test_session(server) as session:
        await session.get_access_token()
        with trio.move_on_after(cancelled_after) as scope:
            await session.revoke_tokens()
        assert scope.cancelled_caught
        assert session.state is TokenState.EMPTY
        assert server.revocations == 0
        await session.revoke_tokens()
        assert server.live_tokens() == []
