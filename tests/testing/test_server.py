"""`TokenServer` as a raw client sees it."""

from __future__ import annotations

import base64
import string
import tracemalloc
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, quote_plus, urlencode

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
from trio_anon_session.testing._server import DRAIN_LIMIT, DRAIN_TIME

from . import GRANT, ask_for_token, open_raw_client, show

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from trio.testing import MockClock

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODY_LIMIT = 64 * 1024
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
FILE = "https://api.box.com/2.0/files/123"

NO_GRANT_TYPE = ("invalid_request", "Invalid grant_type parameter or parameter missing")
NO_CLIENT = ("invalid_client", "Client id was not found in the headers or body")
WRONG_CLIENT = ("invalid_client", "The client credentials are invalid")
WRONG_GRANT = ("unauthorized_client", "The grant type is unauthorized for this client_id")
WRONG_SUBJECT_TYPE = (
    "unauthorized_client",
    'The "box_subject_type" value is unauthorized for this client_id',
)
WRONG_SUBJECT = ("invalid_grant", "Grant credentials are invalid")
WRONG_SCOPE = ("invalid_scope", "An unsupported scope was requested.")
WRONG_RESOURCE = ("invalid_resource", "The target resource is invalid.")
WRONG_REVOKER = ("invalid_request", "The client is invalid")
WRONG_TOKEN = ("invalid_token", "The supplied token is invalid")

REALM = 'Bearer realm="Service"'
DEAD = f'{REALM}, error="invalid_token", error_description="The access token provided is invalid."'
MALFORMED = f'{REALM}, error="invalid_request", error_description="Malformed auth header"'

Verdict = Literal["good", "expired", "revoked", "unknown", "missing", "malformed"]


def said(answer: httpx.Response) -> tuple[str, str]:
    """Return code and text of an OAuth error."""
    fields = answer.json()
    assert sorted(fields) == ["error", "error_description"]
    return fields["error"], fields["error_description"]


def revocation(token: str, **changes: str) -> dict[str, str]:
    """Return the form of a revocation by the first client."""
    fields = {"client_id": "test-client", "client_secret": "test-secret", "token": token}
    return fields | changes


def exchange(subject_token: str, **changes: str) -> dict[str, str]:
    """Return the form of an exchange by the first client."""
    fields = GRANT | {
        "grant_type": EXCHANGE,
        "subject_token": subject_token,
        "subject_token_type": ACCESS_TOKEN_TYPE,
        "scope": "item_preview",
        "resource": FILE,
    }
    return fields | changes


def basic(pair: str | bytes) -> dict[str, str]:
    """Return the header of HTTP Basic for a pair joined by a colon."""
    raw = pair.encode() if isinstance(pair, str) else pair
    return {"Authorization": f"Basic {base64.b64encode(raw).decode()}"}


# Paths, methods, forms


