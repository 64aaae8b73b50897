"""Tests of the test kit, and the raw client that they ask the server with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_anon_session.testing import TokenServer

GRANT = {
    "grant_type": "client_credentials",
    "client_id": "test-client",
    "client_secret": "test-secret",
}
"""The form of a grant that the server's first client may ask for."""

TIME_LIMIT = 1e6
"""Virtual seconds, after which a test has failed."""


@asynccontextmanager
async def open_raw_client(server: TokenServer) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of httpx alone, to which the server is all there is."""
    with trio.fail_after(TIME_LIMIT):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(server), base_url="http://localhost"
        ) as client:
            yield client


async def ask_for_token(client: httpx.AsyncClient, **changes: str) -> str:
    """Get a token by a grant that has to succeed."""
    answer = await client.post("/oauth2/token", data=GRANT | changes)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    assert isinstance(token, str)
    return token


async def show(client: httpx.AsyncClient, token: str, path: str = "/2.0/files/1") -> httpx.Response:
    """Show a token to the protected resource."""
    return await client.get(path, headers={"Authorization": f"Bearer {token}"})
