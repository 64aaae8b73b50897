"""Tests of when a request is sent, and of retries, redirects and event hooks of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from tests.http.kit import Recorder, auth_of, client_of, invalid_token, open_pair
from trio_anon_session import AnonymousSession, TokenState
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from types import ModuleType

    from trio.testing import MockClock


# Requests that are sent again


async def test_retries_of_a_transport_are_below_the_auth(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A transport's retries have the same token, and the auth sees only the last answer."""

    class Retrying(Recorder):
        async def handle_async_request(self, request: Any) -> Any:
            while True:
                answer = await super().handle_async_request(request)
                if answer.status_code != 503:
                    return answer

    busy = http.Response(503)
    transport = Retrying(http, busy, busy, invalid_token(http), busy)
    async with open_pair(http, TokenServer(), transport) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 1

    assert answer.status_code == 200
    first, second = transport.tokens[0], transport.tokens[-1]
    assert transport.tokens == [first, first, first, second, second]
    assert first != second


async def test_a_request_can_be_sent_again(http: ModuleType, autojump_clock: MockClock) -> None:
    """A request object that is sent again has the token that is then valid."""
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


async def test_a_request_that_many_tasks_send(http: ModuleType, autojump_clock: MockClock) -> None:
    """Many tasks can send one request object; late 401s of its old token drop no newer one."""
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


async def test_auth_of_one_request(http: ModuleType, autojump_clock: MockClock) -> None:
    """One request of a client can have another auth than the others, or no auth."""
    recorder = Recorder(http)
    async with open_test_session() as session:
        auth = auth_of(http, session)
        assert repr(auth) == f"<SessionAuth of {session!r}>"
        async with client_of(http, None, recorder) as client:
            await client.get("/2.0/a")
            await client.get("/2.0/b", auth=auth)
        async with client_of(http, auth, recorder) as client:
            await client.get("/2.0/c", auth=None)
            await client.get("/2.0/d", auth=("user", "password"))
            await client.get("/2.0/e", headers={"Authorization": "Basic own"})

    kinds = [token and token.partition(" ")[0] for token in recorder.tokens]
    assert kinds == [None, "Bearer", None, "Basic", "Bearer"]


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
    """After a redirect that kept the token, a 401 drops it, and the first request is sent again."""
    config = make_config()
    recorder = Recorder(http, http.Response(307, headers={"Location": second}), invalid_token(http))
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
        statistics = session.statistics()

    assert answer.status_code == (200 if replays else 401)
    assert statistics.invalidations == replays
    assert statistics.grants == ("evil" not in first) + replays
    assert [sent.url for sent in recorder.sent] == [first, second, *[first] * replays]
    assert [token is not None for token in recorder.tokens] == [
        "evil" not in first,
        *([True] * 2 if replays else [False]),
    ]
    assert all(sent.body == b"{}" for sent in recorder.sent)


@pytest.mark.parametrize("status", [302, 303])
async def test_a_post_that_was_redirected_is_not_sent_again(
    http: ModuleType, status: int, autojump_clock: MockClock
) -> None:
    """A POST that was redirected to its result is not sent again if that GET gets a 401."""
    recorder = Recorder(
        http, http.Response(status, headers={"Location": "/2.0/b"}), invalid_token(http)
    )
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.post("/2.0/a", content=b"once", follow_redirects=True)
        assert session.statistics().invalidations == 1

    assert answer.status_code == 401
    reason = answer.extensions["trio_anon_session.not_replayed"]
    assert reason == "the server has already answered it with a redirect"
    assert [(sent.method, sent.body) for sent in recorder.sent] == [("POST", b"once"), ("GET", b"")]


async def test_a_redirect_of_the_replay(http: ModuleType, autojump_clock: MockClock) -> None:
    """A replay can be redirected like any request, and the history has each answer."""
    recorder = Recorder(
        http, invalid_token(http), http.Response(302, headers={"Location": "/2.0/b"})
    )
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.get("/2.0/a", follow_redirects=True)

    assert [response.status_code for response in [*answer.history, answer]] == [401, 302, 200]
    assert recorder.tokens[0] != recorder.tokens[1] == recorder.tokens[2]


# Hooks


async def test_hooks_see_each_request(http: ModuleType, autojump_clock: MockClock) -> None:
    """A client's event hooks see the first request and the replay, each with its token."""
    seen: list[str] = []

    async def note_request(request: Any) -> None:
        seen.append(request.headers["Authorization"])

    async def note_response(response: Any) -> None:
        seen.append(str(response.status_code))

    recorder = Recorder(http, invalid_token(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        client.event_hooks = {"request": [note_request], "response": [note_response]}
        await client.get("/2.0/files/1")
    assert seen == [recorder.tokens[0], "401", recorder.tokens[1], "200"]


@pytest.mark.parametrize("own", [None, "Bearer own"])
async def test_a_hook_that_removes_the_token(
    http: ModuleType, own: str | None, autojump_clock: MockClock
) -> None:
    """If a hook has removed or replaced the token, a 401 does not drop the token."""

    async def replace(request: Any) -> None:
        del request.headers["Authorization"]
        if own is not None:
            request.headers["Authorization"] = own

    recorder = Recorder(http, invalid_token(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        client.event_hooks = {"request": [replace]}
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 0
    assert (answer.status_code, recorder.tokens) == (401, [own])


async def test_a_hook_that_raises_for_status(http: ModuleType, autojump_clock: MockClock) -> None:
    """A hook that raises for each 401 prevents the replay, because the auth gets no answer."""

    async def check(response: Any) -> None:
        if response.is_error:
            response.raise_for_status()

    recorder = Recorder(http, invalid_token(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        client.event_hooks = {"response": [check]}
        with pytest.raises(http.HTTPStatusError):
            await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 0


# Requests without a wait


@pytest.mark.parametrize("state", [TokenState.FRESH, TokenState.STALE])
async def test_a_usable_token_needs_no_wait(
    http: ModuleType, state: TokenState, autojump_clock: MockClock
) -> None:
    """A request with a usable token is sent before any other task runs."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    seen: list[int] = []

    def answer(request: Any) -> Any:
        seen.append(turns)
        return http.Response(200)

    server = TokenServer(FaultPlan(token=[None], token_then=Fault.hang()), lifetime=100.0)
    transport = http.MockTransport(answer)
    async with open_pair(http, server, transport, stale_buffer=50.0) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0 if state is TokenState.FRESH else 60.0)
        assert session.state is state
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            await trio.lowlevel.checkpoint()
            before = turns
            await client.get("/2.0/files/1")
            nursery.cancel_scope.cancel()
    assert seen == [before]
