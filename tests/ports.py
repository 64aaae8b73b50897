"""Ports of 127.0.0.1 for servers that start, stop or never start."""

from __future__ import annotations

import queue
import random
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from trio_anon_session.testing import open_loopback

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from trio_anon_session.testing import TokenServer


@contextmanager
def server_port() -> Iterator[int]:
    """Reserve a port while the block lasts, for a server that starts late or restarts.

    The port is not in the range that systems give to clients. With a port in that range, a
    connection to a missing server could get this port as its own, and connect to itself.
    """
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
            if sys.platform == "linux":
                # On Linux, sockets with this option can share a port until one of them listens, and
                # servers set it. If it were set before `bind`, the port could be in use already.
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                held.close()
            yield port
            return
    raise RuntimeError("no free port between 20,000 and 30,000")


@contextmanager
def closed_port() -> Iterator[int]:
    """Reserve a port while the block lasts, so that no server listens on it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port


@contextmanager
def served_in_thread(
    server: TokenServer, ssl_context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve on loopback while the block lasts, in a thread with its own Trio run."""
    ready: queue.SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]]
    ready = queue.SimpleQueue()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with open_loopback(server, ssl_context=ssl_context) as url:
                ready.put((url, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=[serve])
    thread.start()
    url, token, scope = ready.get(timeout=30)
    try:
        yield url
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join()
