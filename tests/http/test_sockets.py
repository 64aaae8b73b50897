"""On real sockets: HTTP/2, connections that are free again, and retries of httpx' own transport."""

from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.socket
import trustme
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve

from tests.http.kit import auth_of
from tests.wire import listening
from trio_anon_session.testing import (
    Fault,
    FaultPlan,
    TokenServer,
    open_loopback,
    open_test_session,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import ModuleType

    from trio_anon_session import AnonymousSession

LIMIT = 30.0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Certify servers on loopback."""
    return trustme.CA()


@asynccontextmanager
async def open_http2(
    http: ModuleType, server: TokenServer, authority: trustme.CA, folder: Path
) -> AsyncIterator[tuple[AnonymousSession, Any]]:
    """Serve a token server over HTTP/2 with TLS; the target is a session and a client of it."""
    pem = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    config = HypercornConfig()
    config.bind = ["127.0.0.1:0"]
    config.certfile = config.keyfile = str(pem)
    config.alpn_protocols = ["h2"]
    # More than a client uses: httpcore now and then counts a stream as free before h2 does, and
    # at the server's limit the next request then fails.
    config.h2_max_concurrent_streams = 1000
    config.loglevel = "ERROR"
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        [bound] = await nursery.start(serve, server, config)
        url = bound.replace("http://", "https://")
        async with (
            open_test_session(server, min_refresh_interval=0.01) as session,
            http.AsyncClient(
                http2=True,
                verify=trusting(authority),
                auth=auth_of(http, session, [url]),
                base_url=url,
                limits=http.Limits(max_connections=1),
            ) as client,
        ):
            yield session, client
        nursery.cancel_scope.cancel()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a context that trusts the authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


async def test_many_requests_over_http2_share_one_grant(
    http: ModuleType, authority: trustme.CA, tmp_path: Path
) -> None:
    """Over one HTTP/2 connection a hundred requests meet a dead token, and one grant serves all."""
    server = TokenServer()
    answers: list[Any] = []
    with trio.fail_after(LIMIT):
        async with open_http2(http, server, authority, tmp_path) as (session, client):
            assert (await client.get("/2.0/files/1")).status_code == 200
            server.revoke_all()

            async def ask(number: int) -> None:
                answers.append(await client.post("/2.0/files/1", json={"number": number}))

            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(ask, number)
            assert session.statistics().invalidations == 1

    assert {(a.status_code, a.http_version) for a in answers} == {(200, "HTTP/2")}
    assert server.grants == 2
    assert server.verdicts["good"] == 101
    assert server.verdicts["revoked"] == sum(len(a.history) for a in answers) > 0


async def test_streams_and_permission_over_http2(
    http: ModuleType, authority: trustme.CA, tmp_path: Path
) -> None:
    """Over HTTP/2 a stream is replayed, an empty 401 is told by its end, and a full one left."""
    server = TokenServer()
    empty = Fault(status=401, body=b"", headers={"Content-Type": "text/plain"})
    with trio.fail_after(LIMIT):
        async with open_http2(http, server, authority, tmp_path) as (session, client):
            await session.get_access_token()
            server.revoke_all()
            async with client.stream("GET", "/2.0/files/7") as answer:
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                assert not answer.is_stream_consumed
                assert await answer.aread() == b'{"type": "file", "id": "7"}'
            server.faults = FaultPlan(resource=[empty])
            assert (await client.get("/2.0/files/1")).status_code == 200
            async with client.stream("GET", "/2.0/forbidden") as answer:
                assert answer.status_code == 401
            forbidden = await client.get("/2.0/forbidden")
            assert forbidden.json()["code"] == "unauthorized"
            assert session.statistics().invalidations == 2
            assert (await client.get("/2.0/files/1")).status_code == 200


async def test_one_connection_is_enough(http: ModuleType) -> None:
    """With one connection a client serves replays, streams and unread answers in turn."""
    server = TokenServer()
    with trio.fail_after(LIMIT):
        async with (
            open_loopback(server) as url,
            open_test_session(server, min_refresh_interval=0.01) as session,
            http.AsyncClient(
                auth=auth_of(http, session, [url]),
                base_url=url,
                limits=http.Limits(max_connections=1),
                timeout=http.Timeout(5.0, pool=5.0),
            ) as client,
        ):
            for _ in range(5):
                await session.get_access_token()
                server.revoke_all()
                async with client.stream("GET", "/2.0/files/1") as answer:
                    assert answer.status_code == 200
                async with client.stream("GET", "/2.0/forbidden") as answer:
                    assert answer.status_code == 401
                server.revoke_all()
                assert (await client.get("/2.0/files/1")).status_code == 200
            with trio.move_on_after(0):
                await client.get("/2.0/files/1")
            assert (await client.get("/2.0/files/1")).status_code == 200
    assert server.verdicts["revoked"] == 10


async def drain_request(stream: trio.abc.ReceiveStream) -> bytes:
    """Read the head of a request that has no body."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = await stream.receive_some()
        if not chunk:
            return b""
        head += chunk
    return head


@pytest.mark.parametrize("challenge", ['Bearer error="invalid_token"', "Bearer"])
@pytest.mark.parametrize("drips", [False, True])
async def test_a_401_without_end(http: ModuleType, challenge: str, drips: bool) -> None:
    """A 401 that is sent for ever is cut off, its socket is closed, and no task waits for it."""
    ended = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        head = await drain_request(stream)
        if b"token-1" not in head:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        await stream.send_all(
            b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n"
            b"WWW-Authenticate: " + challenge.encode() + b"\r\n\r\n"
        )
        piece = b"1\r\nx\r\n" if drips else b"400\r\n" + b"x" * 1024 + b"\r\n"
        try:
            while True:
                await stream.send_all(piece)
                await trio.sleep(0.2 if drips else 0)
        except trio.BrokenResourceError:
            ended.set()
            raise

    tokens = iter(["token-1", "token-2"])
    server = TokenServer(
        FaultPlan(token=[Fault(fields={"access_token": f'"{token}"'}) for token in tokens])
    )
    with trio.fail_after(LIMIT):
        async with listening(handle) as port:
            url = f"http://127.0.0.1:{port}"
            async with (
                open_test_session(server, min_refresh_interval=0.01) as session,
                http.AsyncClient(auth=auth_of(http, session, [url]), base_url=url) as client,
            ):
                async with client.stream("GET", "/a") as answer:
                    if "error" in challenge:
                        assert (answer.status_code, await answer.aread()) == (200, b"ok")
                    else:
                        assert answer.status_code == 401
                await ended.wait()


class RefusesOnce(trio.abc.SocketFactory):
    """Makes sockets, but for the first, which cannot be had."""

    def __init__(self) -> None:
        self.asked = 0

    def socket(self, *args: Any) -> trio.socket.SocketType:
        """Make a socket, or fail."""
        self.asked += 1
        if self.asked == 1:
            raise OSError("no socket to be had")
        return trio.socket.from_stdlib_socket(socket.socket(*args))


async def test_retries_of_the_librarys_transport(http: ModuleType) -> None:
    """``AsyncHTTPTransport(retries=1)`` connects again below the auth, which sees one answer."""
    server = TokenServer()
    with trio.fail_after(LIMIT):
        async with open_loopback(server) as url, open_test_session(server) as session:
            factory = RefusesOnce()
            before = trio.socket.set_custom_socket_factory(factory)
            transport = http.AsyncHTTPTransport(retries=1)
            auth = auth_of(http, session, [url])
            async with http.AsyncClient(auth=auth, transport=transport) as client:
                answer = await client.get(f"{url}/2.0/files/1")
            trio.socket.set_custom_socket_factory(before)
    assert (answer.status_code, factory.asked) == (200, 2)
    assert server.verdicts == {"good": 1}
