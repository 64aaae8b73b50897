"""What the tests of the command share."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from trio_anon_session.testing import open_loopback

from .running import Served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve while a test runs."""
    served = Served()
    ready: queue.SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]]
    ready = queue.SimpleQueue()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with open_loopback(served.server) as url:
                ready.put((url, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=[serve])
    thread.start()
    served.url, token, scope = ready.get(timeout=30)
    yield served
    token.run_sync_soon(scope.cancel)
    thread.join()
