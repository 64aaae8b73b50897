"""`Claimant`: the facts of one process about the shared token, and its decisions.

This module is pure, like `_lifecycle`: no Trio call, no clock, no log record, no I/O. Each method
of `Claimant` is a question or an event. An event receives the time and changes the facts before it
returns. `SharedTokenManager` asks the store and the endpoint, and does the waiting.

The life of a question
    A session asks for a token. ``ask`` begins a `Question`. The manager looks at the store and
    passes the result to ``see`` and then to ``decide``, which returns one of

    =============  =================================================================================
    `Use`          this token is the answer
    `Claim`        take the lease; then request a token, or call ``claim_failed``
    `Wait`         look again when there is news, but at the latest after some seconds
    `AskDirectly`  request a token without the store
    =============  =================================================================================

    or raises the error that another process received from the token endpoint. Looks repeat until
    there is an answer.

The life of an attempt
    The process with the lease requests a token, and then puts it into the store or releases the
    lease. A lease has a fence: the version that the store gave it. A token that is put under
    another fence than the last one is not kept. So a process that was stopped and continues late
    changes nothing. The next look shows what other processes have done during this time.

The life of a drop
    A token that is reported as revoked or invalid is dropped: no process must use it any longer.
    This process reports the drop to the store. The others see it with their next look. A store can
    lose drops. So each look compares, and a process that knows a missing drop reports it again.

The life of a process
    A claimant belongs to one Trio run, because all its times are on that run's clock.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

import attrs

from .._errors import TokenRequestError
from .._token import TokenInfo, TokenState, state_at
from ._known import KnownTokens
from ._protocol import POLL_INTERVAL
from ._records import (
    ForeignRecordError,
    LaterFormatError,
    failure_record,
    mark_of,
    read_failure_record,
    read_token_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._config import Config
    from .._lifecycle import Moment
    from .._rounds import Schedule
    from ._known import Asked
    from ._protocol import Look, StoredFailure, StoredToken

LEASE = 5.0
"""Seconds. A holder that dies delays the others by at most this time. A running one renews it."""
RECOVERY_TIME = 5.0
"""Seconds that a failed store gets to recover, while this process has a usable token."""
_MAX_ATTEMPTS_AWAITED = 3
"""Attempts of other processes without a result, one after another, for which a question waits."""
_REFRESH_SPREAD = 0.1
"""Share of the stale window by which processes that took a token over delay its refresh."""


class Trouble(enum.Enum):
    """A problem with the content of the store."""

    FOREIGN = "foreign"
    """Its token belongs to another configuration."""
    LATER = "later"
    """A later version of this package wrote its token."""
    GARBAGE = "garbage"
    """Its record does not contain a token."""
    STUCK = "stuck"
    """A lease does not end."""


@attrs.frozen
class Use:
    """Decision: return this token."""

    token: TokenInfo


@attrs.frozen
class Claim:
    """Decision: take the lease.

    Attributes:
        version: version of the look. The claim fails if the store has another version by then.
        failures: number of failed attempts of the fleet in a row.
        trouble: problem with the record that the new token will overwrite.
    """

    version: int
    failures: int = 0
    trouble: Trouble | None = None


@attrs.frozen
class Wait:
    """Decision: wait for a notification, but at most this many seconds, and look again."""

    seconds: float


@attrs.frozen
class AskDirectly:
    """Decision: request a token without the store."""

    trouble: Trouble


Decision = Use | Claim | Wait | AskDirectly


class Question:
    """One request for a token, from a session to its manager.

    Attributes:
        last_at: when it stops waiting in any case.
        give_up_at: when it stops waiting for a change of the version that it saw last.
        version: version of its last look.
        awaited: fence of the first attempt whose failure counts as its answer.
        missed: version of its last claim that came too late.
        was_overtaken: whether the store rejected a token that it requested.
    """

    __slots__ = ("awaited", "give_up_at", "last_at", "missed", "version", "was_overtaken")

    def __init__(self, last_at: float) -> None:
        self.last_at = last_at
        self.give_up_at = math.inf
        self.version: int | None = None
        self.awaited: int | None = None
        self.missed: int | None = None
        self.was_overtaken = False


class Claimant:
    """The decisions of one process about the shared token.

    Args:
        config: the settings.
        schedule: the pauses after failed attempts.
        draw: returns a random number between two others.

    Attributes:
        known: the tokens that this process has used, and those that were dropped.
    """

    __slots__ = ("_config", "_draw", "_failure_met", "_schedule", "_sent_at", "known")

    def __init__(
        self, config: Config, schedule: Schedule, draw: Callable[[float, float], float]
    ) -> None:
        self._config = config
        self._schedule = schedule
        self._draw = draw
        self.known = KnownTokens(config.default_lifetime)
        self._sent_at = -math.inf
        # The fence of the last failure that this process saw, and when it first saw that failure.
        self._failure_met = (0, -math.inf)

    # Queries, which change nothing

    @property
    def gap_ends_at(self) -> float:
        """When this process may request a token again, on Trio's clock."""
        return self._sent_at + self._config.min_refresh_interval

    def can_wait_for_store(self, failed_at: float, took: float, at: Moment) -> bool:
        """Return whether this process can wait for a failed store to recover.

        Without this wait, each process would request its own token when the store restarts.

        Args:
            failed_at: when the store began to fail, on Trio's clock.
            took: seconds until the last request to the store failed.
            at: the time.
        """
        waited, left = at.now - failed_at, self.known.stale_for(at)
        # Leave half of the time for the token request, even if the next try fails as slowly.
        return waited < RECOVERY_TIME and waited + POLL_INTERVAL + took < (waited + left) / 2

    # What the store shows

    def see(self, seen: Look, asked_at: float, asked: Asked, at: Moment) -> list[TokenInfo]:
        """Receive a look, and return the tokens of this process that others have dropped.

        Args:
            seen: result of the look.
            asked_at: when the look began, on Trio's clock.
            asked: the tokens that the look asked about.
            at: the time.
        """
        dropped = self.known.drop(seen.dead, asked, at)
        self.known.compare(seen, asked_at, asked, at)
        return dropped

    # Questions of a session

    def ask(self, at: Moment) -> Question:
        """Begin a question."""
        return Question(at.now + _MAX_ATTEMPTS_AWAITED * self._patience)

    def decide(self, question: Question, seen: Look, asked_at: float, at: Moment) -> Decision:
        """Return what to do next for a question.

        Raises:
            TokenRequestError: the attempt for which the question waited has failed, or the token
                endpoint has asked another process to retry later.
        """
        if seen.version != question.version:
            question.version = seen.version
            question.give_up_at = min(at.now + self._patience, question.last_at)
        try:
            token, trouble = self._take_over(seen.token, asked_at, at)
        except ForeignRecordError:
            return AskDirectly(Trouble.FOREIGN)
        except LaterFormatError:
            return AskDirectly(Trouble.LATER)
        if token is not None:
            return Use(token)
        if question.awaited is None:
            # If an attempt is already running, its failure counts too, as for a caller that joins a
            # round.
            question.awaited = seen.version + (seen.leased_for <= 0)
        failures, pause = self._meet_failure(seen.failure, question.awaited, at)
        # No lease is longer than `LEASE`, so ignore a larger number from the store.
        leased_for = min(seen.leased_for, LEASE)
        blocked_for = max(leased_for, pause, self.gap_ends_at - at.now)
        if blocked_for <= 0:
            return Claim(seen.version, failures, trouble)
        return self._wait(question, blocked_for, at)

    def claim_failed(self, question: Question, at: Moment) -> Decision:
        """Return what to do after another process was faster with its claim."""
        is_first, question.missed = question.missed != question.version, question.version
        if is_first and at.now < question.last_at:
            # Another process was faster, so this question can wait for the result of its attempt.
            # Otherwise, all waiting processes would request tokens directly when a lease ends late.
            return Wait(0.0)
        return self._wait(question, 0.0, at)

    def _wait(self, question: Question, seconds: float, at: Moment) -> Decision:
        # Give up only after a look and a claim. The process may have been suspended for a long time
        # before them.
        if at.now >= question.give_up_at:
            return AskDirectly(Trouble.STUCK)
        return Wait(seconds)

    @property
    def _patience(self) -> float:
        """Longest duration of an attempt in seconds. The next attempt has another version."""
        return self._config.request_timeout + LEASE

    # Token requests

    def send(self, at: Moment) -> None:
        """Record that this process requests a token."""
        self._sent_at = at.now

    def hand_out(self, answer: object, at: Moment) -> None:
        """Record that a session receives the answer of the token endpoint."""
        # The session raises an error for any other answer.
        if isinstance(answer, TokenInfo):
            self.known.hand_out(answer, at)

    def failure_to_leave(
        self, failures: int, outcome: object, at: Moment
    ) -> tuple[str | None, float]:
        """Return what to record in the store about a failed attempt.

        Args:
            failures: number of failed attempts of the fleet before this one.
            outcome: the answer of the token endpoint, or the error.
            at: the time.

        Returns:
            A record or None, and the seconds during which no process must try again.
        """
        if not (isinstance(outcome, TokenRequestError) and outcome.retryable):
            return None, 0.0
        pause = 0.0
        if outcome.status_code is not None:
            # An answer of the endpoint concerns the whole fleet. A failed connection may concern
            # only this process, and a rejection only its client secret.
            pause = self._schedule.background_pause(failures + 1, outcome)
            if outcome.retry_after is None:
                # Keep it shorter than the pause of the session. Otherwise the session's next
                # attempt would still see this failure.
                pause /= 3
            pause = max(pause, self.gap_ends_at - at.now)
        return failure_record(outcome, failures + 1, self._config), pause

    # Helpers

    def _take_over(
        self, stored: StoredToken | None, asked_at: float, at: Moment
    ) -> tuple[TokenInfo | None, Trouble | None]:
        """Return the store's token if it can be used, or None, and a problem with it if any."""
        if stored is None:
            return None, None
        # The age counts from the start of the look. A negative age is an error of the store.
        sent_at = asked_at - max(0.0, stored.age)
        if self.known.is_dropped(stored.mark, sent_at):
            return None, None
        known = self.known.get(stored.mark, sent_at, at)
        token = self._read(stored, sent_at) if known is None else known
        if token is None:
            return None, Trouble.GARBAGE
        match state_at(token, at.now):
            case TokenState.EXPIRED:
                return None, None
            case TokenState.STALE if known is not None:
                # This process already has the token, and needs a new one.
                return None, None
        self.known.hand_out(token, at)
        return token, None

    def _read(self, stored: StoredToken, sent_at: float) -> TokenInfo | None:
        token = read_token_record(stored.record, sent_at, self._config)
        if token is None or mark_of(token.access_token) != stored.mark:
            return None
        if self._config.refresh_jitter:
            return token
        # The process that requested the token refreshes it first, and the others find the new one.
        # If the store is down by then, the random share spreads their token requests.
        share = self._draw(0.0, _REFRESH_SPREAD) * (token.expires_at - token.stale_at)
        return attrs.evolve(token, stale_at=token.stale_at + share)

    def _meet_failure(
        self, failure: StoredFailure | None, awaited: int, at: Moment
    ) -> tuple[int, float]:
        """Return how many attempts have failed in a row, and how long no process must try again.

        Raises:
            TokenRequestError: the failure is the answer to the question.
        """
        if failure is None:
            return 0, 0.0
        longest = self._config.max_retry_interval
        if self._failure_met[0] != failure.fence:
            self._failure_met = failure.fence, at.now
        # No pause is longer than `longest`, so ignore a larger number from the store.
        pause = min(failure.pause, longest) if at.now < self._failure_met[1] + longest else 0.0
        error, count = read_failure_record(failure.record, pause, self._config)
        if error is None:
            return 0, 0.0
        # Do not raise for a pause that is about to end. A caller that retries after such a short
        # time would be too early again.
        if failure.fence >= awaited or pause > POLL_INTERVAL:
            try:
                raise error
            finally:
                # Break the reference cycle between this frame and the exception.
                del error
        return count, pause
