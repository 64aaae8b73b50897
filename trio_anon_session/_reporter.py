"""`Reporter`: the counters, log records and observers of a session.

It makes no decisions: a session without a reporter would behave the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from logging import DEBUG, ERROR, WARNING
from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ._callables import discard_coroutine, lazy_kind
from ._config import Config, secrets_of
from ._errors import message_of
from ._events import (
    Closed,
    Granted,
    Invalidated,
    RefreshFailed,
    Revoked,
    SessionStatistics,
    StateChanged,
)
from ._logging import log, logger
from ._secrets import Secrets, fingerprint
from ._token import TokenState, scopes_not_granted, shown_scopes

if TYPE_CHECKING:
    from ._errors import RevocationError, TokenRequestError
    from ._events import Event, Observer
    from ._rounds import Failure
    from ._states import StateView
    from ._token import TokenInfo

MESSAGE_LIMIT = 1000
"""The most characters of an error message that are kept."""
_TOKENS = 10
"""How many of the last tokens are scrubbed from errors."""


class Reporter:
    """The reports of one session. An event is created only if it is logged or observed.

    Args:
        config: the settings, whose secrets are removed from all reports.
        observers: the callables to notify.
    """

    __slots__ = (
        "_config",
        "_failures",
        "_grants",
        "_invalidations",
        "_is_notifying",
        "_last_error",
        "_observers",
        "_queue",
        "_revocations",
        "_same_token_answers",
        "_state",
        "_tokens",
        "_view",
        "_warned_of_scope",
    )

    def __init__(self, config: Config, observers: Iterable[Observer]) -> None:
        self._observers = checked_observers(observers)
        self._config = config
        # The last tokens, because a server may quote one in an error.
        self._tokens: tuple[Secrets, ...] = ()
        # An observer may cause a new event. That event is reported after the current one, so that
        # all observers get all events in the order in which they happened.
        self._queue: list[Event] = []
        self._is_notifying = False
        self._state = TokenState.EMPTY
        # Created when it is first used.
        self._view: StateView | None = None
        self._grants = 0
        self._failures = 0
        self._invalidations = 0
        self._revocations = 0
        self._same_token_answers = 0
        self._last_error: str | None = None
        self._warned_of_scope = False

    def view(self, state: TokenState | None) -> StateView:
        """Return the view in which callers wait for a state.

        Args:
            state: the state now, or None for a closed session.
        """
        if self._view is None:
            # Imported late, to keep the import of the package fast: see __init__.py.
            from ._states import StateView

            self._view = StateView(state)
        return self._view

    def statistics(
        self,
        *,
        consecutive_failures: int,
        callers_waiting: int,
        callers_total: int,
        state: TokenState,
        expires_in: float | None,
        next_refresh_in: float | None,
    ) -> SessionStatistics:
        """Return the counters, together with these values of the session."""
        return SessionStatistics(
            grants=self._grants,
            failures=self._failures,
            consecutive_failures=consecutive_failures,
            getters_held=callers_waiting,
            getters_held_total=callers_total,
            invalidations=self._invalidations,
            revocations=self._revocations,
            same_token_answers=self._same_token_answers,
            last_error=self._last_error,
            state=state,
            expires_in=expires_in,
            next_refresh_in=next_refresh_in,
        )

    def keep_secret(self, token: TokenInfo) -> None:
        """Hide a token in all reports from now on."""
        self._tokens = (*self._tokens, Secrets(token.access_token))[-_TOKENS:]

    def state_is(self, new: TokenState, *facts: Event) -> None:
        """Report the state, if it has changed, and the events that changed it."""
        old, self._state = self._state, new
        if old is not new and self._is_reported(DEBUG):
            self._queue.append(StateChanged(old, new))
        # All events of one moment are queued before the first observer is called, because an
        # observer may cause further events.
        self._queue.extend(facts)
        try:
            # The view may have been created later, with this state.
            if self._view is not None and self._view.value is not new:
                self._view._set(new)
        finally:
            self._notify()

    def discarded(self) -> None:
        """Count a token that the session does not use: it was dropped during the request."""
        self._grants += 1

    def granted(
        self, token: TokenInfo, new: TokenState, *, is_same: bool, now: float, latency: float
    ) -> None:
        """Report a token that callers get from now on, and the new state."""
        self._grants += 1
        self._same_token_answers += is_same
        facts = []
        if self._is_reported(DEBUG):
            event = Granted(
                fingerprint=fingerprint(token.access_token),
                lifetime=token.lifetime,
                expires_in=token.expires_at - now,
                latency=latency,
            )
            facts.append(event)
        self.state_is(new, *facts)
        self._warn_of_scope(token)

    def failed(self, failure: Failure, *, now: float, latency: float) -> None:
        """Report a failed attempt."""
        self._failures += 1
        error = failure.error
        message = message_of(error)
        if failure.consecutive_failures > 1 and error.next_step:
            # The log has a record for each attempt. Only the first one has the advice.
            message = message.removesuffix(f". {error.next_step}")
        self._last_error = f"{type(error).__name__}: {self._shown(error, message)}"
        # A foreign token manager may have set these attributes to values of any type.
        # A rejection does not end the round if the next attempt has other credentials.
        retryable = bool(error.retryable) or not failure.round_over
        status_code = error.status_code if isinstance(error.status_code, int) else None
        if self._is_reported(_failure_level(retryable=retryable)):
            self._notify(
                RefreshFailed(
                    error=self._last_error,
                    attempt=failure.attempts,
                    consecutive_failures=failure.consecutive_failures,
                    retry_in=failure.retry_at - now,
                    round_over=failure.round_over,
                    latency=latency,
                    kind=type(error).__name__,
                    retryable=retryable,
                    status_code=status_code,
                )
            )

    def _warn_of_scope(self, token: TokenInfo) -> None:
        """Log once that the server granted less than the requested scope."""
        # A foreign token manager may have set a scope of any type.
        if self._warned_of_scope or not isinstance(token.scope, str | None):
            return
        missing = scopes_not_granted(self._config.scope, token.scope)
        if missing:
            self._warned_of_scope = True
            # Only requested scopes are shown. The response could name a secret as a scope.
            log(
                WARNING,
                "client %r: the server granted a narrower scope than requested: %s missing. "
                "Requests that need it fail. Add it to the client's permissions at the server, "
                "or remove it from scope",
                self._config.client_id,
                shown_scopes(missing),
            )

    def invalidated(self, token: TokenInfo, new: TokenState, *, is_shared: bool) -> None:
        """Report that an invalid token was dropped, and the new state.

        Args:
            token: the token.
            new: the new state.
            is_shared: whether another session reported it, and has logged a WARNING.
        """
        self._invalidations += 1
        level = DEBUG if is_shared else WARNING
        facts = [Invalidated(fingerprint(token.access_token))] if self._is_reported(level) else []
        self.state_is(new, *facts)
        for fact in facts:
            text = "client %r: dropped token %s, which was reported invalid"
            log(level, text, self._config.client_id, fact.fingerprint)

    def revoked(self, token: TokenInfo, error: RevocationError | None) -> None:
        """Report how a revocation ended."""
        message = None
        if error is None:
            self._revocations += 1
        else:
            message = self._shown(error, message_of(error))
            self._last_error = f"{type(error).__name__}: {message}"
        if self._is_reported(DEBUG if error is None else WARNING):
            self._notify(Revoked(fingerprint(token.access_token), message))

    def closing(self) -> None:
        """Wake the tasks that wait for a state, because the session ends."""
        if self._view is not None:
            self._view._set(None)

    # So that a KeyboardInterrupt is raised only after the block.
    @enable_ki_protection
    def closed(self) -> None:
        """Report that the session has ended."""
        if self._is_reported(DEBUG):
            self._notify(Closed())

    def _shown(self, error: TokenRequestError, message: str) -> str:
        tokens = Secrets().and_also(*self._tokens)
        if not error._is_scrubbed:
            return secrets_of(self._config).and_also(tokens).quote(message, limit=MESSAGE_LIMIT)
        # The client's secrets are hidden in it already. A short one may be a part of the other
        # words, which are texts of this package.
        return tokens.hide(message, limit=MESSAGE_LIMIT)

    def _is_reported(self, level: int) -> bool:
        return bool(self._observers) or logger.isEnabledFor(level)

    def _notify(self, *events: Event) -> None:
        self._queue.extend(events)
        if self._is_notifying:
            return
        self._is_notifying = True
        try:
            while self._queue:
                self._notify_all(self._queue.pop(0))
        finally:
            # After an interrupt, the remaining events are lost. They are not reported later.
            self._queue.clear()
            self._is_notifying = False

    def _notify_all(self, event: Event) -> None:
        _log_event(event, self._config.client_id)
        for observer in self._observers:
            try:
                answer = observer(event)
            except Exception as error:
                # Only the types, because a foreign message may contain a secret.
                log(
                    ERROR,
                    "an observer raised %s on the event %s; the session continues",
                    type(error).__name__,
                    type(event).__name__,
                )
            else:
                if discard_coroutine(answer):
                    log(
                        ERROR,
                        "an observer must be a plain callable, "
                        "but returned a coroutine on the event %s",
                        type(event).__name__,
                    )


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return observers that a session can call.

    Raises:
        TypeError: `observers` is not an iterable of plain callables.
    """
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        kind = type(observers).__name__
        raise TypeError(f"observers must be an iterable of callables, not {kind}")
    checked = tuple(observers)
    for observer in checked:
        if not callable(observer):
            raise TypeError(f"observers must be callables, not {type(observer).__name__}")
        kind = lazy_kind(observer)
        if kind is not None:
            raise TypeError(
                f"observers must be plain callables, not {kind}: send the events to a memory "
                "channel with send_nowait, and receive them in a task"
            )
    return checked


def _failure_level(*, retryable: bool) -> int:
    """Return the log level of a failure: ERROR if a retry does not help."""
    return WARNING if retryable else ERROR


def _log_event(event: Event, client_id: str) -> None:
    """Write one log record for an event of a client's session.

    Success is logged at DEBUG and nothing is logged at INFO, so a working session writes nothing
    there. Invalid tokens are logged by `Reporter.invalidated`.
    """
    match event:
        case Granted():
            log(
                DEBUG,
                "client %r: got token %s after %.2f s, usable for %.1f s",
                client_id,
                event.fingerprint,
                event.latency,
                event.expires_in,
            )
        case RefreshFailed():
            log(
                _failure_level(retryable=event.retryable),
                "client %r: token request failed, next attempt in %.1f s or later: %s",
                client_id,
                event.retry_in,
                event.error,
            )
        case Revoked(error=None):
            log(DEBUG, "client %r: revoked token %s", client_id, event.fingerprint)
        case Revoked():
            log(WARNING, "client %r: %s", client_id, event.error)
        case StateChanged():
            log(
                DEBUG,
                "client %r: state changed from %s to %s",
                client_id,
                event.old.name,
                event.new.name,
            )
        case Closed():
            log(DEBUG, "client %r: session closed", client_id)
