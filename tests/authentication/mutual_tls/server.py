"""A token server behind TLS on a loopback socket, which asks for the client's certificate."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import attrs
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve

from tests.authentication.mutual_tls.certificates import HOST, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    import trustme

    from trio_anon_session.testing import TokenServer

_certificate: ContextVar[bytes | None] = ContextVar("certificate", default=None)


class _Connection(ssl.SSLObject):
    # hypercorn puts no certificate into the scope of a request. The handshake runs in the task of
    # the connection, which starts the task of each request, so both have the same context.
    def do_handshake(self) -> None:
        super().do_handshake()
        _certificate.set(self.getpeercert(binary_form=True))


class _Settings(HypercornConfig):
    newest = ssl.TLSVersion.TLSv1_3

    def create_ssl_context(self) -> ssl.SSLContext | None:
        context = super().create_ssl_context()
        assert context is not None
        context.sslobject_class = _Connection
        context.maximum_version = self.newest
        return context


@attrs.define
class TLSServer:
    """A token server that knows the certificate of each request.

    Attributes:
        server: the token server.
        url: its root URL.
        registered: names of certificates that the token and revocation endpoints accept.
        binds: whether the API accepts a token only with the certificate that it was granted to.
        seen: the path of each request, and the name in its certificate.
    """

    server: TokenServer
    url: str = ""
    registered: set[str] = attrs.field(factory=set)
    binds: bool = False
    seen: list[tuple[str, str | None]] = attrs.field(factory=list)
    _owners: dict[str, str | None] = attrs.field(factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self.server(scope, receive, send)
            return
        name = name_of(_certificate.get())
        path: str = scope["path"]
        self.seen.append((path, name))
        if path.startswith("/oauth2/") and name not in self.registered:
            await refuse(receive, send, b'{"error": "invalid_client"}')
            return
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if self.binds and token and self._owners.get(token) != name:
            await refuse(receive, send, b"", b'Bearer error="invalid_token"')
            return
        await self.server(scope, receive, send)
        for granted in self.server.tokens.keys() - self._owners.keys():
            self._owners[granted] = name


async def refuse(receive: Any, send: Any, body: bytes, challenge: bytes = b"") -> None:
    """Answer a request with 401."""
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", challenge or b"Basic")]
    headers += [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def shake_hands(stream: trio.SocketStream, context: ssl.SSLContext) -> None:
    """Run a handshake that sends an alert if it fails; hypercorn sends none."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = context.wrap_bio(incoming, outgoing, server_side=True)
    while True:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            await stream.send_all(outgoing.read())
            incoming.write(await stream.receive_some())
        except ssl.SSLError:
            break
    await stream.send_all(outgoing.read())
    await stream.send_eof()
    # If this end did not read the request, the kernel could discard the alert.
    async for _ in stream:
        pass


@asynccontextmanager
async def open_tls(
    server: TokenServer,
    authority: trustme.CA,
    folder: Path,
    *,
    trusted: Iterable[trustme.CA],
    registered: Iterable[str] = (),
    demands: bool = True,
    binds: bool = False,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> AsyncIterator[TLSServer]:
    """Serve a token server over TLS.

    Args:
        server: the token server.
        authority: the authority that certifies it.
        folder: the folder for its files.
        trusted: authorities of the clients' certificates.
        registered: see `TLSServer`.
        demands: whether the handshake fails without a trusted certificate.
        binds: see `TLSServer`.
        newest: the newest version of TLS that it offers.
    """
    pem, authorities = folder / "server.pem", folder / "clients.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(pem))
    authorities.write_bytes(b"".join(each.cert_pem.bytes() for each in trusted))
    settings = _Settings()
    settings.bind = [f"{HOST}:0"]
    settings.certfile = settings.keyfile = str(pem)
    settings.ca_certs = str(authorities)
    settings.verify_mode = ssl.CERT_REQUIRED if demands else ssl.CERT_OPTIONAL
    settings.newest = newest
    settings.loglevel = "ERROR"
    settings.errorlog = None
    app = TLSServer(server, registered=set(registered), binds=binds)
    async with trio.open_nursery() as nursery:
        [app.url] = await nursery.start(serve, app, settings)
        yield app
        nursery.cancel_scope.cancel()
