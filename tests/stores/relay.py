"""A relay between clients and a server, which forgets connections or leads elsewhere."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Relay:
    """Passes on what clients and a server say.

    Attributes:
        port: where it listens on 127.0.0.1.
        target: the port to which new connections lead.
        subscribers: the numbers of the connections on which a client has subscribed.
        count: how many connections were made.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        # Connections that were made before this one are forgotten.
        self._oldest_kept = 0
        self.count = 0
        self.subscribers: set[int] = set()

    def forget(self) -> None:
        """Pass on nothing more on the connections that there are, and leave them open."""
        self._oldest_kept = self.count

    async def serve(self, client: trio.SocketStream) -> None:
        """Serve one connection."""
        number = self.count
        self.count += 1
        server = await trio.open_tcp_stream("127.0.0.1", self.target)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, number, client, server, nursery.cancel_scope)
            await self._pass_on(number, server, client, nursery.cancel_scope)

    async def _pass_on(
        self,
        number: int,
        source: trio.SocketStream,
        target: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        try:
            async for data in source:
                if b"SUBSCRIBE" in data:
                    self.subscribers.add(number)
                if number >= self._oldest_kept:
                    await target.send_all(data)
        except trio.BrokenResourceError:
            pass
        if number >= self._oldest_kept:
            scope.cancel()


@asynccontextmanager
async def open_relay(target: int) -> AsyncIterator[Relay]:
    """Run a relay while the block lasts."""
    relay = Relay(target)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        relay.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, relay.serve, listeners)
        yield relay
        nursery.cancel_scope.cancel()
