"""The events and statistics of a session. All are frozen, and none contains a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._token import TokenState


@attrs.frozen
class SessionStatistics:
    """A snapshot of a session's counters and state, from :meth:`AnonymousSession.statistics`.

    All times are in seconds.

    Attributes:
        grants: token requests that returned a token, even if no caller got it.
        failures: token requests that failed.
        consecutive_failures: token requests that failed since the last success.
        getters_held: callers that wait now.
        getters_held_total: callers that have waited so far.
        invalidations: tokens dropped because they were reported invalid.
        revocations: tokens revoked at the server.
        same_token_answers: token requests that returned the current token again.
        last_error: type and message of the last error, without secrets.
        state: the state of the token.
        expires_in: time until callers no longer get the token; None without a token.
        next_refresh_in: time until the next token request; 0 during one; None if none is planned.
    """

    grants: int
    failures: int
    consecutive_failures: int
    getters_held: int
    getters_held_total: int
    invalidations: int
    revocations: int
    same_token_answers: int
    last_error: str | None
    state: TokenState
    expires_in: float | None
    next_refresh_in: float | None

    def as_dict(self) -> dict[str, int | float | str | None]:
        """Return all attributes as plain values, for JSON; ``state`` is its lower-case name."""
        return attrs.asdict(self) | {"state": self.state.value}


@attrs.frozen
class Granted:
    """A token request returned a token, which callers get from now on.

    There is no event for a token that was invalidated or revoked during the request.

    Attributes:
        fingerprint: a short one-way hash of the token.
        lifetime: the token's lifetime in seconds.
        expires_in: seconds until callers no longer get the token.
        latency: seconds since the request was sent.
    """

    fingerprint: str
    lifetime: float
    expires_in: float
    latency: float


@attrs.frozen
class RefreshFailed:
    """A token request failed.

    Attributes:
        error: type and message of the error, without secrets.
        attempt: how many attempts of the round have failed, at most ``1 + max_retries``. An
            attempt in the background after a failed round counts as its last one.
        consecutive_failures: how many attempts have failed since the last success.
        retry_in: seconds until the next attempt may be sent.
        round_over: whether the round has failed, and waiting callers get the error.
        latency: seconds since the request was sent.
        kind: the name of the error's class, such as ``"TokenUnavailableError"``.
        retryable: whether the same request may succeed later. If not, as with rejected
            credentials, a person has to fix the cause.
        status_code: the HTTP status, or None without a response.
    """

    error: str
    attempt: int
    consecutive_failures: int
    retry_in: float
    round_over: bool
    latency: float
    kind: str
    retryable: bool
    status_code: int | None


@attrs.frozen
class Invalidated:
    """The current token was dropped, because a caller reported it invalid."""

    fingerprint: str


@attrs.frozen
class Revoked:
    """The revocation of a token at the server succeeded or failed.

    With ``revoke_on_exit``, the revocation at the end comes after :class:`Closed`.

    Attributes:
        fingerprint: a short one-way hash of the token.
        error: the error message without secrets, or None if the token was revoked.
    """

    fingerprint: str
    error: str | None


@attrs.frozen
class StateChanged:
    """The state of the session's token has changed."""

    old: TokenState
    new: TokenState


@attrs.frozen
class Closed:
    """The session's tasks have ended: its block was left, or one of its tasks crashed.

    With ``revoke_on_exit``, :class:`Revoked` may follow. No other event does.
    """


Event = Granted | RefreshFailed | Invalidated | Revoked | StateChanged | Closed
Observer = Callable[[Event], object]
