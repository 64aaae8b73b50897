"""What `TokenServer` grants to a client, and with which errors it refuses the rest."""

from __future__ import annotations

import base64
import string
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
import trio

from trio_anon_session.testing import Client, TokenServer

from . import ACCESS_TOKEN_TYPE, EXCHANGE, GRANT, ask_for_token, exchange, post, said, show

if TYPE_CHECKING:
    from trio.testing import MockClock

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

STRICT_CLIENT = Client(
    grants=frozenset({"client_credentials"}),
    subject_types=frozenset({"enterprise"}),
    subject_ids=frozenset({"7"}),
    scopes=frozenset({"item_read", "item_preview"}),
)
SECOND_CLIENT = Client("second", "second-secret")
AS_SECOND = {"client_id": "second", "client_secret": "second-secret"}


# Parameters of a request


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"box_subject_type": "enterprise", "box_subject_id": "7"}, None),
        ({"scope": "item_read"}, None),
        ({"scope": "item_preview item_read"}, None),
        # An empty field counts as absent.
        ({"scope": "", "box_subject_type": "", "box_subject_id": ""}, None),
        ({"grant_type": ""}, NO_GRANT_TYPE),
        ({"grant_type": "nonsense"}, NO_GRANT_TYPE),
        ({"grant_type": "http://["}, NO_GRANT_TYPE),
        ({"client_id": ""}, NO_CLIENT),
        ({"client_id": "nobody", "client_secret": ""}, WRONG_CLIENT),
        ({"client_id": "second"}, WRONG_CLIENT),
        ({"client_secret": ""}, WRONG_CLIENT),
        ({"client_secret": "test-secre"}, WRONG_CLIENT),
        ({"client_secret": "gehëim"}, WRONG_CLIENT),
        ({"grant_type": "authorization_code"}, WRONG_GRANT),
        ({"grant_type": "refresh_token"}, WRONG_GRANT),
        ({"grant_type": EXCHANGE}, WRONG_GRANT),
        ({"grant_type": "https://example.com/grant"}, WRONG_GRANT),
        ({"box_subject_type": "enterprise"}, WRONG_SUBJECT),
        ({"scope": "item_read root_readwrite"}, WRONG_SCOPE),
        ({"scope": "ITEM_READ"}, WRONG_SCOPE),
    ],
    ids=lambda value: (
        " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    ),
)
async def test_what_a_client_may_request(
    changes: dict[str, str], expected: tuple[str, str] | None, autojump_clock: MockClock
) -> None:
    """The server grants what the client may request, and refuses the rest with Box's errors."""
    server = TokenServer(clients=[STRICT_CLIENT, SECOND_CLIENT])

    answer = await post(server, data=GRANT | changes)

    assert len(server.requests) == 1
    if expected is None:
        assert (answer.status_code, server.grants) == (200, 1)
    else:
        assert (answer.status_code, said(answer), server.grants) == (400, expected, 0)


async def test_order_of_the_checks(autojump_clock: MockClock) -> None:
    """If a request has several errors, the server reports the first one in Box's order."""
    fields = {
        "box_subject_type": "user",
        "box_subject_id": "8",
        "scope": "root_readwrite",
        "client_secret": "wrong",
    }
    repairs: list[tuple[dict[str, str], tuple[str, str] | None]] = [
        ({}, NO_GRANT_TYPE),
        ({"grant_type": "password"}, NO_CLIENT),
        ({"client_id": "test-client"}, WRONG_CLIENT),
        ({"client_secret": "test-secret"}, WRONG_GRANT),
        ({"grant_type": "client_credentials"}, WRONG_SUBJECT_TYPE),
        ({"box_subject_type": "enterprise"}, WRONG_SUBJECT),
        ({"box_subject_id": "7"}, WRONG_SCOPE),
        ({"scope": "item_read"}, None),
    ]
    server = TokenServer(clients=[STRICT_CLIENT])
    for repair, expected in repairs:
        fields |= repair

        answer = await post(server, data=fields)

        assert (said(answer) if answer.status_code == 400 else None) == expected


