"""How `TokenServer` authenticates clients: registrations, trusted issuers and certificates."""

from __future__ import annotations

import ssl
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
import trustme

from trio_anon_session._authentication import ClientAuthentication, Credentials
from trio_anon_session.testing import (
    Client,
    Fault,
    FaultPlan,
    TokenServer,
    TrustedIssuer,
    open_loopback,
    open_test_session,
)

from . import GRANT, post, said
from .signing import (
    BEARER,
    CLUSTER,
    ISSUER,
    KEY,
    MINUTE,
    OTHER_KEY,
    SECRET,
    TOKEN_URL,
    form_of,
    is_refused,
    own_server,
    present,
    public,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from trio_anon_session import AssertionRequest
    from trio_anon_session.testing._problems import AssertionProblem


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"client_secret": SECRET}, {}),
        ({}, {"Authorization": "Basic YXBwOng="}),
        ({}, {"Authorization": "Bearer token"}),
        ({"client_secret": SECRET, "client_assertion": ""}, {}),
        ({"client_secret": SECRET}, {"Authorization": "Basic YXBwOng="}),
    ],
)
async def test_two_methods_are_refused(
    fields: dict[str, str], headers: dict[str, str], autojump_clock: MockClock
) -> None:
    """A request with an assertion and another method is invalid (RFC 6749 §2.3)."""
    client = Client("app", SECRET, keys=public(KEY))

    answer = await post(
        TokenServer(clients=[client]), data=form_of(signed()) | fields, headers=headers
    )

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_request")


# Which methods are allowed

BY_SECRET = {"client_id": "app", "client_secret": SECRET}
BY_DEFAULT = ["client_secret_post", "private_key_jwt", "tls_client_auth"]


@pytest.mark.parametrize(
    ("client", "methods", "has_token"),
    [
        (Client("app", SECRET), BY_DEFAULT, [True, False, False, False]),
        (Client("app", keys=public(KEY)), BY_DEFAULT, [False, True, False, False]),
        (Client("app", SECRET, keys=public(KEY)), BY_DEFAULT, [True, True, False, False]),
        (Client("app", None), BY_DEFAULT, [False, False, False, False]),
        (
            Client("app", SECRET, keys=public(KEY)),
            ["client_secret_post", "client_secret_basic"],
            [True, False, False, False],
        ),
        (
            Client("app", SECRET, keys=public(KEY), assertions="fixed"),
            ["client_secret_jwt"],
            [False, False, True, False],
        ),
        (
            Client("app", SECRET, keys=public(KEY), assertions="fixed"),
            ["private_key_jwt"],
            [False, True, False, True],
        ),
        (Client("app", assertions=("other", "fixed")), BY_DEFAULT, [False, False, False, True]),
    ],
    ids=["secret", "key", "both", "nothing", "no jwt", "secret jwt", "key jwt", "fixed"],
)
async def test_registrations_and_methods(
    client: Client, methods: list[str], has_token: list[bool], autojump_clock: MockClock
) -> None:
    """A client may use an allowed method for which it is registered, and no other."""
    server = TokenServer(clients=[client], auth_methods=methods)
    assert TokenServer().auth_methods == frozenset(BY_DEFAULT)
    forms = [BY_SECRET, *map(form_of, (signed(), signed(SECRET, "HS256"), "fixed"))]

    answers = [
        await post(server, data=GRANT | form)
        if form is BY_SECRET
        else await post(server, data=form)
        for form in forms
    ]

    assert [answer.status_code == 200 for answer in answers] == has_token


@pytest.mark.parametrize("form", [{"client_id": "app"}, {"client_id": "app", "client_secret": ""}])
async def test_a_client_without_a_secret_needs_credentials(
    form: dict[str, str], autojump_clock: MockClock
) -> None:
    """A client without a secret gets no token without credentials."""
    server = TokenServer(clients=[Client("app", None)])

    answer = await post(server, data={"grant_type": "client_credentials"} | form)

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_client")


async def test_registrations_can_be_replaced(autojump_clock: MockClock) -> None:
    """A new key is valid as soon as it is registered, and the old one until it is removed."""
    server = own_server()
    old, new = public(KEY), public(OTHER_KEY)
    seen = []
    for keys in (old, [old, new], new):
        server.clients["app"] = attrs.evolve(server.clients["app"], keys=keys)
        seen.append([(await present(server, signed(key))).status_code for key in (KEY, OTHER_KEY)])

    assert seen == [[200, 401], [200, 200], [401, 200]]


