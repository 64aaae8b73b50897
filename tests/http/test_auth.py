"""`SessionAuth`: where the token goes, and what an answer makes of it."""

from __future__ import annotations

import json
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import FakeTokenManager
from tests.http.kit import (
    DEAD,
    ROOT,
    TIME_LIMIT,
    Recorder,
    Sent,
    auth_of,
    client_of,
    dead,
    open_pair,
)
from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    ConfigError,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    SessionClosedError,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import ModuleType

    from trio.testing import MockClock


# Origins


@asynccontextmanager
async def open_box_session() -> AsyncIterator[AnonymousSession]:
    """Open a session with Box's own API root, whose token is ``token-1``."""
    config = Config(client_id="id", client_secret="secret")
    with trio.fail_after(TIME_LIMIT):
        async with AnonymousSession(config, FakeTokenManager(config)) as session:
            yield session


async def send_to(
    http: ModuleType, session: AnonymousSession, url: str, origins: Iterable[str] | None
) -> str | None:
    """Send a request, and return the ``Authorization`` header with which it goes out."""
    recorder = Recorder(http)
    async with client_of(http, auth_of(http, session, origins), recorder) as client:
        await client.get(url)
    [sent] = recorder.sent
    return sent.authorization


@pytest.mark.parametrize(
    "url",
    [
        "https://api.box.com",
        "https://api.box.com/2.0/files/1?fields=name#top",
        "https://api.box.com:443/2.0/files/1",
        "https://API.Box.COM/2.0/files/1",
        "HTTPS://api.box.com/2.0/files/1",
        "https://user:password@api.box.com/2.0/files/1",
        "https://upload.box.com/api/2.0/files/content",
        "https://upload.box.com:443/",
    ],
)
async def test_token_goes_to_box(http: ModuleType, url: str, autojump_clock: MockClock) -> None:
    """By default the token goes to the API root and to Box's upload host."""
    async with open_box_session() as session:
        assert await send_to(http, session, url, None) == "Bearer token-1"


FOREIGN = [
    "http://api.box.com/",
    "http://api.box.com:443/",
    "http://upload.box.com/",
    "https://api.box.com:8443/",
    "https://api.box.com:80/",
    "https://upload.box.com:444/",
    "https://api.box.com./",
    "https://box.com/",
    "https://www.api.box.com/",
    "https://evil-api.box.com/",
    "https://api.box.com.evil.example/",
    "https://evil.example/https://api.box.com",
    "https://evil.example/?https://api.box.com",
    "https://evil.example/#https://api.box.com",
    "https://evil.example#@api.box.com/",
    "https://api.box.com@evil.example/",
    "https://api.box.com:443@evil.example/",
    "https://api.box.com%2f@evil.example/",
    "https://api.box.com%00.evil.example/",
    "https://api.bоx.com/",  # a Cyrillic letter
    "https://[::1]/",
    "https://127.0.0.1/",
    "http://localhost/",
]


@pytest.mark.parametrize("url", FOREIGN)
async def test_token_goes_nowhere_else(
    http: ModuleType, url: str, autojump_clock: MockClock
) -> None:
    """A request to any other origin goes out as it is, and asks for no token."""
    async with open_box_session() as session:
        assert await send_to(http, session, url, None) is None
        assert session.statistics().grants == 0


CUSTOM = [
    "https://files.example.com:8443",
    "HTTPS://Upper.Example.com",
    "https://default.example.com:443/",
    "https://dotted.example.com.",
    "https://münchen.example",
    "http://127.0.0.1:8080",
    "http://[::1]:9000",
    "http://localhost:80",
]


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example.com:8443/a",
        "https://upper.example.com/a",
        "https://default.example.com/a",
        "https://dotted.example.com./a",
        "https://xn--mnchen-3ya.example/a",
        "https://MÜNCHEN.example/a",
        "http://127.0.0.1:8080/a",
        "http://[::1]:9000/a",
        "http://localhost/a",
    ],
)
async def test_token_goes_to_own_origins(
    http: ModuleType, url: str, autojump_clock: MockClock
) -> None:
    """Origins that are given are those to which the token goes, however they are spelt."""
    async with open_box_session() as session:
        assert await send_to(http, session, url, CUSTOM) == "Bearer token-1"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.box.com/",
        "https://upload.box.com/",
        "https://files.example.com/",
        "http://files.example.com:8443/",
        "https://dotted.example.com/",
        "https://default.example.com./",
        "http://127.0.0.1/",
        "https://127.0.0.1:8080/",
        "http://127.0.0.2:8080/",
        "http://[::1]:9001/",
        "http://[::1]/",
        "http://localhost:8080/",
        "https://localhost/",
    ],
)
async def test_own_origins_stand_in_place_of_the_default(
    http: ModuleType, url: str, autojump_clock: MockClock
) -> None:
    """With origins given, the default ones are no longer allowed, nor any near them."""
    async with open_box_session() as session:
        assert await send_to(http, session, url, CUSTOM) is None


