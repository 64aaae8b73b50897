"""A server that answers HELLO like Redis 6, and anything else with bytes that a test sets."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

GREETING = b"%3\r\n$5\r\nproto\r\n:3\r\n$7\r\nversion\r\n$5\r\n6.0.0\r\n$2\r\nid\r\n:1\r\n"


@asynccontextmanager
async def open_answering(*answers: bytes | Callable[[bytes], bytes] | None) -> AsyncIterator[int]:
    """Serve on a port of 127.0.0.1 while the block lasts; the value is the port.

    Args:
        answers: the answers to what a client sends, in order, on every connection. A function
            gets the bytes that were sent, and returns the answer. None closes the connection.
            After the last answer, the server stays silent.
    """

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                for answer in answers:
                    sent = bytes(await stream.receive_some())
                    if not sent or answer is None:
                        return
                    await stream.send_all(answer if isinstance(answer, bytes) else answer(sent))
                await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def slot_map(host: str, port: int) -> bytes:
    """Return the answer to CLUSTER SLOTS of a cluster with one server, for `open_answering`."""
    name = host.encode()
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$%d\r\n%s\r\n:%d\r\n" % (len(name), name, port)
