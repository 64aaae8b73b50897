"""How the server authenticates a client (RFC 6749 §2.3).

==============================================  =====================================
method                                          credentials
==============================================  =====================================
``client_secret_post``                          form fields
``client_secret_basic``                         the ``Authorization`` header
``client_secret_jwt``, ``private_key_jwt``      an assertion: see ``_assertions``
``tls_client_auth``                             the certificate of the TLS connection
==============================================  =====================================
"""

from __future__ import annotations

import base64
import hmac
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

import attrs

from ._answers import RefusedError
from ._assertions import (
    JWT_BEARER,
    UsedIds,
    check_assertion,
    is_registered_text,
    read_assertion,
)
from ._clients import Client, der_of
from ._problems import ClientRefusedError, WrongAssertionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping
    from typing import Any

    import httpx

ON_SOCKET = "trio_anon_session.on_socket"
"""Key of an ASGI scope: whether the request came over a socket."""
METHODS = (
    "client_secret_post",
    "client_secret_basic",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
)
"""The methods that the server knows, by their names in RFC 8414."""
DEFAULT_METHODS = ("client_secret_post", "private_key_jwt", "tls_client_auth")
"""Box's method, and those that a client can use only with a registration."""


def checked_methods(methods: Iterable[str]) -> frozenset[str]:
    """Return the allowed methods.

    Raises:
        ValueError: a method is unknown.
    """
    # A str is a likely mistake. It is an iterable of characters.
    allowed = frozenset(methods)
    if isinstance(methods, str) or not allowed.issubset(METHODS):
        raise ValueError(f"auth_methods must be a list of {', '.join(METHODS)}, got {methods!r}")
    return allowed


@attrs.frozen(repr=False)
class Attempt:
    """A request by which a client authenticates. No repr shows it.

    Attributes:
        form: the form fields.
        headers: the headers.
        scope: the ASGI scope.
    """

    form: Mapping[str, str]
    headers: httpx.Headers
    scope: MutableMapping[str, Any]

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint, as the client knows it."""
        return f"{self.scope.get('scheme', 'http')}://{self.headers.get('Host', '')}/oauth2/token"


class Authenticator:
    """Authenticates clients, and remembers which assertions they have used."""

    def __init__(self) -> None:
        self._used = UsedIds()

    def authenticate(
        self,
        attempt: Attempt,
        clients: Mapping[str, Client],
        allowed: frozenset[str],
        issuer: str | None,
    ) -> Client:
        """Return the client of a request.

        Args:
            attempt: the request.
            clients: the registered clients by id.
            allowed: the allowed methods.
            issuer: the issuer identifier of the server, if it has one.

        Raises:
            RefusedError: the client is not authenticated.
        """
        form, headers = attempt.form, attempt.headers
        has_assertion = not form.keys().isdisjoint({"client_assertion", "client_assertion_type"})
        has_secret = "client_secret" in form
        has_header = "Authorization" in headers
        is_basic = has_header and "client_secret_basic" in allowed
        if (has_secret and is_basic) or (has_assertion and (has_secret or has_header)):
            raise RefusedError("invalid_request", "Two methods of authentication")
        if has_assertion:
            return self._by_assertion(attempt, clients, allowed, issuer)
        client = clients.get(form.get("client_id", ""))
        if (
            not has_secret
            and not is_basic
            and client is not None
            and client.certificate is not None
            and "tls_client_auth" in allowed
        ):
            _check_certificate(client.certificate, attempt.scope)
            return client
        return _by_secret(attempt, clients, allowed, is_basic=is_basic)

    def _by_assertion(
        self,
        attempt: Attempt,
        clients: Mapping[str, Client],
        allowed: frozenset[str],
        issuer: str | None,
    ) -> Client:
        form = attempt.form
        text = form.get("client_assertion", "")
        if form.get("client_assertion_type") != JWT_BEARER:
            raise WrongAssertionError("type")
        client_id = form.get("client_id")
        known = clients.get(client_id or "")
        may_sign = "private_key_jwt" in allowed
        if known is not None and may_sign and is_registered_text(text, known):
            return known
        assertion = read_assertion(text)
        if assertion is None:
            raise WrongAssertionError("malformed")
        if client_id is None:
            # RFC 7521 §4.2: the subject identifies the client, and client_id is optional.
            subject = assertion.claims.get("sub")
            known = clients.get(subject) if isinstance(subject, str) else None
        if known is None:
            raise WrongAssertionError("client")
        check_assertion(
            assertion,
            known,
            methods=allowed,
            audiences={attempt.token_url, *([] if issuer is None else [issuer])},
            used=self._used,
            now=time.time(),
        )
        return known


def _by_secret(
    attempt: Attempt,
    clients: Mapping[str, Client],
    allowed: frozenset[str],
    *,
    is_basic: bool,
) -> Client:
    client_id, secret = attempt.form.get("client_id"), attempt.form.get("client_secret")
    status = 400
    if is_basic:
        # RFC 6749 §5.2: a failed HTTP Basic authentication is answered with 401.
        status = 401
        client_id, secret = _basic(attempt.headers["Authorization"])
    elif "client_secret_post" not in allowed:
        client_id = secret = None
    if not client_id:
        raise RefusedError(
            "invalid_client", "Client id was not found in the headers or body", status
        )
    client = clients.get(client_id)
    expected = client.client_secret if client is not None else None
    is_right = hmac.compare_digest((secret or "").encode(), (expected or "").encode())
    if client is None or expected is None or not is_right:
        raise RefusedError("invalid_client", "The client credentials are invalid", status)
    return client


def _basic(header: str) -> tuple[str | None, str | None]:
    scheme, _, credentials = header.partition(" ")
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return None, None
    client_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        return None, None
    return unquote_plus(client_id), unquote_plus(secret)


def _check_certificate(expected: str, scope: MutableMapping[str, Any]) -> None:
    # The TLS extension of ASGI.
    tls = (scope.get("extensions") or {}).get("tls")
    if tls is None and not scope.get(ON_SOCKET, False):
        # In process, there is no TLS handshake, and the client id is enough.
        return
    chain = [*((tls or {}).get("client_cert_chain") or ())]
    if not chain:
        raise ClientRefusedError("The client has presented no certificate")
    if der_of(chain[0]) != der_of(expected):
        raise ClientRefusedError("The certificate is not the one that is registered")
