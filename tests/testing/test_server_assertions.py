"""How `TokenServer` checks the assertions that a client signs."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from trio_anon_session.testing import (
    Client,
    Fault,
    FaultPlan,
    TokenServer,
    virtual_time,
)
from trio_anon_session.testing._assertions import UsedIds
from trio_anon_session.testing._problems import DESCRIPTIONS, AssertionProblem

from . import post, said
from .signing import (
    CLUSTER,
    ED_KEY,
    ISSUER,
    KEY,
    MINUTE,
    OTHER_KEY,
    SECRET,
    TOKEN_URL,
    claims_of,
    encoded,
    form_of,
    is_refused,
    own_server,
    present,
    public,
    rsa_key,
    signed,
    unsigned,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from trio.testing import MockClock


# Assertions that the client signs


@pytest.mark.parametrize("client_id", ["app", ""], ids=["with client_id", "without"])
@pytest.mark.parametrize(
    ("make_key", "algorithm"),
    [
        (rsa_key, "RS256"),
        (rsa_key, "PS512"),
        (lambda: KEY, "ES256"),
        (lambda: ED_KEY, "EdDSA"),
        (lambda: SECRET, "HS256"),
    ],
    ids=["RS256", "PS512", "ES256", "EdDSA", "HS256"],
)
async def test_signed_assertion_is_accepted(
    make_key: Callable[[], Any], algorithm: str, client_id: str, autojump_clock: MockClock
) -> None:
    """Every usual algorithm gets a token, and ``client_id`` is optional."""
    key = make_key()
    if key == SECRET:
        server = TokenServer(clients=[Client("app", SECRET)], auth_methods=["client_secret_jwt"])
    else:
        server = TokenServer(clients=[Client("app", keys=[public(OTHER_KEY), public(key)])])

    answer = await present(server, signed(key, algorithm), client_id=client_id)

    assert (answer.status_code, server.grants) == (200, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ISSUER},
        {"aud": [TOKEN_URL]},
        {"aud": ["https://elsewhere.example", ISSUER]},
        {"iat": None},
        {"iat": MINUTE / 2},
        {"nbf": -MINUTE},
        {"exp": 4 * MINUTE},
        {"scope": "any other claim"},
    ],
    ids=str,
)
async def test_claims_that_may_vary(changes: dict[str, Any], autojump_clock: MockClock) -> None:
    """The server accepts each value that RFC 7523 and inexact clocks of clients allow."""
    assert (await present(own_server(), signed(**changes))).status_code == 200


WRONG: list[tuple[AssertionProblem, dict[str, Any]]] = [
    ("type", {"form": {"client_assertion_type": "jwt-bearer"}}),
    ("type", {"form": {"client_assertion_type": ""}}),
    ("malformed", {"form": {"client_assertion": ""}}),
    ("malformed", {"form": {"client_assertion": "a.b"}}),
    ("malformed", {"form": {"client_assertion": ".".join(["W1tb"] * 3)}}),
    ("malformed", {"form": {"client_assertion": f"{encoded(b'{}')}.{'W1tb' * 1000}."}}),
    ("malformed", {"header": {"crit": ["exp"], "exp": 1}}),
    ("client", {"form": {"client_id": "unknown"}}),
    ("client", {"form": {"client_id": ""}, "sub": "unknown"}),
    ("client", {"form": {"client_id": ""}, "sub": ["app"]}),
    ("algorithm", {"key": SECRET, "algorithm": "HS256"}),
    ("algorithm", {"key": None, "algorithm": "none"}),
    ("algorithm", {"key": ec.generate_private_key(ec.SECP256K1()), "algorithm": "ES256K"}),
    ("unknown_key", {"header": {"kid": "unknown"}}),
    ("signature", {"key": OTHER_KEY}),
    ("signature", {"key": ED_KEY, "algorithm": "EdDSA"}),
    *[("missing_claim", {name: None}) for name in ("iss", "sub", "aud", "exp", "jti")],
    *[("missing_claim", {name: 1.5}) for name in ("iss", "sub", "aud", "jti")],
    *[("missing_claim", {name: {}}) for name in ("iss", "sub", "aud", "exp", "jti")],
    *[("missing_claim", {name: "now"}) for name in ("exp", "iat", "nbf")],
    *[("missing_claim", {"exp": value}) for value in (True, float("nan"), float("inf"))],
    ("missing_claim", {"aud": [TOKEN_URL, 1]}),
    ("missing_claim", {"jti": ""}),
    ("issuer", {"iss": "other"}),
    ("issuer", {"iss": CLUSTER}),
    ("subject", {"sub": "other"}),
    *[
        ("audience", {"aud": value})
        for value in ("http://localhost", f"{TOKEN_URL}/", f"{ISSUER}/", [f"x{ISSUER}"], [], "x")
    ],
    ("expired", {"exp": -timedelta(seconds=1)}),
    ("expired", {"exp": -(10**400)}),
    ("too_long", {"exp": 6 * MINUTE}),
    ("too_long", {"exp": 10**400}),
    ("from_the_future", {"iat": 2 * MINUTE}),
    ("from_the_future", {"nbf": 2 * MINUTE}),
    ("replayed", {}),
]


@pytest.mark.parametrize(
    ("problem", "changes"), WRONG, ids=[f"{number}-{row[0]}" for number, row in enumerate(WRONG)]
)
async def test_each_problem_is_reported(
    problem: AssertionProblem, changes: dict[str, Any], autojump_clock: MockClock
) -> None:
    """A wrong assertion gets the error of its problem, and its ID can still be used."""
    server = TokenServer(clients=[Client("app", keys={"1": public(KEY)})], issuer=ISSUER)
    changes = {"jti": "one"} | changes
    changed = changes.pop("form", {})
    form = form_of(signed(**changes))
    if problem == "replayed":
        assert (await post(server, data=form)).status_code == 200

    answer = await post(server, data=form | changed)

    planned = await post(TokenServer(FaultPlan(token=[Fault.assertion_refused(problem)])))
    assert is_refused(answer, problem)
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert (answer.status_code, answer.content) == (planned.status_code, planned.content)
    assert without_date(answer.headers) == without_date(planned.headers)
    if problem != "replayed":
        assert (await present(server, signed(jti="one"))).status_code == 200


async def test_revocation_is_checked_in_the_same_way(autojump_clock: MockClock) -> None:
    """The revocation endpoint reports the same problems, and shares the used IDs."""
    server = own_server()
    first = signed()
    token = (await present(server, first)).json()["access_token"]

    answers = [
        await post(server, "/oauth2/revoke", data=form_of(text, token=token))
        for text in (first, signed(aud="http://localhost/oauth2/revoke"), signed())
    ]

    assert is_refused(answers[0], "replayed")
    assert is_refused(answers[1], "audience")
    assert (answers[2].status_code, server.revocations) == (200, 1)


def without_date(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Return the headers, except the one that varies."""
    return sorted(item for item in headers.multi_items() if item[0] != "date")


