"""Keep copies of files that others have shared by link."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio_anon_session import AnonymousSession

    Keep = Callable[[str, bytes], Awaitable[object]]

AT_ONCE = 4
"""Downloads at the same time; the API refuses more."""

logger = logging.getLogger(__name__)


async def mirror(
    session: AnonymousSession, client: httpx.AsyncClient, links: Iterable[str], keep: Keep
) -> None:
    """Download every file. Files that fail are left for the next run.

    Args:
        session: the source of the token.
        client: a client for the API.
        links: shared links, each to a file.
        keep: called with the id and the content of each file.
    """
    limiter = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(_download, session, client, link, keep, limiter)


async def _download(
    session: AnonymousSession,
    client: httpx.AsyncClient,
    link: str,
    keep: Keep,
    limiter: trio.CapacityLimiter,
) -> None:
    try:
        # The auth gets the token immediately before it sends each request.
        headers, auth = {"BoxApi": f"shared_link={link}"}, session.auth()
        async with limiter:
            item = await client.get("/2.0/shared_items", headers=headers, auth=auth)
            file_id = item.raise_for_status().json()["id"]
            file = await client.get(f"/2.0/files/{file_id}/content", headers=headers, auth=auth)
            await keep(file_id, file.raise_for_status().content)
    except httpx.HTTPError as error:
        logger.warning("left for the next run: %s (%s)", link, type(error).__name__)
