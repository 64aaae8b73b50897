"""A token server in another thread, for tests without Trio."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from trio_anon_session.testing import TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_anon_session import Config


@contextmanager
def serve(server: TokenServer) -> Iterator[Config]:
    """Serve on loopback, and yield the config of a client."""
    ready, stop = threading.Event(), trio.Event()
    found: list[tuple[Config, trio.lowlevel.TrioToken]] = []

    async def run() -> None:
        async with open_loopback(server) as url:
            found.append((server.config(url), trio.lowlevel.current_trio_token()))
            ready.set()
            await stop.wait()

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(trio.run, run)
        assert ready.wait(60)
        config, token = found[0]
        try:
            yield config
        finally:
            token.run_sync_soon(stop.set)
            future.result()