def test_every_problem_is_in_the_table() -> None:
    """The table has a row for each problem that the server knows, and a fault exists for each."""
    assert {problem for problem, _ in WRONG} == {*get_args(AssertionProblem)} == {*DESCRIPTIONS}
    with pytest.raises(ValueError, match=r"problem must be one of type, malformed, .*got 'late'"):
        Fault.assertion_refused("late")  # type: ignore[arg-type]  # the error is what is tested


@given(order=st.permutations([0, 1, 2, 3]), wrong=st.sets(st.integers(0, 3), min_size=1))
@virtual_time
async def test_several_wrong_claims_are_refused(order: list[int], wrong: set[int]) -> None:
    """An assertion with several wrong claims is refused, whatever the order of its claims."""
    facts = [("iss", "other"), ("aud", "other"), ("exp", 1), ("iat", time.time() + 1e6)]
    claims = claims_of({})
    for index in order:
        name, value = facts[index]
        claims[name] = value if index in wrong else claims.pop(name)
    text = jwt.PyJWS().encode(json.dumps(claims).encode(), KEY, algorithm="ES256")

    answer = await present(own_server(), text)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("keys", "key_id", "problem"),
    [
        ({"1": KEY}, None, None),
        ({"1": KEY}, "1", None),
        ({"1": KEY}, "2", "unknown_key"),
        ({None: KEY}, "2", None),
        ({"1": OTHER_KEY, "2": KEY}, "2", None),
        ({"1": OTHER_KEY, "2": KEY}, "1", "signature"),
        ({"1": OTHER_KEY, None: KEY}, "1", "signature"),
        ({"1": OTHER_KEY, "2": KEY}, None, None),
        ({"1": OTHER_KEY}, None, "signature"),
    ],
)
async def test_the_key_id_selects_the_key(
    keys: dict[str | None, Any],
    key_id: str | None,
    problem: AssertionProblem | None,
    autojump_clock: MockClock,
) -> None:
    """If a registered key has the assertion's key ID, the server tries only this key."""
    pems = {name: public(key) for name, key in keys.items()}
    server = TokenServer(clients=[Client("app", keys=pems)])

    answer = await present(server, signed(header={"kid": key_id} if key_id else None))

    assert answer.status_code == 200 if problem is None else is_refused(answer, problem)


