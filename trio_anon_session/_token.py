"""Tokens: their data and states, and the parsing of token responses.

The functions are pure, except that `TokenInfo.from_answer` draws the random jitter.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import math
import random
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import attrs

from ._errors import ConfigError
from ._secrets import UnpicklableValue, with_quiet_init, without_locals
from ._values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._config import Config

LIFETIME_LIMIT = 2.0**31
"""Seconds; a longer lifetime is cut to this."""
_SHOWN_SCOPES = 5
_SHOWN_SCOPE = 100
"""The most characters of a scope that are shown."""
_VALUES_LIMIT = 10_000
"""The most commas and opening brackets that a JSON document may have."""


def scopes_not_granted(requested: str | None, granted: str | None) -> list[str]:
    """Return the requested scopes that a token does not have.

    Args:
        requested: the ``scope`` of the token request, or None.
        granted: the ``scope`` of the response. None means that all of it was granted
            (RFC 6749 §5.1).
    """
    if requested is None or granted is None:
        return []
    has = frozenset(granted.split())
    # Microsoft's `.default` stands for all scopes of a client, so no response repeats it.
    return [
        scope
        for scope in dict.fromkeys(requested.split())
        if scope not in has and not scope.endswith("/.default")
    ]


def shown_scopes(scopes: Sequence[str]) -> str:
    """Return a list of scopes as a text of limited length."""
    shown = ", ".join(repr(scope[:_SHOWN_SCOPE]) for scope in scopes[:_SHOWN_SCOPES])
    more = len(scopes) - _SHOWN_SCOPES
    return f"{shown} and {more} more" if more > 0 else shown


class TokenState(enum.Enum):
    """The state of a session's token. At exactly a boundary, the later state holds."""

    EMPTY = "empty"
    """There is no token. Callers wait."""
    FRESH = "fresh"
    """Callers get the token."""
    STALE = "stale"
    """Callers get the token, and a refresh is due."""
    EXPIRED = "expired"
    """Callers wait for a new token."""