@pytest.mark.parametrize(
    "path", ["/", "/oauth2", "/oauth2/token/", "/oauth2/authorize", "/2.0", "/3.0/files/1"]
)
async def test_another_path_is_not_found(path: str, autojump_clock: MockClock) -> None:
    """Whatever is at no path of Box's answers 404, and enters no book."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        answer = await client.post(path, data=GRANT)

    assert answer.status_code == 404
    assert (len(server.requests), len(server.presented), server.grants) == (0, 0, 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke"])
async def test_only_post_is_allowed(path: str, method: str, autojump_clock: MockClock) -> None:
    """Another method than POST answers 405, says what is allowed, and does nothing."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)

        answer = await client.request(
            method, path, content=urlencode(GRANT | {"token": token}), headers=FORM
        )

        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert (server.grants, server.revocations) == (1, 0)
        assert (await show(client, token)).status_code == 200


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke"])
@pytest.mark.parametrize(
    "request_body",
    [
        {"json": GRANT},
        {"files": {"file": b"contents"}, "data": GRANT},
        {"content": urlencode(GRANT)},
        {"content": urlencode(GRANT), "headers": {"Content-Type": "text/plain"}},
        {"content": b""},
        {"content": "client_id=é".encode(), "headers": FORM},
        {"content": b"client_id=%FF", "headers": FORM},
    ],
    ids=["json", "multipart", "no type", "text", "empty", "raw UTF-8", "no UTF-8"],
)
async def test_only_forms_are_read(
    path: str, request_body: dict[str, Any], autojump_clock: MockClock
) -> None:
    """A body that is not form-encoded is an invalid request, whatever is in it."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        answer = await client.post(path, **request_body)

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_request")
    assert server.grants == 0


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded; charset=utf-8", "Application/X-WWW-Form-Urlencoded"],
)
async def test_form_type_is_read_as_media_type(kind: str, autojump_clock: MockClock) -> None:
    """Case and parameters of the content type make no difference."""
    async with open_raw_client(TokenServer()) as client:
        answer = await client.post(
            "/oauth2/token", content=urlencode(GRANT), headers={"Content-Type": kind}
        )

    assert answer.status_code == 200


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 413), (1_000_000, 413)])
@pytest.mark.parametrize("chunk", [1000, 10_000_000], ids=["in chunks", "at once"])
async def test_body_size_is_capped(
    excess: int, status: int, chunk: int, autojump_clock: MockClock
) -> None:
    """A body of 64 KiB is read, and one byte more is refused."""
    server = TokenServer()
    start = urlencode(GRANT) + "&padding="
    body = (start + "x" * (BODY_LIMIT + excess - len(start))).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for position in range(0, len(body), chunk):
            yield body[position : position + chunk]

    async with open_raw_client(server) as client:
        answer = await client.post("/oauth2/token", content=chunks(), headers=FORM)

    assert answer.status_code == status
    assert server.grants == (status == 200)
    if status != 200:
        assert said(answer)[0] == "invalid_request"


@pytest.mark.parametrize(
    ("path", "small"),
    [("/oauth2/token", 400), ("/oauth2/revoke", 400), ("/2.0/files/1", 401), ("/other", 404)],
)
@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_large_body_is_refused_everywhere(
    path: str, small: int, pieces: int, autojump_clock: MockClock
) -> None:
    """Whatever the path, a body over 64 KiB is answered with 413, and none of it is kept."""
    server = TokenServer()

    async def body(size: int) -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield b"a=b&" * (size // pieces // 4)

    async with open_raw_client(server) as client:
        below = await client.post(path, content=body(BODY_LIMIT), headers=FORM)
        above = await client.post(path, content=body(2 * BODY_LIMIT), headers=FORM)

    assert (below.status_code, above.status_code) == (small, 413)
    assert [request.fields for request in server.requests][1:] in ([], [()])
    assert server.grants == 0


async def test_a_fault_goes_before_the_size_of_a_body(autojump_clock: MockClock) -> None:
    """A planned answer comes in its turn, whatever the size of the body."""
    down = Fault.server_error(503)
    server = TokenServer(FaultPlan(token=[down], resource=[down]))
    async with open_raw_client(server) as client:
        statuses = [
            (await client.post(path, content=b"x" * 10**6, headers=FORM)).status_code
            for path in ["/oauth2/token", "/2.0/files/1"] * 2
        ]

    assert statuses == [503, 503, 413, 413]


async def test_a_body_without_end_is_refused(autojump_clock: MockClock) -> None:
    """The server reads on for 16 MiB, keeps nothing of it, and answers."""
    given = 0
    answers: list[int] = []

    async def receive() -> dict[str, Any]:
        nonlocal given
        await trio.lowlevel.checkpoint()
        given += 2**20
        assert given < 10 * DRAIN_LIMIT
        return {"type": "http.request", "body": bytes(2**20), "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        answers.append(message.get("status", 0))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/oauth2/token",
        "query_string": b"",
        "headers": [],
    }
    tracemalloc.start()
    try:
        await TokenServer()(scope, receive, send)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answers == [413, 0]
    assert given <= DRAIN_LIMIT + 3 * 2**20
    # Two pieces at most, the one that came and the next.
    assert peak < 3 * 2**20


async def test_a_slow_body_without_end_is_refused(autojump_clock: MockClock) -> None:
    """The server waits for ten seconds for the rest of a body that is refused already."""

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * (BODY_LIMIT + 1)
        while True:
            await trio.sleep(1.0)
            yield b"x"

    async with open_raw_client(TokenServer()) as client:
        start = trio.current_time()
        with trio.fail_after(60.0):
            answer = await client.post("/oauth2/token", content=body(), headers=FORM)

    assert answer.status_code == 413
    assert trio.current_time() - start == DRAIN_TIME


async def test_a_slow_small_body_is_waited_for(autojump_clock: MockClock) -> None:
    """A body that is not too large may take as long as it likes."""

    async def body() -> AsyncIterator[bytes]:
        yield urlencode(GRANT).encode()
        await trio.sleep(600.0)
        yield b"&x=y"

    async with open_raw_client(TokenServer()) as client:
        answer = await client.post("/oauth2/token", content=body(), headers=FORM)

    assert answer.status_code == 200


@pytest.mark.parametrize(("length", "status"), [(4096, 200), (4097, 400)])
@pytest.mark.parametrize("word", ["a", "é"])
async def test_a_long_scope_is_refused(
    word: str, length: int, status: int, autojump_clock: MockClock
) -> None:
    """A token keeps its scope, so that one of more than 4 KiB is an ``invalid_scope``."""
    scope = word * (length // len(word.encode())) + "a" * (length % len(word.encode()))
    server = TokenServer()
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)
        answers = [
            await client.post("/oauth2/token", data=form)
            for form in (GRANT | {"scope": scope}, exchange(token, scope=scope))
        ]

    assert [answer.status_code for answer in answers] == [status, status]
    if status == 400:
        assert {said(answer)[0] for answer in answers} == {"invalid_scope"}
        assert len(server.tokens) == 1


@pytest.mark.parametrize("name", [*GRANT, "scope", "box_subject_type", "anything"])
@pytest.mark.parametrize("second", ["same", "other"])
async def test_repeated_field_is_refused(name: str, second: str, autojump_clock: MockClock) -> None:
    """A field that is there twice makes the request invalid, with the same value too."""
    first = GRANT.get(name, "same")
    fields = {**GRANT, name: first}
    again = first if second == "same" else "other"
    async with open_raw_client(TokenServer()) as client:
        answer = await client.post(
            "/oauth2/token", content=f"{urlencode(fields)}&{name}={again}", headers=FORM
        )

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_request")


async def test_resource_alone_may_be_repeated(autojump_clock: MockClock) -> None:
    """More than one resource is no invalid request."""
    content = f"{urlencode(GRANT)}&resource={quote(FILE)}&resource={quote(FILE)}"
    async with open_raw_client(TokenServer()) as client:
        answer = await client.post("/oauth2/token", content=content, headers=FORM)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"grant_type": ""}, NO_GRANT_TYPE),
        ({"client_id": ""}, NO_CLIENT),
        ({"client_secret": ""}, WRONG_CLIENT),
        ({"scope": "", "box_subject_type": "", "box_subject_id": ""}, None),
    ],
)
async def test_empty_field_counts_as_absent(
    fields: dict[str, str], expected: tuple[str, str] | None, autojump_clock: MockClock
) -> None:
    """A field without a value is as good as none."""
    server = TokenServer(clients=[Client(scopes=frozenset(), subject_types=frozenset())])
    async with open_raw_client(server) as client:
        answer = await client.post("/oauth2/token", data=GRANT | fields)

    if expected is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, said(answer)) == (400, expected)


async def test_empty_field_beside_a_full_one_is_no_repetition(autojump_clock: MockClock) -> None:
    """Of two fields with one name, an empty one does not count."""
    async with open_raw_client(TokenServer()) as client:
        answer = await client.post(
            "/oauth2/token", content=f"client_id=&{urlencode(GRANT)}&client_id=", headers=FORM
        )

    assert answer.status_code == 200


# The order of the checks


STRICT_CLIENT = Client(
    grants=frozenset({"client_credentials"}),
    subject_types=frozenset({"enterprise"}),
    subject_ids=frozenset({"7"}),
    scopes=frozenset({"item_read", "item_preview"}),
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"grant_type": None}, NO_GRANT_TYPE),
        ({"grant_type": "nonsense"}, NO_GRANT_TYPE),
        ({"grant_type": "http://["}, NO_GRANT_TYPE),
        ({"client_id": None}, NO_CLIENT),
        ({"client_id": "nobody"}, WRONG_CLIENT),
        ({"client_id": "nobody", "client_secret": None}, WRONG_CLIENT),
        ({"client_secret": None}, WRONG_CLIENT),
        ({"client_secret": "wrong"}, WRONG_CLIENT),
        ({"client_secret": "test-secre"}, WRONG_CLIENT),
        ({"client_secret": "gehëim"}, WRONG_CLIENT),
        ({"grant_type": "password"}, WRONG_GRANT),
        ({"grant_type": "authorization_code"}, WRONG_GRANT),
        ({"grant_type": "refresh_token"}, WRONG_GRANT),
        ({"grant_type": EXCHANGE}, WRONG_GRANT),
        ({"grant_type": "https://example.com/grant"}, WRONG_GRANT),
        ({"box_subject_type": "user", "box_subject_id": "7"}, WRONG_SUBJECT_TYPE),
        ({"box_subject_type": "enterprise", "box_subject_id": "8"}, WRONG_SUBJECT),
        ({"box_subject_type": "enterprise"}, WRONG_SUBJECT),
        ({"scope": "root_readwrite"}, WRONG_SCOPE),
        ({"scope": "item_read root_readwrite"}, WRONG_SCOPE),
        ({"scope": "ITEM_READ"}, WRONG_SCOPE),
    ],
    ids=lambda value: (
        " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value[0]
    ),
)
async def test_refusals(
    changes: dict[str, str | None], expected: tuple[str, str], autojump_clock: MockClock
) -> None:
    """Each cause has Box's status, code and text."""
    server = TokenServer(clients=[STRICT_CLIENT])
    fields = {name: value for name, value in (GRANT | changes).items() if value is not None}
    async with open_raw_client(server) as client:
        answer = await client.post("/oauth2/token", data=fields)

    assert (answer.status_code, said(answer)) == (400, expected)
    assert (server.grants, len(server.requests)) == (0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"box_subject_type": "enterprise", "box_subject_id": "7"},
        {"scope": "item_read"},
        {"scope": "item_preview item_read"},
    ],
)
async def test_what_the_client_may(changes: dict[str, str], autojump_clock: MockClock) -> None:
    """What the client may ask for is granted."""
    async with open_raw_client(TokenServer(clients=[STRICT_CLIENT])) as client:
        token = await ask_for_token(client, **changes)

        assert (await show(client, token)).status_code == 200


