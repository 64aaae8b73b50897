"""`Reporter`: what happens in a session is counted, logged, and told to those who follow it."""

from __future__ import annotations

from collections.abc import Iterable
from logging import DEBUG, ERROR, WARNING
from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ._callables import discard_coroutine, lazy_kind
from ._errors import words_of
from ._events import Closed, Granted, Invalidated, RefreshFailed, Revoked, StateChanged
from ._logging import log, logger
from ._secrets import fingerprint
from ._token import TokenState

if TYPE_CHECKING:
    from ._backoff import Rounds
    from ._errors import RevocationError, TokenRequestError
    from ._events import Event, Observer
    from ._secrets import Secrets
    from ._states import StateView
    from ._token import TokenInfo

WORDS_LIMIT = 1000
"""Characters that are kept of what an error says."""


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

    __slots__ = (
        "_is_telling",
        "_observers",
        "_state",
        "_to_tell",
        "failures",
        "grants",
        "held_total",
        "invalidations",
        "last_error",
        "revocations",
        "same_token_answers",
        "states",
    )

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = checked_observers(observers)
        # What an observer does may be an event, too, and is told after the one that it is
        # being told of: all hear of all in the order in which it happened.
        self._to_tell: list[Event] = []
        self._is_telling = False
        self._state = TokenState.EMPTY
        self.grants = 0
        self.failures = 0
        self.held_total = 0
        self.invalidations = 0
        self.revocations = 0
        self.same_token_answers = 0
        self.last_error: str | None = None
        self.states: StateView | None = None

    def state_is(self, new: TokenState, *facts: Event) -> None:
        """Tell of the state, if it is not the one that was told last, and of what changed it."""
        old, self._state = self._state, new
        if old is not new and self._is_heard(DEBUG):
            self._to_tell.append(StateChanged(old, new))
        # All of one moment are in line before anybody is called, who may act on the first.
        self._to_tell.extend(facts)
        try:
            # The view may have been made since, and have seen more.
            if self.states is not None and self.states.value is not new:
                self.states._set(new)
        finally:
            self._tell()

    def granted(self, token: TokenInfo, new: TokenState, *, now: float, latency: float) -> None:
        """Tell of a token that getters now get, and of the state that it brought."""
        facts = []
        if self._is_heard(DEBUG):
            told = Granted(
                fingerprint=fingerprint(token.access_token),
                lifetime=token.lifetime,
                expires_in=token.expires_at - now,
                latency=latency,
            )
            facts.append(told)
        self.state_is(new, *facts)

    def failed(
        self,
        error: TokenRequestError,
        rounds: Rounds,
        secrets: Secrets,
        *,
        now: float,
        latency: float,
    ) -> None:
        """Tell of an attempt that brought no token."""
        self.failures += 1
        said = words_of(error)
        if rounds.consecutive_failures > 1 and error.next_step:
            # Said once is enough in a log that has a line for each attempt.
            said = said.removesuffix(f". {error.next_step}")
        self.last_error = f"{type(error).__name__}: {_shown(error, said, secrets)}"
        # A token manager of somebody else's may have put anything there.
        retryable = bool(error.retryable)
        status_code = error.status_code if isinstance(error.status_code, int) else None
        if self._is_heard(_failure_level(retryable=retryable)):
            self._tell(
                RefreshFailed(
                    error=self.last_error,
                    attempt=rounds.attempts,
                    consecutive_failures=rounds.consecutive_failures,
                    retry_in=rounds.retry_at - now,
                    round_over=rounds.is_over,
                    latency=latency,
                    kind=type(error).__name__,
                    retryable=retryable,
                    status_code=status_code,
                )
            )

    def invalidated(self, token: TokenInfo, new: TokenState) -> None:
        """Tell of a token that was reported dead, and of the state without it."""
        self.invalidations += 1
        facts = [Invalidated(fingerprint(token.access_token))] if self._is_heard(DEBUG) else []
        self.state_is(new, *facts)

    def revoked(self, token: TokenInfo, error: RevocationError | None, secrets: Secrets) -> None:
        """Tell how a revocation ended."""
        said = None
        if error is None:
            self.revocations += 1
        else:
            said = _shown(error, words_of(error), secrets)
            self.last_error = f"{type(error).__name__}: {said}"
        if self._is_heard(DEBUG if error is None else WARNING):
            self._tell(Revoked(fingerprint(token.access_token), said))

    # An interrupt from the keyboard waits until the block is left.
    @enable_ki_protection
    def closed(self) -> None:
        """Tell of the end."""
        if self._is_heard(DEBUG):
            self._tell(Closed())

    def _is_heard(self, level: int) -> bool:
        return bool(self._observers) or logger.isEnabledFor(level)

    def _tell(self, *events: Event) -> None:
        self._to_tell.extend(events)
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._to_tell:
                self._tell_all(self._to_tell.pop(0))
        finally:
            # An interrupt leaves what came after it untold, and not for the next event to tell.
            self._to_tell.clear()
            self._is_telling = False

    def _tell_all(self, event: Event) -> None:
        _log_event(event)
        for observer in self._observers:
            try:
                answer = observer(event)
            except Exception as error:
                # Types alone: the words of others may show anything.
                log(
                    ERROR,
                    "an observer raised %s on %s",
                    type(error).__name__,
                    type(event).__name__,
                )
            else:
                if discard_coroutine(answer):
                    log(
                        ERROR,
                        "an observer returned a coroutine on %s: it must be a plain callable",
                        type(event).__name__,
                    )


def _shown(error: TokenRequestError, said: str, secrets: Secrets) -> str:
    scrub = secrets.hide if error._is_scrubbed else secrets.quote
    return scrub(said, limit=WORDS_LIMIT)


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
    """Return the level of a failure: ERROR where a retry does not help."""
    return WARNING if retryable else ERROR


def _log_event(event: Event) -> None:
    """Write one record of an event.

    Success is logged at DEBUG, and nothing at INFO: a session that works is quiet.
    """
    match event:
        case Granted():
            log(
                DEBUG,
                "token %s came after %.2f s, and is good for %.1f s",
                event.fingerprint,
                event.latency,
                event.expires_in,
            )
        case RefreshFailed():
            log(
                _failure_level(retryable=event.retryable),
                "no new token; next attempt in %.1f s at the earliest: %s",
                event.retry_in,
                event.error,
            )
        case Invalidated():
            log(DEBUG, "token %s was reported dead, and is dropped", event.fingerprint)
        case Revoked(error=None):
            log(DEBUG, "token %s was revoked", event.fingerprint)
        case Revoked():
            log(WARNING, "%s", event.error)
        case StateChanged():
            log(DEBUG, "the session is %s, and was %s", event.new.name, event.old.name)
        case Closed():
            log(DEBUG, "the session is closed")
