"""Places for a run: in process under virtual time, or on real sockets."""

from __future__ import annotations

import datetime
import functools
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from tests.ports import server_port
from trio_anon_session.testing import FaultPlan, TokenServer

from .wire import NO_WIRE, UNKNOWN_NAME, MemoryNetwork, WireServer, memory_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_anon_session import Config

    from .rows import Row
    from .wire import Certificate

NAME = "token.invalid"
"""A host name that does not exist (RFC 6761 §6.4)."""

LAST_YEAR = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
"""A date in the past."""


class Place:
    """A server with the fault of a row, a client for it, and another origin.

    Attributes:
        url: the URL of the server.
        client: a client that reaches the server.
        wire: the server.
    """

    url: str
    client: httpx.AsyncClient

    def __init__(self, row: Row) -> None:
        self._row = row
        self.wire = WireServer(TokenServer(lifetime=3600.0, **row.server))

    def config(self, settings: dict[str, Any]) -> Config:
        """Return the config of a session for this server."""
        return self.wire.server.config(self.url, **settings)

    async def begin_attempt(self, *, is_faulty: bool) -> None:
        """Prepare the server for the next attempt."""
        fault = self._row.fault if is_faulty else None
        self.wire.server.faults = FaultPlan(token_then=fault, revoke_then=fault)
        self.wire.wire = self._row.wire if is_faulty else NO_WIRE

    def is_elsewhere_untouched(self) -> bool:
        """Return whether no byte went to another origin."""
        raise NotImplementedError


class _InProcess(Place):
    url = "http://localhost"

    def __init__(self, row: Row, nursery: trio.Nursery) -> None:
        super().__init__(row)
        self._network = MemoryNetwork(self.wire, nursery)
        self.client = memory_client(self._network)

    async def begin_attempt(self, *, is_faulty: bool) -> None:
        await super().begin_attempt(is_faulty=is_faulty)
        if self.wire.wire.meets_new_connections:
            await self._network.close_connections()

    def is_elsewhere_untouched(self) -> bool:
        return self._network.hosts <= {"localhost"}


@asynccontextmanager
async def open_in_process(row: Row) -> AsyncIterator[Place]:
    """Open a place inside the process, so that time can be virtual."""
    async with trio.open_nursery() as nursery:
        place = _InProcess(row, nursery)
        async with place.client:
            yield place
        nursery.cancel_scope.cancel()


@functools.cache
def _authorities() -> tuple[trustme.CA, trustme.CA]:
    """Return a certificate authority that the client trusts, and one that it does not trust."""
    return trustme.CA(), trustme.CA()


class _Resolver(trio.abc.HostnameResolver):
    """A resolver for one name, used in place of the machine's resolver.

    Attributes:
        knows: whether it resolves the name.
    """

    knows = True

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        assert host in (NAME, NAME.encode())
        if not self.knows:
            await trio.lowlevel.checkpoint()
            raise socket.gaierror(socket.EAI_NONAME, UNKNOWN_NAME)
        return await trio.socket.getaddrinfo("127.0.0.1", port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


class _OnSockets(Place):
    def __init__(self, row: Row, port: int, nursery: trio.Nursery) -> None:
        super().__init__(row)
        self._nursery = nursery
        self._serving: tuple[trio.CancelScope, trio.Event] | None = None
        self._resolver = _Resolver()
        if row.wire.name_is_unknown:
            trio.socket.set_custom_hostname_resolver(self._resolver)
        self.connections_elsewhere = 0
        self.port = port
        self.client = httpx.AsyncClient(verify=_client_context(), trust_env=False)

    async def begin_attempt(self, *, is_faulty: bool) -> None:
        # The last request may still have to close its connection.
        await wait_all_tasks_blocked()
        await super().begin_attempt(is_faulty=is_faulty)
        wire = self.wire.wire
        if wire.meets_new_connections:
            await self.stop()
        if not wire.refuses and self._serving is None:
            await self.start()
        self._resolver.knows = not wire.name_is_unknown

    async def start(self) -> None:
        """Listen on the same port as before."""
        listener = await _listen(self.port)
        scheme = "https" if self._row.wire.needs_tls else "http"
        host = NAME if self._row.wire.name_is_unknown else "127.0.0.1"
        self.url = f"{scheme}://{host}:{self.port}"
        self._serving = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._serve, listener, *self._serving)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._serving is not None:
            scope, ended = self._serving
            self._serving = None
            scope.cancel()
            await ended.wait()

    async def _serve(
        self, listener: trio.SocketListener, scope: trio.CancelScope, ended: trio.Event
    ) -> None:
        with scope:
            await trio.serve_listeners(self._serve_stream, [listener])
        ended.set()

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        if not self._row.wire.needs_tls:
            await self.wire.serve(stream)
            return
        wire = self.wire.wire
        assert not wire.name_is_unknown, "a connection needs a name that resolves"
        if not wire.speaks_tls:
            await self._speak_no_tls(stream)
            return
        secured = trio.SSLStream(
            stream, _server_context(wire.certificate), server_side=True, https_compatible=True
        )
        with suppress(trio.BrokenResourceError):
            await secured.do_handshake()
            await self.wire.serve(secured)
        await trio.aclose_forcefully(secured)

    async def _speak_no_tls(self, stream: trio.SocketStream) -> None:
        await stream.receive_some()
        script = self.wire.wire.script
        if script is None:
            await trio.sleep_forever()
        for _, piece in script or ():
            await stream.send_all(piece)
        await stream.aclose()

    async def serve_elsewhere(self, stream: trio.SocketStream) -> None:
        """Serve the other origin, to which no client should connect."""
        self.connections_elsewhere += 1
        await stream.aclose()

    def is_elsewhere_untouched(self) -> bool:
        return self.connections_elsewhere == 0


@asynccontextmanager
async def open_on_sockets(row: Row) -> AsyncIterator[Place]:
    """Open a place on loopback sockets."""
    with server_port() as port:
        async with trio.open_nursery() as nursery:
            place = _OnSockets(row, port, nursery)
            elsewhere = await _listen(0)
            await nursery.start(trio.serve_listeners, place.serve_elsewhere, [elsewhere])
            place.wire.elsewhere = b"127.0.0.1:%d" % elsewhere.socket.getsockname()[1]
            await place.start()
            async with place.client:
                yield place
            nursery.cancel_scope.cancel()


async def _listen(port: int) -> trio.SocketListener:
    [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
    return listener


@functools.cache
def _client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    _authorities()[0].configure_trust(context)
    return context


@functools.cache
def _server_context(certificate: Certificate) -> ssl.SSLContext:
    trusted, unknown = _authorities()
    match certificate:
        case "good":
            issued = trusted.issue_cert("127.0.0.1", NAME)
        case "of an unknown authority":
            issued = unknown.issue_cert("127.0.0.1", NAME)
        case "for another name":
            issued = trusted.issue_cert("another.invalid")
        case "of last year":
            issued = trusted.issue_cert("127.0.0.1", NAME, not_after=LAST_YEAR)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    return context
