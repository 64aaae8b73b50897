"""Clients whose credentials are in files and can be replaced."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Any

import jwt
from jwt.algorithms import get_default_algorithms

from tests.authentication.mutual_tls.certificates import Pair
from tests.authentication.signing import key_of, pem_of
from trio_anon_session import Assertion, AssertionFile, MutualTLS, PrivateKeyJWT, SecretFile

if TYPE_CHECKING:
    from pathlib import Path

    import trustme

    from trio_anon_session import AssertionRequest

WITH_SECRET = ("client_secret_post", "client_secret_basic", "client_secret_jwt")
WITH_CERTIFICATE = ("tls_client_auth", "self_signed_tls_client_auth")
METHODS = (*WITH_SECRET, "private_key_jwt", *WITH_CERTIFICATE)
"""All ways to authenticate, by their names in RFC 8414."""
WITH_KEY = ("private_key_jwt", "assertion", "assertion_file")
"""A client with `PrivateKeyJWT`, and clients whose assertions another program has signed."""
ODD = "p@ss:: w/'rd\"+%41%zz&=;#?<\\>! number "


class ClientFiles:
    """The files of a client with any method, and what a server must know about it.

    Attributes:
        client_id: the client's ID.
        method: the way to authenticate, from `METHODS` or `WITH_KEY`.
    """

    def __init__(
        self, client_id: str, method: str, audience: str, folder: Path, authority: trustme.CA
    ) -> None:
        self.client_id = client_id
        self.method = method
        self._audience = audience
        self._folder = folder
        self._authority = authority
        self._pairs: dict[int, Pair] = {}
        self.write(0)

    def write(self, number: int) -> None:
        """Write the credential with this number to the files."""
        if self.method in WITH_CERTIFICATE:
            self._pair(number).write(self._folder)
        elif self.method == "assertion_file":
            self._file.write_text(self.sign(number))
        elif self.method in WITH_KEY:
            self._file.write_bytes(pem_of(number=number))
        else:
            self._file.write_text(f"{ODD}{number}")

    def settings(self) -> dict[str, Any]:
        """Return the settings that select method and credential."""
        if self.method in WITH_CERTIFICATE:
            return {
                "auth_method": MutualTLS(self._folder / "client.pem", self._folder / "client.key")
            }
        if self.method == "private_key_jwt":
            return {"auth_method": PrivateKeyJWT.from_file(self._file, algorithm="ES256")}
        if self.method == "assertion":
            return {"auth_method": Assertion(self._provide)}
        if self.method == "assertion_file":
            return {"auth_method": AssertionFile(self._file)}
        return {"auth_method": self.method, "client_secret": SecretFile(self._file)}

    def metadata(self, number: int = 0) -> dict[str, Any]:
        """Return the metadata of the client (RFC 7591 §2) with the credential of this number."""
        method = "private_key_jwt" if self.method in WITH_KEY else self.method
        metadata: dict[str, Any] = {"token_endpoint_auth_method": method}
        if self.method == "tls_client_auth":
            metadata["tls_client_auth_san_dns"] = self._pair(number).name
        elif self.method == "self_signed_tls_client_auth":
            der = ssl.PEM_cert_to_DER_cert(self._pair(number).certificate.decode())
            certified = {"x5c": [base64.b64encode(der).decode()]}
            key = self._pair(number).public_key()
            metadata["jwks"] = {"keys": [jwk_of(key, "ES256") | certified]}
        elif self.method in WITH_KEY:
            metadata["jwks"] = {"keys": [jwk_of(key_of("P-256", number).public_key(), "ES256")]}
        else:
            metadata["client_secret"] = f"{ODD}{number}"
        if self.method in WITH_CERTIFICATE:
            metadata["tls_client_certificate_bound_access_tokens"] = True
        return metadata

    def sign(self, number: int) -> str:
        """Return an assertion, signed by another library with the key of this number."""
        return self._signed(pem_of(number=number))

    async def _provide(self, request: AssertionRequest) -> str:
        assert (request.client_id, request.issuer) == (self.client_id, self._audience)
        return self._signed(self._file.read_bytes())

    def _signed(self, pem: bytes) -> str:
        now = time.time()
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self._audience,
            "exp": now + 60.0,
            "jti": secrets.token_hex(),
        }
        return jwt.encode(claims, pem, algorithm="ES256")

    @property
    def _file(self) -> Path:
        return self._folder / "credential"

    def _pair(self, number: int) -> Pair:
        if number not in self._pairs:
            self._pairs[number] = Pair(self._authority, f"client-{number}.example")
        return self._pairs[number]


def jwk_of(public_key: Any, algorithm: str) -> dict[str, Any]:
    """Return a public key as a JWK (RFC 7517)."""
    jwk = get_default_algorithms()[algorithm].to_jwk(public_key)
    members: dict[str, Any] = jwk if isinstance(jwk, dict) else json.loads(jwk)
    members.pop("key_ops", None)
    return members
