"""Helpers for tests of `SessionAuth`: the auth of either library, transports and bodies."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import httpx2
import trio
from hypothesis import strategies as st

import trio_anon_session.httpx2
from trio_anon_session import AnonymousSession, SessionAuth
from trio_anon_session.testing import TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import ModuleType

ROOT = "http://localhost"
TIME_LIMIT = 1e6
INVALID_TOKEN: dict[str, Any] = {
    "WWW-Authenticate": 'Bearer realm="Service", error="invalid_token", '
    'error_description="The access token provided is invalid."'
}
UNAUTHORIZED = b'{"code": "unauthorized"}'
libraries = st.sampled_from([httpx, httpx2])


def auth_of(
    http: ModuleType, session: AnonymousSession, origins: Iterable[str] | None = None
) -> Any:
    """Return the auth for clients of a library."""
    if http is httpx2:
        return trio_anon_session.httpx2.SessionAuth(session, origins=origins)
    assert http is httpx
    return SessionAuth(session, origins=origins)


@attrs.frozen
class Sent:
    """A request as the transport received it."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Recorder(httpx.AsyncBaseTransport):
    """Records the requests, and gives the answers in order, then 200. Serves either library."""

    def __init__(
        self,
        http: ModuleType,
        *answers: Any,
        then: Callable[[ModuleType], Any] = lambda http: http.Response(200),
    ) -> None:
        self.http = http
        self.sent: list[Sent] = []
        self.answers = list(answers)
        self.then = then

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        assert isinstance(request.stream, self.http.AsyncByteStream)
        body = b"".join([chunk async for chunk in request.stream])
        self.sent.append(Sent(request.method, str(request.url), dict(request.headers), body))
        answer: httpx.Response = self.answers.pop(0) if self.answers else self.then(self.http)
        return answer

    @property
    def tokens(self) -> list[str | None]:
        """The ``Authorization`` headers, in order."""
        return [sent.headers.get("authorization") for sent in self.sent]


def invalid_token(http: ModuleType) -> Any:
    """Return Box's answer to a request with a revoked token."""
    return http.Response(401, headers=INVALID_TOKEN)


def client_of(http: ModuleType, auth: Any, transport: Any, **settings: Any) -> Any:
    """Return a client that sends everything through this transport."""
    return http.AsyncClient(auth=auth, transport=transport, base_url=ROOT, **settings)


@asynccontextmanager
async def open_pair(
    http: ModuleType, server: TokenServer, transport: Any = None, **settings: Any
) -> AsyncIterator[tuple[AnonymousSession, Any]]:
    """Open a session, and a client that sends its token to the same server, or elsewhere."""
    transport = transport or http.ASGITransport(server)
    with trio.fail_after(TIME_LIMIT):
        async with (
            open_test_session(server, **settings) as session,
            client_of(http, auth_of(http, session, [ROOT]), transport) as client,
        ):
            yield session, client


@asynccontextmanager
async def open_answered(
    http: ModuleType, *answers: Any
) -> AsyncIterator[tuple[AnonymousSession, Any]]:
    """Open a session, and a client whose requests get these answers, and then 200."""
    async with open_pair(http, TokenServer(), Recorder(http, *answers)) as pair:
        yield pair


class Body(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in pieces, and that counts how it is used.

    Attributes:
        pause: seconds before each piece.
        end: seconds between the last piece and the end.
        read: how many pieces were read.
        closes: how often it was closed.
        opened: how many iterators have begun and not ended.
    """

    def __init__(self, *pieces: bytes, pause: float = 0.0, end: float = 0.0) -> None:
        self.pieces = pieces
        self.pause = pause
        self.end = end
        self.read = 0
        self.closes = 0
        self.opened = 0

    # There are two nested generators, because a real client has several of them.
    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces, as a transport does that waits for the network."""
        self.opened += 1
        try:
            async for piece in self._give():
                yield piece
        finally:
            self.opened -= 1

    async def _give(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await trio.sleep(self.pause)
            self.read += 1
            yield piece
        await trio.sleep(self.end)

    async def aclose(self) -> None:
        """Count that the body was closed."""
        self.closes += 1


def answer_with(http: ModuleType, stream: Any, *, status: int = 401, **headers: str) -> Any:
    """Return an answer that has not been read."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.Response(status, headers=named, stream=stream)
