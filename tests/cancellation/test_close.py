"""Tests that cancel the block at any point, also during its exit: promises 10, 19 and 20.

A user can cancel the background refresh in one way only: by cancelling the block.
"""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest
import trio

from tests.cancellation.everywhere import (
    LIFETIME,
    Operation,
    Seen,
    Strike,
    cancel_everywhere,
    living_tasks,
    settle,
)
from tests.helpers import Getter, start_getters
from trio_anon_session import AnonymousSession, SessionClosedError, TokenInfo, TokenState
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

SHUTDOWN_TIMEOUT = 5.0
LATE = Fault(delay=2.0)
ENDPOINTS = {
    "prompt": FaultPlan(),
    "late": FaultPlan(token_then=LATE, revoke_then=LATE),
    "hung": FaultPlan(token_then=Fault.hang(), revoke_then=Fault.hang()),
    "failing, then late": FaultPlan(
        token=[Fault.server_error(503, retry_after="3")],
        token_then=LATE,
        revoke=[Fault.server_error(503, retry_after="3")],
        revoke_then=LATE,
    ),
}


class OwnClients:
    """Replaces httpx's clients with clients of an in-process server, and keeps them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = TokenServer()
        self.made: list[httpx.AsyncClient] = []
        self._make = httpx.AsyncClient
        monkeypatch.setattr(httpx, "AsyncClient", self)

    def __call__(self, **settings: Any) -> httpx.AsyncClient:
        client = self._make(transport=httpx.ASGITransport(self.server), **settings)
        self.made.append(client)
        return client


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("state", [TokenState.EMPTY, TokenState.STALE, TokenState.EXPIRED])
@pytest.mark.parametrize("revoke_on_exit", [False, True])
def test_a_block_can_be_cancelled_anywhere_in_a_refresh(
    monkeypatch: pytest.MonkeyPatch, revoke_on_exit: bool, state: TokenState, endpoint: str
) -> None:
    """A cancelled block can still use a usable token, and then all tasks and clients end.

    The exit is immediate, unless a revocation takes up to its timeout.
    """
    clients = OwnClients(monkeypatch)

    async def play(strike: Strike) -> Seen:
        server = clients.server = TokenServer(lifetime=LIFETIME)
        operation = Operation(strike, patience=SHUTDOWN_TIMEOUT if revoke_on_exit else 0.0)
        tasks_before = living_tasks()
        config = server.config(
            revoke_on_exit=revoke_on_exit,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            refresh="eager" if state is TokenState.STALE else "on_request",
        )
        session = AnonymousSession(config)
        getters: list[Getter] = []
        held: TokenInfo | None = None
        block_ended_at = math.nan

        async def use_block() -> None:
            nonlocal block_ended_at, held
            async with session:
                token = await session.exchange_token("x")
                if state is TokenState.EMPTY:
                    session.invalidate(token.access_token)
                    await trio.sleep(10.0)
                else:
                    boundaries = {
                        TokenState.STALE: token.stale_at - 1.0,
                        TokenState.EXPIRED: token.expires_at,
                    }
                    await trio.sleep_until(boundaries[state])
                server.faults = ENDPOINTS[endpoint]
                operation.begin()
                getters.extend(start_getters(nursery, session, 2))
                try:
                    await trio.sleep(12.0)
                finally:
                    block_ended_at = trio.current_time()
                    if state is TokenState.STALE:
                        # The session hands out its token until the token expires.
                        with trio.CancelScope(shield=True):
                            last = await session.get_access_token()
                        assert server.tokens[last].verdict_at(trio.current_time()) == "good"
                    assert trio.current_time() == block_ended_at
                    held = session.token_info

        async with trio.open_nursery() as nursery:
            await operation.run(use_block, begins_at_once=False)
            await settle()
            assert living_tasks() == tasks_before
            assert server.in_flight == 0
            assert all(client.is_closed for client in clients.made)
            assert session.statistics().getters_held == 0

        assert server.most_in_flight == 1
        for getter in getters:
            # Each caller got the token, or an error at the end.
            if state is TokenState.STALE:
                assert getter.ended_at == strike.began_at
                # A caller that has not run before the end of the block is too late.
                assert getter.token is not None or strike.cancelled_at == strike.began_at
            assert (getter.token is None) == isinstance(getter.error, SessionClosedError)
            assert getter.ended_at <= block_ended_at
        if held is not None and endpoint in ("prompt", "late"):
            revoked_at = server.tokens[held.access_token].revoked_at
            assert revoked_at == (block_ended_at if revoke_on_exit else None)
        sent = [(request.path, request.at) for request in server.requests]
        return Seen(operation, {"sent": sent, "got": [getter.token for getter in getters]})

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.operation.was_cancelled or seen.facts == usual.facts

    cancel_everywhere(play, check, at_least=3)
