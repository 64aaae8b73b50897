"""Tests of client and server together, in virtual time and without sockets."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from httpx2 import ASGITransport, AsyncClient
from mcp import MCPError
from mcp_client import look_up_all
from mcp_server import URL, create_app

from trio_anon_session import CredentialsRejectedError, SessionClosedError
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from trio_anon_session import AnonymousSession

pytestmark = pytest.mark.slow

FILES = [str(number) for number in range(20)]
RESULTS = {number: {"type": "file", "id": number} for number in FILES}


@pytest.fixture(autouse=True)
def _callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow the only user of the token server to call the tool."""
    monkeypatch.setenv("MCP_CALLERS", "me")


@asynccontextmanager
async def serve(
    server: TokenServer,
) -> AsyncIterator[tuple[AnonymousSession, AnonymousSession, ASGITransport]]:
    """Run the MCP server; yield its session, a caller's session, and the way to the server."""
    opened = []

    @asynccontextmanager
    async def open_session() -> AsyncIterator[AnonymousSession]:
        async with open_test_session(server) as session:
            opened.append(session)
            yield session

    app = create_app(open_session, ASGITransport(server))
    async with app.router.lifespan_context(app), open_test_session(server) as caller:
        yield opened[0], caller, ASGITransport(app)


async def test_concurrent_calls(autojump_clock: MockClock) -> None:
    """Twenty calls cause one grant for each session, and one more if all tokens are revoked."""
    server = TokenServer()
    async with serve(server) as (session, caller, transport):
        for round_ in (1, 2):
            assert await look_up_all(caller, URL, FILES, transport) == RESULTS
            assert [s.statistics().grants for s in (session, caller)] == [round_, round_]
            server.revoke_all()
        assert server.grants == 4
    with pytest.raises(SessionClosedError):
        session.get_access_token_nowait()


async def test_a_caller_that_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A caller that is not allowed gets an error, and keeps its token."""
    monkeypatch.setenv("MCP_CALLERS", "someone-else")
    server = TokenServer()
    async with serve(server) as (_, caller, transport):
        with pytest.RaisesGroup(MCPError, flatten_subgroups=True):
            await look_up_all(caller, URL, FILES, transport)
        assert caller.statistics().invalidations == 0
    assert server.verdicts == {"good": server.verdicts.total()}


@pytest.mark.parametrize(
    ("url", "token", "status"),
    [
        (URL, None, 401),
        (URL, "unknown", 401),
        # By default, the SDK answers only requests to localhost.
        ("http://example.com/mcp", "valid", 421),
    ],
)
async def test_requests_that_are_refused(
    autojump_clock: MockClock, url: str, token: str | None, status: int
) -> None:
    """A request without a valid token is refused, and one to another host."""
    async with serve(TokenServer()) as (_, caller, transport):
        if token == "valid":
            token = await caller.get_access_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with AsyncClient(transport=transport) as user:
            response = await user.post(url, json={}, headers=headers)
    assert response.status_code == status


async def test_no_token_for_the_caller(autojump_clock: MockClock) -> None:
    """If the caller gets no token, it gets the error of its session."""
    server = TokenServer()
    async with serve(server) as (_, caller, transport):
        server.faults = FaultPlan(token_then=Fault.refusal("invalid_client"))
        with pytest.RaisesGroup(CredentialsRejectedError, flatten_subgroups=True):
            await look_up_all(caller, URL, FILES, transport)


async def test_no_token_for_the_server(autojump_clock: MockClock) -> None:
    """If the server gets no token, the call fails without details; the next one can succeed."""
    server = TokenServer()
    async with serve(server) as (session, caller, transport):
        await caller.get_access_token()
        server.revoke(await session.get_access_token())
        server.faults = FaultPlan(token_then=Fault.server_error(503))
        failed = (await look_up_all(caller, URL, ["1"], transport))["1"]
        assert "Error executing tool look_up" in str(failed)
        assert "503" not in str(failed)
        server.faults = FaultPlan()
        await trio.sleep(session.config.max_retry_interval * 1.5)
        assert await look_up_all(caller, URL, ["1"], transport) == {"1": RESULTS["1"]}
