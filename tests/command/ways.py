"""Files of clients that authenticate with a key, an assertion or a certificate."""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import trustme
from cryptography.hazmat.primitives import serialization

from tests.authentication.signing import key_of, pem_of

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY = trustme.CA()
ISSUER = "https://cluster.example"
SUBJECT = "system:serviceaccount:jobs:nightly"
AUDIENCE = "api://exchange"


def public_pem_of(kind: str = "P-256") -> str:
    """Return the public key of a kind as PEM."""
    pem: bytes = (
        key_of(kind)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem.decode()


def write_key(folder: Path, kind: str = "P-256", **options: Any) -> Path:
    """Write a private key, and return the path."""
    path = folder / f"{kind}.pem"
    path.write_bytes(pem_of(kind, **options))
    return path


def assertion(**claims: Any) -> str:
    """Return an assertion of the cluster; a claim of None is left out."""
    now = int(time.time())
    all_claims = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
    kept = {name: value for name, value in (all_claims | claims).items() if value is not None}
    # The function for claims refuses those of a wrong type.
    return jwt.api_jws.encode(json.dumps(kept).encode(), key_of("P-256"), "ES256")


def write_assertion(folder: Path, **claims: Any) -> Path:
    """Write an assertion as Kubernetes does, and return the path."""
    path = folder / "assertion"
    path.write_text(assertion(**claims))
    return path


def write_certificate(
    folder: Path, days: float = 100.0, begins: float = -200.0
) -> tuple[Path, Path]:
    """Write a client's certificate, which ends after so many days, and its key."""
    now = datetime.datetime.now(tz=datetime.UTC)
    issued = AUTHORITY.issue_cert(
        "client.example",
        not_before=now + datetime.timedelta(days=begins),
        not_after=now + datetime.timedelta(days=days),
    )
    certfile, keyfile = folder / "client.pem", folder / "client.key"
    issued.cert_chain_pems[0].write_to_path(certfile)
    issued.private_key_pem.write_to_path(keyfile)
    return certfile, keyfile
