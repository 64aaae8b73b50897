"""The program of the tutorial: it reads a file every 15 minutes."""

from collections.abc import Iterable

import httpx
import trio

from trio_anon_session import AnonymousSession


async def read_ids(
    session: AnonymousSession, client: httpx.AsyncClient, numbers: Iterable[int]
) -> list[str]:
    """Return what the API says about each of the files."""
    ids = []
    for number in numbers:
        response = await client.get(f"/2.0/files/{number}", auth=session.auth())
        ids.append(response.raise_for_status().json()["id"])
        await trio.sleep(900.0)
    return ids
