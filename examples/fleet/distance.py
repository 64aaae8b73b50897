"""A relay that adds latency to connections to a server on this machine."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def open_relay(port: int, round_trip: float) -> AsyncIterator[int]:
    """Relay connections to a server while the block lasts, and yield the port to connect to.

    Args:
        port: the server's port on 127.0.0.1.
        round_trip: latency of a request and its answer together, in seconds.
    """
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        serve = partial(_serve, port=port, round_trip=round_trip)
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _serve(client: trio.SocketStream, port: int, round_trip: float) -> None:
    """Relay one connection until either side closes it."""
    # A TCP connection takes one round trip to open.
    await trio.sleep(round_trip)
    try:
        server = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return
    async with server, trio.open_nursery() as nursery:
        for source, target in ((client, server), (server, client)):
            nursery.start_soon(_pass_on, source, target, round_trip / 2, nursery.cancel_scope)


async def _pass_on(
    source: trio.SocketStream, target: trio.SocketStream, delay: float, scope: trio.CancelScope
) -> None:
    """Forward the data of one side with a delay in seconds, then end the connection."""
    send, receive = trio.open_memory_channel[tuple[float, bytes | bytearray]](math.inf)

    async def deliver() -> None:
        async for sent_at, data in receive:
            await trio.sleep_until(sent_at + delay)
            await target.send_all(data)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver)
            with send:
                async for data in source:
                    send.send_nowait((trio.current_time(), data))
    except* trio.BrokenResourceError:
        # The other side has closed the connection.
        pass
    scope.cancel()
