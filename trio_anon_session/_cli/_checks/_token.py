"""The checks of a token request, the token's lifetime, the clock and the revocation."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from math import ceil
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from ..._config import for_prefix, why_no_revocation
from ..._errors import TokenRequestError
from ..._secrets import fingerprint
from ..._token import TokenInfo, scopes_not_granted, shown_scopes
from ._assertion import FUTURE_LIMIT
from ._result import Check, failed

if TYPE_CHECKING:
    from ..._config import Config
    from ..._manager import TokenManager

SignedBy = Literal["key", "secret"]
_SKEW_LIMIT = 60.0
_WITHOUT_REVOCATION = (
    "Set revoke_url (--revoke-url, BOX_REVOKE_URL) if this server can revoke tokens. Without it, "
    "tokens stay valid until they expire."
)
_NARROWER = (
    "Requests that need these scopes fail. Allow them for this client at the server, or remove "
    "them from scope (--scope, BOX_SCOPE)."
)


async def check_grant(
    manager: TokenManager, config: Config, advice: str | None = None
) -> tuple[Check, TokenInfo | None]:
    """Check that a token request succeeds, and that the token has the requested scope.

    Args:
        manager: the token manager.
        config: its config.
        advice: what else to check if the server rejects the client.
    """
    try:
        token = await manager.get_tokens_client_credentials_grant()
    except TokenRequestError as error:
        check = failed("grant", error)
        if advice is not None and (error.error == "invalid_client" or error.status_code == 401):
            check = attrs.evolve(check, advice=" ".join(filter(None, (check.advice, advice))))
        return check, None
    latency = trio.current_time() - token.sent_at
    granted = f", scope {token.scope!r}" if token.scope else ""
    found = f"received token {fingerprint(token.access_token)} after {latency:.2f} s{granted}"
    missing = scopes_not_granted(config.scope, token.scope)
    if missing:
        found += f"; requested but not granted: {shown_scopes(missing)}"
        return Check("grant", "warning", found, for_prefix(_NARROWER, config)), token
    return Check("grant", "ok", found), token


def check_lifetime(lifetime: float, config: Config) -> Check:
    """Check that a token of this lifetime, in seconds, can be refreshed in time."""
    token = TokenInfo.from_answer("t", lifetime, 0.0, config.replace(refresh_jitter=0.0))
    window = token.expires_at - token.stale_at
    found = (
        f"tokens live {lifetime:g} s: stale after {token.stale_at:g} s, "
        f"expired for the session after {token.expires_at:g} s"
    )
    # The session limits a buffer that is too long, so there is nothing to change.
    if config.stale_buffer > lifetime / 2:
        found += f"; stale_buffer ({config.stale_buffer:g} s) is limited to half the lifetime"
    if config.expired_buffer > lifetime / 4:
        found += f"; expired_buffer ({config.expired_buffer:g} s) is limited to a quarter of it"
    trouble: list[tuple[str, str]] = []
    if lifetime < 2 * config.min_refresh_interval:
        trouble.append(
            (
                "the lifetime is less than twice min_refresh_interval "
                f"({config.min_refresh_interval:g} s), so callers will wait",
                "Lower min_refresh_interval, or configure the server for a longer lifetime.",
            )
        )
    if window < config.request_timeout:
        trouble.append(
            (
                f"a refresh must finish within {window:g} s, but one attempt may take "
                f"{config.request_timeout:g} s, so callers may wait",
                # A stale_buffer over half the lifetime has no effect.
                "Raise stale_buffer, or lower request_timeout."
                if config.stale_buffer < lifetime / 2
                else "Lower request_timeout, or configure the server for a longer lifetime.",
            )
        )
    if not trouble:
        return Check("lifetime", "ok", found)
    found = "; ".join([found, *(what for what, _ in trouble)])
    return Check("lifetime", "warning", found, " ".join(advice for _, advice in trouble))


def check_clock(
    date: str | None, sent_at: float, now: float, signed_by: SignedBy | None = None
) -> Check:
    """Compare this machine's clock with the date of a response.

    Args:
        date: the ``Date`` header of the response, or None.
        sent_at: wall-clock time at which the request was sent.
        now: wall-clock time at which the response had arrived.
        signed_by: what signs the client's assertions, which contain the time, or None.
    """
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return Check("clock", "skipped", "the response has no valid Date header")
    # The server set the date between `sent_at` and `now`, in whole seconds.
    ahead = max(0.0, sent_at - there - 1.0) or min(0.0, now - there)
    if abs(ahead) <= (_SKEW_LIMIT if signed_by is None else FUTURE_LIMIT):
        return Check("clock", "ok", "this machine's clock agrees with the server's")
    found = (
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
        "the server's"
    )
    advice = "Set the clock. Tokens do not depend on it, but certificates and signed requests do."
    if signed_by is not None and ahead > 0:
        advice = "Set the clock. Some servers refuse an assertion from the future (iat)."
        if signed_by == "key":
            advice += f" In a program, you can set PrivateKeyJWT(..., clock_skew={ceil(ahead)})."
    elif signed_by is not None:
        advice = "Set the clock. A server may think that an assertion has expired (exp)."
    return Check("clock", "warning", found, advice)


async def check_revocation(manager: TokenManager, config: Config, access_token: str) -> Check:
    """Check that the token can be revoked."""
    name = "revocation"
    found, advice = why_no_revocation(config), for_prefix(_WITHOUT_REVOCATION, config)
    if found is not None:
        return Check(name, "warning", found, advice)
    try:
        await manager.revoke_tokens(access_token)
    except TokenRequestError as error:
        if error.status_code in (404, 405):
            found = f"no revocation endpoint at {config.revoke_url}: status {error.status_code}"
            return Check(name, "warning", found, advice)
        return failed(name, error)
    return Check(name, "ok", f"token {fingerprint(access_token)} was revoked")