@pytest.mark.parametrize("methods", [["private_key_jwt"], ["private_key_jwt", "client_secret_jwt"]])
@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("hashed", ["HS256", "hs256", "none"])
async def test_a_public_key_as_secret_is_refused(
    methods: list[str], secret: str | None, hashed: str, autojump_clock: MockClock
) -> None:
    """The server refuses an assertion whose HMAC secret is the public key."""
    pem = public(KEY)
    server = TokenServer(clients=[Client("app", secret, keys=pem)], auth_methods=methods)
    forged = unsigned(
        {"typ": "JWT", "alg": hashed},
        lambda text: hmac.digest(pem.encode(), text, hashlib.sha256),
    )

    answer = await present(server, forged)

    is_tried = len(methods) == 2 and secret is not None and hashed == "HS256"
    assert is_refused(answer, "signature" if is_tried else "algorithm")


async def test_ids_count_for_each_client(autojump_clock: MockClock) -> None:
    """Two clients may use the same ID; a replaced client cannot use its old one again."""
    clients = [Client("app", keys=public(KEY)), Client("other", keys=public(KEY))]
    server = TokenServer(clients=clients)
    first = signed(jti="same")

    statuses = [
        (await present(server, text, client_id="")).status_code
        for text in (first, signed(jti="same", iss="other", sub="other"))
    ]
    server.clients["app"] = Client("app", keys=[public(OTHER_KEY), public(KEY)])

    assert statuses == [200, 200]
    assert is_refused(await present(server, first), "replayed")


@given(
    uses=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from("xyz"),
            st.integers(1, 5),
            st.integers(0, 3),
        )
    )
)
def test_an_id_is_used_until_its_assertion_expires(
    uses: list[tuple[str, str, int, int]],
) -> None:
    """An ID can be used again only after its assertion expires, and is kept until then."""
    used = UsedIds()
    expiry: dict[tuple[str, str], float] = {}
    now = 0.0
    for client_id, jti, lifetime, pause in uses:
        now += pause
        is_new = expiry.get((client_id, jti), now) <= now
        assert used.add(client_id, jti, now + lifetime, now) == is_new
        if is_new:
            expiry[client_id, jti] = now + lifetime
        assert len(used) == sum(at > now for at in expiry.values())


# Anything that a client may send

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3)
    ),
    max_leaves=5,
)


PARTS = st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode())
HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["ES256", "RS256", "HS256", "EdDSA", "none"]) | JSON},
    optional={"kid": JSON, "crit": JSON, "b64": JSON, "typ": JSON},
).map(lambda header: json.dumps(header).encode())
GARBAGE = (
    st.text()
    | st.lists(PARTS | HEADERS, min_size=2, max_size=4).map(lambda ps: ".".join(map(encoded, ps)))
    | st.tuples(HEADERS, JSON, st.binary(max_size=70)).map(
        lambda parts: ".".join(
            [encoded(parts[0]), encoded(json.dumps(parts[1]).encode()), encoded(parts[2])]
        )
    )
)


@given(assertion=GARBAGE, client_id=st.sampled_from(["app", ""]))
@virtual_time
async def test_garbage_is_refused(assertion: str, client_id: str) -> None:
    """Any text as an assertion is refused, and the response does not contain it."""
    methods = ["private_key_jwt", "client_secret_jwt"]
    client = Client("app", SECRET, keys=public(KEY))

    answer = await present(
        TokenServer(clients=[client], auth_methods=methods), assertion, client_id=client_id
    )

    error, description = said(answer)
    assert (answer.status_code, error) == (401, "invalid_client")
    assert description in DESCRIPTIONS.values()


@given(
    changes=st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf"]), JSON),
    payload=st.none() | PARTS,
)
@virtual_time
async def test_any_signed_claims_are_judged(changes: dict[str, Any], payload: bytes | None) -> None:
    """The server answers 200 or 401 to any claims with a valid signature."""
    content = json.dumps(claims_of({}) | changes).encode() if payload is None else payload
    text = jwt.PyJWS().encode(content, KEY, algorithm="ES256")

    answer = await present(own_server(), text)

    assert answer.status_code in (200, 401)
    if answer.status_code == 200:
        assert changes.keys() <= {"iat", "nbf"}
