"""A relay between clients and a server that can lose connections, change servers or be slow."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Relay:
    """Passes bytes on between clients and a server.

    Attributes:
        port: the port of 127.0.0.1 on which it listens.
        target: the port of the server for new connections.
        count: the number of connections so far.
        round_trip: seconds that a request and its answer take together.
    """

    def __init__(self, target: int, round_trip: float = 0.0) -> None:
        self.port = 0
        self.target = target
        self.round_trip = round_trip
        # The relay forgets connections with a lower number than this.
        self._oldest_kept = 0
        self.count = 0

    def forget(self) -> None:
        """Stop passing bytes on over the current connections, and leave them open."""
        self._oldest_kept = self.count

    async def serve(self, client: trio.SocketStream) -> None:
        """Serve one connection."""
        number = self.count
        self.count += 1
        # Opening a connection takes a round trip, too.
        await trio.sleep(self.round_trip)
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            await client.aclose()
            return
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
        send, receive = trio.open_memory_channel[tuple[float, bytes | bytearray]](math.inf)

        async def deliver() -> None:
            async for sent_at, data in receive:
                await trio.sleep_until(sent_at + self.round_trip / 2)
                await target.send_all(data)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(deliver)
                with send:
                    async for data in source:
                        if number >= self._oldest_kept:
                            send.send_nowait((trio.current_time(), data))
        except* trio.BrokenResourceError:
            pass
        if number >= self._oldest_kept:
            scope.cancel()


@asynccontextmanager
async def open_relay(target: int, round_trip: float = 0.0) -> AsyncIterator[Relay]:
    """Run a relay while the block lasts."""
    relay = Relay(target, round_trip)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        relay.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, relay.serve, listeners)
        yield relay
        nursery.cancel_scope.cancel()