@pytest.mark.parametrize(("length", "status"), [(4096, 200), (4097, 400)])
@pytest.mark.parametrize("word", ["a", "é"])
async def test_a_long_scope_is_refused(
    word: str, length: int, status: int, autojump_clock: MockClock
) -> None:
    """The server refuses a scope of more than 4 KiB with ``invalid_scope``."""
    scope = word * (length // len(word.encode())) + "a" * (length % len(word.encode()))
    server = TokenServer()
    token = await ask_for_token(server)

    for form in (GRANT | {"scope": scope}, exchange(token, scope=scope)):
        answer = await post(server, data=form)

        assert answer.status_code == status
        assert status == 200 or said(answer)[0] == "invalid_scope"
    assert len(server.tokens) == (3 if status == 200 else 1)


# Answers


@pytest.mark.parametrize("lifetime", [1.0, 3600.0, 2.0**31])
@pytest.mark.parametrize("now", [0.0, 12345.678901])
async def test_success_is_like_box(lifetime: float, now: float, autojump_clock: MockClock) -> None:
    """A token response has Box's four fields, and its lifetime is a whole number at any time."""
    await trio.sleep(now)

    fields = (await post(TokenServer(lifetime=lifetime), data=GRANT)).json()

    token = fields.pop("access_token")
    assert len(token) == 32
    assert set(token) <= set(string.ascii_letters + string.digits)
    assert type(fields["expires_in"]) is int
    assert fields == {"expires_in": lifetime, "restricted_to": [], "token_type": "bearer"}


async def test_default_lifetimes_are_those_of_box(autojump_clock: MockClock) -> None:
    """Without a setting, each token's lifetime is drawn from 3600 to 4250 s."""
    server = TokenServer()

    answers = [await post(server, data=GRANT) for _ in range(100)]

    lifetimes = [answer.json()["expires_in"] for answer in answers]
    assert len(set(lifetimes)) > 50
    assert all(3600 <= lifetime <= 4250 for lifetime in lifetimes)
    assert lifetimes == [token.lifetime for token in server.tokens.values()]


@pytest.mark.parametrize(("changes", "status"), [({}, 200), ({"client_secret": "wrong"}, 400)])
async def test_headers_of_token_answers(
    changes: dict[str, str], status: int, autojump_clock: MockClock
) -> None:
    """Token responses are JSON that must not be cached, with a date and a cookie."""
    server = TokenServer()
    first = await post(server, data=GRANT | changes)
    await trio.sleep(100.0)
    second = await post(server, data=GRANT | changes)

    assert first.status_code == second.status_code == status
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Cache-Control"] == "no-store"
    assert first.headers["Pragma"] == "no-cache"
    assert first.headers["Content-Length"] == str(len(first.content))
    assert first.headers["Set-Cookie"].startswith("box_visitor_id=")
    dates = [parsedate_to_datetime(answer.headers["Date"]) for answer in (first, second)]
    assert (dates[1] - dates[0]).total_seconds() == 100.0


async def test_reused_token_has_its_remaining_lifetime(autojump_clock: MockClock) -> None:
    """A server that reuses tokens states their remaining lifetime in whole seconds."""
    server = TokenServer(lifetime=100.0, reuses_tokens=True)
    seen: list[tuple[str, int]] = []
    for moment in (0.0, 40.0, 40.5, 99.0, 99.5):
        await trio.sleep_until(moment)
        fields = (await post(server, data=GRANT)).json()
        seen.append((fields["access_token"], fields["expires_in"]))

    assert [left for _, left in seen] == [100, 60, 59, 1, 100]
    assert {token for token, _ in seen[:4]} == {seen[0][0]}
    assert seen[4][0] != seen[0][0]
    assert (server.grants, len(server.tokens)) == (5, 2)


async def test_tokens_that_are_not_reused(autojump_clock: MockClock) -> None:
    """The server does not reuse a token that is downscoped, revoked or of another client."""
    server = TokenServer(clients=[Client(), SECOND_CLIENT], reuses_tokens=True)
    first = await ask_for_token(server)
    second = await ask_for_token(server, **AS_SECOND)
    await post(server, data=exchange(first))
    assert await ask_for_token(server) == first
    server.revoke(first)
    third = await ask_for_token(server)

    assert len({first, second, third}) == 3
    assert not server.tokens[third].is_downscoped


async def test_single_token_revokes_the_previous_one(autojump_clock: MockClock) -> None:
    """With ``single_token``, a new token revokes the previous one of the same client."""
    server = TokenServer(clients=[Client(), SECOND_CLIENT], single_token=True)
    tokens = [
        await ask_for_token(server, **AS_SECOND),
        await ask_for_token(server),
        await ask_for_token(server),
    ]

    statuses = [(await show(server, token)).status_code for token in tokens]

    assert statuses == [200, 401, 200]
    assert [presented.verdict for presented in server.presented] == ["good", "revoked", "good"]
    assert server.tokens[tokens[0]].client_id == "second"


async def test_seed_decides_tokens_and_lifetimes(autojump_clock: MockClock) -> None:
    """The same seed gives the same tokens and lifetimes; another one gives other tokens."""
    drawn: list[list[tuple[str, float]]] = []
    for seed in (0, 0, 1):
        server = TokenServer(seed=seed)
        for _ in range(3):
            await ask_for_token(server)
        drawn.append([(token.access_token, token.lifetime) for token in server.tokens.values()])

    assert drawn[0] == drawn[1]
    assert {text for text, _ in drawn[0]}.isdisjoint(text for text, _ in drawn[2])


# Exchange


async def test_exchanged_token_expires_with_its_parent(autojump_clock: MockClock) -> None:
    """An exchange returns a long token, which expires at the same time as its parent."""
    server = TokenServer(lifetime=100.0)
    parent = await ask_for_token(server)
    await trio.sleep_until(40.5)

    fields = (await post(server, data=exchange(parent))).json()
    token = fields.pop("access_token")

    assert token.startswith("1!")
    assert len(token) > 32
    assert type(fields["expires_in"]) is int
    assert fields == {
        "expires_in": 59,
        "token_type": "bearer",
        "issued_token_type": ACCESS_TOKEN_TYPE,
        "restricted_to": [{"scope": "item_preview", "object": {"type": "file", "id": "123"}}],
    }
    for moment, status in ((99.0, 200), (100.0, 401)):
        await trio.sleep_until(moment)
        assert (await show(server, parent)).status_code == status
        assert (await show(server, token)).status_code == status
    assert server.presented[-1].verdict == "expired"


@pytest.mark.parametrize(
    ("changes", "restricted_to"),
    [
        ({"resource": ""}, []),
        (
            {"resource": "https://api.box.com/2.0/folders/9", "scope": "item_preview item_read"},
            [
                {"scope": "item_preview", "object": {"type": "folder", "id": "9"}},
                {"scope": "item_read", "object": {"type": "folder", "id": "9"}},
            ],
        ),
    ],
    ids=["no resource", "a folder"],
)
async def test_exchange_lists_the_restrictions(
    changes: dict[str, str], restricted_to: list[Any], autojump_clock: MockClock
) -> None:
    """The response lists each scope with the file or folder, and nothing without a resource."""
    server = TokenServer()
    parent = await ask_for_token(server)

    answer = await post(server, data=exchange(parent, **changes))

    assert (answer.status_code, answer.json()["restricted_to"]) == (200, restricted_to)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subject_token": ""}, ("invalid_grant", "The subject token is invalid")),
        ({"subject_token": "unknown"}, ("invalid_grant", "The subject token is invalid")),
        (
            {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
            ("invalid_request", "The subject_token_type is invalid"),
        ),
        ({"resource": "123"}, WRONG_RESOURCE),
        ({"resource": "/2.0/files/123"}, WRONG_RESOURCE),
        ({"resource": "http://["}, WRONG_RESOURCE),
    ],
    ids=str,
)
async def test_exchanges_that_are_refused(
    changes: dict[str, str], expected: tuple[str, str], autojump_clock: MockClock
) -> None:
    """An exchange needs a known access token, and a resource that is a full URL."""
    server = TokenServer()
    parent = await ask_for_token(server)

    answer = await post(server, data=exchange(parent) | changes)

    assert (answer.status_code, said(answer)) == (400, expected)
    assert server.grants == 1


