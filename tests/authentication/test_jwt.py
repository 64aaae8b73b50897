"""Tests of assertions that the client signs: their claims, headers and signatures."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from tests.authentication.signing import (
    ALGORITHMS,
    CLIENT_ID,
    FITTING,
    PASSWORD,
    assertion_in,
    claims_in,
    key_of,
    pem_of,
)
from tests.helpers import run_virtually
from tests.http.endpoint import CALLS, Endpoint, form_of, open_manager, says, sent_by
from trio_anon_session import AnonymousSession, Config, PrivateKeyJWT

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

SECRET = "a secret of 32 bytes, or of more: é"
TOKEN_URL = "https://id.example/token?tenant=a"
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
# A server that verifies would not accept random values of these registered members.
members = st.dictionaries(
    names.filter(lambda name: name not in ("crit", "b64", "nbf")), values, max_size=3
)


def make(auth_method: Any, **settings: Any) -> Config:
    secret = SECRET if auth_method == "client_secret_jwt" else None
    defaults: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "client_secret": secret,
        "token_url": TOKEN_URL,
        "revoke_url": "https://id.example/revoke",
        "auth_method": auth_method,
    }
    return Config(**(defaults | settings))


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [(kind, algorithm) for kind, fitting in FITTING.items() for algorithm in fitting],
)
@pytest.mark.parametrize("password", [None, PASSWORD], ids=["plain", "encrypted"])
async def test_every_algorithm_with_every_key(
    kind: str, algorithm: str, password: str | None
) -> None:
    """The server verifies the assertion with the public key, for each key and algorithm."""
    method = PrivateKeyJWT(
        pem_of(kind, password=password).decode(), algorithm=algorithm, password=password
    )
    request = await sent_by(make(method))
    claims = claims_in(request, key_of(kind), algorithm, TOKEN_URL)

    assert claims.keys() == {"iss", "sub", "aud", "iat", "exp", "jti"}
    assert jwt.get_unverified_header(assertion_in(request)) == {
        "alg": algorithm,
        "typ": "client-authentication+jwt",
    }


@given(
    kind=st.sampled_from([kind for kind in FITTING if kind != "RSA-2048"]),
    key_id=st.none() | names,
    audience=st.none() | names,
    issuer=st.sampled_from([None, "https://id.example"]),
    lifetime=st.floats(1, 10**6) | st.integers(1, 10**6),
    clock_skew=st.floats(0, 10**6),
    headers=st.just({"typ": "JWT", "x5t#S256": "x"})
    | members.filter(lambda items: not {"alg", "kid"} & items.keys()),
    claims=members,
    call=st.sampled_from(CALLS),
)
def test_the_settings_decide_header_and_claims(
    kind: str,
    key_id: str | None,
    audience: str | None,
    issuer: str | None,
    lifetime: float,
    clock_skew: float,
    headers: dict[str, Any],
    claims: dict[str, Any],
    call: str,
) -> None:
    """Grants and revocations have exactly the claims of RFC 7523 and those of the settings."""
    [algorithm] = FITTING[kind]
    given_claims = dict(claims)
    method = PrivateKeyJWT(
        pem_of(kind),
        algorithm=algorithm,
        key_id=key_id,
        audience=audience,
        lifetime=lifetime,
        headers=headers,
        claims=claims,
        clock_skew=clock_skew,
    )
    # The object has its own copy.
    claims["late"] = 1
    before = time.time()
    request = run_virtually(sent_by, make(method, issuer=issuer), call)
    after = time.time()
    expected_audience = audience or issuer or TOKEN_URL
    seen = claims_in(request, key_of(kind), algorithm, expected_audience)

    assert int(before - clock_skew) <= seen.pop("iat") <= int(after - clock_skew)
    assert int(before + lifetime) <= seen.pop("exp") <= int(after + lifetime)
    assert len(bytes.fromhex(seen.pop("jti"))) == 16
    assert seen == {
        **given_claims,
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": expected_audience,
    }
    named = {} if key_id is None else {"kid": key_id}
    assert jwt.get_unverified_header(assertion_in(request)) == {
        "typ": "client-authentication+jwt",
        **named,
        **headers,
        "alg": algorithm,
    }
    assert dict(form_of(request))["client_id"] == CLIENT_ID


def signer(kind: str, algorithm: str) -> Callable[[bytes], bytes]:
    return partial(_sign, kind=kind, algorithm=algorithm)


def _sign(signing_input: bytes, *, kind: str, algorithm: str) -> bytes:
    signature = get_default_algorithms()[algorithm].sign(signing_input, key_of(kind))
    assert isinstance(signature, bytes)
    return signature


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_a_callable_signs(algorithm: str, is_async: bool) -> None:
    """A plain or async callable can sign, so that the key is not in this process."""
    kind = next(kind for kind, fitting in FITTING.items() if algorithm in fitting)
    sign = signer(kind, algorithm)

    async def sign_async(signing_input: bytes) -> bytes:
        return sign(signing_input)

    method = PrivateKeyJWT(sign_async if is_async else sign, algorithm=algorithm, key_id="k")
    request = await sent_by(make(method))

    assert claims_in(request, key_of(kind), algorithm, TOKEN_URL)["sub"] == CLIENT_ID
    assert jwt.get_unverified_header(assertion_in(request))["kid"] == "k"


@pytest.mark.parametrize("issuer", [None, "https://id.example"])
async def test_the_secret_signs_with_client_secret_jwt(issuer: str | None) -> None:
    """With client_secret_jwt the secret signs the assertion with HS256, and is not sent."""
    request = await sent_by(make("client_secret_jwt", issuer=issuer))
    claims = claims_in(request, SECRET, "HS256", issuer or TOKEN_URL)

    assert (claims["iss"], claims["sub"]) == (CLIENT_ID, CLIENT_ID)
    assert claims["exp"] - claims["iat"] == 60
    assert SECRET not in str(form_of(request))


@pytest.mark.parametrize(
    "auth_method", ["client_secret_jwt", PrivateKeyJWT(pem_of(), algorithm="ES256")]
)
async def test_no_jti_is_used_twice(
    autojump_clock: trio.testing.MockClock, auth_method: Any
) -> None:
    """Every attempt of a round has its own assertion, because servers refuse a used one."""
    endpoint = Endpoint(*[says(503)] * 5, says())
    async with open_manager(endpoint, make(auth_method, max_retries=5, max_wait=None)) as manager:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
    assertions = [assertion_in(request) for request in endpoint.requests]
    ids = [jwt.decode(one, options={"verify_signature": False})["jti"] for one in assertions]

    assert len(set(ids)) == len(ids) == 6
