"""Keys that sign assertions, and functions that verify the received assertions."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from tests.http.endpoint import form_of, says

if TYPE_CHECKING:
    import httpx

    from tests.http.endpoint import Answer

CLIENT_ID = "my app:é"
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PASSWORD = "pass word/ö"
_MAKERS: dict[str, Any] = {
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "X25519": x25519.X25519PrivateKey.generate,
}
RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
FITTING = {
    "RSA-2048": RSA,
    "P-256": ["ES256"],
    "P-384": ["ES384"],
    "P-521": ["ES512"],
    "Ed25519": ["EdDSA"],
    "Ed448": ["EdDSA"],
}
"""The algorithms that each usable key can sign with."""
ALGORITHMS = [*dict.fromkeys(name for names in FITTING.values() for name in names)]


_keys: dict[tuple[str, int], Any] = {}


def key_of(kind: str, number: int = 0) -> Any:
    """Return a private key of this kind; each number has another key."""
    if (kind, number) not in _keys:
        _keys[kind, number] = _MAKERS[kind]()
    return _keys[kind, number]


@functools.cache
def pem_of(
    kind: str = "P-256",
    number: int = 0,
    *,
    password: str | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> bytes:
    """Return such a key as PEM text."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    pem: bytes = key_of(kind, number).private_bytes(serialization.Encoding.PEM, form, encryption)
    return pem


def assertion_in(request: httpx.Request) -> str:
    """Return the assertion of a request, which has no other credential."""
    form = form_of(request)
    fields = dict(form)
    assert len(fields) == len(form)
    assert fields["client_assertion_type"] == TYPE
    assert "client_secret" not in fields
    assert "Authorization" not in request.headers
    # RFC 7515 §2: base64url without padding. PyJWT ignores padding, and other libraries do not.
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", fields["client_assertion"], re.ASCII)
    return fields["client_assertion"]


def claims_in(request: httpx.Request, key: Any, algorithm: str, audience: str) -> dict[str, Any]:
    """Return the claims of a request's assertion, or raise an error of PyJWT."""
    options: Any = {
        "require": ["iss", "sub", "aud", "exp", "iat", "jti"],
        # On a busy machine, an assertion for one second may have ended. One test compares `exp`.
        "verify_exp": False,
    }
    claims: dict[str, Any] = jwt.decode(
        assertion_in(request),
        key if isinstance(key, str) else key.public_key(),
        algorithms=[algorithm],
        audience=audience,
        options=options,
    )
    return claims


def accepts(*keys: Any, algorithm: str, audience: str) -> Answer:
    """Return an answer that grants a token if one of these keys has signed the assertion."""
    granted, rejected = says(), says(401, {"error": "invalid_client"})

    async def answer(request: httpx.Request) -> httpx.Response:
        for key in keys:
            try:
                claims_in(request, key, algorithm, audience)
            except jwt.InvalidTokenError:
                continue
            return await granted(request)
        return await rejected(request)

    return answer
