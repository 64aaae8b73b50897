"""The session's errors as those of a client: caught as either's, with all their facts."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import random
import sys
import traceback
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, run_virtually
from tests.http.kit import ROOT, Recorder, auth_of, client_of, dead, open_pair
from tests.http.test_origins import libraries
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
    """An error of somebody else's, made in a way of its own."""

    def __init__(self, place: str, *, number: int) -> None:
        super().__init__(f"{place} has no tokens", status_code=number)
        self.place = place


async def error_of(http: ModuleType, error: BaseException) -> Any:
    """Return what a client gets where the token manager raises this."""
    manager = FakeTokenManager(make_config(api_root_url=ROOT, max_retries=0))
    manager.outcomes = [error]
    async with (
        AnonymousSession(manager.config, manager) as session,
        client_of(http, auth_of(http, session), Recorder(http)) as client,
    ):
        with pytest.raises(http.RequestError) as caught:
            await client.get("/2.0/files/1")
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
async def test_either_class_catches(
    http: ModuleType, kind: type[TokenRequestError], autojump_clock: MockClock
) -> None:
    """An error is the client's kind and ours, by its name, and of no leaf that retries go by."""
    error = await error_of(http, kind("no token", retryable=False))
    assert isinstance(error, kind)
    assert isinstance(error, AnonymousSessionError)
    assert isinstance(error, http.HTTPError)
    assert not isinstance(error, http.TransportError | http.HTTPStatusError)
    assert (type(error).__name__, type(error).__module__) == (kind.__name__, kind.__module__)
    assert type(error).__doc__ == kind.__doc__


facts = st.fixed_dictionaries(
    {
        "retryable": st.just(False),
        "status_code": st.none() | st.integers(100, 599),
        "error": st.none() | st.text(max_size=5),
        "error_description": st.none() | st.text(max_size=5),
        "request_id": st.none() | st.text(max_size=5),
    }
)


@given(http=libraries, kind=st.sampled_from(KINDS), message=st.text(min_size=1), facts=facts)
def test_all_facts_are_kept(
    http: ModuleType, kind: type[TokenRequestError], message: str, facts: dict[str, Any]
) -> None:
    """Message, attributes, notes, cause and traceback are those of the session's own error."""
    told: list[TokenRequestError] = []

    async def main() -> None:
        original = kind(message, **facts)
        original.add_note("a note")
        random.seed(0)
        told.append(await error_of(http, original))
        # What a getter gets, without a client.
        manager = FakeTokenManager(make_config(max_retries=0))
        manager.outcomes = [original]
        random.seed(0)
        async with AnonymousSession(manager.config, manager) as session:
            with pytest.raises(kind) as caught:
                await session.get_access_token()
        told.append(caught.value)

    run_virtually(main)
    ours, plain = told
    assert (str(ours), ours.args) == (str(plain), plain.args)
    facts_of = [
        {name: value for name, value in vars(error).items() if name != "_request"}
        for error in (ours, plain)
    ]
    assert facts_of[0] == facts_of[1]
    assert facts_of[0]["retryable"] is False
    assert ours.__notes__ == plain.__notes__
    assert type(ours.__cause__) is type(plain.__cause__)
    assert (ours.__context__ is ours.__cause__) == (plain.__context__ is plain.__cause__)
    assert ours.__suppress_context__ == plain.__suppress_context__
    frames = [frame.name for frame in traceback.extract_tb(ours.__traceback__)]
    assert frames.index("_set_token") < frames.index("get_access_token")


@pytest.mark.parametrize("is_cause", [True, False])
def test_what_an_error_came_from(http: ModuleType, is_cause: bool) -> None:
    """Its cause, or what was being handled when it was raised, is shown with it as before."""
    error, origin = TokenUnavailableError("none"), OSError("cable")
    error.__context__ = origin
    if is_cause:
        error.__cause__ = origin
    told = as_request_error(error, http.RequestError)
    assert told.__context__ is origin
    assert told.__cause__ is (origin if is_cause else None)
    assert told.__suppress_context__ is is_cause


