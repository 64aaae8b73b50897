"""Tests of the errors that a client raises for a session that has no token."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import random
import sys
import traceback
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import trio

from tests.helpers import FakeTokenManager, make_config, traceback_with_locals
from tests.http.kit import ROOT, Recorder, auth_of, client_of, open_pair
from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session._flow import as_request_error
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from types import ModuleType

    from trio.testing import MockClock

KINDS: list[type[TokenRequestError]] = [
    TokenRequestError,
    CredentialsRejectedError,
    TokenUnavailableError,
    MalformedTokenResponseError,
]


class StrangeError(TokenUnavailableError):
    """A subclass of another package, with its own constructor."""

    def __init__(self, place: str, *, number: int) -> None:
        super().__init__(f"{place} has no tokens", status_code=number)
        self.place = place


async def error_of(http: ModuleType, error: BaseException) -> Any:
    """Return the error that a client raises if the token manager raises this."""
    manager = FakeTokenManager(make_config(api_root_url=ROOT, max_retries=0))
    manager.outcomes = [error]
    recorder = Recorder(http)
    async with (
        AnonymousSession(manager.config, manager) as session,
        client_of(http, auth_of(http, session), recorder) as client,
    ):
        with pytest.raises(http.RequestError) as caught:
            await client.get("/2.0/files/1")
    assert recorder.sent == []
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
async def test_both_classes_catch_an_error(
    http: ModuleType, kind: type[TokenRequestError], autojump_clock: MockClock
) -> None:
    """The error is of our class and a request error, but no transport error, which tools retry."""
    error = await error_of(http, kind("no token", retryable=False))
    assert isinstance(error, kind)
    assert isinstance(error, AnonymousSessionError)
    assert isinstance(error, http.HTTPError)
    assert not isinstance(error, http.TransportError | http.HTTPStatusError)
    assert (type(error).__name__, type(error).__module__) == (kind.__name__, kind.__module__)
    assert type(error).__doc__ == kind.__doc__


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_keeps_its_attributes(
    http: ModuleType, kind: type[TokenRequestError], autojump_clock: MockClock
) -> None:
    """Message, attributes, notes, cause and traceback are those of the session's own error."""
    original = kind("no", retryable=False, status_code=418, error="a", error_description="b")
    original.add_note("a note")
    # Both errors need the same jitter, because the error contains the length of the pause.
    random.seed(0)
    ours = await error_of(http, original)
    random.seed(0)
    manager = FakeTokenManager(make_config(max_retries=0))
    manager.outcomes = [original]
    async with AnonymousSession(manager.config, manager) as session:
        with pytest.raises(kind) as caught:
            await session.get_access_token()
    plain = caught.value

    assert (str(ours), ours.args) == (str(plain), plain.args)
    assert vars(ours) | {"_request": None} == vars(plain)
    assert (ours.retryable, ours.error_description) == (False, "b")
    assert ours.__notes__ == ["a note"]
    assert type(ours.__cause__) is type(plain.__cause__)
    assert (ours.__context__ is ours.__cause__) == (plain.__context__ is plain.__cause__)
    assert ours.__suppress_context__ == plain.__suppress_context__
    frames = [frame.name for frame in traceback.extract_tb(ours.__traceback__)]
    assert frames.index("_set_token") < frames.index("get_access_token")


@pytest.mark.parametrize("is_cause", [True, False])
def test_an_error_keeps_its_cause_and_context(http: ModuleType, is_cause: bool) -> None:
    """The client's error keeps the cause and context of the session's error."""
    error, origin = TokenUnavailableError("none"), OSError("cable")
    error.__context__ = origin
    if is_cause:
        error.__cause__ = origin
    converted = as_request_error(error, http.RequestError)
    assert converted.__context__ is origin
    assert converted.__cause__ is (origin if is_cause else None)
    assert converted.__suppress_context__ is is_cause