async def test_order_of_the_checks(autojump_clock: MockClock) -> None:
    """Of many faults in one request the first in Box's order is named."""
    fields = {
        "box_subject_type": "user",
        "box_subject_id": "8",
        "scope": "root_readwrite",
        "client_secret": "wrong",
    }
    repairs: list[tuple[dict[str, str], tuple[str, str] | None]] = [
        ({}, NO_GRANT_TYPE),
        ({"grant_type": "password"}, NO_CLIENT),
        ({"client_id": "nobody"}, WRONG_CLIENT),
        ({"client_id": "test-client"}, WRONG_CLIENT),
        ({"client_secret": "test-secret"}, WRONG_GRANT),
        ({"grant_type": "client_credentials"}, WRONG_SUBJECT_TYPE),
        ({"box_subject_type": "enterprise"}, WRONG_SUBJECT),
        ({"box_subject_id": "7"}, WRONG_SCOPE),
        ({"scope": "item_read"}, None),
    ]
    async with open_raw_client(TokenServer(clients=[STRICT_CLIENT])) as client:
        for repair, expected in repairs:
            fields |= repair

            answer = await client.post("/oauth2/token", data=fields)

            assert (said(answer) if answer.status_code == 400 else None) == expected


async def test_every_client_has_its_own_secret(autojump_clock: MockClock) -> None:
    """One client's secret does not serve another."""
    server = TokenServer(clients=[Client(), Client("second", "second-secret")])
    async with open_raw_client(server) as client:
        token = await ask_for_token(client, client_id="second", client_secret="second-secret")
        answer = await client.post("/oauth2/token", data=GRANT | {"client_id": "second"})

    assert server.tokens[token].client_id == "second"
    assert (answer.status_code, said(answer)) == (400, WRONG_CLIENT)


# What a grant brings


async def test_success_is_like_box(autojump_clock: MockClock) -> None:
    """A grant answers with Box's four fields, and no more."""
    async with open_raw_client(TokenServer()) as client:
        answer = await client.post("/oauth2/token", data=GRANT)

    assert answer.status_code == 200
    fields = answer.json()
    assert sorted(fields) == ["access_token", "expires_in", "restricted_to", "token_type"]
    assert len(fields["access_token"]) == 32
    assert set(fields["access_token"]) <= set(string.ascii_letters + string.digits)
    assert type(fields["expires_in"]) is int
    assert fields["restricted_to"] == []
    assert fields["token_type"] == "bearer"


