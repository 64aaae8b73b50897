"""Tests of `SessionThread.auth()`: synchronous clients follow the rules of asynchronous ones."""

from __future__ import annotations

import io
import math
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import httpx2
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

import trio_anon_session.httpx2
import trio_anon_session.threads
from trio_anon_session import AnonymousSession, CredentialsRejectedError
from trio_anon_session.testing import TokenServer
from trio_anon_session.threads import SessionThread, SessionThreadAuth

from ..helpers import make_config, run_virtually
from ..http.kit import INVALID_TOKEN, ROOT, Body, auth_of, libraries
from ..ports import served_in_thread
from .kit import fake_manager, thread_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType


def sync_auth_of(http: ModuleType, session: Any, **settings: Any) -> Any:
    """Return the auth for synchronous clients of a library."""
    auth = trio_anon_session.httpx2 if http is httpx2 else trio_anon_session.threads
    return auth.SessionThreadAuth(session, **settings)


class Tokens:
    """A fake session with numbered tokens.

    Attributes:
        number: the number of the current token.
    """

    def __init__(self, plan: Plan) -> None:
        self.config = make_config(api_root_url=ROOT)
        self.number = 0
        self._plan = plan

    def invalidate(self, access_token: str) -> None:
        """Go on to the next token, unless the plan is stuck."""
        assert access_token == f"token-{self.number}"
        self.number += not self._plan.is_stuck

    def _token(self) -> str:
        if self.number in self._plan.errors:
            raise CredentialsRejectedError(f"no token {self.number}")
        return f"token-{self.number}"


class BlockingTokens(Tokens):
    """A fake `SessionThread`."""

    def get_access_token(self, timeout: float | None) -> str:
        """Return the current token."""
        return self._token()


class AsyncTokens(Tokens):
    """A fake `AnonymousSession`."""

    def get_access_token_nowait(self) -> str:
        """Return the current token."""
        return self._token()

    async def get_access_token(self) -> str:
        """Return the current token."""
        await trio.lowlevel.checkpoint()
        return self._token()


