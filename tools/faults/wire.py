"""A token server on streams, with faults below those that `Fault` can describe.

`WireServer` speaks just enough HTTP/1.1 to serve a `TokenServer` on any Trio stream. So clients
reach the same server, with the same faults, through a pair of streams in memory, where time can
be virtual, and through real sockets.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import attrs
import httpcore
import httpx
import trio
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked

from trio_anon_session.testing._client_auth import ON_SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from trio_anon_session.testing import TokenServer

Certificate = Literal["good", "of an unknown authority", "for another name", "of last year"]

ELSEWHERE = b"elsewhere.test"
"""A placeholder in answers for the authority of another origin."""

UNKNOWN_NAME = "no such name in this test"
"""The error text of the test's resolver; no other resolver uses it."""

CHUNK = 2**16


@attrs.frozen(kw_only=True)
class Wire:
    """The faults below HTTP. By default there are no faults.

    Attributes:
        refuses: the server refuses connections.
        name_is_unknown: the server's name does not resolve, but the server runs.
        certificate: what is wrong with the server's certificate.
        speaks_tls: whether the server answers a TLS handshake.
        resets: where the server resets the connection.
        drip: seconds before each byte of the body.
        padding: bytes of white space after the body.
        script: pieces that replace every answer, each after a delay in seconds; then the server
            closes the connection.
        closes: the server closes connections between requests, without notice.
        restarts: each attempt meets a new server on the same port.
    """

    refuses: bool = False
    name_is_unknown: bool = False
    certificate: Certificate = "good"
    speaks_tls: bool = True
    resets: Literal["before_headers", "after_headers"] | None = None
    drip: float = 0.0
    padding: int = 0
    script: tuple[tuple[float, bytes], ...] | None = None
    closes: bool = False
    restarts: bool = False

    @property
    def meets_new_connections(self) -> bool:
        """Whether only new connections meet the fault."""
        return self.refuses or self.needs_tls or self.restarts

    @property
    def needs_tls(self) -> bool:
        """Whether the server must use TLS."""
        return self.name_is_unknown or self.certificate != "good" or not self.speaks_tls


NO_WIRE = Wire()


class _ResetError(Exception):
    """The connection must be reset."""