async def test_an_error_with_another_constructor(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A subclass with its own constructor keeps its type, and the constructor is not called."""
    error = await error_of(http, StrangeError("here", number=503))
    assert isinstance(error, StrangeError)
    assert (str(error), error.place, error.status_code) == ("here has no tokens", "here", 503)


async def test_classes_are_created_once(http: ModuleType, autojump_clock: MockClock) -> None:
    """Errors of one kind share a class, and unpickling one gives the package's own class."""
    first = await error_of(http, CredentialsRejectedError("no", status_code=401))
    second = await error_of(http, CredentialsRejectedError("no"))
    assert first is not second
    assert type(first) is type(second)
    assert (type(first) is CredentialsRejectedError) == (http is httpx)
    copied = pickle.loads(pickle.dumps(first))
    assert type(copied) is CredentialsRejectedError
    assert (str(copied), copied.status_code) == (str(first), 401)


async def test_no_invalid_token_is_left_on_the_request(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If there is no token for the replay, that error is raised, and shows no earlier token."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.refusal("invalid_client")))
    async with open_pair(http, server) as (session, client):
        token = await session.get_access_token()
        server.revoke_all()
        request = client.build_request("GET", "/2.0/files/1", headers={"X-Mine": "1"})
        with pytest.raises(CredentialsRejectedError) as caught:
            await client.send(request)
    assert server.verdicts == {"revoked": 1}
    assert caught.value.request is request
    assert "Authorization" not in request.headers
    assert token not in repr(request.extensions)
    shown = "".join(traceback_with_locals(caught.value))
    assert "_set_token" in shown
    assert "request = <Request" in shown
    assert token not in shown
    assert "test-secret" not in shown


async def test_a_closed_session(http: ModuleType, autojump_clock: MockClock) -> None:
    """A closed session causes a request error too; requests to other origins still succeed."""
    async with open_test_session() as session:
        auth = auth_of(http, session)
    async with client_of(http, auth, Recorder(http)) as client:
        with pytest.raises(http.RequestError) as caught:
            await client.get("/2.0/files/1")
        assert (await client.get("https://elsewhere.example/")).status_code == 200
    assert isinstance(caught.value, SessionClosedError)
    assert isinstance(caught.value, trio.ClosedResourceError)
    assert caught.value.request.url.path == "/2.0/files/1"
    assert type(pickle.loads(pickle.dumps(caught.value))) is SessionClosedError


# Sessions that are not open, other event loops, and other clients


async def test_a_session_that_was_not_entered(http: ModuleType, autojump_clock: MockClock) -> None:
    """If the session is not open, a request raises an error that says how to open it."""
    session = AnonymousSession(make_config(api_root_url=ROOT))
    async with client_of(http, auth_of(http, session), Recorder(http)) as client:
        with pytest.raises(RuntimeError, match="async with"):
            await client.get("/2.0/files/1")


async def send(http: ModuleType, auth: Any, url: str, sent: list[Any]) -> BaseException | None:
    """Send a request, and return the error that it raises."""

    def answer(request: Any) -> Any:
        sent.append(request)
        return http.Response(200)

    async with http.AsyncClient(auth=auth, transport=http.MockTransport(answer)) as client:
        try:
            await client.get(url)
        except Exception as error:
            return error
    return None


async def test_on_asyncio(http: ModuleType) -> None:
    """On asyncio, a request to an allowed origin raises an error that says how to use Trio."""
    sent: list[Any] = []
    async with open_test_session() as session:
        auth = auth_of(http, session)
        sending = send(http, auth, f"{ROOT}/2.0/files/1", sent)
        error = await trio.to_thread.run_sync(asyncio.run, sending)
        assert isinstance(error, RuntimeError)
        assert str(error).startswith("SessionAuth works only on Trio: ")
        assert "await asyncio.to_thread(trio.run, main)" in str(error)
        assert (error.__context__, error.__cause__) == (None, None)
        assert sent == []
        elsewhere = send(http, auth, "https://elsewhere.example/", sent)
        assert await trio.to_thread.run_sync(asyncio.run, elsewhere) is None
    assert len(sent) == 1


def test_on_asyncio_with_a_session_that_is_not_open(http: ModuleType) -> None:
    """On asyncio, a session that is not open raises an error about Trio, not ``async with``."""
    session = AnonymousSession(make_config(api_root_url=ROOT))
    error = asyncio.run(send(http, auth_of(http, session), f"{ROOT}/2.0/files/1", []))
    assert isinstance(error, RuntimeError)
    assert "needs" in str(error)
    assert "on Trio" in str(error)


def test_a_sync_client(http: ModuleType) -> None:
    """A synchronous client gets an error that names the right client, before anything is sent."""
    sent: list[Any] = []
    auth = auth_of(http, AnonymousSession(make_config(api_root_url=ROOT)))
    with http.Client(auth=auth, transport=http.MockTransport(sent.append)) as client:
        with pytest.raises(RuntimeError, match=rf"needs {http.__name__}\.AsyncClient on Trio"):
            client.get(f"{ROOT}/2.0/files/1")
        with pytest.raises(RuntimeError, match="for a synchronous client, use"):
            client.get("https://elsewhere.example/")
    assert sent == []


@pytest.mark.parametrize(("client", "auth"), [(httpx2, httpx), (httpx, httpx2)])
def test_the_auth_of_the_other_library_is_refused(client: ModuleType, auth: ModuleType) -> None:
    """A client accepts only the auth of its own library."""
    session = AnonymousSession(make_config())
    with pytest.raises(TypeError, match="auth"):
        client.AsyncClient(auth=auth_of(auth, session))


def test_without_the_extra_the_import_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If httpx2 is not installed, the error has the command that installs it."""
    monkeypatch.delitem(sys.modules, "trio_anon_session.httpx2")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"pip install 'trio_anon_session\[httpx2\]'") as caught:
        importlib.import_module("trio_anon_session.httpx2")
    assert caught.value.name == "httpx2"
    assert caught.value.__suppress_context__


async def test_both_libraries_share_a_session(autojump_clock: MockClock) -> None:
    """Clients of both libraries share one token, and a revoked one is replaced once."""
    server = TokenServer()
    clients = []
    async with open_test_session(server) as session:
        for http in (httpx, httpx2):
            transport = http.ASGITransport(server)
            clients.append(client_of(http, auth_of(http, session), transport))
        first, second = clients
        assert (await first.get("/2.0/files/1")).status_code == 200
        await trio.sleep(10.0)
        server.revoke_all()
        assert (await second.get("/2.0/files/1")).status_code == 200
        assert (await first.get("/2.0/files/1")).status_code == 200
        for client in clients:
            await client.aclose()
    assert server.verdicts == {"good": 3, "revoked": 1}
    assert server.grants == 2


async def test_an_error_of_the_right_class_is_not_converted(autojump_clock: MockClock) -> None:
    """An error that is already of the client's class stays the same object."""
    error = CredentialsRejectedError("no")
    assert as_request_error(error, httpx.RequestError) is error
    converted = as_request_error(error, httpx2.RequestError)
    assert as_request_error(converted, httpx2.RequestError) is converted
