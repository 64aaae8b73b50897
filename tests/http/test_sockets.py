"""Tests of `SessionAuth` on real sockets: HTTP/2, connection limits and bodies without end."""

from __future__ import annotations

import gc
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from trio.testing import MockClock

from tests.http.kit import auth_of
from tests.wire import listening, read_request
from trio_anon_session.testing import (
    Fault,
    FaultPlan,
    TokenServer,
    open_loopback,
    open_test_session,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from types import ModuleType

    from trio_anon_session import AnonymousSession

LIMIT = 30.0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority for servers on loopback."""
    return trustme.CA()


@asynccontextmanager
async def open_http2(
    http: ModuleType, server: TokenServer, authority: trustme.CA, folder: Path
) -> AsyncIterator[tuple[AnonymousSession, Any]]:
    """Serve a token server over HTTP/2 with TLS, and open a session and a client of it."""
    pem = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    config = HypercornConfig()
    config.bind = ["127.0.0.1:0"]
    config.certfile = config.keyfile = str(pem)
    config.alpn_protocols = ["h2"]
    # The limit is higher than a client needs. httpcore sometimes counts a stream as free before h2
    # does, and then a request at the server's limit fails.
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
                # No expiry, because httpcore measures it with the machine's clock.
                limits=http.Limits(max_connections=1, keepalive_expiry=None),
            ) as client,
        ):
            yield session, client
        nursery.cancel_scope.cancel()


@pytest.fixture
def slow_clock() -> MockClock:
    """Let a second last ten seconds, for all limits of httpx and the auth.

    On a busy machine such a limit ends a request in the middle of a write. httpcore then loses
    what other requests have to send over the same HTTP/2 connection.
    """
    return MockClock(rate=0.1)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a context that trusts only the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


async def test_many_requests_over_http2_share_one_grant(
    http: ModuleType, authority: trustme.CA, tmp_path: Path, slow_clock: MockClock
) -> None:
    """After many 401s over one HTTP/2 connection, one token request serves all requests."""
    server = TokenServer()
    answers: list[Any] = []
    with trio.fail_after(LIMIT):
        async with open_http2(http, server, authority, tmp_path) as (session, client):
            assert (await client.get("/2.0/files/1")).status_code == 200
            server.revoke_all()

            async def ask(number: int) -> None:
                answers.append(await client.post("/2.0/files/1", json={"number": number}))

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(ask, number)
            assert session.statistics().invalidations == 1

    assert {(a.status_code, a.http_version) for a in answers} == {(200, "HTTP/2")}
    assert server.grants == 2
    assert server.verdicts["good"] == 21
    assert server.verdicts["revoked"] == sum(len(a.history) for a in answers) > 0


async def test_streams_and_permission_over_http2(
    http: ModuleType, authority: trustme.CA, tmp_path: Path, slow_clock: MockClock
) -> None:
    """Over HTTP/2 a stream is replayed, an empty 401 means a revoked token, a full one does not."""
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
    """With a limit of one connection, replays, streams, unread answers and cancellations work."""
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


@asynccontextmanager
async def open_raw(
    http: ModuleType, handle: Callable[[trio.SocketStream], Awaitable[None]]
) -> AsyncIterator[Any]:
    """Open a client to a server with this handler; its session has another server."""
    with trio.fail_after(LIMIT):
        async with (
            listening(handle) as port,
            open_test_session(min_refresh_interval=0.01) as session,
        ):
            url = f"http://127.0.0.1:{port}"
            async with http.AsyncClient(auth=auth_of(http, session, [url]), base_url=url) as client:
                yield client


CHUNKED_401 = b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("challenge", ['Bearer error="invalid_token"', "Bearer"])
@pytest.mark.parametrize("drips", [False, True])
async def test_a_401_without_end(http: ModuleType, challenge: str, drips: bool) -> None:
    """The client closes the socket of a 401 that never ends, and no task waits for it."""
    ended = trio.Event()
    first = None

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal first
        request = await read_request(stream)
        assert request is not None
        token = request.headers["authorization"]
        first = first or token
        if token != first:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        await stream.send_all(CHUNKED_401 + f"WWW-Authenticate: {challenge}\r\n\r\n".encode())
        piece = b"1\r\nx\r\n" if drips else b"400\r\n" + b"x" * 1024 + b"\r\n"
        try:
            while True:
                await stream.send_all(piece)
                await trio.sleep(0.2 if drips else 0)
        except trio.BrokenResourceError:
            ended.set()
            raise

    async with open_raw(http, handle) as client:
        async with client.stream("GET", "/a") as answer:
            if "error" in challenge:
                assert (answer.status_code, await answer.aread()) == (200, b"ok")
            else:
                assert answer.status_code == 401
        await ended.wait()


@pytest.mark.slow
async def test_a_stall_on_a_socket(http: ModuleType) -> None:
    """On a real socket, a response whose body stalls comes after a second, with its whole body."""
    ready = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(CHUNKED_401 + b"\r\n")
        await ready.wait()
        for piece in b"hello":
            await stream.send_all(b"1\r\n%c\r\n" % piece)
            await trio.sleep(0.01)
        await stream.send_all(b"0\r\n\r\n")
        await read_request(stream)
        await stream.send_all(CHUNKED_401 + b"\r\n")
        await trio.sleep_forever()

    async with open_raw(http, handle) as client:
        began = trio.current_time()
        async with client.stream("GET", "/a") as answer:
            assert 0.99 <= trio.current_time() - began < 4.0
            ready.set()
            assert (answer.status_code, await answer.aread()) == (401, b"hello")
        async with client.stream("GET", "/b") as answer:
            assert answer.status_code == 401
        # Trio would warn here about a generator that is left.
        gc.collect()


@pytest.mark.slow
async def test_buffered_pieces_leave_no_generator(http: ModuleType) -> None:
    """If a 401's body has many chunks in its buffer, closing it leaves no generator."""

    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(CHUNKED_401 + b"\r\n" + b"1\r\nx\r\n" * 10_000)
        await read_request(stream)

    async with open_raw(http, handle) as client:
        async with client.stream("GET", "/a") as answer:
            assert answer.status_code == 401
        # Trio would warn here about a generator that is left.
        gc.collect()
