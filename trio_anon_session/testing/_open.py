"""Ways to reach a `TokenServer`: a session in process, and a loopback socket."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import trio

from .._manager import TokenManager
from .._nursery import end_nursery, raise_at_exit
from .._session import AnonymousSession
from ._client_auth import ON_SOCKET
from ._server import TokenServer
from ._tls import record_certificates, tls_extension

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .._events import Observer
    from ._requests import Receive, Scope, Send


@asynccontextmanager
async def open_test_session(
    server: TokenServer | None = None, *, observers: Iterable[Observer] = (), **settings: Any
) -> AsyncIterator[AnonymousSession]:
    """Open a session with an embedded server, in process.

    It uses no sockets, so it works with a ``MockClock``::

        async with open_test_session(stale_buffer=60.0) as session:
            token = await session.get_access_token()

    Args:
        server: the server; by default a new one without faults.
        observers: observers of the session.
        **settings: settings of the session's :class:`~trio_anon_session.Config`.
    """
    server = server if server is not None else TokenServer()
    config = server.config(**settings)
    transport = httpx.ASGITransport(server)
    async with (
        httpx.AsyncClient(transport=transport) as client,
        TokenManager(config, http_client=client) as manager,
        AnonymousSession(config, manager, observers=observers) as session,
    ):
        yield session


def open_loopback(
    server: TokenServer, *, port: int = 0, ssl_context: ssl.SSLContext | None = None
) -> AbstractAsyncContextManager[str]:
    """Serve a `TokenServer` on a loopback socket with hypercorn while the block lasts.

    The target of ``async with`` is the root URL::

        async with open_loopback(TokenServer()) as url:
            config = server.config(url)

    Leaving the block closes the socket and every connection. Needs the extra
    ``testing``.

    Args:
        server: the server.
        port: the port; 0 picks a free one.
        ssl_context: context with the server's certificate, to serve https; by default, the server
            uses http. To check certificates of clients, set its ``verify_mode``, and load the
            authority that has issued them. The context must be for this server only.
    """
    return _Loopback(server, port, ssl_context)


class _Loopback:
    def __init__(self, server: TokenServer, port: int, ssl_context: ssl.SSLContext | None) -> None:
        self._server = server
        self._port = port
        self._ssl_context = ssl_context

    async def __aenter__(self) -> str:
        from hypercorn.config import Config as HypercornConfig
        from hypercorn.trio import serve

        context = self._ssl_context

        class LoopbackConfig(HypercornConfig):
            # Hypercorn makes a context of files, and uses TLS only then.
            ssl_enabled = context is not None

            def create_ssl_context(self) -> ssl.SSLContext | None:
                return context

        config = LoopbackConfig()
        if context is not None:
            record_certificates(context)
        # Bound here, because hypercorn does not close a socket that it cannot bind.
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind(("127.0.0.1", self._port))
            config.bind = [f"fd://{listener.detach()}"]
        # `TokenServer` sends its own Date header, from its own clock.
        config.include_date_header = False
        config.include_server_header = False
        config.loglevel = "WARNING"
        config.errorlog = None
        self._nursery_manager = trio.open_nursery(strict_exception_groups=True)
        self._nursery = await self._nursery_manager.__aenter__()
        try:
            binds: list[str] = await self._nursery.start(serve, self._serve, config)
        except BaseException as error:
            # end_nursery() shields itself, and is short.
            crash = await end_nursery(  # noqa: ASYNC102
                self._nursery_manager, self._nursery
            )
            raise_at_exit(error, crash)
            raise
        return binds[0]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        crash = await end_nursery(self._nursery_manager, self._nursery)  # noqa: ASYNC102
        raise_at_exit(exc, crash)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, ON_SOCKET: True}
        if self._ssl_context is not None:
            scope["extensions"] = {**(scope.get("extensions") or {}), "tls": tls_extension()}
        await self._server(scope, receive, send)
