"""How `TokenServer` treats its tokens: revocation, the resource, and its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import httpx
import pytest
import trio

from trio_anon_session.testing import (
    Client,
    Fault,
    FaultPlan,
    IssuedToken,
    Presented,
    SeenRequest,
    TokenServer,
)

from . import ask_for_token, exchange, post, revocation, said, send, show

if TYPE_CHECKING:
    from trio.testing import MockClock

WRONG_REVOKER = ("invalid_request", "The client is invalid")
WRONG_TOKEN = ("invalid_token", "The supplied token is invalid")

REALM = 'Bearer realm="Service"'
INVALID = (
    f'{REALM}, error="invalid_token", error_description="The access token provided is invalid."'
)
MALFORMED = f'{REALM}, error="invalid_request", error_description="Malformed auth header"'

Verdict = Literal["good", "expired", "revoked", "unknown", "missing", "malformed"]


# Revocation


async def test_revoked_token_is_refused(autojump_clock: MockClock) -> None:
    """A revocation gets a 200 without a body, and ends only that token, not its parent."""
    server = TokenServer()
    first, parent = await ask_for_token(server), await ask_for_token(server)
    exchanged = (await post(server, data=exchange(parent))).json()["access_token"]

    for token in (first, exchanged):
        answer = await post(server, "/oauth2/revoke", data=revocation(token))

        assert (answer.status_code, answer.content) == (200, b"")
        assert (await show(server, token)).status_code == 401
    assert (await show(server, parent)).status_code == 200
    assert [token.access_token for token in server.live_tokens()] == [parent]
    assert await ask_for_token(server) not in (first, exchanged, parent)
    assert server.revocations == 2


@pytest.mark.parametrize("revoke_unknown", [200, 400])
@pytest.mark.parametrize("kind", ["unknown", "expired", "revoked"])
async def test_revoking_an_invalid_token(
    kind: str, revoke_unknown: Literal[200, 400], autojump_clock: MockClock
) -> None:
    """The revocation of an unknown, expired or revoked token gets ``revoke_unknown``."""
    server = TokenServer(lifetime=10.0, revoke_unknown=revoke_unknown)
    token = await ask_for_token(server)
    if kind == "unknown":
        token = "unknown"
    elif kind == "expired":
        await trio.sleep(10.0)
    else:
        server.revoke(token)

    answer = await post(server, "/oauth2/revoke", data=revocation(token))

    assert answer.status_code == revoke_unknown
    if revoke_unknown == 200:
        assert answer.content == b""
    else:
        assert said(answer) == WRONG_TOKEN
    assert server.revocations == 0


@pytest.mark.parametrize("revoke_unknown", [200, 400])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_id": ""}, WRONG_REVOKER),
        ({"client_id": "nobody"}, WRONG_REVOKER),
        ({"client_secret": "wrong"}, WRONG_REVOKER),
        ({"client_id": "second", "client_secret": "second-secret"}, WRONG_TOKEN),
    ],
)
async def test_only_its_own_client_may_revoke_a_token(
    changes: dict[str, str],
    expected: tuple[str, str],
    revoke_unknown: Literal[200, 400],
    autojump_clock: MockClock,
) -> None:
    """A revocation by another or an unknown client is refused, and the token stays valid."""
    server = TokenServer(
        clients=[Client(), Client("second", "second-secret")], revoke_unknown=revoke_unknown
    )
    token = await ask_for_token(server)

    answer = await post(server, "/oauth2/revoke", data=revocation(token, **changes))

    assert (answer.status_code, said(answer)) == (400, expected)
    assert (await show(server, token)).status_code == 200
    assert server.revocations == 0


async def test_server_can_revoke_by_itself(autojump_clock: MockClock) -> None:
    """A token that the server revokes is invalid, and is not counted as a client's revocation."""
    server = TokenServer()
    tokens = [await ask_for_token(server) for _ in range(3)]
    server.revoke_all()

    statuses = [(await show(server, token)).status_code for token in tokens]

    assert statuses == [401, 401, 401]
    assert server.verdicts == {"revoked": 3}
    assert (server.revocations, len(server.revoke_requests())) == (0, 0)


