"""The check of the client's credentials: it reads or makes them, and sends nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from ..._authentication import AssertionRequest, CredentialsUnavailableError, SecretFile
from ..._authentication._private_key_jwt import PrivateKeyJWT
from ..._config import authentication_of
from ..._environment import BOX
from .._ending import MISCONFIGURED
from .._files import SECRET
from ._assertion import decoded, left_of, problems_of, shown_claims
from ._certificate import check_client_certificate
from ._result import Check, Verdict

if TYPE_CHECKING:
    from ..._config import Config
    from .._settings import Settings
    from ._token import SignedBy

_NAME = "credentials"
_COMPARE = "Compare the claims that the check 'credentials' shows with"
_AFTER_REJECTION = {
    "client_key_file": (
        f"{_COMPARE} the client's registration at the server. kid is --client-key-id "
        "(BOX_CLIENT_KEY_ID). aud is --issuer (BOX_ISSUER), or the token URL without it."
    ),
    "client_assertion_file": (
        f"{_COMPARE} those that the server trusts for this client. All of iss, sub and aud must be "
        "equal, character by character."
    ),
    "client_cert_file": (
        "Compare the subject that the check 'credentials' shows with the client's registration at "
        "the server. If the server publishes metadata, --issuer (BOX_ISSUER) finds its endpoint "
        "for certificates."
    ),
}


def advice_after_rejection(settings: Settings) -> str | None:
    """Return what else to check after ``invalid_client``, which depends on the credentials."""
    advice = _AFTER_REJECTION.get(settings.way or SECRET)
    return advice and advice.replace(BOX, settings.prefix)


def signed_by(config: Config) -> SignedBy | None:
    """Return what signs the client's assertions, or None if it does not sign any itself."""
    if config.auth_method == "client_secret_jwt":
        return "secret"
    return "key" if isinstance(config.auth_method, PrivateKeyJWT) else None


async def check_credentials(settings: Settings, config: Config) -> tuple[Check, bool]:
    """Check that the credentials can be made, and return whether they can be sent."""
    way = settings.way or SECRET
    source = settings.given[way].source
    problem = f"no credentials within {config.request_timeout:g} s ({source})"
    request = AssertionRequest(config.client_id, config.token_url, config.issuer)
    with trio.move_on_after(config.request_timeout):
        try:
            made = await authentication_of(config).credentials(request)
        except CredentialsUnavailableError as error:
            problem = f"{error} ({source})"
        else:
            assertion = dict(made.fields).get("client_assertion", "")
            return _check(settings, config, way, assertion)
    advice = "Check the file, and that this user can read it."
    return Check(_NAME, "failed", problem, advice, MISCONFIGURED), False


def _check(settings: Settings, config: Config, way: str, assertion: str) -> tuple[Check, bool]:
    method = authentication_of(config).method
    source = settings.given[way].source
    now = time.time()
    if way == "client_cert_file":
        certfile = str(settings.given[way].value)
        return check_client_certificate(certfile, f"{method} ({source})", now), True
    parts = decoded(assertion)
    if way == SECRET:
        secret = settings.given[way].value
        found = f"{method} with the secret ({source})"
        if isinstance(secret, SecretFile):
            found += ", which is read for every attempt"
        if parts is not None:
            found += f"; the assertion has {shown_claims(parts[1])}"
        return Check(_NAME, "ok", found), True
    if parts is None:
        found = f"{method}: the file ({source}) does not contain a signed JWT"
        advice = "Check that this is the file with the assertion, and that it has nothing else."
        # Not sent, because another file may contain another secret.
        return Check(_NAME, "failed", found, advice, MISCONFIGURED), False
    header, claims = parts
    if way == "client_key_file":
        found = f"{method} with the key ({source}): {_key_of(settings, header)}"
        return Check(_NAME, "ok", f"{found}; the assertion has {shown_claims(claims)}"), True
    is_over, problems = problems_of(claims, now)
    found = f"{method} with the assertion ({source}): {shown_claims(claims)}{left_of(claims, now)}"
    if not problems:
        return Check(_NAME, "ok", found), True
    words, advice_of_each = zip(*problems, strict=True)
    verdict: Verdict = "failed" if is_over else "warning"
    advice = " ".join(dict.fromkeys(advice_of_each))
    # Also sent if it has expired: the clock of this machine may be wrong.
    return Check(_NAME, verdict, "; ".join((found, *words)), advice, MISCONFIGURED), True


def _key_of(settings: Settings, header: dict[str, object]) -> str:
    """Return what is known about a private key: its type, its algorithm and its id."""
    # Imported here, because it needs an extra.
    from ..._authentication._keys import KeyFile

    algorithm = str(header["alg"])
    _, key = KeyFile(settings.given["client_key_file"].value, None, algorithm).read()
    kid = f"kid {header['kid']!r}" if "kid" in header else "no kid"
    return f"{key.kind}, {algorithm}, {kid}"
