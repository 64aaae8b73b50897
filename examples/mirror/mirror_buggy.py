"""Keep copies of files that others have shared by link."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import httpx
import trio

from trio_anon_session import AnonymousSessionError

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
        # The API needs both headers in each request.
        headers = {
            "Authorization": f"Bearer {await session.get_access_token()}",
            "BoxApi": f"shared_link={link}",
        }
        async with limiter:
            item = await client.get("/2.0/shared_items", headers=headers)
            file_id = item.raise_for_status().json()["id"]
            file = await client.get(f"/2.0/files/{file_id}/content", headers=headers)
            await keep(file_id, file.raise_for_status().content)
    except (AnonymousSessionError, httpx.HTTPError) as error:
        logger.warning("left for the next run: %s (%s)", link, type(error).__name__)
