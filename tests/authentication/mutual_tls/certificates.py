"""Helpers: certificates of clients, configs, and TLS handshakes in memory."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from trio_anon_session import Config

if TYPE_CHECKING:
    from pathlib import Path

    from trio_anon_session import MutualTLS

HOST = "127.0.0.1"
"""The name in the certificate of every server."""


class Pair:
    """A client's certificate and its key, as PEM.

    Attributes:
        name: the name in the certificate.
        certificate: the certificate.
        key: the key.
    """

    def __init__(self, authority: trustme.CA, name: str, kind: str = "ECDSA") -> None:
        issued = authority.issue_cert(name, key_type=trustme.KeyType[kind])
        self.name = name
        self.certificate = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        self.key = issued.private_key_pem.bytes()

    def encrypted_key(self, password: str, form: str = "PKCS8") -> bytes:
        """Return the key, encrypted."""
        key = serialization.load_pem_private_key(self.key, None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, form),
            serialization.BestAvailableEncryption(password.encode()),
        )

    def public_key(self) -> Any:
        """Return the public key."""
        return serialization.load_pem_private_key(self.key, None).public_key()

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both files, and return their paths."""
        certfile, keyfile = folder / "client.pem", folder / "client.key"
        certfile.write_bytes(self.certificate)
        keyfile.write_bytes(self.key)
        return certfile, keyfile


def config(method: MutualTLS, url: str = f"https://{HOST}", **changes: Any) -> Config:
    """Return a config of a client that authenticates with this method."""
    settings: dict[str, Any] = {"client_id": "my app", "auth_method": method, "api_root_url": url}
    return Config(**(settings | changes))


def server_context(authority: trustme.CA, trusted: trustme.CA | None = None) -> ssl.SSLContext:
    """Return the context of a server that demands a certificate of a trusted authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    (trusted or authority).configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def name_of(certificate: bytes | None) -> str | None:
    """Return the name in a certificate."""
    if certificate is None:
        return None
    names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    [name] = names.value.get_values_for_type(x509.DNSName)
    return name


def connect(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory, and return both ends."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(back, there, server_hostname=HOST),
        server.wrap_bio(there, back, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends


def presented(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """Return the name in the certificate that a client's context presents to a server."""
    _, end = connect(client, server)
    return name_of(end.getpeercert(binary_form=True))
