"""Requests sent in other ways than by a plain call: again, by retries, redirects, per request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from tests.http.kit import ROOT, Recorder, auth_of, client_of, dead, open_pair
from trio_anon_session import AnonymousSession, TokenState
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from trio.testing import MockClock


def retrying(http: ModuleType, below: Any, *, times: int, pause: float) -> Any:
    """Return a transport that sends a request again, the same object, after errors and 503s."""

    class Transport(http.AsyncBaseTransport):  # type: ignore[misc,name-defined]  # a class of either library
        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(times):
                try:
                    answer = await below.handle_async_request(request)
                except http.TransportError:
                    pass
                else:
                    if answer.status_code != 503:
                        return answer
                    await answer.aclose()
                await trio.sleep(pause)
            return await below.handle_async_request(request)

    return Transport()


def unavailable(http: ModuleType) -> Any:
    """Return the answer of a server that has too much to do."""
    return http.Response(503)


def fine(http: ModuleType) -> Any:
    """Return a good answer."""
    return http.Response(200)


# Transports that retry


async def test_retries_of_a_transport_are_below_the_auth(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """What a transport sends again carries the same token, and only its last answer is judged."""

    def breaks(http: ModuleType) -> Any:
        raise http.ConnectError("refused")

    answers = [breaks, unavailable, dead, unavailable, fine]
    recorder = Recorder(http, then=lambda http: answers.pop(0)(http))
    transport = retrying(http, recorder, times=3, pause=1.0)
    async with open_pair(http, TokenServer(), transport) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 1

    assert answer.status_code == 200
    first, second = recorder.tokens[0], recorder.tokens[-1]
    assert recorder.tokens == [first, first, first, second, second]
    assert first != second


async def test_a_token_that_dies_between_two_retries(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A retry so late that the token has expired is a request with a dead one, and sent again."""
    server = TokenServer(FaultPlan(resource=[None, Fault.server_error(503)]), lifetime=100.0)
    transport = retrying(http, http.ASGITransport(server), times=1, pause=90.0)
    async with open_pair(http, server, transport) as (_, client):
        await client.get("/2.0/files/1")
        await trio.sleep(20.0)
        answer = await client.get("/2.0/files/1")

    assert answer.status_code == 200
    assert server.verdicts == {"good": 2, "expired": 1}


