"""A peer on a real socket that records exactly the bytes of each request."""

from __future__ import annotations

import contextlib
import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TOKEN_ANSWER = b'{"access_token":"token-1","token_type":"bearer","expires_in":3600}'


@attrs.frozen
class Request:
    """A request with its bytes and its parsed parts."""

    raw: bytes = attrs.field(repr=False)
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def answer(status: int = 200, body: bytes = TOKEN_ANSWER, **headers: str) -> bytes:
    """Return the bytes of an answer that ends the connection."""
    fields = {"content_length": str(len(body)), "connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items()]
    return f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode() + body


async def read_request(stream: trio.abc.ReceiveStream) -> Request | None:
    """Return the next request, or None if the stream ends."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        chunk = await stream.receive_some()
        if not chunk:
            return None
        raw += chunk
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} came twice"
        headers[name.lower()] = value.strip()
    while len(body) < int(headers.get("content-length", "0")):
        chunk = await stream.receive_some()
        assert chunk
        raw, body = raw + chunk, body + chunk
    method, target, _ = first.split(" ")
    return Request(raw, method, target, headers, body)


@attrs.define
class Peer:
    """An HTTP server that answers one request per connection.

    Attributes:
        port: its port on 127.0.0.1.
        answers: the next answers; after them, it always answers with a token.
        requests: the received requests.
    """

    port: int
    answers: list[bytes] = attrs.field(factory=list)
    requests: list[Request] = attrs.field(factory=list)

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer the request of a connection."""
        async with stream:
            request = await read_request(stream)
            if request is not None:
                self.requests.append(request)
                await stream.send_all(self.answers.pop(0) if self.answers else answer())


@asynccontextmanager
async def listening(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve each connection to a free port of 127.0.0.1, the target, while the block lasts."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, _without_connection_errors(handler), 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def _without_connection_errors(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def handle(stream: trio.SocketStream) -> None:
        # These errors mean that the client closed the connection, or rejects the certificate.
        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
            await handler(stream)

    return handle


@asynccontextmanager
async def open_peer(*answers: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Open a peer that speaks plain http, or https with a context."""

    async def serve(stream: trio.SocketStream) -> None:
        if context is None:
            await peer.serve(stream)
        else:
            await peer.serve(
                trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            )

    async with listening(serve) as port:
        peer = Peer(port, list(answers))
        yield peer