async def test_no_origins_are_none(http: ModuleType, autojump_clock: MockClock) -> None:
    """An empty list of origins lets the token go nowhere."""
    async with open_box_session() as session:
        assert await send_to(http, session, "https://api.box.com/", []) is None


@pytest.mark.parametrize(
    ("root", "url", "goes"),
    [
        ("http://localhost", "http://localhost/2.0/files/1", True),
        ("http://localhost", "http://localhost:80/", True),
        ("http://localhost", "https://localhost/", False),
        ("http://localhost:8080", "http://localhost:8080/", True),
        ("http://localhost:8080", "http://localhost/", False),
        ("http://[::1]:8080", "http://[::1]:8080/", True),
        ("https://proxy.example/box", "https://proxy.example/box/2.0/files/1", True),
        ("https://proxy.example/box", "https://proxy.example/other", True),
        ("https://proxy.example/box", "https://api.box.com/", False),
        ("https://proxy.example/box", "https://upload.box.com/", True),
    ],
)
async def test_default_follows_the_api_root(
    http: ModuleType, root: str, url: str, goes: bool, autojump_clock: MockClock
) -> None:
    """The default is the origin of the config's API root, http too where that is loopback."""
    config = Config(client_id="id", client_secret="secret", api_root_url=root)
    async with AnonymousSession(config, FakeTokenManager(config)) as session:
        assert await send_to(http, session, url, None) == ("Bearer token-1" if goes else None)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "api.box.com",
        "//api.box.com",
        "https://",
        "https:///2.0",
        "https://api.box.com/2.0",
        "https://api.box.com?a=b",
        "https://api.box.com#top",
        "https://user:password@api.box.com",
        "https://user@api.box.com",
        "https://api.box.com:port",
        "https://[::1",
        "*",
        "http://api.box.com",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://0.0.0.0",
        "http://[::2]",
        "ftp://api.box.com",
        "file:///etc",
        None,
        7,
        b"https://api.box.com",
    ],
)
def test_refused_origins(http: ModuleType, origin: Any) -> None:
    """What is no https origin is a config error that names the setting."""
    session = AnonymousSession(Config(client_id="id", client_secret="secret"))

    with pytest.raises(ConfigError, match="origins: wants") as caught:
        auth_of(http, session, ["https://api.box.com", origin])

    assert caught.value.field == "origins"
    assert "password" not in str(caught.value)


def test_one_str_is_no_list_of_origins(http: ModuleType) -> None:
    """A str in place of the list is refused, not taken letter by letter."""
    session = AnonymousSession(Config(client_id="id", client_secret="secret"))

    with pytest.raises(ConfigError, match="origins: wants a list"):
        auth_of(http, session, "https://api.box.com")


