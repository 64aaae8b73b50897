"""`Reporter`: what happens in a session is counted, logged, and told to those who follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._backoff import logger
from ._events import Closed, Granted, Invalidated, RefreshFailed, Revoked, StateChanged
from ._secrets import fingerprint
from ._states import StateView
from ._token import TokenState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._backoff import Rounds
    from ._errors import RevocationError, TokenRequestError
    from ._events import Event, Observer
    from ._token import TokenInfo


class Reporter:
    """Tells of a session. Events are built only where somebody listens.

    Attributes:
        grants: token requests that brought a token.
        failures: token requests that did not.
        held_total: getters that were ever held.
        invalidations: tokens that were reported dead.
        revocations: tokens revoked at the server.
        same_token_answers: grants that brought the token that was already there.
        last_error: kind and text of the last failure.
        states: the view of those who wait for states; None while nobody does.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)
        self.grants = 0
        self.failures = 0
        self.held_total = 0
        self.invalidations = 0
        self.revocations = 0
        self.same_token_answers = 0
        self.last_error: str | None = None
        self.states = StateView(TokenState.EMPTY) if self._observers else None

    def state_is(self, new: TokenState) -> None:
        """Tell of the state, if it is not the one that was told last."""
        if self.states is None:
            return
        old = self.states.value
        if new is not old:
            self.states._set(new)
            if self._observers:
                self._emit(StateChanged(old, new))

    def granted(self, token: TokenInfo, *, now: float, latency: float) -> None:
        """Tell of a token that getters now get."""
        if self._observers:
            self._emit(
                Granted(
                    fingerprint=fingerprint(token.access_token),
                    lifetime=token.lifetime,
                    expires_in=token.expires_at - now,
                    latency=latency,
                )
            )

    def failed(self, error: TokenRequestError, rounds: Rounds, *, now: float) -> None:
        """Tell of an attempt that brought no token."""
        retry_in = rounds.retry_at - now
        self.failures += 1
        self.last_error = f"{type(error).__name__}: {error}"
        logger.warning("no token; next attempt in %.1f s at the earliest: %s", retry_in, error)
        if self._observers:
            self._emit(
                RefreshFailed(
                    error=self.last_error,
                    attempt=rounds.attempts,
                    consecutive_failures=rounds.consecutive_failures,
                    retry_in=retry_in,
                    round_over=rounds.is_over,
                )
            )

    def invalidated(self, access_token: str) -> None:
        """Tell of a token that was reported dead."""
        self.invalidations += 1
        if self._observers:
            self._emit(Invalidated(fingerprint(access_token)))

    def revoked(self, access_token: str, error: RevocationError | None) -> None:
        """Tell how a revocation ended."""
        if error is None:
            self.revocations += 1
        else:
            self.last_error = f"{type(error).__name__}: {error}"
            logger.warning("%s", error)
        if self._observers:
            self._emit(Revoked(fingerprint(access_token), str(error) if error else None))

    def closed(self) -> None:
        """Tell of the end."""
        if self.states is not None:
            self.states._set(None)
        if self._observers:
            self._emit(Closed())

    def _emit(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:
                logger.error(
                    "an observer raised %s on %s", type(error).__name__, type(event).__name__
                )
