"""Assertions for tests of `TokenServer`, made with PyJWT, and requests with them."""

from __future__ import annotations

import base64
import itertools
import json
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from trio_anon_session.testing import Client, TokenServer
from trio_anon_session.testing._problems import DESCRIPTIONS, AssertionProblem

from . import post, said

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_URL = "http://localhost/oauth2/token"
ISSUER = "https://issuer.example"
CLUSTER = "https://cluster.example"
SECRET = "a secret of more than thirty-two characters"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
COUNTER = itertools.count()
MINUTE = timedelta(minutes=1)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """Return an RSA key, which is slow to generate and so is created only when needed."""
    return rsa.generate_private_key(65537, 2048)


def public(key: Any) -> str:
    """Return the public key in PEM."""
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode()


def claims_of(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the claims of a valid assertion, with changes.

    None removes a claim, and a timedelta is a time from now.
    """
    now = time.time()
    claims = {
        "iss": "app",
        "sub": "app",
        "aud": TOKEN_URL,
        "iat": now,
        "exp": now + 60.0,
        "jti": str(next(COUNTER)),
    }
    return {
        name: now + value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in (claims | changes).items()
        if value is not None
    }


def signed(
    key: Any = KEY, algorithm: str = "ES256", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    """Return a signed assertion, valid except for the changes."""
    return jwt.PyJWS().encode(
        json.dumps(claims_of(changes)).encode(), key, algorithm=algorithm, headers=header
    )


def encoded(part: bytes) -> str:
    """Return a part of a JWT."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], signature: Callable[[bytes], bytes]) -> str:
    """Return an assertion with any header and signature, which PyJWT would not make."""
    parts = (json.dumps(part).encode() for part in (header, claims_of({})))
    text = ".".join(map(encoded, parts))
    return f"{text}.{encoded(signature(text.encode()))}"


def form_of(assertion: str, **changes: str) -> dict[str, str]:
    """Return the form of a token request with an assertion."""
    form = {
        "grant_type": "client_credentials",
        "client_id": "app",
        "client_assertion_type": BEARER,
        "client_assertion": assertion,
    }
    return form | changes


async def present(server: TokenServer, assertion: str, **changes: str) -> httpx.Response:
    """Request a token with an assertion."""
    return await post(server, data=form_of(assertion, **changes))


def is_refused(answer: httpx.Response, problem: AssertionProblem) -> bool:
    """Return whether the server reports this problem."""
    assert answer.status_code == 401
    return said(answer) == ("invalid_client", DESCRIPTIONS[problem])


def own_server(**settings: Any) -> TokenServer:
    """Return a server with a client that signs with a key."""
    return TokenServer(clients=[Client("app", keys=public(KEY))], issuer=ISSUER, **settings)