async def test_own_header_goes_to_foreign_origins_untouched(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A user's own Authorization header is left alone where the token does not go."""
    recorder = Recorder(http, then=dead)
    async with open_box_session() as session:
        async with client_of(http, auth_of(http, session), recorder) as client:
            answer = await client.get(
                "https://elsewhere.example/", headers={"Authorization": "Basic own"}
            )

        assert session.statistics().invalidations == 0
    assert answer.status_code == 401
    assert recorder.tokens == ["Basic own"]


async def test_own_header_is_replaced_at_allowed_origins(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Where the token goes, it goes in place of a user's own Authorization header."""
    recorder = Recorder(http)
    async with (
        open_box_session() as session,
        client_of(http, auth_of(http, session), recorder) as client,
    ):
        await client.get("https://api.box.com/", headers={"authorization": "Basic own"})

    assert recorder.tokens == ["Bearer token-1"]


async def test_nothing_else_of_a_request_changes(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Method, URL and body go out as they were given."""
    recorder = Recorder(http)
    async with (
        open_box_session() as session,
        client_of(http, auth_of(http, session), recorder) as client,
    ):
        await client.put("https://api.box.com/2.0/files/1?a=b", content=b"name")

    assert recorder.sent == [
        Sent(0.0, "PUT", "https://api.box.com/2.0/files/1?a=b", "Bearer token-1", b"name")
    ]


# With the embedded server


async def test_request_carries_the_session_token(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A request shows the session's token, and all requests the same."""
    server = TokenServer()
    async with open_pair(http, server) as (session, client):
        answers = [await client.get("/2.0/files/1") for _ in range(3)]
        token = await session.get_access_token()

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [presented.access_token for presented in server.presented] == [token] * 3
    assert server.grants == 1


async def test_request_is_held_while_there_is_no_token(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """While the session is EMPTY a request waits, and goes out the moment the token comes."""
    server = TokenServer(FaultPlan(token=[Fault(delay=5.0)]))
    async with open_pair(http, server) as (session, client), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(client.get, "/2.0/files/1")
        await trio.sleep(4.0)
        assert session.statistics().getters_held == 10
        assert len(server.presented) == 0

    assert [(seen.at, seen.verdict) for seen in server.presented] == [(5.0, "good")] * 10
    assert server.grants == 1


async def test_stale_token_is_sent_at_once(http: ModuleType, autojump_clock: MockClock) -> None:
    """With a STALE token a request does not wait for the refresh."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.hang()), lifetime=100.0)
    async with open_pair(http, server, stale_buffer=50.0) as (session, client):
        await client.get("/2.0/files/1")
        await trio.sleep_until(60.0)
        assert session.state is TokenState.STALE
        await client.get("/2.0/files/1")

    assert [(seen.at, seen.verdict) for seen in server.presented] == [(0.0, "good"), (60.0, "good")]


async def test_dead_token_is_replaced(http: ModuleType, autojump_clock: MockClock) -> None:
    """A token that was revoked at the server is dropped, and the request sent again."""
    server = TokenServer()
    async with open_pair(http, server) as (session, client):
        await client.get("/2.0/files/1")
        await trio.sleep_until(10.0)
        server.revoke_all()

        answer = await client.get("/2.0/files/1")

        assert (answer.status_code, trio.current_time()) == (200, 10.0)
        assert session.statistics().invalidations == 1
    assert [seen.verdict for seen in server.presented] == ["good", "revoked", "good"]
    assert server.presented[1].access_token != server.presented[2].access_token
    assert [response.status_code for response in answer.history] == [401]
    assert server.grants == 2


async def test_replay_keeps_the_gap_between_grants(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Right after a grant the replay waits for its token until another grant may be sent."""
    server = TokenServer()
    async with open_pair(http, server, min_refresh_interval=3.0) as (_, client):
        await client.get("/2.0/files/1")
        server.revoke_all()
        answer = await client.get("/2.0/files/1")

    assert answer.status_code == 200
    assert [seen.at for seen in server.presented] == [0.0, 0.0, 3.0]


async def test_many_tasks_with_one_dead_token_cause_one_grant(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A hundred tasks that meet the same dead token are all served by a single grant."""
    server = TokenServer(resource_latency=1.0)
    answers: list[Any] = []

    async def ask(client: Any, delay: float) -> None:
        await trio.sleep(delay)
        answers.append(await client.get("/2.0/files/1"))

    async with open_pair(http, server) as (session, client):
        await session.get_access_token()
        await trio.sleep_until(10.0)
        server.revoke_all()
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, client, number / 200)

        assert session.statistics().invalidations == 1
    assert [answer.status_code for answer in answers] == [200] * 100
    assert server.verdicts == {"revoked": 100, "good": 100}
    assert (server.grants, server.most_in_flight) == (2, 1)


async def test_late_report_costs_no_grant(http: ModuleType, autojump_clock: MockClock) -> None:
    """A 401 for a token that was replaced meanwhile is replayed with the one that is there."""
    server = TokenServer()
    slow = Recorder(http, dead(http), latency=20.0)
    async with open_pair(http, server, slow) as (session, client):
        first = await session.get_access_token()
        await trio.sleep_until(5.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "/2.0/files/1")
            await trio.sleep_until(10.0)
            session.invalidate(first)
            second = await session.get_access_token()

        assert session.statistics().invalidations == 1
    assert [(sent.at, sent.authorization) for sent in slow.sent] == [
        (5.0, f"Bearer {first}"),
        (25.0, f"Bearer {second}"),
    ]
    assert server.grants == 2


async def test_answer_without_permission_is_left_alone(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Box's 401 to a token without permission is the answer, and the token is kept."""
    server = TokenServer()
    async with open_pair(http, server) as (session, client):
        answer = await client.get("/2.0/forbidden")

        assert session.state is TokenState.FRESH
        assert session.statistics().invalidations == 0
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert server.verdicts == {"good": 1}


# What an answer means


Challenges = list[tuple[str, str]]


def challenges(*values: str) -> Challenges:
    """Return headers with these challenges, each in a line of its own."""
    return [("WWW-Authenticate", value) for value in values]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (list(DEAD.items()), b""),
        (challenges("Bearer error=invalid_token"), b""),
        (challenges('bearer ERROR = "invalid_token"'), b""),
        (challenges('Bearer error="invalid_token"'), b"{}"),
        (challenges('Basic realm="x"', 'Bearer error="invalid_token"'), b""),
        (challenges('Bearer realm="Service"'), b""),
        ([], b""),
    ],
)
async def test_answers_that_mean_a_dead_token(
    http: ModuleType, headers: Challenges, body: bytes, autojump_clock: MockClock
) -> None:
    """A 401 with invalid_token, or with nothing at all, drops the token and replays once."""
    recorder = Recorder(http, http.Response(401, headers=headers, content=body))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/files/1")

        statistics = session.statistics()
    assert answer.status_code == 200
    assert len(set(recorder.tokens)) == len(recorder.sent) == 2
    assert (statistics.invalidations, statistics.grants) == (1, 2)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (401, [], b'{"code": "unauthorized"}'),
        (401, challenges('Bearer realm="Service"'), b'{"code": "unauthorized"}'),
        (401, [], b"no"),
        (401, challenges('Bearer error="insufficient_scope"'), b""),
        (401, challenges("Bearer error=invalid_request"), b""),
        (401, challenges('DPoP error="use_dpop_nonce"'), b"no"),
        (403, [], b""),
        (403, challenges('Bearer error="insufficient_scope"'), b""),
        (403, list(DEAD.items()), b""),
        (400, list(DEAD.items()), b""),
        (407, list(DEAD.items()), b""),
        (500, [], b""),
        (200, list(DEAD.items()), b""),
    ],
)
async def test_answers_that_mean_something_else(
    http: ModuleType, status: int, headers: Challenges, body: bytes, autojump_clock: MockClock
) -> None:
    """Any other answer is handed on, and costs neither token nor request."""
    recorder = Recorder(http, http.Response(status, headers=headers, content=body))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/files/1")

        statistics = session.statistics()
    assert (answer.status_code, answer.content) == (status, body)
    assert len(recorder.sent) == 1
    assert (statistics.invalidations, statistics.grants) == (0, 1)
    assert statistics.state is TokenState.FRESH


async def test_body_of_an_answer_is_still_there(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """An answer that had to be looked into can be read by who asked."""
    recorder = Recorder(http, http.Response(401, json={"code": "unauthorized"}))
    async with (
        open_pair(http, TokenServer(), recorder) as (_, client),
        client.stream("GET", "/2.0/files/1") as answer,
    ):
        body = b"".join([chunk async for chunk in answer.aiter_bytes()])

    assert json.loads(body) == {"code": "unauthorized"}


async def test_there_is_never_more_than_one_replay(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A second 401 in a row is the answer, whatever it says."""
    recorder = Recorder(http, then=dead)
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/files/1")

        assert session.statistics().grants == 2
    assert (answer.status_code, len(recorder.sent)) == (401, 2)


async def test_same_token_again_is_not_replayed(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Where the new token is the old one, the request is not sent again."""
    server = TokenServer(reuses_tokens=True)
    recorder = Recorder(http, then=dead)
    async with open_pair(http, server, recorder) as (session, client):
        answer = await client.get("/2.0/files/1")

        assert session.statistics().invalidations == 1
    assert (answer.status_code, len(recorder.sent), server.grants) == (401, 1, 2)


# Bodies


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"json": [1]}, b"[1]"),
        ({"content": b"raw"}, b"raw"),
        ({"content": "text"}, b"text"),
        ({"data": {"a": "b"}}, b"a=b"),
        ({}, b""),
    ],
)
async def test_whole_body_is_sent_again(
    http: ModuleType, body: dict[str, Any], expected: bytes, autojump_clock: MockClock
) -> None:
    """A body that was given whole goes out whole both times."""
    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.post("/2.0/files/1", **body)

    assert answer.status_code == 200
    assert [sent.body for sent in recorder.sent] == [expected, expected]


