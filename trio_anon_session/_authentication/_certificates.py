"""What is in a client's certificate, for people. Authentication does not need it."""

from __future__ import annotations

from typing import NamedTuple


class Certificate(NamedTuple):
    """The content of a certificate. The times are on the wall clock."""

    subject: str
    begins_at: float
    ends_at: float


def certificate_in(content: bytes) -> Certificate:
    """Return what is in the first certificate of a PEM text.

    Raises:
        ModuleNotFoundError: the extra ``jwt`` is not installed.
        ValueError: the certificate cannot be parsed.
    """
    # Imported here, because it is in an extra.
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(content)
    return Certificate(
        certificate.subject.rfc4514_string(),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )
