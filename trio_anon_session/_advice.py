"""What to do about an error of a token endpoint, in one sentence.

The advice depends only on the error code, the status, the kind of network failure and the config.
It never uses text of the server, which varies and may contain a secret.
"""

from __future__ import annotations

import ssl
from errno import EHOSTUNREACH, ENETDOWN, ENETUNREACH
from socket import gaierror
from typing import TYPE_CHECKING

import httpx

from ._authentication import ClientAuthentication
from ._checks import is_box
from ._config import authentication_of, for_prefix
from ._errors import MalformedTokenResponseError, RevocationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._config import Config
    from ._errors import NetworkFailure, TokenRequestError

_CREDENTIALS = ClientAuthentication.advice
"""`next_step` replaces it by the advice of the client's own way to authenticate."""
_SUBJECT = "box_subject_type and box_subject_id (BOX_SUBJECT_TYPE, BOX_SUBJECT_ID)"
ENDPOINT = "token_url (BOX_TOKEN_URL) or api_root_url (BOX_API_ROOT_URL)"
_TEMPORARY = "Try again later: this may be temporary, and an open session retries by itself."

_TEMPORARY_STATUSES = frozenset({408, 425, 429})

BY_NETWORK_FAILURE: dict[NetworkFailure, str] = {
    "name": f"Check the host name in {ENDPOINT}, and check that DNS works on this machine.",
    "refused": f"No server listens there: check host and port in {ENDPOINT}, or start the server.",
    "no_route": "Check this machine's network: it has no route to the host.",
    "certificate": (
        "Check the host name and the server's certificate; for a private CA, set SSL_CERT_FILE "
        "to a file with the CA's certificate."
    ),
    "tls": (
        f"Check scheme and port in {ENDPOINT}, and whether the server requires a client "
        "certificate: the TLS handshake with that server failed."
    ),
    "timeout": "Check the network and the proxy, or raise request_timeout.",
    "proxy": "Check the proxy variables (HTTPS_PROXY, ALL_PROXY, NO_PROXY).",
}
"""The advice for each kind of failure without a response."""

FOR_CERTIFICATE = (
    f"Check {_CREDENTIALS}; create an http_client of yours with verify=auth_method.ssl_context()."
)
"""The advice if the server may have refused the client's certificate."""

AT_BOX_WITHOUT_SUBJECT = {
    "invalid_client": (
        f"Check {_CREDENTIALS}; if they are correct, set {_SUBJECT}, which most apps need."
    ),
    "unauthorized_client": (
        f"Set {_SUBJECT}, which most apps need, and enable the client credentials grant for "
        "the app in Box's developer console."
    ),
    "invalid_grant": (
        f"Set {_SUBJECT}, which most apps need, and check that an admin has authorized the app."
    ),
}
"""The advice for each error code of Box, if the request has no subject."""

AT_BOX = {
    "invalid_client": f"Check {_CREDENTIALS} against the app's page in Box's developer console.",
    "unauthorized_client": (
        f"Have an admin of the enterprise authorize the app, and check {_SUBJECT}."
    ),
    "invalid_grant": (
        f"Check {_CREDENTIALS} and {_SUBJECT}, and that an admin has authorized the app."
    ),
}
"""The advice for each error code of Box."""

BY_CODE = {
    "invalid_client": (
        f"Check {_CREDENTIALS}, and whether the server needs another auth_method (BOX_AUTH_METHOD)."
    ),
    "unauthorized_client": "Enable the client_credentials grant for this client on the server.",
    "invalid_grant": f"Check {_CREDENTIALS}, and that this client may use the grant.",
    "invalid_request": "Check scope and extra_params: a field is wrong or missing.",
    "unsupported_grant_type": f"Check {ENDPOINT}: this server does not offer client_credentials.",
    "invalid_resource": "Check resource in extra_params.",
    "invalid_target": "Check resource and audience in extra_params.",
    "access_denied": "Ask the enterprise's admin: a policy forbids this.",
    "service_blocked": "Ask the enterprise's admin: a policy blocks this service.",
    "access_from_location_blocked": "Ask the enterprise's admin to allow this location.",
    "error_access_from_ip_not_allowed": "Ask the enterprise's admin to allow this IP address.",
    "account_deactivated": "Activate the account, or set box_subject_id to another one.",
    "password_reset_required": "Log in as that user and set a new password.",
    "terms_of_service_required": "Log in as that user and accept the terms of service.",
    "unauthorized_device": "Ask the enterprise's admin to allow this device.",
    "temporarily_unavailable": _TEMPORARY,
    "server_error": _TEMPORARY,
    "rate_limit_exceeded": "Wait, and share one session among all tasks, to request fewer tokens.",
}
"""The advice for each error code."""