# Assertions of another issuer

TRUSTED = TrustedIssuer(CLUSTER, "system:app", "api://tokens", {"k": public(OTHER_KEY)})
FROM_CLUSTER: dict[str, Any] = {
    "key": OTHER_KEY,
    "iss": CLUSTER,
    "sub": "system:app",
    "aud": "api://tokens",
}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"jti": None}, None),
        ({"exp": 1000 * MINUTE}, None),
        ({"aud": ["api://tokens", "x"]}, None),
        ({"header": {"kid": "k"}}, None),
        ({"key": KEY}, "signature"),
        ({"header": {"kid": "1"}}, "unknown_key"),
        ({"iss": "https://other.example"}, "signature"),
        ({"sub": "app"}, "subject"),
        ({"aud": TOKEN_URL}, "audience"),
        ({"aud": ISSUER}, "audience"),
        ({"aud": []}, "audience"),
        ({"exp": -timedelta(seconds=1)}, "expired"),
        ({"exp": None}, "missing_claim"),
        ({"iat": 2 * MINUTE}, "from_the_future"),
        ({"key": SECRET, "algorithm": "HS256"}, "issuer"),
    ],
)
async def test_assertion_of_a_trusted_issuer(
    changes: dict[str, Any], problem: AssertionProblem | None, autojump_clock: MockClock
) -> None:
    """The registered issuer signs assertions for the client, which can be used repeatedly."""
    client = Client("app", SECRET, keys={"1": public(KEY)}, assertions=TRUSTED)
    methods = ["private_key_jwt", "client_secret_jwt"]
    server = TokenServer(clients=[client], issuer=ISSUER, auth_methods=methods)
    assertion = signed(**(FROM_CLUSTER | changes))

    answers = [await present(server, assertion) for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 200 if problem is None else is_refused(answer, problem)


# Certificates

AUTHORITY = trustme.CA()


@cache
def certificate(name: str) -> trustme.LeafCert:
    """Return a client certificate."""
    return AUTHORITY.issue_cert(name)


def pem_of(name: str) -> str:
    """Return a client certificate in PEM."""
    return certificate(name).cert_chain_pems[0].bytes().decode()


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ({}, None),
        ({"extensions": None}, None),
        ({"extensions": {"tls": {"client_cert_chain": ["app"]}}}, None),
        ({"extensions": {"tls": {"client_cert_chain": ["app", "other"]}}}, None),
        ({"extensions": {"tls": {"client_cert_chain": ["other", "app"]}}}, "is not the one"),
        ({"extensions": {"tls": {"client_cert_chain": ["garbage"]}}}, "is not the one"),
        ({"extensions": {"tls": {"client_cert_chain": []}}}, "no certificate"),
        ({"extensions": {"tls": {"client_cert_chain": None}}}, "no certificate"),
        ({"trio_anon_session.on_socket": True}, "no certificate"),
    ],
    ids=str,
)
async def test_certificates_from_the_asgi_server(
    added: dict[str, Any], problem: str | None, autojump_clock: MockClock
) -> None:
    """The first certificate of the TLS extension must be registered; in process, none is needed."""
    server = TokenServer(clients=[Client("app", certificate=pem_of("app"))])
    chain = ((added.get("extensions") or {}).get("tls") or {}).get("client_cert_chain")
    if chain:
        pems = [name if name == "garbage" else pem_of(name) for name in chain]
        added = {"extensions": {"tls": {"client_cert_chain": pems}}}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await server({**scope, **added}, receive, send)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post(
            "/oauth2/token", data={"grant_type": "client_credentials", "client_id": "app"}
        )

    if problem is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, said(answer)[0]) == (401, "invalid_client")
        assert problem in said(answer)[1]


async def test_a_certificate_needs_an_allowed_method(autojump_clock: MockClock) -> None:
    """A client with a certificate gets a token only if the server allows that method."""
    client = Client("app", certificate=pem_of("app"))
    server = TokenServer(clients=[client], auth_methods=["client_secret_post"])

    answer = await post(server, data={"grant_type": "client_credentials", "client_id": "app"})

    assert (answer.status_code, said(answer)[0]) == (400, "invalid_client")