class WireServer:
    """A server that runs a `TokenServer` on streams.

    Attributes:
        server: the token server.
        wire: the faults; may be replaced at any time.
        elsewhere: replaces `ELSEWHERE` in answers.
        bytes_sent: number of bytes of answers that streams have accepted.
    """

    def __init__(self, server: TokenServer, wire: Wire = NO_WIRE) -> None:
        self.server = server
        self.wire = wire
        self.elsewhere = ELSEWHERE
        self.bytes_sent = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until either side closes it."""
        async with stream:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                try:
                    while await self._serve_request(stream):
                        pass
                except _ResetError:
                    assert isinstance(stream, trio.SocketStream)
                    # With this option, closing the socket sends a reset.
                    linger = struct.pack("ii", 1, 0)
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def _serve_request(self, stream: trio.abc.Stream) -> bool:
        """Answer a request, and return whether the connection can be used again."""
        request = await _read_request(stream)
        if request is None:
            return False
        wire = self.wire
        if wire.script is not None:
            for delay, piece in wire.script:
                await trio.sleep(delay)
                await self._send(stream, piece)
            return False
        answer = _Answer(self, stream)
        head, body = request
        await self.server(_scope(head), _receiver(body), answer.send)
        return answer.is_complete and not wire.closes

    async def _send(self, stream: trio.abc.Stream, piece: bytes) -> None:
        for start in range(0, len(piece), CHUNK):
            part = piece[start : start + CHUNK]
            await stream.send_all(part)
            self.bytes_sent += len(part)


class _Answer:
    """The answer of an ASGI app as bytes."""

    def __init__(self, server: WireServer, stream: trio.abc.Stream) -> None:
        self._server = server
        self._wire = server.wire
        self._stream = stream
        self._missing = -1

    @property
    def is_complete(self) -> bool:
        return self._missing == 0

    async def send(self, event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            await self._send_head(event["status"], event["headers"])
        else:
            await self._send_body(event["body"], is_last=not event["more_body"])

    async def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self._wire.resets == "before_headers":
            raise _ResetError
        lines = [b"HTTP/1.1 %d Said" % status]
        for name, value in headers:
            if name == b"content-length":
                self._missing = int(value) + self._wire.padding
                value = b"%d" % self._missing
            lines.append(name + b": " + value)
        head = b"\r\n".join([*lines, b"", b""])
        await self._server._send(self._stream, head.replace(ELSEWHERE, self._server.elsewhere))
        if self._wire.resets == "after_headers":
            raise _ResetError

    async def _send_body(self, body: bytes, *, is_last: bool) -> None:
        if self._wire.drip:
            for byte in body:
                await trio.sleep(self._wire.drip)
                await self._server._send(self._stream, bytes([byte]))
        else:
            await self._server._send(self._stream, body)
        self._missing -= len(body)
        # Sent in pieces, because the padding may be large.
        while is_last and self._missing > 0:
            piece = b" " * min(CHUNK, self._missing)
            await self._server._send(self._stream, piece)
            self._missing -= len(piece)


async def _read_request(stream: trio.abc.Stream) -> tuple[bytes, bytes] | None:
    """Return head and body of a request, or None at the end of the stream."""
    received = bytearray()
    while b"\r\n\r\n" not in received:
        piece = await stream.receive_some()
        if not piece:
            return None
        received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    length = int(dict(_headers(head)).get(b"content-length", 0))
    while len(body) < length:
        piece = await stream.receive_some()
        if not piece:
            return None
        body += piece
    return head, body


def _headers(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [(name.strip().lower(), value.strip()) for name, _, value in lines]


def _scope(head: bytes) -> dict[str, Any]:
    method, target, _ = head.partition(b"\r\n")[0].split(b" ")
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "method": method.decode(),
        "path": path.decode(),
        "query_string": query,
        "headers": _headers(head),
        ON_SOCKET: True,
    }


def _receiver(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


# The client's end, in memory


def memory_client(network: MemoryNetwork) -> httpx.AsyncClient:
    """Return a client that connects only through this network."""
    transport = httpx.AsyncHTTPTransport(verify=False)
    # httpx has no public way to give its transport another network.
    transport._pool = httpcore.AsyncConnectionPool(network_backend=network)
    return httpx.AsyncClient(transport=transport, trust_env=False)


class MemoryNetwork(httpcore.AsyncNetworkBackend):
    """A network that connects every host to a server in memory.

    Attributes:
        hosts: the hosts of all connections.
    """

    def __init__(self, server: WireServer, nursery: trio.Nursery) -> None:
        self.hosts: set[str] = set()
        self._server = server
        self._nursery = nursery
        self._serving: list[trio.CancelScope] = []

    async def connect_tcp(self, host: str, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        self.hosts.add(host)
        if self._server.wire.refuses:
            raise httpcore.ConnectError("All connection attempts failed")
        # A lockstep pair, so that all bytes that count as sent have been read.
        ours, theirs = lockstep_stream_pair()
        stream = _MemoryStream(ours)
        self._nursery.start_soon(self._serve, theirs, stream)
        return stream

    async def close_connections(self) -> None:
        """Close every connection from the server's side."""
        for scope in self._serving:
            scope.cancel()
        await wait_all_tasks_blocked()

    async def _serve(self, theirs: trio.abc.Stream, stream: _MemoryStream) -> None:
        with trio.CancelScope() as scope:
            self._serving.append(scope)
            await self._server.serve(theirs)
        self._serving.remove(scope)
        stream.is_at_end = True


class _MemoryStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_at_end = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise httpcore.ReadError from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore.WriteError from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        # The pool asks an idle connection whether it is readable.
        return self.is_at_end if info == "is_readable" else None
