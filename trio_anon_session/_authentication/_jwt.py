"""JWT assertions that the client signs itself (RFC 7523 §2.2 and §3).

This module assembles them. A signature comes from a key or secret, by an algorithm of PyJWT.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

    from ._credentials import AssertionRequest

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_OWN_SETTINGS = {
    "headers": {"alg": "algorithm", "kid": "key_id"},
    "claims": {"aud": "audience", "exp": "lifetime", "iat": "clock_skew"},
}
_MOST_SECONDS = 10**9
_FIXED = {"headers": (), "claims": ("iss", "sub", "jti")}


class JWTSettings:
    """The settings of a client's assertions, checked when the object is created.

    `PrivateKeyJWT` documents the arguments.

    Raises:
        TypeError: an argument has the wrong type.
        ConfigError: an argument has a wrong value.
    """

    __slots__ = ("_audience", "_claims", "_clock_skew", "_header", "_lifetime")

    def __init__(
        self,
        algorithm: str,
        *,
        key_id: str | None = None,
        audience: str | None = None,
        lifetime: float = 60.0,
        headers: Mapping[str, object] = {},
        claims: Mapping[str, object] = {},
        clock_skew: float = 0.0,
    ) -> None:
        _check_text("key_id", key_id)
        _check_text("audience", audience)
        # exp must be later than iat, and both are whole seconds.
        _check_seconds("lifetime", lifetime, least=1)
        _check_seconds("clock_skew", clock_skew, least=0)
        self._audience = audience
        self._lifetime = lifetime
        self._clock_skew = clock_skew
        self._claims = _checked_members("claims", claims)
        # The type of the successor of RFC 7523 (draft-ietf-oauth-rfc7523bis).
        self._header: dict[str, Any] = {"alg": algorithm, "typ": "client-authentication+jwt"}
        if key_id is not None:
            self._header["kid"] = key_id
        self._header |= _checked_members("headers", headers)

    @property
    def identity(self) -> tuple[object, ...]:
        """A hashable value. It is equal for equal settings."""
        members = json.dumps([self._header, self._claims], sort_keys=True)
        return self._audience, self._lifetime, self._clock_skew, members

    def signing_input(self, request: AssertionRequest) -> bytes:
        """Return header and claims of a new assertion, encoded (RFC 7515 §5.1)."""
        now = time.time()
        claims = {
            **self._claims,
            "iss": request.client_id,
            "sub": request.client_id,
            "aud": self._audience or request.issuer or request.token_url,
            # Whole seconds, because some servers accept no fractions.
            "iat": int(now - self._clock_skew),
            "exp": int(now + self._lifetime),
            "jti": secrets.token_hex(16),
        }
        parts = (json.dumps(part, separators=(",", ":")) for part in (self._header, claims))
        return b".".join(_encoded(part.encode()) for part in parts)


def assertion_of(signing_input: bytes, signature: bytes) -> str:
    """Return the assertion, in the compact serialization of RFC 7515 §7.1."""
    return (signing_input + b"." + _encoded(signature)).decode()


def assertion_fields(client_id: str, assertion: str) -> tuple[tuple[str, str], ...]:
    """Return the form fields of a client with an assertion (RFC 7523 §2.2)."""
    return (
        # Optional in RFC 7521 §4.2, but many servers look up the client by it.
        ("client_id", client_id),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    )


def algorithm_of(name: str, user: str) -> Algorithm:
    """Return an algorithm of PyJWT.

    Args:
        name: its name in RFC 7518.
        user: what needs it, for the error message.

    Raises:
        ConfigError: the extra ``jwt`` is not installed.
    """
    missing = None
    try:
        # Imported here, because both are in an extra. Without cryptography, PyJWT has few
        # algorithms.
        import cryptography  # noqa: F401  # only to see whether it is installed
        from jwt.algorithms import get_default_algorithms
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("cryptography", "jwt"):
            raise
    # Raised outside of the except block, so that the error has no context.
    if missing is not None:
        raise ConfigError(
            "auth_method", f"{user} needs {missing}: pip install 'trio_anon_session[jwt]'"
        )
    return get_default_algorithms()[name]


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if not value:
        raise ConfigError(name, "must be a non-empty str or None, got an empty str")


def _check_seconds(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    # No larger number, because the sum with time.time() could overflow. NaN fails, too.
    if not least <= value <= _MOST_SECONDS:
        got = repr(value) if -1e100 < value < 1e100 else type(value).__name__
        raise ConfigError(
            name, f"must be a number of seconds from {least} to {_MOST_SECONDS}, got {got}"
        )


def _checked_members(name: str, members: object) -> dict[str, Any]:
    """Return a copy of further headers or claims."""
    if not isinstance(members, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(members).__name__}")
    for member in members:
        if not isinstance(member, str) or not member:
            raise ConfigError(name, "must have non-empty str names")
        setting = _OWN_SETTINGS[name].get(member)
        if setting is not None:
            raise ConfigError(name, f"must not set {member!r}: use {setting}")
        if member in _FIXED[name]:
            raise ConfigError(name, f"must not set {member!r}: the session sets it")
    try:
        text = json.dumps(dict(members), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = ""
    # As above.
    if not text:
        raise ConfigError(name, "must have only values that JSON has")
    copied: dict[str, Any] = json.loads(text)
    return copied
