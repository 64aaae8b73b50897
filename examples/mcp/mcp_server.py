"""An MCP server with a tool that looks up files at Box: one session for all calls.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=... MCP_CALLERS=33333,44444
    hypercorn --worker-class trio --bind 127.0.0.1:8000 mcp_server:app

``MCP_CALLERS`` has the ids of the Box users that may call the tool. A caller proves who it is with
a token of its own.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl

from trio_anon_session import AnonymousSession, Config
from trio_anon_session.httpx2 import SessionAuth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette

URL = "http://127.0.0.1:8000/mcp"
"""The URL of the server for its callers."""
SCOPE = "files"
"""What a caller must be allowed to do."""


class Files:
    """What the server does while it is open.

    Args:
        open_session: opens the session of this process.
        transport: the transport to Box; a test passes its own.
    """

    def __init__(
        self,
        open_session: Callable[[], AbstractAsyncContextManager[AnonymousSession]],
        transport: httpx2.AsyncBaseTransport | None,
    ) -> None:
        self._open_session, self._transport = open_session, transport

    @asynccontextmanager
    async def lifespan(self, _: MCPServer[None]) -> AsyncIterator[None]:
        """Open the session, and a client for all requests to Box."""
        async with (
            self._open_session() as session,
            httpx2.AsyncClient(
                base_url=session.config.api_root_url, transport=self._transport
            ) as self._api,
        ):
            # Wrong credentials end the program here, before it accepts a call.
            await session.get_access_token()
            self._auth = SessionAuth(session)
            yield

    async def look_up(self, file_id: str) -> dict[str, Any]:
        """Return what Box knows about a file."""
        response = await self._api.get(f"/2.0/files/{file_id}", auth=self._auth)
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who the caller is and what it may do, or None for an invalid token."""
        # A token of Box does not name a server, so this server asks Box whose token it is.
        headers = {"Authorization": f"Bearer {token}"}
        response = await self._api.get("/2.0/users/me", headers=headers)
        if response.status_code == 401:
            return None
        caller: str = response.raise_for_status().json()["id"]
        # A caller without the scope gets a 403. With a 401, it would request another token.
        may_call = caller in os.environ.get("MCP_CALLERS", "").split(",")
        return AccessToken(token=token, client_id=caller, scopes=[SCOPE] if may_call else [])


def open_session() -> AnonymousSession:
    """Return the session of this process, which is not open yet."""
    return AnonymousSession(Config.from_env())


def create_app(
    open_session: Callable[[], AbstractAsyncContextManager[AnonymousSession]] = open_session,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> Starlette:
    """Return the ASGI app of the server; a test passes its own session and transport."""
    files = Files(open_session, transport)
    server = MCPServer(
        "files",
        lifespan=files.lifespan,
        token_verifier=files,
        auth=AuthSettings(
            issuer_url=AnyHttpUrl("https://api.box.com"),
            resource_server_url=AnyHttpUrl(URL),
            required_scopes=[SCOPE],
            # Tokens of Box have no audience.
            validate_token_resource=False,
        ),
    )
    server.add_tool(files.look_up)
    # The tool sends one result, and no events before it.
    return server.streamable_http_app(json_response=True)


app = create_app()