async def test_default_lifetimes_are_those_of_box(autojump_clock: MockClock) -> None:
    """Without a setting each token's life is drawn from 3600 to 4250 seconds."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        answers = [await client.post("/oauth2/token", data=GRANT) for _ in range(200)]

    lifetimes = [answer.json()["expires_in"] for answer in answers]
    assert len(set(lifetimes)) > 100
    assert all(3600 <= lifetime <= 4250 for lifetime in lifetimes)
    assert lifetimes == [token.lifetime for token in server.tokens.values()]


@pytest.mark.parametrize("lifetime", [1.0, 60.0, 3600.0, 2.0**31])
@pytest.mark.parametrize("now", [0.0, 4.1, 9.9, 12345.678901])
async def test_configured_lifetime_is_stated_in_whole_seconds(
    lifetime: float, now: float, autojump_clock: MockClock
) -> None:
    """A configured lifetime is stated as the same whole number at any time."""
    async with open_raw_client(TokenServer(lifetime=lifetime)) as client:
        await trio.sleep(now)

        fields = (await client.post("/oauth2/token", data=GRANT)).json()

    assert type(fields["expires_in"]) is int
    assert fields["expires_in"] == lifetime


async def test_old_tokens_live_on(autojump_clock: MockClock) -> None:
    """Each grant brings another token, and ends none."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        tokens = [await ask_for_token(client) for _ in range(20)]
        statuses = {(await show(client, token)).status_code for token in tokens}

    assert len(set(tokens)) == 20
    assert statuses == {200}
    assert len(server.live_tokens()) == server.grants == 20


@pytest.mark.parametrize(("changes", "status"), [({}, 200), ({"client_secret": "wrong"}, 400)])
async def test_headers_of_token_answers(
    changes: dict[str, str], status: int, autojump_clock: MockClock
) -> None:
    """Token answers are JSON that nothing may store, with a date and a cookie."""
    async with open_raw_client(TokenServer()) as client:
        first = await client.post("/oauth2/token", data=GRANT | changes)
        await trio.sleep(100.0)
        second = await client.post("/oauth2/token", data=GRANT | changes)

    assert first.status_code == second.status_code == status
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Cache-Control"] == "no-store"
    assert first.headers["Pragma"] == "no-cache"
    assert first.headers["Content-Length"] == str(len(first.content))
    assert first.headers["Set-Cookie"].startswith("box_visitor_id=")
    dates = [parsedate_to_datetime(answer.headers["Date"]) for answer in (first, second)]
    assert (dates[1] - dates[0]).total_seconds() == 100.0


async def test_reused_token_has_less_and_less_to_live(autojump_clock: MockClock) -> None:
    """A server that reuses tokens answers with what is left, in whole seconds."""
    server = TokenServer(lifetime=100.0, reuses_tokens=True)
    seen: list[tuple[str, int]] = []
    async with open_raw_client(server) as client:
        for moment in (0.0, 40.0, 40.5, 99.0, 99.5):
            await trio.sleep_until(moment)
            fields = (await client.post("/oauth2/token", data=GRANT)).json()
            seen.append((fields["access_token"], fields["expires_in"]))

    assert [left for _, left in seen] == [100, 60, 59, 1, 100]
    assert {token for token, _ in seen[:4]} == {seen[0][0]}
    assert seen[4][0] != seen[0][0]
    assert (server.grants, len(server.tokens)) == (5, 2)


async def test_reused_token_is_a_living_one_of_the_client(autojump_clock: MockClock) -> None:
    """Neither another client's token nor a revoked one is given again."""
    server = TokenServer(clients=[Client(), Client("second", "second-secret")], reuses_tokens=True)
    async with open_raw_client(server) as client:
        first = await ask_for_token(client)
        second = await ask_for_token(client, client_id="second", client_secret="second-secret")
        server.revoke(first)
        third = await ask_for_token(client)

    assert len({first, second, third}) == 3


async def test_exchanged_token_is_not_reused_for_a_grant(autojump_clock: MockClock) -> None:
    """A grant is not answered with a token that was downscoped."""
    server = TokenServer(reuses_tokens=True)
    async with open_raw_client(server) as client:
        parent = await ask_for_token(client)
        await client.post("/oauth2/token", data=exchange(parent))

        assert await ask_for_token(client) == parent


async def test_single_token_ends_the_older_one(autojump_clock: MockClock) -> None:
    """Where a client has a single token, a new one ends the one before, of that client."""
    server = TokenServer(clients=[Client(), Client("second", "second-secret")], single_token=True)
    async with open_raw_client(server) as client:
        other = await ask_for_token(client, client_id="second", client_secret="second-secret")
        first = await ask_for_token(client)
        second = await ask_for_token(client)
        statuses = [(await show(client, token)).status_code for token in (other, first, second)]

    assert statuses == [200, 401, 200]
    assert [presented.verdict for presented in server.presented] == ["good", "revoked", "good"]


async def test_seed_decides_tokens_and_lifetimes(autojump_clock: MockClock) -> None:
    """The same seed gives the same tokens and lifetimes, and another one others."""
    drawn: list[list[tuple[str, float]]] = []
    for seed in (0, 0, 1):
        server = TokenServer(seed=seed)
        async with open_raw_client(server) as client:
            for _ in range(3):
                await ask_for_token(client)
        drawn.append([(token.access_token, token.lifetime) for token in server.tokens.values()])

    assert drawn[0] == drawn[1]
    assert {text for text, _ in drawn[0]}.isdisjoint(text for text, _ in drawn[2])