BY_STATUS = {
    401: f"Check {_CREDENTIALS}, and auth_method (BOX_AUTH_METHOD).",
    403: f"Check {_CREDENTIALS}, and that the server allows this machine.",
    404: f"Check {ENDPOINT}: there is no token endpoint at this URL.",
    405: f"Check {ENDPOINT}: there is no token endpoint at this URL.",
    429: BY_CODE["rate_limit_exceeded"],
}
"""The advice for each status, if the error code has no advice."""


def next_step(error: TokenRequestError, config: Config) -> str | None:
    """Return what to do about an error of a token endpoint, or None if there is no advice.

    Args:
        error: the error of the token manager.
        config: the settings of the token manager.
    """
    way = authentication_of(config)
    if way.ssl_context() is not None and _may_refuse_certificate(error):
        step: str | None = FOR_CERTIFICATE
    elif error.network_failure is not None:
        step = BY_NETWORK_FAILURE[error.network_failure]
    elif error.status_code is not None:
        step = _of_answer(error, error.status_code, config)
    else:
        step = None
    step = step and step.replace(_CREDENTIALS, way.advice)
    if step is not None and isinstance(error, RevocationError):
        step = step.replace("token_url (BOX_TOKEN_URL)", "revoke_url (BOX_REVOKE_URL)")
    return step and for_prefix(step, config)


def _may_refuse_certificate(error: TokenRequestError) -> bool:
    if error.status_code is None:
        # With TLS 1.3, a client may see only that the connection broke after the handshake.
        return error.retryable and error.network_failure in ("tls", None)
    # nginx answers with a web page.
    return error.status_code == 400 and error.error is None


def next_step_for_issuer(error: TokenRequestError) -> str:
    """Return what to do about an error of the server that publishes an issuer's metadata."""
    if error.network_failure is not None:
        return BY_NETWORK_FAILURE[error.network_failure].replace(ENDPOINT, "issuer")
    return "Try again later: this may be temporary."


def _of_answer(error: TokenRequestError, status: int, config: Config) -> str | None:
    if isinstance(error, MalformedTokenResponseError):
        return f"Check {ENDPOINT}: a proxy or a web page may have answered instead."
    if isinstance(error, RevocationError) and error.error == "invalid_request":
        # Box sends this if the client of a revocation is unknown.
        return f"Check {_CREDENTIALS}."
    # The status of a server error counts, whatever error code the body has.
    if status >= 500 or status in _TEMPORARY_STATUSES:
        return BY_STATUS.get(status, _TEMPORARY)
    return _by_code(error.error, config) or _by_status(status)


def _by_code(code: str | None, config: Config) -> str | None:
    if code is None:
        return None
    if code == "invalid_scope":
        scopes = "other scopes, or none" if config.scope else "scopes that this client may have"
        return f"Request {scopes} (scope, BOX_SCOPE)."
    if is_box(httpx.URL(config.token_url)):
        method = authentication_of(config).method
        if code == "invalid_client" and method != "client_secret_post":
            return "Set auth_method (BOX_AUTH_METHOD) to 'client_secret_post', which Box requires."
        if code == "invalid_request" and config.box_subject_type == "user":
            return "Enable user access tokens for the app in Box's developer console."
        at_box = AT_BOX if config.box_subject_type else AT_BOX_WITHOUT_SUBJECT
        if code in at_box:
            return at_box[code]
    return BY_CODE.get(code)


def _by_status(status: int) -> str | None:
    if 300 <= status < 400:
        return f"Check {ENDPOINT}: redirects of token requests are never followed."
    return BY_STATUS.get(status)


def kind_of(error: BaseException) -> NetworkFailure | None:
    """Return the kind of network failure that caused an error, or None. It is never a proxy's."""
    # A host may have several addresses. A refusal by one of them says more than a missing route
    # to another.
    found = {_kind_of_one(link) for link in _links(error)}
    order: tuple[NetworkFailure, ...] = ("certificate", "tls", "name", "refused", "no_route")
    return next((kind for kind in order if kind in found), None)


def _kind_of_one(error: BaseException) -> NetworkFailure | None:
    match error:
        case ssl.SSLCertVerificationError():
            return "certificate"
        case ssl.SSLError():
            return "tls"
        case gaierror():
            return "name"
        case ConnectionRefusedError():
            return "refused"
        case OSError(errno=code) if code in (ENETUNREACH, EHOSTUNREACH, ENETDOWN):
            return "no_route"
    return None


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes and contexts, each once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            todo += link.exceptions