class SyncBody(httpx.SyncByteStream, httpx2.SyncByteStream):
    """`Body` for synchronous clients."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.read = self.closes = self.opened = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces."""
        self.opened += 1
        try:
            yield from self._give()
        finally:
            self.opened -= 1

    def _give(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.read += 1
            yield piece

    def close(self) -> None:
        """Count that the body was closed."""
        self.closes += 1


@attrs.frozen
class Answer:
    """The server's answer to one request."""

    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    pieces: tuple[bytes, ...] = ()


@attrs.frozen
class Plan:
    """A request, the answers to it and to the next requests, and the session's tokens."""

    method: str = "GET"
    url: str = f"{ROOT}/2.0/files/1"
    body: str = "none"
    answers: tuple[Answer, ...] = ()
    errors: frozenset[int] = frozenset()
    is_stuck: bool = False


answers = st.builds(
    Answer,
    status=st.sampled_from([200, 401, 401, 401, 403]),
    headers=st.sampled_from(
        [
            {},
            INVALID_TOKEN,
            {"WWW-Authenticate": 'Bearer error="insufficient_scope"'},
            {"Content-Length": "0"},
            {"Content-Length": "2"},
        ]
    ),
    pieces=st.sampled_from(
        [(), (b"",), (b"no",), (b"", b"n", b"o"), (b"",) * 100, (b"x" * 1000,) * 100]
    ),
) | st.builds(
    Answer,
    status=st.sampled_from([303, 307]),
    headers=st.sampled_from([{"Location": "/2.0/files/2"}, {"Location": "https://a.example/"}]),
)
plans = st.builds(
    Plan,
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    url=st.sampled_from([f"{ROOT}/2.0/files/1", "https://a.example/", "http://a.example/"]),
    body=st.sampled_from(["none", "bytes", "iterator", "file", "pipe"]),
    answers=st.tuples(answers, answers),
    errors=st.sampled_from([frozenset[int](), frozenset({0}), frozenset({1})]),
    is_stuck=st.booleans(),
)


class Peer(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A server that gives the planned answers, then 200, to either kind of client."""

    def __init__(self, http: ModuleType, plan: Plan, body_class: type[Body | SyncBody]) -> None:
        self._http = http
        self._answers = list(plan.answers)
        self._body_class = body_class
        self.sent: list[tuple[object, ...]] = []
        self.bodies: list[Body | SyncBody] = []

    def handle_request(self, request: Any) -> Any:
        """Answer a synchronous request."""
        content = request.read() if self._body_class is SyncBody else request.content
        token = request.headers.get("Authorization")
        self.sent.append((request.method, str(request.url), token, len(content)))
        answer = self._answers.pop(0) if self._answers else Answer()
        body = self._body_class(*answer.pieces)
        self.bodies.append(body)
        return self._http.Response(answer.status, headers=answer.headers, stream=body)

    async def handle_async_request(self, request: Any) -> Any:
        """Answer an asynchronous request."""
        await request.aread()
        return self.handle_request(request)


def content_of(plan: Plan, chunks: object) -> dict[str, Any]:
    """Return the arguments of the client for the body of the request."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    contents: dict[str, dict[str, Any]] = {
        "none": {},
        "bytes": {"content": b"body"},
        "iterator": {"content": chunks},
        "file": {"files": {"file": io.BytesIO(b"body")}},
        "pipe": {"files": {"file": Pipe(b"body")}},
    }
    return contents[plan.body]


def observed(peer: Peer, session: Tokens, auth: Any, ended: Any) -> object:
    """Return everything that a program and a server can see of a request.

    The name of its class is replaced, because only that differs.
    """
    name = type(auth).__name__
    assert repr(auth) == f"<{name} of {session!r}>"
    if isinstance(ended, Exception):
        end: object = (type(ended).__name__, str(ended), str(ended.request.url))  # type: ignore[attr-defined]  # of httpx
    else:
        ours = [ended.extensions.get(key, "").replace(name, "the auth") for key in KEYS]
        history = [(each.status_code, each.content) for each in ended.history]
        end = (ended.status_code, ended.content, ours, history)
    bodies = [(body.read, body.closes > 0, body.opened) for body in peer.bodies]
    return peer.sent, bodies, session.number, end


KEYS = ("trio_anon_session.token_not_sent", "trio_anon_session.not_replayed")


def run_sync(http: ModuleType, plan: Plan) -> object:
    """Send the request with a synchronous client."""
    session, peer = BlockingTokens(plan), Peer(http, plan, SyncBody)
    auth = sync_auth_of(http, session)
    with http.Client(auth=auth, transport=peer, follow_redirects=True) as client:
        try:
            content = content_of(plan, iter([b"bo", b"dy"]))
            ended = client.request(plan.method, plan.url, **content)
        except http.RequestError as error:
            ended = error
    return observed(peer, session, auth, ended)


async def run_async(http: ModuleType, plan: Plan) -> object:
    """Send the request with an asynchronous client."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"bo"
        yield b"dy"

    session, peer = AsyncTokens(plan), Peer(http, plan, Body)
    auth = auth_of(http, session)  # type: ignore[arg-type]  # it has what an auth needs
    async with http.AsyncClient(auth=auth, transport=peer, follow_redirects=True) as client:
        try:
            ended = await client.request(plan.method, plan.url, **content_of(plan, chunks()))
        except http.RequestError as error:
            ended = error
    return observed(peer, session, auth, ended)


@given(http=libraries, plan=plans)
@example(httpx, Plan(url="https://a.example/"))
@example(httpx, Plan(url="http://a.example/"))
@example(httpx, Plan(answers=(Answer(401),)))
@example(httpx, Plan(answers=(Answer(401, pieces=(b"", b"no")),)))
@example(httpx, Plan(answers=(Answer(401, INVALID_TOKEN, (b"no",)),)))
@example(httpx, Plan(answers=(Answer(401, INVALID_TOKEN, (b"x" * 1000,) * 100),)))
def test_both_kinds_of_clients_follow_the_same_rules(http: ModuleType, plan: Plan) -> None:
    """Requests, tokens, responses, errors and reads are the same for both kinds of clients."""
    assert run_sync(http, plan) == run_virtually(run_async, http, plan)


def test_a_request_that_fails() -> None:
    """A failed request leaves no generator to the event loop of its thread."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    left: list[object] = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=left.append)
    try:
        transport = httpx.MockTransport(fail)
        auth = sync_auth_of(httpx, BlockingTokens(Plan()))
        with httpx.Client(auth=auth, transport=transport) as client:
            with pytest.raises(httpx.ConnectError):
                client.get(f"{ROOT}/2.0/files/1")
    finally:
        sys.set_asyncgen_hooks(*before)
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("http", [httpx, httpx2])
def test_on_a_real_server(http: ModuleType) -> None:
    """Requests of many threads share one token, and another one after it has expired."""
    server = TokenServer()
    with served_in_thread(server) as url, SessionThread(server.config(url)) as session:
        auth = sync_auth_of(http, session)
        with http.Client(auth=auth, base_url=url) as client, ThreadPoolExecutor(8) as pool:

            def statuses() -> list[int]:
                return [answer.status_code for answer in pool.map(client.get, PATHS)]

            assert set(statuses()) == {200}
            server.tokens[session.get_access_token()].lifetime = 0.0
            assert set(statuses()) == {200}
    assert server.grants == 2
    assert server.verdicts["good"] == 2 * len(PATHS)


PATHS = [f"/2.0/files/{number}" for number in range(20)]


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_timeout(http: ModuleType) -> None:
    """The timeout limits the wait for a token; its error is also a timeout of the library."""
    with thread_on(fake_manager(latency=math.inf, api_root_url=ROOT)) as session:
        with http.Client(auth=sync_auth_of(http, session, timeout=0.01)) as client:
            with pytest.raises(TimeoutError, match=r"no token within 0\.01 s") as caught:
                client.get(f"{ROOT}/2.0/files/1")
    assert isinstance(caught.value, http.TimeoutException)
    assert caught.value.request.url == f"{ROOT}/2.0/files/1"
    assert caught.value.__context__ is None


def test_an_asynchronous_client() -> None:
    """An asynchronous client is refused, because the auth would block its event loop."""
    session = thread_on(fake_manager(api_root_url=ROOT))

    async def send(http: ModuleType) -> None:
        async with http.AsyncClient(auth=sync_auth_of(http, session)) as client:
            await client.get(f"{ROOT}/2.0/files/1")

    for http in (httpx, httpx2):
        with pytest.raises(RuntimeError, match=rf"needs {http.__name__}\.Client, because"):
            trio.run(send, http)


def test_misuse() -> None:
    """Another class, the method without a call, and a session that is not open are refused."""
    config = make_config(api_root_url=ROOT)
    with pytest.raises(TypeError, match="session must be a SessionThread, not AnonymousSession"):
        SessionThreadAuth(AnonymousSession(config))  # type: ignore[arg-type]  # as the test says
    with httpx.Client(auth=SessionThread(config).auth) as client:  # type: ignore[arg-type]  # as above
        with pytest.raises(TypeError, match=r"pass auth=session\.auth\(\) to the client"):
            client.get(ROOT)
    with httpx.Client(auth=SessionThread(config).auth()) as client:
        with pytest.raises(RuntimeError, match="write 'with SessionThread"):
            client.get(ROOT)


@pytest.mark.parametrize("what", [SessionThread, SessionThreadAuth])
def test_pickling_is_refused(what: type) -> None:
    """Pickling raises an error that says to create a new object in the other process."""
    session = thread_on(fake_manager())
    made = session if what is SessionThread else session.auth()
    with pytest.raises(TypeError, match=f"cannot pickle a {what.__name__}: .* Create a new one"):
        pickle.dumps(made)