# Revocation


async def test_revoked_token_is_dead(autojump_clock: MockClock) -> None:
    """Revoking answers 200 with nothing, and ends that token alone."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        first, second = await ask_for_token(client), await ask_for_token(client)

        answer = await client.post("/oauth2/revoke", data=revocation(first))

        assert (answer.status_code, answer.content) == (200, b"")
        assert (await show(client, first)).status_code == 401
        assert (await show(client, second)).status_code == 200
        assert [token.access_token for token in server.live_tokens()] == [second]
        assert await ask_for_token(client) not in (first, second)
    assert server.revocations == 1


@pytest.mark.parametrize("revoke_unknown", [200, 400])
@pytest.mark.parametrize("kind", ["unknown", "expired", "revoked"])
async def test_revoking_what_does_not_live(
    kind: str, revoke_unknown: Literal[200, 400], autojump_clock: MockClock
) -> None:
    """An unknown, expired or revoked token answers as the switch says."""
    server = TokenServer(lifetime=10.0, revoke_unknown=revoke_unknown)
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)
        if kind == "unknown":
            token = "unknown"
        elif kind == "expired":
            await trio.sleep(10.0)
        else:
            server.revoke(token)

        answer = await client.post("/oauth2/revoke", data=revocation(token))

    assert answer.status_code == revoke_unknown
    if revoke_unknown == 200:
        assert answer.content == b""
    else:
        assert said(answer) == WRONG_TOKEN
    assert server.revocations == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": ""},
        {"client_id": "nobody"},
        {"client_secret": "wrong"},
        {"client_secret": ""},
    ],
)
async def test_revoking_needs_the_client(
    changes: dict[str, str], autojump_clock: MockClock
) -> None:
    """Without the right id and secret nothing is revoked."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)

        answer = await client.post("/oauth2/revoke", data=revocation(token, **changes))

        assert (answer.status_code, said(answer)) == (400, WRONG_REVOKER)
        assert (await show(client, token)).status_code == 200
    assert server.revocations == 0


@pytest.mark.parametrize("revoke_unknown", [200, 400])
async def test_revoking_another_clients_token(
    revoke_unknown: Literal[200, 400], autojump_clock: MockClock
) -> None:
    """Another client's token is refused whatever the switch says, and lives on."""
    server = TokenServer(
        clients=[Client(), Client("second", "second-secret")], revoke_unknown=revoke_unknown
    )
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)

        answer = await client.post(
            "/oauth2/revoke",
            data=revocation(token, client_id="second", client_secret="second-secret"),
        )

        assert (answer.status_code, said(answer)) == (400, WRONG_TOKEN)
        assert (await show(client, token)).status_code == 200
    assert server.revocations == 0


# Exchange


async def test_exchange_is_like_box(autojump_clock: MockClock) -> None:
    """An exchange brings a long token that says what it is restricted to."""
    async with open_raw_client(TokenServer(lifetime=100.0)) as client:
        parent = await ask_for_token(client)
        await trio.sleep(40.0)

        answer = await client.post(
            "/oauth2/token", data=exchange(parent, scope="item_preview item_read")
        )

        assert answer.status_code == 200
        fields = answer.json()
        token = fields.pop("access_token")
        assert token.startswith("1!")
        assert len(token) > 32
        item = {"type": "file", "id": "123"}
        assert fields == {
            "expires_in": 60,
            "token_type": "bearer",
            "issued_token_type": ACCESS_TOKEN_TYPE,
            "restricted_to": [
                {"scope": "item_preview", "object": item},
                {"scope": "item_read", "object": item},
            ],
        }
        assert (await show(client, token)).status_code == 200
        assert (await show(client, parent)).status_code == 200


@pytest.mark.parametrize("moment", [0.0, 40.0, 40.5, 99.25])
async def test_exchanged_life_is_stated_in_whole_seconds(
    moment: float, autojump_clock: MockClock
) -> None:
    """The life of an exchanged token is stated as a whole number, as all are."""
    async with open_raw_client(TokenServer(lifetime=100.0)) as client:
        parent = await ask_for_token(client)
        await trio.sleep_until(moment)

        fields = (await client.post("/oauth2/token", data=exchange(parent))).json()

    assert type(fields["expires_in"]) is int
    assert 0 <= fields["expires_in"] <= 100.0 - moment


async def test_exchanged_token_never_outlives_its_parent(autojump_clock: MockClock) -> None:
    """An exchanged token dies at the very time at which its parent does."""
    server = TokenServer(lifetime=100.0)
    statuses: list[int] = []
    async with open_raw_client(server) as client:
        parent = await ask_for_token(client)
        await trio.sleep_until(40.0)
        answer = await client.post("/oauth2/token", data=exchange(parent))
        token = answer.json()["access_token"]
        for moment in (99.0, 100.0):
            await trio.sleep_until(moment)
            statuses.append((await show(client, token)).status_code)

    assert statuses == [200, 401]
    assert server.presented[-1].verdict == "expired"


async def test_exchange_without_a_resource_restricts_nothing(autojump_clock: MockClock) -> None:
    """Where the body names no resource, the answer names no restriction."""
    async with open_raw_client(TokenServer()) as client:
        parent = await ask_for_token(client)

        answer = await client.post("/oauth2/token", data=exchange(parent, resource=""))

    assert (answer.status_code, answer.json()["restricted_to"]) == (200, [])


async def test_exchange_for_a_folder(autojump_clock: MockClock) -> None:
    """A token restricted to a folder says so."""
    async with open_raw_client(TokenServer()) as client:
        parent = await ask_for_token(client)

        answer = await client.post(
            "/oauth2/token", data=exchange(parent, resource="https://api.box.com/2.0/folders/9")
        )

    assert answer.json()["restricted_to"] == [
        {"scope": "item_preview", "object": {"type": "folder", "id": "9"}}
    ]