def _frozen_copy(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


def _fits_a_header(token: str) -> bool:
    # RFC 6749 App. A.12: 1*VSCHAR. HTTP strips spaces around the value of a header.
    return token.isascii() and token.isprintable() and token == token.strip()


def why_no_access_token(name: str, value: object) -> TypeError | ValueError | None:
    """Return the error for an argument that is not the text of a token, or None.

    It is returned, so that the caller can delete the token before it raises the error.

    Args:
        name: the name of the argument.
        value: the argument.
    """
    if isinstance(value, TokenInfo):
        return TypeError(f"{name} must be a str, not a TokenInfo: pass its access_token")
    if not isinstance(value, str):
        return TypeError(f"{name} must be a str, not {type(value).__name__}: pass an access token")
    if not value:
        return ValueError(f"{name} must be an access token, not an empty str")
    if re.match(r"(?:\s*authorization\s*:)?\s*bearer\s", value, re.IGNORECASE):
        return ValueError(f"{name} must be only the access token, without 'Bearer'")
    return None


@with_quiet_init
@attrs.frozen(eq=False, repr=False)
class TokenInfo(Value, UnpicklableValue):
    """An access token and the times at which its state changes.

    ``sent_at``, ``stale_at`` and ``expires_at`` are times on Trio's clock.

    Attributes:
        access_token: the token. No repr contains it.
        lifetime: how long the server accepts the token, in seconds from ``sent_at``.
        sent_at: when the token request was sent.
        stale_at: when the token becomes STALE, and a refresh is due.
        expires_at: when the token becomes EXPIRED, and callers no longer get it.
        token_type: ``"bearer"``.
        scope: the granted scope, or None if the response has no scope.
        extra: the other fields of the response.
    """

    access_token: str = attrs.field(repr=False)
    lifetime: float
    sent_at: float
    stale_at: float
    expires_at: float
    token_type: str = "bearer"
    scope: str | None = attrs.field(default=None, repr=False)
    extra: Mapping[str, Any] = attrs.field(
        factory=dict, converter=_frozen_copy, repr=False, hash=False
    )

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.access_token, str) or not self.access_token:
            raise ValueError("access_token must be a non-empty str")
        if not _fits_a_header(self.access_token):
            raise ValueError("access_token must be valid in a header (RFC 6749 A.12)")
        for name in ("lifetime", "sent_at", "stale_at", "expires_at"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or math.isnan(value):
                raise ValueError(f"{name} must be a number of seconds")
        if self.stale_at > self.expires_at:
            raise ValueError("stale_at must be no later than expires_at")

    @classmethod
    @without_locals
    def from_answer(
        cls,
        access_token: str,
        lifetime: float,
        sent_at: float,
        config: Config,
        *,
        token_type: str = "bearer",
        scope: str | None = None,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> Self:
        """Return a token whose boundaries follow from the lifetime and the config's buffers.

        At most half the lifetime is used for ``stale_buffer``, and at most a quarter for
        ``expired_buffer``. So a short-lived token is FRESH for half its lifetime. The random
        jitter is drawn once for each token.

        Args:
            access_token: the token.
            lifetime: seconds, more than 0.
            sent_at: when the token request was sent, on Trio's clock.
            config: has ``stale_buffer``, ``expired_buffer`` and ``refresh_jitter``.
            token_type: the ``token_type`` of the response.
            scope: the ``scope`` of the response, or None.
            extra: the other fields of the response.
        """
        expires_at = sent_at + lifetime - min(config.expired_buffer, lifetime / 4)
        stale_at = min(sent_at + lifetime - min(config.stale_buffer, lifetime / 2), expires_at)
        if config.refresh_jitter:
            window = expires_at - stale_at
            stale_at += random.uniform(0.0, min(config.refresh_jitter, window / 2))
        return cls(access_token, lifetime, sent_at, stale_at, expires_at, token_type, scope, extra)


def state_at(token: TokenInfo | None, now: float) -> TokenState:
    """Return the state of a token at a time on Trio's clock."""
    if token is None:
        return TokenState.EMPTY
    if now >= token.expires_at:
        return TokenState.EXPIRED
    if now >= token.stale_at:
        return TokenState.STALE
    return TokenState.FRESH


def is_granted_again(sent_at: float, dropped_sent_at: float, dropped_at: float) -> bool:
    """Return whether the server has granted a token again after it was dropped.

    Args:
        sent_at: when the request was sent that returned the token now. The time is only
            approximate if another process has shared the token.
        dropped_sent_at: when the request was sent that returned the dropped token.
        dropped_at: when the token was dropped.
    """
    return sent_at >= dropped_at and sent_at > dropped_sent_at


def _check_ip(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    wants = "must be an IP address, or several separated by commas"
    # Checked before strip(), because a line break would start another header.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigError(attribute.name, wants)
    for nth, part in enumerate(value.split(","), start=1):
        try:
            address = ipaddress.ip_address(part.strip())
        except ValueError:
            address = None
        if address is None:
            # The value is not shown, because it may be a misplaced secret.
            raise ConfigError(attribute.name, f"{wants}; number {nth} is not an IP address")
        if getattr(address, "scope_id", None):
            raise ConfigError(attribute.name, f"{wants}, without a zone")


@with_quiet_init
@attrs.frozen(eq=False, repr=False)
class TokenRequestOptions(Value):
    """Options of a single token request or revocation.

    Args:
        ip: the IP address of the end user, or several separated by commas. It is sent as
            ``X-Forwarded-For``.

    Raises:
        ConfigError: ``ip`` is not an IP address, or not several separated by commas.
    """

    ip: str | None = attrs.field(default=None, validator=_check_ip)


def check_options(options: object) -> None:
    """Raise TypeError if the argument is neither a TokenRequestOptions nor None."""
    if options is not None and not isinstance(options, TokenRequestOptions):
        raise TypeError(
            f"options must be a TokenRequestOptions or None, not {type(options).__name__}"
        )


class MalformedAnswerError(ValueError):
    """The error for an invalid token response. Its message quotes nothing of the response."""


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body, or None if the body is not a JSON object.

    Accepts a byte order mark and UTF-16, as RFC 8259 §8.1 allows. Never raises, because the errors
    of the json module contain the document, and so the token.

    A document with more than 10,000 values also returns None: parsing 1 MiB of short values takes
    0.1 s.
    """
    if sum(map(body.count, b"[{,")) > _VALUES_LIMIT:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def parse_lifetime(value: object, default: float) -> float:
    """Return the lifetime in seconds for the value of ``expires_in``.

    A number of 1 or more is rounded down, because the server may count whole seconds.

    Raises:
        MalformedAnswerError: the value is neither a positive number nor a string of digits.
    """
    if value is None:
        return default
    # RFC 6749 App. A.14: expires_in = 1*DIGIT. Eleven digits exceed the limit already, and int()
    # raises for a string of more than 4300 digits.
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value.lstrip("0")[:11] or "0")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MalformedAnswerError(f"expires_in is {_kind(value)}")
    if not value > 0 or value == math.inf:
        raise MalformedAnswerError("expires_in is not a positive, finite number")
    lifetime = float(min(value, LIFETIME_LIMIT))
    return float(math.floor(lifetime)) or lifetime


def _kind(value: object) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"


def read_token_answer(fields: Mapping[str, Any], sent_at: float, config: Config) -> TokenInfo:
    """Return the token of a successful response (RFC 6749 §5.1).

    Raises:
        MalformedAnswerError: the response has no usable bearer token.
    """
    access_token = fields.get("access_token")
    if not isinstance(access_token, str):
        raise MalformedAnswerError(f"access_token is {_kind(access_token)}")
    if not access_token:
        raise MalformedAnswerError("access_token is empty")
    if not _fits_a_header(access_token):
        raise MalformedAnswerError("access_token has characters that are not valid in a header")
    token_type = fields.get("token_type")
    if token_type is None:
        token_type = "bearer"
    # RFC 6749 §7.1: a client must not use a token whose type it does not know.
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise MalformedAnswerError("token_type is not bearer")
    scope = fields.get("scope")
    known = {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    return TokenInfo.from_answer(
        access_token,
        parse_lifetime(fields.get("expires_in"), config.default_lifetime),
        sent_at,
        config,
        token_type=token_type,
        scope=scope if isinstance(scope, str) else None,
        # RFC 6749 §4.4.3: the server should not send a refresh token. If it does, it is ignored.
        extra={name: value for name, value in fields.items() if name not in known},
    )
