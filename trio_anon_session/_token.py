"""Tokens: what an answer of the token endpoint says, and what time makes of it.

Everything here is a pure function of its arguments (and, for the jitter, of one draw).
"""

from __future__ import annotations

import enum
import ipaddress
import json
import math
import random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import attrs

from ._errors import ConfigError
from ._secrets import UnpicklableValue, with_quiet_init, without_locals
from ._values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._config import Config

LIFETIME_LIMIT = 2.0**31
"""Seconds; a longer life is taken as this one."""
_VALUES_LIMIT = 10_000
"""Commas and opening brackets of a JSON document."""


class TokenState(enum.Enum):
    """What a token is good for; a boundary belongs to the later state."""

    EMPTY = "empty"
    """There is no token, and getters are held."""
    FRESH = "fresh"
    """Getters get it."""
    STALE = "stale"
    """Getters get it, and a refresh is due."""
    EXPIRED = "expired"
    """Getters are held until there is a new one."""


def _frozen_copy(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


def _fits_a_header(token: str) -> bool:
    # RFC 6749 App. A.12: 1*VSCHAR. Spaces around it would not survive a header.
    return token.isascii() and token.isprintable() and token == token.strip()


@with_quiet_init
@attrs.frozen(eq=False, repr=False)
class TokenInfo(Value, UnpicklableValue):
    """Is one access token and the times of its life.

    ``sent_at``, ``stale_at`` and ``expires_at`` are times of Trio's clock.

    Attributes:
        access_token: shown in no repr.
        lifetime: seconds from ``sent_at`` on for which the server takes the token.
        sent_at: when the grant was sent.
        stale_at: from here on a refresh is due.
        expires_at: from here on the token is not handed out.
        token_type: ``"bearer"``.
        scope: the scope granted, where the answer named one.
        extra: the answer's other fields.
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
        """Return the token with the boundaries that the config's buffers give it.

        The buffers are clamped to a share of the lifetime, so that a short-lived token
        has a fresh half too, and the jitter is drawn here, once for the token's life.

        Args:
            access_token: the token.
            lifetime: seconds, more than 0.
            sent_at: when the grant was sent, on Trio's clock.
            config: gives ``stale_buffer``, ``expired_buffer`` and ``refresh_jitter``.
            token_type: as the server said.
            scope: as the server said.
            extra: the answer's other fields.
        """
        expires_at = sent_at + lifetime - min(config.expired_buffer, lifetime / 4)
        stale_at = min(sent_at + lifetime - min(config.stale_buffer, lifetime / 2), expires_at)
        if config.refresh_jitter:
            window = expires_at - stale_at
            stale_at += random.uniform(0.0, min(config.refresh_jitter, window / 2))
        return cls(access_token, lifetime, sent_at, stale_at, expires_at, token_type, scope, extra)


def state_at(token: TokenInfo | None, now: float) -> TokenState:
    """Return a token's state at a time of Trio's clock."""
    if token is None:
        return TokenState.EMPTY
    if now >= token.expires_at:
        return TokenState.EXPIRED
    if now >= token.stale_at:
        return TokenState.STALE
    return TokenState.FRESH


def is_given_again(sent_at: float, dropped_sent_at: float, dropped_at: float) -> bool:
    """Tell whether a token that was dropped has been granted anew since: its server says it lives.

    Args:
        sent_at: when the grant was sent that brought it now. A copy of an old one knows that
            time only about.
        dropped_sent_at: when the grant was sent that had brought it before.
        dropped_at: when it was dropped.
    """
    return sent_at >= dropped_at and sent_at > dropped_sent_at


def _check_ip(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    wants = "must be an IP address, or several separated by commas"
    # Before anything is stripped: a line break would start another header.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigError(attribute.name, wants)
    for nth, part in enumerate(value.split(","), start=1):
        try:
            address = ipaddress.ip_address(part.strip())
        except ValueError:
            address = None
        if address is None:
            # Not shown: it may be anything, given in the wrong place.
            raise ConfigError(attribute.name, f"{wants}; number {nth} is not an IP address")
        if getattr(address, "scope_id", None):
            raise ConfigError(attribute.name, f"{wants}, without a zone")


@with_quiet_init
@attrs.frozen(eq=False, repr=False)
class TokenRequestOptions(Value):
    """Holds what may be asked of a single token request.

    Args:
        ip: the end user's address, or several separated by commas; goes out as
            ``X-Forwarded-For``.

    Raises:
        ConfigError: for anything that is no address.
    """

    ip: str | None = attrs.field(default=None, validator=_check_ip)


def check_options(options: object) -> None:
    """Raise a TypeError for what is given for options and is none."""
    if options is not None and not isinstance(options, TokenRequestOptions):
        raise TypeError(
            f"options must be a TokenRequestOptions or None, not {type(options).__name__}"
        )


class MalformedAnswerError(ValueError):
    """Says what is wrong with a token answer, without quoting any of it."""


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a body holds, or None where it holds none.

    Takes a byte order mark and UTF-16 (RFC 8259 §8.1 lets a reader). Raises nothing:
    the JSON module's errors hold the document, and with it the token.

    A document of very many values is read as none: a mebibyte of them takes a tenth of a second.
    """
    if sum(map(body.count, b"[{,")) > _VALUES_LIMIT:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def parse_lifetime(value: object, default: float) -> float:
    """Return the seconds that an ``expires_in`` means.

    A fraction is rounded down (but not to nothing), as the server's own clock may have.

    Raises:
        MalformedAnswerError: for anything but a positive number or a string of digits.
    """
    if value is None:
        return default
    # RFC 6749 App. A.14: expires_in = 1*DIGIT. Eleven of them are past the limit already,
    # and int() refuses thousands.
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
    """Return the token in a successful answer (RFC 6749 §5.1).

    Raises:
        MalformedAnswerError: if there is no usable bearer token in it.
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
    # RFC 6749 §7.1: a token of a type that is not understood must not be used.
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
        # RFC 6749 §4.4.3: a refresh token should not come here; one that does is dropped.
        extra={name: value for name, value in fields.items() if name not in known},
    )