@pytest.mark.parametrize("kind", ["missing", "unknown", "expired", "revoked"])
async def test_exchange_of_what_does_not_live(kind: str, autojump_clock: MockClock) -> None:
    """Without a living subject token there is no exchange."""
    server = TokenServer(lifetime=10.0)
    async with open_raw_client(server) as client:
        parent = await ask_for_token(client)
        if kind == "expired":
            await trio.sleep(10.0)
        elif kind == "revoked":
            server.revoke(parent)
        else:
            parent = {"missing": "", "unknown": "unknown"}[kind]

        answer = await client.post("/oauth2/token", data=exchange(parent))

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_grant")
    assert server.grants == 1


@pytest.mark.parametrize("resource", ["123", "files/123", "/2.0/files/123", "http://["])
async def test_exchange_for_a_bad_resource(resource: str, autojump_clock: MockClock) -> None:
    """A resource that is no full URL is invalid."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        parent = await ask_for_token(client)

        answer = await client.post("/oauth2/token", data=exchange(parent, resource=resource))

    assert (answer.status_code, said(answer)) == (400, WRONG_RESOURCE)
    assert server.grants == 1


async def test_exchange_of_another_type_of_token(autojump_clock: MockClock) -> None:
    """A subject token of another type than an access token is an invalid request."""
    async with open_raw_client(TokenServer()) as client:
        parent = await ask_for_token(client)

        answer = await client.post(
            "/oauth2/token",
            data=exchange(parent, subject_token_type="urn:ietf:params:oauth:token-type:jwt"),
        )

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_request")


async def test_exchanged_token_can_be_revoked(autojump_clock: MockClock) -> None:
    """Revoking an exchanged token leaves its parent alive."""
    async with open_raw_client(TokenServer()) as client:
        parent = await ask_for_token(client)
        answer = await client.post("/oauth2/token", data=exchange(parent))
        token = answer.json()["access_token"]

        await client.post("/oauth2/revoke", data=revocation(token))

        assert (await show(client, token)).status_code == 401
        assert (await show(client, parent)).status_code == 200


# HTTP Basic


BASIC_FORM = {"grant_type": "client_credentials"}


async def test_basic_is_off_as_at_box(autojump_clock: MockClock) -> None:
    """By default the server does not look for the client in the header."""
    async with open_raw_client(TokenServer()) as client:
        answer = await client.post(
            "/oauth2/token", data=BASIC_FORM, headers=basic("test-client:test-secret")
        )

    assert (answer.status_code, said(answer)) == (400, NO_CLIENT)


@pytest.mark.parametrize("encode", [quote, quote_plus])
async def test_basic_is_form_encoded(encode: Any, autojump_clock: MockClock) -> None:
    """Where Basic is switched on, id and secret come form-encoded, and may hold anything."""
    known = Client("id: é+ %20", "s%cret: +ö")
    server = TokenServer(clients=[known], auth_methods=["client_secret_basic"])
    pair = f"{encode(known.client_id, safe='')}:{encode(known.client_secret, safe='')}"
    async with open_raw_client(server) as client:
        answer = await client.post("/oauth2/token", data=BASIC_FORM, headers=basic(pair))
        token = answer.json()["access_token"]
        revoked = await client.post("/oauth2/revoke", data={"token": token}, headers=basic(pair))

    assert (answer.status_code, revoked.status_code, server.revocations) == (200, 200, 1)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic("test-client:wrong"), WRONG_CLIENT),
        (basic("nobody:a%2Bb"), WRONG_CLIENT),
        (basic("test-client:"), WRONG_CLIENT),
        # Not form-encoded: the plus means a space.
        (basic("test-client:a+b"), WRONG_CLIENT),
        (basic("test-client"), NO_CLIENT),
        (basic(":a%2Bb"), NO_CLIENT),
        (basic(b"\xff:\xff"), NO_CLIENT),
        ({"Authorization": "Basic"}, NO_CLIENT),
        ({"Authorization": "Basic !!!"}, NO_CLIENT),
        ({"Authorization": "Basic é".encode()}, NO_CLIENT),
        ({"Authorization": basic("test-client:a%2Bb")["Authorization"][6:]}, NO_CLIENT),
        ({"Authorization": "Bearer dGVzdC1jbGllbnQ6YSUyQmI="}, NO_CLIENT),
    ],
    ids=[
        "wrong secret",
        "unknown id",
        "empty secret",
        "not form-encoded",
        "no colon",
        "empty id",
        "no UTF-8",
        "nothing",
        "no base64",
        "no ASCII",
        "no scheme",
        "other scheme",
    ],
)
async def test_refused_basic(
    header: dict[str, Any], expected: tuple[str, str], autojump_clock: MockClock
) -> None:
    """Who tries the header in vain is answered 401."""
    server = TokenServer(
        clients=[Client(client_secret="a+b")], auth_methods=["client_secret_basic"]
    )
    async with open_raw_client(server) as client:
        answer = await client.post("/oauth2/token", data=BASIC_FORM, headers=header)

    assert (answer.status_code, said(answer)) == (401, expected)


async def test_refused_basic_names_the_scheme(autojump_clock: MockClock) -> None:
    """A 401 to who tried the header carries a challenge of that scheme."""
    server = TokenServer(auth_methods=["client_secret_basic"])
    async with open_raw_client(server) as client:
        answer = await client.post(
            "/oauth2/token", data=BASIC_FORM, headers=basic("test-client:wrong")
        )

    assert answer.status_code == 401
    assert answer.headers.get("WWW-Authenticate", "").startswith("Basic")


async def test_two_ways_of_authentication_are_refused(autojump_clock: MockClock) -> None:
    """Header and body together are an invalid request, and either alone is good."""
    server = TokenServer(auth_methods=["client_secret_basic", "client_secret_post"])
    header = basic("test-client:test-secret")
    async with open_raw_client(server) as client:
        both = await client.post("/oauth2/token", data=GRANT, headers=header)
        in_body = await client.post("/oauth2/token", data=GRANT)
        in_header = await client.post("/oauth2/token", data=BASIC_FORM, headers=header)

    assert said(both)[0] == "invalid_request"
    assert (in_body.status_code, in_header.status_code) == (200, 200)
    assert server.grants == 2


async def test_body_is_refused_where_basic_alone_is_on(autojump_clock: MockClock) -> None:
    """A client in the body is not looked for where only Basic is switched on."""
    async with open_raw_client(TokenServer(auth_methods=["client_secret_basic"])) as client:
        answer = await client.post("/oauth2/token", data=GRANT)

    assert (answer.status_code, said(answer)) == (400, NO_CLIENT)


# The protected resource


@pytest.mark.parametrize(
    ("header", "status", "challenge", "verdict"),
    [
        ("Bearer {good}", 200, None, "good"),
        ("bearer {good}", 200, None, "good"),
        ("Bearer {expired}", 401, DEAD, "expired"),
        ("Bearer {revoked}", 401, DEAD, "revoked"),
        ("Bearer unknown", 401, DEAD, "unknown"),
        (None, 401, REALM, "missing"),
        ("Bearer", 400, MALFORMED, "malformed"),
        ("Basic {good}", 400, MALFORMED, "malformed"),
        ("{good}", 400, MALFORMED, "malformed"),
    ],
)
async def test_answers_of_the_resource(
    header: str | None,
    status: int,
    challenge: str | None,
    verdict: Verdict,
    autojump_clock: MockClock,
) -> None:
    """The resource answers each kind of header as Box's API does, and books it."""
    server = TokenServer(lifetime=10.0)
    async with open_raw_client(server) as client:
        expired = await ask_for_token(client)
        await trio.sleep(10.0)
        good, revoked = await ask_for_token(client), await ask_for_token(client)
        server.revoke(revoked)
        headers = {}
        if header is not None:
            headers["Authorization"] = header.format(good=good, expired=expired, revoked=revoked)

        answer = await client.get("/2.0/files/42", headers=headers)

    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (status, challenge)
    if verdict == "good":
        assert answer.json() == {"type": "file", "id": "42"}
    else:
        assert answer.content == b""
    assert [(seen.at, seen.verdict) for seen in server.presented] == [(10.0, verdict)]
    assert server.verdicts == {verdict: 1}


