"""A Trio program with blocking code in worker threads.

    export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
    python trio_program.py 11111 22222

The threads get their tokens from the session of the Trio program.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio
from blocking_api import look_up

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config

if TYPE_CHECKING:
    from collections.abc import Iterable


async def look_up_all(session: AnonymousSession, file_ids: Iterable[str]) -> dict[str, object]:
    """Look up each file in a thread."""
    answers: dict[str, object] = {}

    async def look_up_one(file_id: str) -> None:
        url = f"{session.config.api_root_url}/2.0/files/{file_id}"
        answers[file_id] = await trio.to_thread.run_sync(
            look_up,
            url,
            # Both run in Trio's thread, while the worker thread waits.
            lambda: trio.from_thread.run(session.get_access_token),
            lambda token: trio.from_thread.run_sync(session.invalidate, token),
        )

    async with trio.open_nursery() as nursery:
        for file_id in file_ids:
            nursery.start_soon(look_up_one, file_id)
    return answers


async def main(file_ids: Iterable[str]) -> None:
    """Look up files, and print what the API knows about them."""
    async with AnonymousSession(Config.from_env()) as session:
        # Wrong credentials end the program here, before it starts threads.
        await session.get_access_token()
        answers = await look_up_all(session, file_ids)
        for file_id in sorted(answers):
            print(answers[file_id])


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1:])
    except AnonymousSessionError as error:
        sys.exit(f"trio_program.py: {error}")