async def test_an_error_of_somebody_elses(http: ModuleType, autojump_clock: MockClock) -> None:
    """A subclass with a constructor of its own comes up as itself, and is not called again."""
    error = await error_of(http, StrangeError("here", number=503))
    assert isinstance(error, StrangeError)
    assert (str(error), error.place, error.status_code) == ("here has no tokens", "here", 503)


async def test_classes_are_made_once(http: ModuleType, autojump_clock: MockClock) -> None:
    """Two errors of a kind are of one class; for httpx it is our own."""
    first = await error_of(http, CredentialsRejectedError("no"))
    second = await error_of(http, CredentialsRejectedError("no"))
    assert first is not second
    assert type(first) is type(second)
    assert (type(first) is CredentialsRejectedError) == (http is httpx)


async def test_an_error_can_be_pickled(http: ModuleType, autojump_clock: MockClock) -> None:
    """In a pickle an error is our own, with its facts; it goes from one process to another."""
    error = await error_of(http, CredentialsRejectedError("no", status_code=401))
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is CredentialsRejectedError
    assert (str(copied), copied.status_code) == (str(error), 401)


async def test_the_request_is_the_one_that_was_to_be_sent(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """``request`` of an error is the caller's very request, without a token."""
    server = TokenServer(FaultPlan(token_then=Fault.refusal("invalid_client")))
    async with open_pair(http, server) as (_, client):
        request = client.build_request("GET", "/2.0/files/1", headers={"X-Mine": "1"})
        with pytest.raises(http.RequestError) as caught:
            await client.send(request)
    assert caught.value.request is request
    assert "Authorization" not in request.headers


async def test_no_dead_token_is_left_on_the_request(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Where there is no token for the replay, the request of the error has lost the dead one."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.refusal("invalid_client")))
    async with open_pair(http, server) as (session, client):
        token = await session.get_access_token()
        server.revoke_all()
        with pytest.raises(CredentialsRejectedError) as caught:
            await client.get("/2.0/files/1")
    assert token not in repr(caught.value.request.headers.raw)
    assert token not in repr(caught.value.request.extensions)
    assert server.verdicts == {"revoked": 1}


async def test_each_task_has_an_error_of_its_own(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A hundred requests that are held by one failing round get an error each, with their own."""
    server = TokenServer(FaultPlan(token_then=Fault.refusal("invalid_client")))
    caught: list[Any] = []

    async def ask(client: Any, number: int) -> None:
        try:
            await client.get(f"/2.0/files/{number}")
        except http.RequestError as error:
            caught.append(error)

    async with open_pair(http, server) as (_, client), trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, client, number)
    assert len({id(error) for error in caught}) == 100
    assert {error.request.url.path for error in caught} == {f"/2.0/files/{n}" for n in range(100)}
    assert len(server.token_requests()) == 1


async def test_a_closed_session(http: ModuleType, autojump_clock: MockClock) -> None:
    """That the session is closed is the client's kind of error too, with its request."""
    async with open_test_session() as session:
        auth = auth_of(http, session)
    async with client_of(http, auth, Recorder(http)) as client:
        with pytest.raises(http.RequestError) as caught:
            await client.get("/2.0/files/1")
    assert isinstance(caught.value, SessionClosedError)
    assert isinstance(caught.value, trio.ClosedResourceError)
    assert caught.value.request.url.path == "/2.0/files/1"
    assert type(pickle.loads(pickle.dumps(caught.value))) is SessionClosedError


# Where a session cannot serve


@attrs.define
class Sender:
    """Sends one request with an auth, and keeps what came of it."""

    http: ModuleType
    auth: Any
    url: str = f"{ROOT}/2.0/files/1"
    sent: list[Any] = attrs.field(factory=list)

    def answer(self, request: Any) -> Any:
        self.sent.append(request)
        return self.http.Response(200)

    async def send(self) -> BaseException | None:
        transport = self.http.MockTransport(self.answer)
        async with self.http.AsyncClient(auth=self.auth, transport=transport) as client:
            try:
                await client.get(self.url)
            except Exception as error:
                return error
        return None


async def test_on_asyncio(http: ModuleType) -> None:
    """On asyncio a request says that it needs Trio, and how; other origins are none of it."""
    async with open_test_session() as session:
        sender = Sender(http, auth_of(http, session))
        error = await trio.to_thread.run_sync(asyncio.run, sender.send())
        assert isinstance(error, RuntimeError)
        assert str(error).startswith(f"SessionAuth needs {http.__name__}.AsyncClient on Trio")
        assert "await asyncio.to_thread(trio.run, main)" in str(error)
        assert (error.__context__, error.__cause__) == (None, None)
        assert sender.sent == []
        elsewhere = Sender(http, sender.auth, "https://elsewhere.example/")
        assert await trio.to_thread.run_sync(asyncio.run, elsewhere.send()) is None
        assert len(elsewhere.sent) == 1


def test_on_asyncio_with_a_session_that_is_not_open(http: ModuleType) -> None:
    """What is missing is Trio, and not an ``async with`` that would fail there."""
    session = AnonymousSession(make_config(api_root_url=ROOT))
    error = asyncio.run(Sender(http, auth_of(http, session)).send())
    assert isinstance(error, RuntimeError)
    assert "needs" in str(error)
    assert "on Trio" in str(error)


def test_the_way_from_asyncio(http: ModuleType) -> None:
    """What the message says works: a run of Trio in a thread of an asyncio program."""
    server = TokenServer()

    async def on_trio() -> int:
        async with open_pair(http, server) as (_, client):
            answer = await client.get("/2.0/files/1")
            return int(answer.status_code)

    async def main() -> int:
        return await asyncio.to_thread(trio.run, on_trio)

    assert asyncio.run(main()) == 200


def test_a_sync_client(http: ModuleType) -> None:
    """A sync client is told which to take, of its own library, before anything is sent."""
    session = AnonymousSession(make_config(api_root_url=ROOT))
    sender = Sender(http, auth_of(http, session))
    transport = http.MockTransport(sender.answer)
    with http.Client(auth=sender.auth, transport=transport) as client:
        with pytest.raises(RuntimeError, match=rf"needs {http.__name__}\.AsyncClient, on Trio"):
            client.get(sender.url)
        with pytest.raises(RuntimeError, match="a sync client cannot wait"):
            client.get("https://elsewhere.example/")
    assert sender.sent == []


@pytest.mark.parametrize(("client", "auth"), [(httpx2, httpx), (httpx, httpx2)])
def test_the_auth_of_the_other_library_is_refused(client: ModuleType, auth: ModuleType) -> None:
    """A client takes the auth of its own library alone: that is why there are two."""
    session = AnonymousSession(make_config())
    with pytest.raises(TypeError, match="auth"):
        client.AsyncClient(auth=auth_of(auth, session))


def test_without_the_extra_the_import_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where httpx2 is not installed, the error is the command that installs it."""
    monkeypatch.delitem(sys.modules, "trio_anon_session.httpx2")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"pip install 'trio_anon_session\[httpx2\]'") as caught:
        importlib.import_module("trio_anon_session.httpx2")
    assert caught.value.name == "httpx2"
    assert caught.value.__suppress_context__


async def test_both_libraries_share_a_session(autojump_clock: MockClock) -> None:
    """Clients of both have one token, and a dead one is replaced once for both."""
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


async def test_where_one_library_stands_for_the_other(autojump_clock: MockClock) -> None:
    """An error that is of the client's kind already, as under an alias, stays as it is."""
    error = CredentialsRejectedError("no")
    assert as_request_error(error, httpx.RequestError) is error
    told = as_request_error(error, httpx2.RequestError)
    assert as_request_error(told, httpx2.RequestError) is told


async def test_a_dead_token_and_a_closed_client_are_two_things(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """What the client itself says is none of our errors."""
    async with open_pair(http, TokenServer(), Recorder(http, then=dead)) as (session, client):
        await client.aclose()
        with pytest.raises(RuntimeError, match="client has been closed"):
            await client.get("/2.0/files/1")
        assert session.statistics().grants == 0