async def test_resource_without_permission(autojump_clock: MockClock) -> None:
    """A good token without permission is told so in JSON, with no word of its death."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        good = await show(client, await ask_for_token(client), "/2.0/forbidden")
        dead = await show(client, "unknown", "/2.0/forbidden")

    assert (good.status_code, good.headers["WWW-Authenticate"]) == (401, REALM)
    assert good.headers["Content-Type"] == "application/json"
    assert good.json()["code"] == "unauthorized"
    assert (dead.status_code, dead.headers["WWW-Authenticate"]) == (401, DEAD)
    assert [seen.verdict for seen in server.presented] == ["good", "unknown"]


async def test_token_dies_exactly_at_the_end_of_its_life(autojump_clock: MockClock) -> None:
    """A token is good until its last moment, and dead from the end of its life on."""
    server = TokenServer(lifetime=100.0)
    statuses: list[int] = []
    async with open_raw_client(server) as client:
        await trio.sleep_until(7.0)
        token = await ask_for_token(client)
        for moment in (7.0, 106.999, 107.0, 1000.0):
            await trio.sleep_until(moment)
            statuses.append((await show(client, token)).status_code)

    assert statuses == [200, 200, 401, 401]
    assert [seen.verdict for seen in server.presented] == ["good", "good", "expired", "expired"]


async def test_slow_resource_judges_on_arrival(autojump_clock: MockClock) -> None:
    """A token that dies while the resource works was good when it was shown."""
    server = TokenServer(lifetime=10.0, resource_latency=30.0)
    async with open_raw_client(server) as client:
        answer = await show(client, await ask_for_token(client))

    assert (answer.status_code, trio.current_time()) == (200, 30.0)
    assert server.presented[0].at == 0.0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_resource_takes_any_method(method: str, autojump_clock: MockClock) -> None:
    """Whatever is done to the resource, the token alone decides."""
    async with open_raw_client(TokenServer()) as client:
        token = await ask_for_token(client)

        answer = await client.request(
            method, "/2.0/files/1", content=b"x" * 100, headers={"Authorization": f"Bearer {token}"}
        )

    assert answer.status_code == 200


# The books


async def test_requests_are_booked_without_secrets(autojump_clock: MockClock) -> None:
    """The book holds time, path, fields, headers and query of a request, and no secret."""
    server = TokenServer()
    masked = "client_secret token subject_token actor_token assertion refresh_token"
    secrets = dict.fromkeys(masked.split(), "hush")
    async with open_raw_client(server) as client:
        await trio.sleep(3.0)
        await client.post(
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


async def test_requests_are_booked_by_endpoint(autojump_clock: MockClock) -> None:
    """Requests to the two endpoints can be told apart, those to the resource not among them."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)
        await show(client, token)
        await client.post("/oauth2/revoke", data=revocation(token))
        await client.get("/oauth2/token")

    assert len(server.requests) == 3
    assert [seen.at for seen in server.token_requests()] == [0.0, 0.0]
    assert [seen.form["token"] for seen in server.revoke_requests()] == ["***"]