@pytest.mark.slow
async def test_certificates_on_a_socket() -> None:
    """Over TLS, only the connection with the registered certificate gets a token."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = TokenServer(clients=[Client("app", certificate=pem_of("app"))])
    seen = {}

    async with open_loopback(server, ssl_context=context) as url:
        assert url.startswith("https://127.0.0.1:")
        for name in ("app", "other", None, "app"):
            trust = ssl.create_default_context()
            AUTHORITY.configure_trust(trust)
            if name is not None:
                certificate(name).configure_cert(trust)
            async with httpx.AsyncClient(verify=trust, base_url=url) as client:
                form = {"grant_type": "client_credentials", "client_id": "app"}
                answers = [await client.post("/oauth2/token", data=form) for _ in range(2)]
            seen[name] = [answer.status_code for answer in answers]

    assert seen == {"app": [200, 200], "other": [401, 401], None: [401, 401]}


# Sessions


class Signer(ClientAuthentication):
    """A client that signs an assertion for each attempt."""

    method = "private_key_jwt"

    async def credentials(self, request: AssertionRequest) -> Credentials:
        """Return a new assertion."""
        text = signed(aud=request.issuer or request.token_url)
        fields = [("client_assertion_type", BEARER), ("client_assertion", text)]
        return Credentials([("client_id", "app"), *fields], version=text)


@pytest.mark.parametrize("issuer", [None, ISSUER])
async def test_a_session_that_signs(issuer: str | None, autojump_clock: MockClock) -> None:
    """A session in process gets a token with an assertion, and retries after one is refused."""
    plan = FaultPlan(token=[Fault.assertion_refused("expired")])
    server = TokenServer(plan, clients=[Client("app", keys=public(KEY))], issuer=issuer)

    async with open_test_session(server, auth_method=Signer()) as session:
        token = await session.get_access_token()
        await session.revoke_tokens()

    assert (session.config.client_secret, session.config.issuer) == (None, issuer)
    assert (server.revocations, [*server.tokens]) == (1, [token])
    sent = [request.form["client_assertion"] for request in server.requests]
    assert len(sent) == 3
    assert set(sent) == {"***"}


def test_config_has_what_the_method_needs() -> None:
    """The server's config has the client's secret, unless an object authenticates the client."""
    server = TokenServer(clients=[Client("app", SECRET, keys=public(KEY))])

    assert server.config().client_secret == SECRET
    assert server.config(auth_method="client_secret_basic").client_secret == SECRET
    assert server.config(auth_method=Signer()).client_secret is None


@pytest.mark.parametrize(
    ("client", "secret"),
    [
        (Client(), "test-secret"),
        (Client(keys=public(KEY)), None),
        (Client(assertions="fixed"), None),
        (Client(certificate=pem_of("app")), None),
        (Client(client_secret=SECRET, certificate=pem_of("app")), SECRET),
    ],
    ids=["nothing", "keys", "assertions", "certificate", "certificate and secret"],
)
def test_default_secret(client: Client, secret: str | None) -> None:
    """Only a client without another registration has a secret by default."""
    assert client.client_secret == secret


# Mistakes in a test


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client(keys="x"), "keys must be public keys in PEM"),
        (lambda: Client(keys=[b"x"]), "keys must be keys as str, not bytes"),  # type: ignore[list-item]
        (lambda: Client(keys=b"x"), "keys must be keys as str, not bytes"),  # type: ignore[arg-type]  # tested
        (lambda: Client(keys={"1": "-----BEGIN PRIVATE KEY-----"}), "keys must be public keys"),
        (lambda: TrustedIssuer("i", "s", "a", [""]), "keys must be public keys in PEM"),
        (lambda: Client(certificate="x"), "certificate must be one certificate in PEM"),
        (lambda: TokenServer(auth_methods="client_secret_post"), "auth_methods must be a list"),
        (lambda: TokenServer(auth_methods=["none"]), "auth_methods must be a list of client_sec"),
    ],
    ids=["text", "bytes in a list", "bytes", "private", "issuer", "certificate", "str", "none"],
)
def test_wrong_registrations(make: Callable[[], object], message: str) -> None:
    """A registration that can never work is an error, whose message shows no key."""
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as caught:
        make()
    assert "PRIVATE" not in str(caught.value)


def test_reprs_are_short_and_show_no_secret() -> None:
    """The repr of a client shows neither its secret nor its keys and assertions."""
    client = Client("app", SECRET, keys=public(KEY), assertions=[TRUSTED, "fixed"])

    shown = repr((client, TRUSTED))

    assert SECRET not in shown
    assert "fixed" not in shown
    assert "KEY" not in shown
    assert attrs.evolve(client) == client