async def test_a_transport_that_hands_an_error_on(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """An error of the transport is the caller's, of the library's own kind, and costs no token."""

    def breaks(http: ModuleType) -> Any:
        raise http.ConnectError("refused")

    async with open_pair(http, TokenServer(), Recorder(http, then=breaks)) as (session, client):
        with pytest.raises(http.ConnectError):
            await client.get("/2.0/files/1")
        assert session.state is TokenState.FRESH
        assert session.statistics().invalidations == 0


# The same request again


async def test_a_request_can_be_sent_again(http: ModuleType, autojump_clock: MockClock) -> None:
    """A request that has been sent goes out with the token that is good by then."""
    server = TokenServer()
    async with open_pair(http, server) as (session, client):
        request = client.build_request("POST", "/2.0/files/1", json={"a": 1})
        answers = [await client.send(request), await client.send(request)]
        await trio.sleep(10.0)
        session.invalidate(await session.get_access_token())
        answers.append(await client.send(request))
        server.revoke_all()
        await trio.sleep(10.0)
        answers.append(await client.send(request))

    assert [answer.status_code for answer in answers] == [200] * 4
    assert server.verdicts == {"good": 4, "revoked": 1}
    assert server.grants == 3


async def test_a_body_that_is_gone_cannot_be_sent_again_by_hand_either(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Sending a request whose body has been used up is the library's error, not an empty body."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"once"

    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        request = client.build_request("POST", "/2.0/files/1", content=chunks())
        assert (await client.send(request)).status_code == 401
        with pytest.raises(http.StreamConsumed):
            await client.send(request)
    assert len(recorder.sent) == 1


async def test_a_request_that_two_tasks_send(http: ModuleType, autojump_clock: MockClock) -> None:
    """One request object in the hands of many tasks is served all the same."""
    server = TokenServer(resource_latency=1.0)
    statuses = []

    async def send(client: Any, request: Any, delay: float) -> None:
        await trio.sleep(delay)
        answer = await client.send(request)
        statuses.append(answer.status_code)

    async with open_pair(http, server) as (session, client):
        await session.get_access_token()
        server.revoke_all()
        await trio.sleep(10.0)
        request = client.build_request("GET", "/2.0/files/1")
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(send, client, request, number / 20)
        assert session.statistics().invalidations == 1
    assert statuses == [200] * 10
    assert server.grants == 2


# For one request alone


async def test_auth_of_one_request(http: ModuleType, autojump_clock: MockClock) -> None:
    """A client without an auth takes it for one request, and one with it does without for one."""
    recorder = Recorder(http)
    async with open_test_session() as session:
        auth = auth_of(http, session)
        async with client_of(http, None, recorder) as client:
            await client.get("/2.0/a")
            await client.get("/2.0/b", auth=auth)
        async with client_of(http, auth, recorder) as client:
            await client.get("/2.0/c", auth=None)
            await client.get("/2.0/d", auth=("user", "password"))
            await client.get("/2.0/e")

    kinds = [token and token.partition(" ")[0] for token in recorder.tokens]
    assert kinds == [None, "Bearer", None, "Basic", "Bearer"]


async def test_own_header_without_the_auth(http: ModuleType, autojump_clock: MockClock) -> None:
    """With ``auth=None`` a request's own header goes out, and its 401 is left alone."""
    recorder = Recorder(http, then=dead)
    async with open_test_session() as session:
        async with client_of(http, auth_of(http, session), recorder) as client:
            answer = await client.get("/a", auth=None, headers={"Authorization": "Basic own"})
        assert session.statistics().grants == 0
    assert (answer.status_code, recorder.tokens) == (401, ["Basic own"])


async def test_by_hand(http: ModuleType, autojump_clock: MockClock) -> None:
    """Without the auth, a header by hand and ``invalidate`` do the same for one request."""
    server = TokenServer()
    async with open_test_session(server) as session:
        async with client_of(http, None, http.ASGITransport(server)) as client:
            await session.get_access_token()
            server.revoke_all()
            await trio.sleep(10.0)
            for _attempt in range(2):
                token = await session.get_access_token()
                headers = {"Authorization": f"Bearer {token}"}
                answer = await client.get("/2.0/files/1", headers=headers)
                if answer.status_code != 401:
                    break
                session.invalidate(token)
    assert answer.status_code == 200
    assert server.verdicts == {"revoked": 1, "good": 1}


# Redirects

API, UPLOAD = "https://api.box.com/a", "https://upload.box.com/b"


@pytest.mark.parametrize(
    ("first", "second", "replays"),
    [
        (API, "https://api.box.com/c", True),
        (API, UPLOAD, False),
        (API, "https://evil.example/", False),
        (API, "http://api.box.com/a", False),
        ("http://localhost/a", "https://localhost/a", True),
        ("https://evil.example/", API, False),
    ],
)
async def test_a_401_after_a_redirect(
    http: ModuleType, first: str, second: str, replays: bool, autojump_clock: MockClock
) -> None:
    """A 401 after a redirect counts where the token went along; then all is sent from the start."""
    config = make_config()
    recorder = Recorder(http, http.Response(307, headers={"Location": second}), dead(http))
    async with (
        AnonymousSession(config, FakeTokenManager(config)) as session,
        client_of(
            http,
            auth_of(http, session, ["https://api.box.com", UPLOAD[:-2], "http://localhost"]),
            recorder,
            follow_redirects=True,
        ) as client,
    ):
        answer = await client.post(first, json={})
        assert session.statistics().invalidations == replays

    assert answer.status_code == (200 if replays else 401)
    assert [sent.url for sent in recorder.sent] == [first, second, *[first] * replays]
    assert [token is not None for token in recorder.tokens] == [
        "evil" not in first,
        *([True] * 2 if replays else [False]),
    ]
    assert all(sent.body == b"{}" for sent in recorder.sent)


@pytest.mark.parametrize("status", [302, 303])
async def test_what_was_done_is_not_done_again(
    http: ModuleType, status: int, autojump_clock: MockClock
) -> None:
    """A POST that was redirected to its result is not sent again where that GET meets a 401."""
    recorder = Recorder(http, http.Response(status, headers={"Location": "/2.0/b"}), dead(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.post("/2.0/a", content=b"once", follow_redirects=True)
        assert session.statistics().invalidations == 1

    assert answer.status_code == 401
    reason = answer.extensions["trio_anon_session.not_replayed"]
    assert reason == "a redirect has answered it already"
    assert [(sent.method, sent.body) for sent in recorder.sent] == [("POST", b"once"), ("GET", b"")]


async def test_a_redirect_of_the_replay(http: ModuleType, autojump_clock: MockClock) -> None:
    """A replay may be redirected as any request, and each of the answers is in the history."""
    recorder = Recorder(http, dead(http), http.Response(302, headers={"Location": "/2.0/b"}))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.get("/2.0/a", follow_redirects=True)

    assert [response.status_code for response in [*answer.history, answer]] == [401, 302, 200]
    assert recorder.tokens[0] != recorder.tokens[1] == recorder.tokens[2]


async def test_a_redirect_that_is_not_followed(http: ModuleType, autojump_clock: MockClock) -> None:
    """A redirect that nobody follows is an answer as any other."""
    recorder = Recorder(http, http.Response(302, headers={"Location": "/2.0/b"}))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/a")
        assert session.statistics().invalidations == 0
    assert (answer.status_code, len(recorder.sent)) == (302, 1)
    assert answer.next_request.url.path == "/2.0/b"


# Hooks


async def test_hooks_see_each_request(http: ModuleType, autojump_clock: MockClock) -> None:
    """The event hooks of a client see the first request and the replay, each with its token."""
    seen: list[str] = []

    async def note_request(request: Any) -> None:
        seen.append(request.headers["Authorization"])

    async def note_response(response: Any) -> None:
        seen.append(str(response.status_code))

    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        client.event_hooks = {"request": [note_request], "response": [note_response]}
        await client.get("/2.0/files/1")
    assert seen == [recorder.tokens[0], "401", recorder.tokens[1], "200"]


@pytest.mark.parametrize("own", [None, "Bearer own"])
async def test_a_hook_that_takes_the_token_off(
    http: ModuleType, own: str | None, autojump_clock: MockClock
) -> None:
    """Where a hook has put its own header in place of the token, a 401 says nothing of ours."""

    async def replace(request: Any) -> None:
        del request.headers["Authorization"]
        if own is not None:
            request.headers["Authorization"] = own

    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        client.event_hooks = {"request": [replace]}
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 0
    assert (answer.status_code, recorder.tokens) == (401, [own])


async def test_a_hook_that_raises_for_status(http: ModuleType, autojump_clock: MockClock) -> None:
    """With a hook that makes an error of each 401 there is no replay: the auth sees no answer."""

    async def check(response: Any) -> None:
        if response.is_error:
            response.raise_for_status()

    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        client.event_hooks = {"response": [check]}
        with pytest.raises(http.HTTPStatusError):
            await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 0


# Without a wait


@pytest.mark.parametrize("state", [TokenState.FRESH, TokenState.STALE])
async def test_a_token_that_is_there_needs_no_wait(
    http: ModuleType, state: TokenState, autojump_clock: MockClock
) -> None:
    """What is sent was good when it was set: nobody else has a turn between the look and that."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    seen: list[int] = []
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.hang()), lifetime=100.0)
    config = server.config(stale_buffer=50.0)

    def answer(request: Any) -> Any:
        seen.append(turns)
        return http.Response(200)

    settings: Callable[..., Any] = http.AsyncClient
    async with open_test_session(server, stale_buffer=config.stale_buffer) as session:
        await session.get_access_token()
        await trio.sleep(10.0 if state is TokenState.FRESH else 60.0)
        assert session.state is state
        auth = auth_of(http, session)
        async with settings(auth=auth, transport=http.MockTransport(answer)) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_turns)
                await trio.lowlevel.checkpoint()
                before = turns
                await client.get(f"{ROOT}/2.0/files/1")
                nursery.cancel_scope.cancel()
    assert seen == [before]


async def test_a_request_keeps_a_session_awake(http: ModuleType, autojump_clock: MockClock) -> None:
    """A request counts as one who asks: an eager session does not park while they come."""
    server = TokenServer(lifetime=1000.0)
    async with open_pair(http, server, idle_timeout=300.0, stale_buffer=100.0) as (_, client):
        for _ in range(20):
            await client.get("/2.0/files/1")
            await trio.sleep(250.0)
        assert server.grants == 6
        await trio.sleep(5000.0)
        assert server.grants == 6
    assert server.verdicts == {"good": 20}