async def test_presented_tokens_are_booked(autojump_clock: MockClock) -> None:
    """The book of the resource holds what was shown, when, and what was said of it."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        token = await ask_for_token(client)
        await show(client, token)
        await trio.sleep(5.0)
        await show(client, "unknown")
        await client.get("/2.0/files/1")

    assert list(server.presented) == [
        Presented(0.0, "good", token),
        Presented(5.0, "unknown", "unknown"),
        Presented(5.0, "missing", None),
    ]
    assert server.verdicts == {"good": 1, "unknown": 1, "missing": 1}
    assert token not in repr(server.presented)


async def test_requests_in_flight_are_counted(autojump_clock: MockClock) -> None:
    """The server knows how many token requests are under way, and the most there ever were."""
    server = TokenServer(FaultPlan(token_then=Fault(delay=2.0)))

    async def ask_at(moment: float) -> None:
        await trio.sleep_until(moment)
        await ask_for_token(client)

    async with open_raw_client(server) as client, trio.open_nursery() as nursery:
        for moment in (0.0, 1.0, 1.5, 4.0):
            nursery.start_soon(ask_at, moment)
        await trio.sleep_until(1.75)
        assert server.in_flight == 3
        await trio.sleep_until(4.5)
        assert server.in_flight == 1

    assert (server.in_flight, server.most_in_flight, server.grants) == (0, 3, 4)


async def test_revocations_and_resource_are_not_in_flight(autojump_clock: MockClock) -> None:
    """Only token requests count as requests in flight."""
    slow = Fault(delay=5.0)
    server = TokenServer(FaultPlan(revoke_then=slow, resource_then=slow))
    async with open_raw_client(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(show, client, "unknown")
        nursery.start_soon(lambda: client.post("/oauth2/revoke", data=revocation("unknown")))
        await trio.sleep(1.0)
        assert server.in_flight == 0

    assert server.most_in_flight == 0


async def test_live_tokens_are_those_that_would_be_taken(autojump_clock: MockClock) -> None:
    """A token leaves the living at the end of its life, or when it is revoked."""
    server = TokenServer(lifetime=10.0)
    async with open_raw_client(server) as client:
        first = await ask_for_token(client)
        await trio.sleep_until(4.0)
        second, third = await ask_for_token(client), await ask_for_token(client)
        server.revoke(third)
        living: list[list[str]] = []
        for moment in (9.999, 10.0, 14.0):
            await trio.sleep_until(moment)
            living.append([token.access_token for token in server.live_tokens()])

    assert living == [[first, second], [second], []]
    assert list(server.tokens) == [first, second, third]


async def test_server_can_revoke_by_itself(autojump_clock: MockClock) -> None:
    """What the server's side revokes is dead, but no client's revocation."""
    server = TokenServer()
    async with open_raw_client(server) as client:
        tokens = [await ask_for_token(client) for _ in range(3)]
        server.revoke_all()
        statuses = [(await show(client, token)).status_code for token in tokens]

    assert statuses == [401, 401, 401]
    assert server.verdicts == {"revoked": 3}
    assert (server.revocations, len(server.revoke_requests())) == (0, 0)


async def test_books_can_be_kept_short(autojump_clock: MockClock) -> None:
    """With a limit each book keeps its last entries, and the counters count on."""
    server = TokenServer(keep=2)
    async with open_raw_client(server) as client:
        tokens = [await ask_for_token(client) for _ in range(5)]
        verdicts = []
        for token in tokens:
            await show(client, token)
            verdicts.append(server.presented[-1].verdict)

    assert (len(server.requests), len(server.presented), list(server.tokens)) == (2, 2, tokens[3:])
    assert verdicts == ["unknown", "unknown", "unknown", "good", "good"]
    assert (server.grants, server.verdicts) == (5, {"unknown": 3, "good": 2})


async def test_tokens_can_be_kept_without_requests(autojump_clock: MockClock) -> None:
    """``keep_tokens`` is about issued tokens only, and ``keep`` about the rest."""
    server = TokenServer(keep=0, keep_tokens=2)
    async with open_raw_client(server) as client:
        tokens = [await ask_for_token(client) for _ in range(3)]
        statuses = [(await show(client, token)).status_code for token in tokens]

    assert (len(server.requests), len(server.presented), list(server.tokens)) == (0, 0, tokens[1:])
    assert statuses == [401, 200, 200]


def test_no_repr_shows_a_secret() -> None:
    """Client, token and book entries show neither secret nor token."""
    entries = [
        Client("me", "hush"),
        IssuedToken("hush", "me", 0.0, 10.0),
        Presented(0.0, "good", "hush"),
        SeenRequest(0.0, "/oauth2/token", (), httpx.Headers({"Authorization": "Basic hush"})),
    ]

    assert "hush" not in repr(entries)


# Beside HTTP


def test_config_is_that_of_the_first_client() -> None:
    """The server's config names its first client, the root asked for, and further settings."""
    server = TokenServer(clients=[Client("first", "one"), Client("second", "two")])

    config = server.config("http://127.0.0.1:8080", stale_buffer=5.0)

    assert (config.client_id, config.client_secret) == ("first", "one")
    assert config.token_url == "http://127.0.0.1:8080/oauth2/token"
    assert config.stale_buffer == 5.0
    assert server.config().api_root_url == "http://localhost"


async def test_websockets_are_refused() -> None:
    """The server knows HTTP alone."""

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is to be received")

    async def send(message: object) -> None:
        raise AssertionError("nothing is to be sent")

    with pytest.raises(NotImplementedError, match="websocket"):
        await TokenServer()({"type": "websocket"}, receive, send)
