"""`Client` and `TrustedIssuer`: what a server knows about its clients."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from .._secrets import with_quiet_init

CLIENT_CREDENTIALS = "client_credentials"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

Key = tuple[str | None, str]
"""A key id, or None, and a public key in PEM."""
Keys = str | Mapping[str, str] | Mapping[str | None, str] | Iterable[str | Key]

T = TypeVar("T")


def _to_keys(value: Keys) -> tuple[Key, ...]:
    # Bytes are a likely mistake, which the validator reports.
    if isinstance(value, str | bytes):
        return ((None, value),)
    if isinstance(value, Mapping):
        return tuple(value.items())
    return tuple(key if isinstance(key, tuple) else (None, key) for key in value)


def _check_keys(_: object, attribute: attrs.Attribute[Any], value: tuple[Key, ...]) -> None:
    for _key_id, pem in value:
        if not isinstance(pem, str):
            raise TypeError(f"{attribute.name} must be keys as str, not {type(pem).__name__}")
        # The key is not shown, because it may be a private one.
        if "PUBLIC KEY-----" not in pem:
            raise ValueError(
                f"{attribute.name} must be public keys in PEM (-----BEGIN PUBLIC KEY-----),"
                " got another str"
            )


def _check_certificate(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and der_of(value) is None:
        raise ValueError(
            f"{attribute.name} must be one certificate in PEM (-----BEGIN CERTIFICATE-----)"
        )


def der_of(certificate: object) -> bytes | None:
    """Return the bytes of a certificate, or None if it is not one certificate in PEM."""
    if not isinstance(certificate, str):
        return None
    try:
        return ssl.PEM_cert_to_DER_cert(certificate)
    except ValueError:
        return None


@with_quiet_init
@attrs.frozen
class TrustedIssuer:
    """An issuer whose assertions authenticate a client, such as a Kubernetes cluster.

    The server compares the claims of an assertion with these values. A client may use the same
    assertion many times, until it expires.

    Attributes:
        issuer: the claim ``iss``.
        subject: the claim ``sub``.
        audience: the claim ``aud``, or one of its items.
        keys: the public keys of the issuer, as for :class:`Client`; not in the repr.
    """

    issuer: str
    subject: str
    audience: str
    keys: tuple[Key, ...] = attrs.field(converter=_to_keys, validator=_check_keys, repr=False)


def _to_assertions(
    value: str | TrustedIssuer | Iterable[str | TrustedIssuer],
) -> tuple[str | TrustedIssuer, ...]:
    return (value,) if isinstance(value, str | TrustedIssuer) else tuple(value)


def _default_secret(client: Client) -> str | None:
    return None if client.keys or client.assertions or client.certificate else "test-secret"


@with_quiet_init
@attrs.frozen
class Client:
    """A client that is registered with the server.

    A client can have several registrations, and then it can authenticate in several ways. To
    rotate its secret, keys or certificate, replace it: ``server.clients["app"] = Client(…)``.

    Attributes:
        client_id: the client id.
        client_secret: the client secret, not in the repr; None if the client has no secret. By
            default ``"test-secret"``, or None if the client has keys, assertions or a certificate.
        grants: allowed grant types.
        subject_types: allowed values of ``box_subject_type``.
        subject_ids: allowed values of ``box_subject_id``; None for any.
        scopes: allowed scopes; None for any. A request for another one is refused.
        granted_scopes: the scopes that the client gets, however many it requests; None grants
            what is requested. If the granted scope differs from the requested one, the response
            has it (RFC 6749 §3.3). If no requested scope is granted, the request is refused.
        keys: public keys in PEM, with which the server verifies assertions that the client has
            signed (RFC 7523): one key, several keys, or a mapping of key ids to keys. If an
            assertion names a key id, keys with other ids do not count. Not in the repr.
        assertions: other assertions that the server accepts (workload identity). A
            :class:`TrustedIssuer` stands for all assertions of that issuer. A str is one
            assertion, which the server accepts without any check. Not in the repr.
        certificate: the certificate in PEM that the client presents in the TLS handshake
            (RFC 8705). The server compares the whole certificate. In process, there is no
            handshake, and the client id is enough. To test certificates, use
            :func:`open_loopback` with an ``ssl_context``. Not in the repr.

    Raises:
        TypeError: a key is not a str.
        ValueError: a key or certificate is not in PEM, or a key is not a public one.
    """

    # The registrations come first in the class, because the default of the secret depends on them.
    keys: tuple[Key, ...] = attrs.field(
        default=(), converter=_to_keys, validator=_check_keys, repr=False, kw_only=True
    )
    assertions: tuple[str | TrustedIssuer, ...] = attrs.field(
        default=(), converter=_to_assertions, repr=False, kw_only=True
    )
    certificate: str | None = attrs.field(
        default=None, validator=_check_certificate, repr=False, kw_only=True
    )
    client_id: str = "test-client"
    client_secret: str | None = attrs.field(
        default=attrs.Factory(_default_secret, takes_self=True), repr=False
    )
    grants: frozenset[str] = frozenset({CLIENT_CREDENTIALS, TOKEN_EXCHANGE})
    subject_types: frozenset[str] = frozenset({"enterprise", "user"})
    subject_ids: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    granted_scopes: frozenset[str] | None = None
