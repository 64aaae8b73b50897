"""Ports of 127.0.0.1 on which servers come and go, or never come."""

from __future__ import annotations

import random
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def server_port() -> Iterator[int]:
    """Keep a port while the block lasts for a server that comes, or goes and comes again.

    None of those that systems give to clients: there, an attempt to reach a server that is
    not there could be given that very port, and reach itself.
    """
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
            if sys.platform == "linux":
                # There, who has said this may share a port with others who say it, as servers
                # do, until one of them listens. Said before, it would be shared already.
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                held.close()
            yield port
            return
    raise RuntimeError("no free port between 20,000 and 30,000")


@contextmanager
def closed_port() -> Iterator[int]:
    """Hold a port while the block lasts on which nobody listens, so that nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port