# The protected resource


@pytest.mark.parametrize(
    ("header", "status", "challenge", "verdict"),
    [
        ("Bearer {good}", 200, None, "good"),
        ("bearer {good}", 200, None, "good"),
        ("Bearer {expired}", 401, INVALID, "expired"),
        ("Bearer {revoked}", 401, INVALID, "revoked"),
        ("Bearer unknown", 401, INVALID, "unknown"),
        (None, 401, REALM, "missing"),
        ("Bearer", 400, MALFORMED, "malformed"),
        ("Basic {good}", 400, MALFORMED, "malformed"),
        ("{good}", 400, MALFORMED, "malformed"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_answers_of_the_resource(
    header: str | None,
    status: int,
    challenge: str | None,
    verdict: Verdict,
    method: str,
    autojump_clock: MockClock,
) -> None:
    """The resource answers each kind of header as Box's API does, and records it."""
    server = TokenServer(lifetime=10.0)
    expired = await ask_for_token(server)
    await trio.sleep(10.0)
    good, revoked = await ask_for_token(server), await ask_for_token(server)
    server.revoke(revoked)
    headers = {}
    if header is not None:
        headers["Authorization"] = header.format(good=good, expired=expired, revoked=revoked)

    answer = await send(server, method, "/2.0/files/42", headers=headers)

    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (status, challenge)
    if verdict == "good":
        assert answer.json() == {"type": "file", "id": "42"}
    else:
        assert answer.content == b""
    shown = headers.get("Authorization", "").partition(" ")[2] or None
    assert list(server.presented) == [Presented(10.0, verdict, shown)]
    assert server.verdicts == {verdict: 1}


async def test_resource_without_permission(autojump_clock: MockClock) -> None:
    """A valid token without permission gets JSON and a challenge that names no error."""
    server = TokenServer()

    valid = await show(server, await ask_for_token(server), "/2.0/forbidden")
    unknown = await show(server, "unknown", "/2.0/forbidden")

    assert (valid.status_code, valid.headers["WWW-Authenticate"]) == (401, REALM)
    assert valid.headers["Content-Type"] == "application/json"
    assert valid.json()["code"] == "unauthorized"
    assert (unknown.status_code, unknown.headers["WWW-Authenticate"]) == (401, INVALID)
    assert [seen.verdict for seen in server.presented] == ["good", "unknown"]


async def test_slow_resource_judges_on_arrival(autojump_clock: MockClock) -> None:
    """The resource checks the token on arrival; a fault's delay is added to its latency."""
    plan = FaultPlan(resource=[Fault(delay=3.0)])
    server = TokenServer(plan, lifetime=10.0, resource_latency=30.0)

    answer = await show(server, await ask_for_token(server))

    assert (answer.status_code, trio.current_time()) == (200, 33.0)
    assert server.presented[0].at == 0.0


# The records


async def test_requests_are_recorded_without_secrets(autojump_clock: MockClock) -> None:
    """A record has time, path, fields, headers and query of a request, and no secret."""
    server = TokenServer()
    masked = "client_secret token subject_token actor_token assertion refresh_token"
    secrets = dict.fromkeys(masked.split(), "hush")
    await trio.sleep(3.0)
    await post(
        server,
        "/oauth2/token?tenant=1",
        data={"grant_type": "client_credentials", "client_id": "test-client", **secrets},
        headers={"X-Forwarded-For": "203.0.113.7", "User-Agent": "raw/1"},
    )

    [seen] = server.requests
    assert (seen.at, seen.path, seen.query) == (3.0, "/oauth2/token", "tenant=1")
    assert seen.headers["X-Forwarded-For"] == "203.0.113.7"
    assert seen.headers["User-Agent"] == "raw/1"
    assert seen.form == {
        "grant_type": "client_credentials",
        "client_id": "test-client",
        **dict.fromkeys(secrets, "***"),
    }
    assert "hush" not in repr(server.requests)


async def test_requests_are_recorded_by_endpoint(autojump_clock: MockClock) -> None:
    """The server lists the requests to each of its two endpoints, and none to the resource."""
    server = TokenServer()
    token = await ask_for_token(server)
    await show(server, token)
    await post(server, "/oauth2/revoke", data=revocation(token))
    await send(server, "GET", "/oauth2/token")

    assert len(server.requests) == 3
    assert [seen.at for seen in server.token_requests()] == [0.0, 0.0]
    assert [seen.form["token"] for seen in server.revoke_requests()] == ["***"]


async def test_token_requests_in_flight_are_counted(autojump_clock: MockClock) -> None:
    """The server counts token requests in flight, and no other ones, and their maximum."""
    slow = Fault(delay=2.0)
    server = TokenServer(FaultPlan(token_then=slow, revoke_then=slow, resource_then=slow))

    async def ask_at(moment: float) -> None:
        await trio.sleep_until(moment)
        await ask_for_token(server)

    async with trio.open_nursery() as nursery:
        for moment in (0.0, 1.0, 1.5, 4.0):
            nursery.start_soon(ask_at, moment)
        await trio.sleep_until(1.6)
        nursery.start_soon(show, server, "unknown")
        nursery.start_soon(lambda: post(server, "/oauth2/revoke", data=revocation("unknown")))
        await trio.sleep_until(1.75)
        assert server.in_flight == 3
        await trio.sleep_until(4.5)
        assert server.in_flight == 1

    assert (server.in_flight, server.most_in_flight, server.grants) == (0, 3, 4)


async def test_live_tokens_are_valid(autojump_clock: MockClock) -> None:
    """``live_tokens`` has no token that has expired or was revoked."""
    server = TokenServer(lifetime=10.0)
    first = await ask_for_token(server)
    await trio.sleep_until(4.0)
    second, third = await ask_for_token(server), await ask_for_token(server)
    server.revoke(third)

    live: list[list[str]] = []
    for moment in (9.999, 10.0, 14.0):
        await trio.sleep_until(moment)
        live.append([token.access_token for token in server.live_tokens()])

    assert live == [[first, second], [second], []]
    assert list(server.tokens) == [first, second, third]


@pytest.mark.parametrize(("keep", "keep_tokens"), [(2, None), (0, 2)])
async def test_records_can_be_kept_short(
    keep: int, keep_tokens: int | None, autojump_clock: MockClock
) -> None:
    """The server keeps its last records and tokens, and still counts all of them."""
    server = TokenServer(keep=keep, keep_tokens=keep_tokens)
    tokens = [await ask_for_token(server) for _ in range(5)]

    statuses = [(await show(server, token)).status_code for token in tokens]

    assert (len(server.requests), len(server.presented)) == (keep, keep)
    assert list(server.tokens) == tokens[3:]
    assert statuses == [401, 401, 401, 200, 200]
    assert (server.grants, server.verdicts) == (5, {"unknown": 3, "good": 2})


def test_no_repr_shows_a_secret() -> None:
    """The reprs of clients, tokens and records show neither secrets nor tokens."""
    entries = [
        Client("me", "hush"),
        IssuedToken("hush", "me", 0.0, 10.0),
        Presented(0.0, "good", "hush"),
        SeenRequest(0.0, "/oauth2/token", (), httpx.Headers({"Authorization": "Basic hush"})),
    ]

    assert "hush" not in repr(entries)


def test_config_is_that_of_the_first_client() -> None:
    """The server's config has its first client, the given root URL, and further settings."""
    server = TokenServer(clients=[Client("first", "one"), Client("second", "two")])

    config = server.config("http://127.0.0.1:8080", stale_buffer=5.0)

    assert (config.client_id, config.client_secret) == ("first", "one")
    assert config.token_url == "http://127.0.0.1:8080/oauth2/token"
    assert config.stale_buffer == 5.0
    assert server.config().api_root_url == "http://localhost"
