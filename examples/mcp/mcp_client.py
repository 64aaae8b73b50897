"""Call a tool of an MCP server for many files at the same time, with one token.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
    python mcp_client.py http://127.0.0.1:8000/mcp 11111 22222

The client sends the token of its session with each request to the server.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import trio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config
from trio_anon_session.httpx2 import SessionAuth

if TYPE_CHECKING:
    from collections.abc import Iterable

# A tool may take minutes between two events of its answer.
TIMEOUT = httpx2.Timeout(30.0, read=300.0)


async def look_up_all(
    session: AnonymousSession,
    url: str,
    file_ids: Iterable[str],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> dict[str, object]:
    """Call the tool for each file, and return its results."""
    # Without `origins`, only the API of the session gets the token.
    parts = urlsplit(url)
    auth = SessionAuth(session, origins=[f"{parts.scheme}://{parts.netloc}"])
    results: dict[str, object] = {}

    async def look_up(file_id: str) -> None:
        result = await client.call_tool("look_up", {"file_id": file_id})
        results[file_id] = result.structured_content if not result.is_error else result.content

    async with (
        httpx2.AsyncClient(auth=auth, timeout=TIMEOUT, transport=transport) as http_client,
        Client(streamable_http_client(url, http_client=http_client)) as client,
        trio.open_nursery() as nursery,
    ):
        for file_id in file_ids:
            nursery.start_soon(look_up, file_id)
    return results


async def main(url: str, file_ids: Iterable[str]) -> None:
    """Look up files, and print what the server knows about them."""
    async with AnonymousSession(Config.from_env()) as session:
        # Wrong credentials end the program here, with the session's own error.
        await session.get_access_token()
        for file_id, result in sorted((await look_up_all(session, url, file_ids)).items()):
            print(file_id, result)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], sys.argv[2:])
    except AnonymousSessionError as error:
        sys.exit(f"mcp_client.py: {error}")
