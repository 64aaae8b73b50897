"""What a session tells about itself: frozen facts, without a token in any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._token import TokenState


@attrs.frozen
class SessionStatistics:
    """Is what :meth:`AnonymousSession.statistics` saw at one moment. Times are seconds.

    Attributes:
        grants: token requests that brought a token, also one that nobody ever got.
        failures: token requests that did not.
        consecutive_failures: those since the last success.
        getters_held: getters held now.
        getters_held_total: getters that were ever held.
        invalidations: tokens dropped because they were reported dead.
        revocations: tokens revoked at the server.
        same_token_answers: grants that brought the token that was already there.
        last_error: kind and text of the last failure, scrubbed.
        state: the state.
        expires_in: time until the token is no longer handed out; None without one.
        next_refresh_in: time until the next grant, 0 while one is under way, None while
            none is planned.
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


@attrs.frozen
class Granted:
    """A grant brought a token that getters now get.

    One that an invalidation or a revocation overtook is told to nobody.

    Attributes:
        fingerprint: a one-way mark of the token.
        lifetime: seconds.
        expires_in: seconds until it is no longer handed out.
        latency: seconds from the sending of the grant.
    """

    fingerprint: str
    lifetime: float
    expires_in: float
    latency: float


@attrs.frozen
class RefreshFailed:
    """An attempt to get a token failed.

    Attributes:
        error: the kind of failure and what was said, scrubbed.
        attempt: how many attempts of the round have failed, at most ``1 + max_retries``; an
            attempt in the background after a failed round counts as the last one of it.
        consecutive_failures: how many attempts have failed since the last success.
        retry_in: seconds until the next attempt may be sent.
        round_over: whether the held getters were told.
        latency: seconds from the sending of the grant.
        kind: the name of the error's class, such as ``"TokenUnavailableError"``.
        retryable: whether the same request may succeed later. Where not, as with rejected
            credentials, somebody has to look.
        status_code: HTTP status, or None where no answer came.
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
    """The current token was dropped because somebody reported it dead."""

    fingerprint: str


@attrs.frozen
class Revoked:
    """A token was revoked at the server, or could not be.

    With ``revoke_on_exit``, what is revoked at the end is told after :class:`Closed`.

    Attributes:
        fingerprint: a one-way mark of the token.
        error: what was said, scrubbed, or None where the token is gone.
    """

    fingerprint: str
    error: str | None


@attrs.frozen
class StateChanged:
    """The session's state is another one now."""

    old: TokenState
    new: TokenState


@attrs.frozen
class Closed:
    """The session's block was left, or the session broke down, and its tasks have ended.

    With ``revoke_on_exit``, :class:`Revoked` may follow, and nothing else.
    """


Event = Granted | RefreshFailed | Invalidated | Revoked | StateChanged | Closed
Observer = Callable[[Event], object]