async def test_streamed_body_is_not_sent_again(http: ModuleType, autojump_clock: MockClock) -> None:
    """A body from an iterator is gone: the 401 is the answer, and the token is dropped."""
    recorder = Recorder(http, dead(http))

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.post("/2.0/files/1", content=chunks())

        assert session.state is TokenState.EMPTY
        assert (session.statistics().invalidations, session.statistics().grants) == (1, 1)
        again = await client.get("/2.0/files/1")

    assert (answer.status_code, again.status_code) == (401, 200)
    assert [sent.body for sent in recorder.sent] == [b"onetwo", b""]
    assert len(set(recorder.tokens)) == 2


# Redirects


async def test_token_does_not_follow_a_redirect_elsewhere(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Another origin gets no token by a redirect, and its 401 says nothing about ours."""
    recorder = Recorder(
        http, http.Response(302, headers={"Location": "https://elsewhere.example/a"}), then=dead
    )
    async with open_test_session() as session:
        async with client_of(
            http, auth_of(http, session), recorder, follow_redirects=True
        ) as client:
            answer = await client.get("/2.0/files/1")

        assert session.statistics().invalidations == 0
        assert session.state is TokenState.FRESH
    assert answer.status_code == 401
    assert [sent.url for sent in recorder.sent] == [
        "http://localhost/2.0/files/1",
        "https://elsewhere.example/a",
    ]
    assert recorder.tokens[1] is None


async def test_redirect_from_elsewhere_gets_no_token(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A foreign origin cannot send a request on with our token."""
    recorder = Recorder(
        http, http.Response(307, headers={"Location": "http://localhost/2.0/files/1"}), then=dead
    )
    async with open_test_session() as session:
        async with client_of(
            http, auth_of(http, session), recorder, follow_redirects=True
        ) as client:
            await client.get("https://elsewhere.example/a")

        assert session.statistics().grants == 0
    assert recorder.tokens == [None, None]


async def test_redirect_at_home_keeps_the_token(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Within an origin a redirect keeps the token, and its 401 counts."""
    recorder = Recorder(http, http.Response(302, headers={"Location": "/2.0/files/2"}), dead(http))
    async with open_test_session() as session:
        async with client_of(
            http, auth_of(http, session), recorder, follow_redirects=True
        ) as client:
            answer = await client.get("/2.0/files/1")

        assert session.statistics().invalidations == 1
    assert answer.status_code == 200
    assert [sent.url.removeprefix(ROOT) for sent in recorder.sent] == [
        "/2.0/files/1",
        "/2.0/files/2",
        "/2.0/files/1",
    ]
    assert recorder.tokens[0] == recorder.tokens[1] != recorder.tokens[2]


# Errors


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.refusal("invalid_client"), CredentialsRejectedError),
        (Fault.refusal("invalid_scope"), TokenRequestError),
        (Fault.server_error(503), TokenUnavailableError),
        (Fault(cut="before_headers"), TokenUnavailableError),
        (Fault(body=b"<html>"), MalformedTokenResponseError),
    ],
)
async def test_token_errors_are_request_errors(
    http: ModuleType, fault: Fault, kind: type[TokenRequestError], autojump_clock: MockClock
) -> None:
    """What goes wrong with the token is our own error, and httpx's broad kind, no leaf of it."""
    server = TokenServer(FaultPlan(token_then=fault))
    async with open_pair(http, server, max_retries=0) as (_, client):
        with pytest.raises(http.RequestError) as caught:
            await client.get("/2.0/files/1")

    assert isinstance(caught.value, kind)
    assert type(caught.value).__name__ == kind.__name__
    assert isinstance(caught.value, AnonymousSessionError)
    assert not isinstance(caught.value, http.TransportError)
    assert str(caught.value.request.url) == "http://localhost/2.0/files/1"
    assert len(server.presented) == 0


async def test_failed_replay_is_an_error(http: ModuleType, autojump_clock: MockClock) -> None:
    """Where no new token can be had for the replay, that error comes out, not the 401."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.refusal("invalid_client")))
    async with open_pair(http, server) as (_, client):
        await client.get("/2.0/files/1")
        server.revoke_all()
        with pytest.raises(CredentialsRejectedError):
            await client.get("/2.0/files/1")

    assert server.verdicts == {"good": 1, "revoked": 1}


async def test_failed_replay_shows_no_token(http: ModuleType, autojump_clock: MockClock) -> None:
    """A traceback with the locals of all its frames shows neither token nor secret."""
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.refusal("invalid_client")))
    async with open_pair(http, server) as (_, client):
        await client.get("/2.0/files/1")
        server.revoke_all()
        with pytest.raises(CredentialsRejectedError) as caught:
            await client.get("/2.0/files/1")

    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "_set_token" in shown
    assert "request = <Request" in shown
    assert next(iter(server.tokens)) not in shown
    assert next(iter(server.clients.values())).client_secret not in shown


async def test_error_of_an_answer_shows_no_token(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Where the body of a 401 cannot be read, the frames of this library show no token either."""

    async def breaks() -> AsyncIterator[bytes]:
        await trio.sleep(1.0)
        raise http.ReadError("it broke")
        yield b""

    server = TokenServer()
    recorder = Recorder(http, http.Response(401, content=breaks()))
    async with open_pair(http, server, recorder) as (_, client):
        with pytest.raises(http.ReadError) as caught:
            await client.get("/2.0/files/1")

    assert caught.value.request.method == "GET"
    summary = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in summary.stack if frame.filename.endswith(("_flow.py", "_body.py"))]
    assert frames
    assert next(iter(server.tokens)) not in repr([frame.locals for frame in frames])


async def test_request_of_a_closed_session(http: ModuleType, autojump_clock: MockClock) -> None:
    """After the session's block a request fails as closed, and other origins still work."""
    recorder = Recorder(http)
    async with open_test_session() as session:
        auth = auth_of(http, session)

    async with client_of(http, auth, recorder) as client:
        with pytest.raises(SessionClosedError) as caught:
            await client.get("/2.0/files/1")
        answer = await client.get("https://elsewhere.example/")

    assert isinstance(caught.value, http.RequestError)
    assert isinstance(caught.value, trio.ClosedResourceError)
    assert answer.status_code == 200
    assert len(recorder.sent) == 1


async def test_request_held_while_the_session_closes(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A request that is held when the session's block is left fails as closed."""
    server = TokenServer(FaultPlan(token_then=Fault.hang()))
    errors: list[SessionClosedError] = []

    async def ask(client: Any) -> None:
        try:
            await client.get("/2.0/files/1")
        except SessionClosedError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery, open_test_session(server) as session:
        client = client_of(http, auth_of(http, session), http.ASGITransport(server))
        nursery.start_soon(ask, client)
        await trio.sleep(2.0)
    await client.aclose()

    assert len(errors) == 1
    assert (trio.current_time(), len(server.presented)) == (2.0, 0)


async def test_answer_that_outlives_the_session(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A 401 that comes after the session's block fails as closed, for want of a new token."""
    recorder = Recorder(http, dead(http), latency=10.0)
    errors: list[SessionClosedError] = []

    async def ask(client: Any) -> None:
        try:
            await client.get("/2.0/files/1")
        except SessionClosedError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery, open_test_session() as session:
        client = client_of(http, auth_of(http, session), recorder)
        nursery.start_soon(ask, client)
        await trio.sleep(2.0)
    await client.aclose()

    assert (len(errors), len(recorder.sent)) == (1, 1)


async def test_session_that_was_not_entered(http: ModuleType, autojump_clock: MockClock) -> None:
    """Before the session is entered a request is a mistake, and says how to mend it."""
    session = AnonymousSession(Config(client_id="id", client_secret="secret"))
    async with client_of(
        http, auth_of(http, session, ["http://localhost"]), Recorder(http)
    ) as client:
        with pytest.raises(RuntimeError, match="async with"):
            await client.get("/2.0/files/1")


def test_sync_client_is_refused(http: ModuleType) -> None:
    """A sync client cannot wait for a token, and is told so before anything is sent."""
    sent: list[Any] = []

    def answer(request: Any) -> Any:
        sent.append(request)
        return http.Response(200)

    session = AnonymousSession(Config(client_id="id", client_secret="secret"))
    with (
        http.Client(auth=auth_of(http, session), transport=http.MockTransport(answer)) as client,
        pytest.raises(RuntimeError, match="AsyncClient"),
    ):
        client.get("https://api.box.com/2.0/files/1")

    assert sent == []


# Cancellation


async def test_cancelled_while_held(http: ModuleType, autojump_clock: MockClock) -> None:
    """A request cancelled while it is held takes nothing along: the grant goes on."""
    server = TokenServer(FaultPlan(token=[Fault(delay=5.0)]))
    async with open_pair(http, server) as (_, client):
        with trio.move_on_after(1.0) as limit:
            await client.get("/2.0/files/1")
        assert (limit.cancelled_caught, trio.current_time()) == (True, 1.0)

        answer = await client.get("/2.0/files/1")

        assert (answer.status_code, trio.current_time()) == (200, 5.0)
    assert [seen.at for seen in server.presented] == [5.0]
    assert server.grants == 1


async def test_cancelled_in_flight(http: ModuleType, autojump_clock: MockClock) -> None:
    """A request cancelled on its way leaves the token as it is."""
    server = TokenServer(resource_latency=10.0)
    async with open_pair(http, server) as (session, client):
        with trio.move_on_after(1.0) as limit:
            await client.get("/2.0/files/1")
        assert (limit.cancelled_caught, trio.current_time()) == (True, 1.0)
        assert session.state is TokenState.FRESH

        answer = await client.get("/2.0/files/1")

        assert (answer.status_code, trio.current_time()) == (200, 11.0)
        assert session.statistics().invalidations == 0
    assert server.grants == 1


async def test_cancelled_before_the_replay(http: ModuleType, autojump_clock: MockClock) -> None:
    """A request cancelled while it waits for its second token has dropped the first."""
    server = TokenServer(FaultPlan(token=[None, Fault(delay=5.0)]))
    async with open_pair(http, server) as (session, client):
        await client.get("/2.0/files/1")
        await trio.sleep_until(10.0)
        server.revoke_all()
        with trio.move_on_after(1.0) as limit:
            await client.get("/2.0/files/1")
        assert (limit.cancelled_caught, session.state) == (True, TokenState.EMPTY)

        answer = await client.get("/2.0/files/1")

        assert (answer.status_code, trio.current_time()) == (200, 15.0)
    assert server.verdicts == {"good": 2, "revoked": 1}
    assert server.grants == 2


# Looks


async def test_repr_shows_no_token(http: ModuleType, autojump_clock: MockClock) -> None:
    """The repr names the session, and neither token nor secret."""
    async with open_test_session() as session:
        token = await session.get_access_token()
        shown = repr(
            auth_of(
                http,
                session,
            )
        )

        assert repr(session) in shown
    assert token not in shown
    assert "test-secret" not in shown


def test_auth_does_not_pickle(http: ModuleType) -> None:
    """An auth refuses to be pickled, as its session does."""
    session = AnonymousSession(Config(client_id="id", client_secret="secret"))

    with pytest.raises(TypeError, match="SessionAuth cannot be pickled"):
        auth_of(http, session).__reduce__()