async def test_exchange_of_an_invalid_token_is_refused(autojump_clock: MockClock) -> None:
    """A token that is expired or revoked cannot be exchanged."""
    server = TokenServer(lifetime=10.0)
    expired = await ask_for_token(server)
    await trio.sleep(10.0)
    revoked = await ask_for_token(server)
    server.revoke(revoked)

    for parent in (expired, revoked):
        answer = await post(server, data=exchange(parent))

        assert (answer.status_code, said(answer)[0]) == (400, "invalid_grant")
    assert server.grants == 2


# How clients authenticate


BASIC_FORM = {"grant_type": "client_credentials"}


def basic(pair: str | bytes) -> dict[str, str]:
    """Return the header of HTTP Basic for a pair joined by a colon."""
    raw = pair.encode() if isinstance(pair, str) else pair
    return {"Authorization": f"Basic {base64.b64encode(raw).decode()}"}


BY_HEADER = {"data": BASIC_FORM, "headers": basic("test-client:test-secret")}
BY_BODY = {"data": GRANT}


@pytest.mark.parametrize(
    ("methods", "request_parts", "status", "error"),
    [
        (["post"], BY_BODY, 200, None),
        (["post"], BY_HEADER, 400, "invalid_client"),
        (["basic"], BY_HEADER, 200, None),
        (["basic"], BY_BODY, 400, "invalid_client"),
        (["basic", "post"], BY_HEADER, 200, None),
        (["basic", "post"], BY_BODY, 200, None),
        (["basic", "post"], BY_HEADER | BY_BODY, 400, "invalid_request"),
    ],
)
async def test_methods_of_authentication(
    methods: list[str],
    request_parts: dict[str, Any],
    status: int,
    error: str | None,
    autojump_clock: MockClock,
) -> None:
    """A client must use an allowed method, and cannot use two in one request."""
    server = TokenServer(auth_methods=[f"client_secret_{method}" for method in methods])

    answer = await post(server, **request_parts)

    assert (answer.status_code, answer.json().get("error")) == (status, error)
    assert server.grants == (status == 200)


