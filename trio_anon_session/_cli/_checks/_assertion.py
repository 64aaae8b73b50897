"""What is in an assertion. Its signature is neither verified nor shown."""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING, Any

from ..._token import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 200
"""The most characters of a claim that are shown."""
_LONG_LIFETIME = 86400.0
"""Seconds. Some servers refuse assertions that are valid for longer."""
FUTURE_LIMIT = 5.0
"""Seconds by which a clock may be ahead. Some servers refuse an assertion from the future."""
_LATEST = 1e11
"""A time that is far in the future, in seconds since 1970."""


def decoded(assertion: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return header and claims of a signed JWT (RFC 7519 §3), or None if it is not one."""
    parts = assertion.split(".")
    if len(parts) != 3 or not all(parts):
        return None
    header, claims = map(_object_in, parts[:2])
    return None if header is None or claims is None else (header, claims)


def _object_in(part: str) -> dict[str, Any] | None:
    # b64decode accepts both alphabets, and Python 3.15 warns about that. A JWT has only one.
    if "+" in part or "/" in part:
        return None
    try:
        content = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return parse_object(content)


def shown_claims(claims: Mapping[str, Any]) -> str:
    """Return the claims that a server compares. They are not secret."""
    names = [name for name in ("iss", "sub", "aud") if name in claims]
    return ", ".join(f"{name} {_shown(claims[name])}" for name in names)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value[:5]) + "]"
    if not isinstance(value, str):
        return f"(a JSON {type(value).__name__})"
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")


def problems_of(claims: Mapping[str, Any], now: float) -> tuple[bool, list[tuple[str, str]]]:
    """Return whether an assertion has expired, and its problems, each with advice.

    Args:
        claims: the claims.
        now: wall-clock time.
    """
    found: list[tuple[str, str]] = []
    missing = [name for name in ("iss", "sub", "aud", "exp") if name not in claims]
    if missing:
        advice = "Servers refuse an assertion without these claims (RFC 7523 §3): ask its issuer."
        found.append((f"it has no {', '.join(missing)}", advice))
    ends_at = _time_in(claims, "exp")
    is_over = ends_at is not None and ends_at <= now
    if ends_at is None and "exp" in claims:
        found.append(("its exp is not a valid time", "Ask the issuer of the assertion."))
    elif ends_at is not None and is_over:
        advice = (
            "Check that the platform still replaces the file, and that this machine's clock is "
            "right."
        )
        found.append((f"it expired {_span(now - ends_at)} ago", advice))
    elif ends_at is not None and ends_at - now > _LONG_LIFETIME:
        advice = (
            "Some servers refuse this. Request a shorter lifetime from the platform, such as an "
            "hour (expirationSeconds in Kubernetes)."
        )
        found.append(("that is more than a day", advice))
    for name in ("iat", "nbf"):
        at = _time_in(claims, name)
        if at is not None and at - now > FUTURE_LIMIT:
            problem = f"its {name} is {_span(at - now)} in the future"
            found.append((problem, "Check this machine's clock."))
    return is_over, found


def left_of(claims: Mapping[str, Any], now: float) -> str:
    """Return for how long an assertion is still valid."""
    ends_at = _time_in(claims, "exp")
    return "" if ends_at is None or ends_at <= now else f", valid for {_span(ends_at - now)}"


def _time_in(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A huge int cannot be converted to float.
    return float(value) if -_LATEST < value < _LATEST else None


def _span(seconds: float) -> str:
    """Return a duration in its largest unit."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{math.floor(seconds / unit)} {name}"
    return f"{math.ceil(seconds)} seconds"
