"""The client's certificate of a TLS connection, which hypercorn does not pass to an app."""

from __future__ import annotations

import ssl
from contextvars import ContextVar
from typing import Any

# The task of a connection does the handshake, and starts the tasks of its requests. They inherit
# the value.
_certificate: ContextVar[bytes | None] = ContextVar("client_certificate", default=None)


class _Connection(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _certificate.set(self.getpeercert(binary_form=True))


def record_certificates(context: ssl.SSLContext) -> None:
    """Make the connections of a context record the certificates of clients."""
    context.sslobject_class = _Connection


def tls_extension() -> dict[str, Any]:
    """Return the TLS extension of ASGI for the current request."""
    certificate = _certificate.get()
    chain = [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)]
    return {"client_cert_chain": chain}