@pytest.mark.parametrize("encode", [quote, quote_plus])
async def test_basic_is_form_encoded(encode: Any, autojump_clock: MockClock) -> None:
    """With HTTP Basic, ID and secret are form-encoded, and can contain any character."""
    known = Client("id: é+ %20", "s%cret: +ö")
    server = TokenServer(clients=[known], auth_methods=["client_secret_basic"])
    header = basic(f"{encode(known.client_id, safe='')}:{encode(known.client_secret, safe='')}")

    answer = await post(server, data=BASIC_FORM, headers=header)
    token = answer.json()["access_token"]
    revoked = await post(server, "/oauth2/revoke", data={"token": token}, headers=header)

    assert (answer.status_code, revoked.status_code, server.revocations) == (200, 200, 1)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(basic("test-client:wrong"), WRONG_CLIENT, id="wrong secret"),
        # In a form, a plus sign means a space.
        pytest.param(basic("test-client:a+b"), WRONG_CLIENT, id="not form-encoded"),
        pytest.param(basic("test-client"), NO_CLIENT, id="no colon"),
        pytest.param(basic(b"\xff:\xff"), NO_CLIENT, id="no UTF-8"),
        pytest.param({"Authorization": "Basic !!!"}, NO_CLIENT, id="no base64"),
        pytest.param(
            {"Authorization": "Bearer dGVzdC1jbGllbnQ6YSUyQmI="}, NO_CLIENT, id="other scheme"
        ),
    ],
)
async def test_refused_basic(
    header: dict[str, Any], expected: tuple[str, str], autojump_clock: MockClock
) -> None:
    """If the header is wrong, the response is a 401 with a challenge for Basic."""
    server = TokenServer(
        clients=[Client(client_secret="a+b")], auth_methods=["client_secret_basic"]
    )

    answer = await post(server, data=BASIC_FORM, headers=header)

    assert (answer.status_code, said(answer)) == (401, expected)
    assert answer.headers.get("WWW-Authenticate", "").startswith("Basic")


@pytest.mark.parametrize(
    ("asked", "granted", "answered"),
    [
        ("a b", "a b", None),
        ("b a", "b a", None),
        ("a c", "a", "a"),
        ("c b d", "b", "b"),
        ("", "a b", "a b"),
    ],
)
async def test_a_client_that_gets_only_some_scopes(
    autojump_clock: MockClock, asked: str, granted: str, answered: str | None
) -> None:
    """The server grants the scopes of the client, and reports a scope that was not asked for."""
    server = TokenServer(clients=[Client(granted_scopes=frozenset({"a", "b"}))])
    answer = await post(server, data=GRANT | {"scope": asked})
    fields = answer.json()
    assert fields.get("scope") == answered
    assert server.tokens[fields["access_token"]].scope == granted


@pytest.mark.parametrize("asked", ["c", "A", "c d"])
async def test_a_client_that_gets_none_of_its_scopes(autojump_clock: MockClock, asked: str) -> None:
    """If no requested scope can be granted, the server answers ``invalid_scope``."""
    server = TokenServer(clients=[Client(granted_scopes=frozenset({"a", "b"}))])
    assert said(await post(server, data=GRANT | {"scope": asked})) == WRONG_SCOPE
    token = await ask_for_token(server)
    assert said(await post(server, data=exchange(token, scope=asked))) == WRONG_SCOPE


async def test_an_exchange_for_only_some_scopes(autojump_clock: MockClock) -> None:
    """An exchange grants only the scopes of the client, too (RFC 8693 §2.2.1)."""
    server = TokenServer(clients=[Client(granted_scopes=frozenset({"a", "b"}))])
    token = await ask_for_token(server)
    fields = (await post(server, data=exchange(token, scope="a c"))).json()
    assert fields["scope"] == "a"
    assert server.tokens[fields["access_token"]].scope == "a"


async def test_a_reused_token_with_another_scope(autojump_clock: MockClock) -> None:
    """If the server reuses a token of another scope, it reports the scope of that token."""
    server = TokenServer(reuses_tokens=True)
    await ask_for_token(server, scope="a")
    fields = (await post(server, data=GRANT | {"scope": "a b"})).json()
    assert fields["scope"] == "a"
