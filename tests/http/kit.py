"""What the tests of `SessionAuth` need: the auth of either library, and a peer to send to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import httpx2
import trio

import trio_anon_session.httpx2
from trio_anon_session import AnonymousSession, SessionAuth
from trio_anon_session.testing import open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import ModuleType

    from trio_anon_session.testing import TokenServer

ROOT = "http://localhost"
TIME_LIMIT = 1e6
DEAD = {
    "WWW-Authenticate": 'Bearer realm="Service", error="invalid_token", '
    'error_description="The access token provided is invalid."'
}


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
    """Is a request as it went out."""

    at: float
    method: str
    url: str
    authorization: str | None
    body: bytes


class Recorder(httpx.AsyncBaseTransport):
    """Keeps what is sent, and answers as told, in the end with 200. Serves either library.

    Attributes:
        sent: the requests.
        headers: their headers.
        answers: what the next ones are answered.
        then: the answer to all others.
        latency: seconds that each takes.
    """

    def __init__(
        self,
        http: ModuleType,
        *answers: Any,
        then: Callable[[ModuleType], Any] = lambda http: http.Response(200),
        latency: float = 0.0,
    ) -> None:
        self.http = http
        self.sent: list[Sent] = []
        self.headers: list[dict[str, str]] = []
        self.answers = list(answers)
        self.then = then
        self.latency = latency

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        assert isinstance(request.stream, self.http.AsyncByteStream)
        body = b"".join([chunk async for chunk in request.stream])
        self.sent.append(
            Sent(
                trio.current_time(),
                request.method,
                str(request.url),
                request.headers.get("Authorization"),
                body,
            )
        )
        self.headers.append(dict(request.headers))
        answer: httpx.Response = self.answers.pop(0) if self.answers else self.then(self.http)
        await trio.sleep(self.latency)
        return answer

    @property
    def tokens(self) -> list[str | None]:
        """The ``Authorization`` headers, in order."""
        return [sent.authorization for sent in self.sent]


def dead(http: ModuleType) -> Any:
    """Return Box's answer to a dead token."""
    return http.Response(401, headers=DEAD)


def client_of(http: ModuleType, auth: Any, transport: Any, **settings: Any) -> Any:
    """Return a client to which the transport is all there is."""
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
