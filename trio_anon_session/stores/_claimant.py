"""`Claimant`: what one process of a fleet knows about the shared token, and what it does next.

This module is pure, like `_lifecycle`: no Trio call, no clock, no log record, no I/O. Each method
of `Claimant` is a question or an event. An event receives the time and changes the facts before it
returns. `SharedTokenManager` asks the store and the endpoint, and does the waiting.

The life of a question
    A session asks for a token. ``ask`` begins a `Question`. The manager looks into the store and
    passes what it saw to ``see`` and then to ``decide``, which returns one of

    =============  =================================================================================
    `Use`          this token is the answer
    `Claim`        take the lease; then request a token, or call ``claim_failed``
    `Wait`         look again when there is news, and after some seconds at the latest
    `AskDirectly`  request a token without the store
    =============  =================================================================================

    or raises what another process was told by the endpoint. Looks repeat until there is an answer.

The life of an attempt
    The process with the lease requests a token, and then puts it into the store or releases the
    lease. A lease has a fence: the version that the store gave it. A token that is put under
    another fence than the last one is not kept, so a process that was stopped and continues
    late changes nothing. The next look finds out what other processes have done meanwhile.

The life of a drop
    A token that someone reports as dead is dropped: no process must use it any longer. This process
    tells the store. The others find it with their next look. A store can lose what it was told. So
    each look compares, and whoever knows more than the store tells it again.

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
from ._protocol import PACE
from ._records import (
    ForeignRecordError,
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
"""Seconds; a holder that dies delays the others by no more. One that lives renews it."""
GRACE = 5.0
"""Seconds in which a store that fails may come back, while this process has a usable token."""
_TURNS = 3
"""Attempts of others without a result, one after another, for which a question waits."""
_SPREAD = 0.1
"""Share of a token's stale window, over which those who took it over refresh it later."""


class Trouble(enum.Enum):
    """What is wrong with what the store shows."""

    FOREIGN = "foreign"
    """Its token is one of another configuration, or of a later version of this package."""
    GARBAGE = "garbage"
    """No token can be read from its record."""
    STUCK = "stuck"
    """A lease does not end."""


@attrs.frozen
class Use:
    """Return this token."""

    token: TokenInfo


@attrs.frozen
class Claim:
    """Take the lease.

    Attributes:
        version: what was seen; the claim fails if there is another one by then.
        failures: how many attempts of the fleet have failed in a row.
        trouble: what the new token is going to overwrite.
    """

    version: int
    failures: int = 0
    trouble: Trouble | None = None


@attrs.frozen
class Wait:
    """Wait for news, or for so many seconds, and look again."""

    seconds: float


@attrs.frozen
class AskDirectly:
    """Do without the store."""

    trouble: Trouble


Decision = Use | Claim | Wait | AskDirectly


class Question:
    """One request for a token, from a session to its manager.

    Attributes:
        last_at: when it waits no longer, whatever happens.
        give_up_at: when it waits no longer for the version that it saw last.
        version: what it saw last.
        awaited: the fence of the first attempt whose failure is an answer to it.
        missed: the version that it was too late to claim.
        was_overtaken: whether a token that it requested was not kept.
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
    """Decides for one process.

    Args:
        config: the settings.
        schedule: the pauses after failed attempts.
        draw: returns a random number between two others.

    Attributes:
        known: the tokens that were handed out here, and those that were dropped.
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
        # The fence of the last failure that was met, and when it was met first.
        self._failure_met = (0, -math.inf)

    # Questions: they change nothing

    @property
    def gap_ends_at(self) -> float:
        """When this process may request a token again, on Trio's clock."""
        return self._sent_at + self._config.min_refresh_interval

    def can_wait_for_store(self, failed_at: float, took: float, at: Moment) -> bool:
        """Return whether a store that fails may be back before a token is needed here.

        Otherwise all processes that wait for one token would request one each when the store is
        restarted.

        Args:
            failed_at: when the store began to fail, on Trio's clock.
            took: seconds that the last try took to fail.
            at: the time.
        """
        waited, left = at.now - failed_at, self.known.stale_for(at)
        # Half of what was left is for the endpoint, also if the next try fails as late as this.
        return waited < GRACE and waited + PACE + took < (waited + left) / 2

    # What the store shows

    def see(self, seen: Look, asked_at: float, asked: Asked, at: Moment) -> list[TokenInfo]:
        """Receive a look, and return the tokens handed out here that others have dropped.

        Args:
            seen: what the store shows.
            asked_at: when it was asked, on Trio's clock.
            asked: what it was asked about.
            at: the time.
        """
        dropped = self.known.drop(seen.dead, asked, at)
        self.known.compare(seen, asked_at, asked, at)
        return dropped

    # Questions of a session

    def ask(self, at: Moment) -> Question:
        """Begin a question."""
        return Question(at.now + _TURNS * self._patience)

    def decide(self, question: Question, seen: Look, asked_at: float, at: Moment) -> Decision:
        """Return what to do about a question.

        Raises:
            TokenRequestError: the attempt for which this has waited has failed, or the endpoint
                has told another process to come back later.
        """
        if seen.version != question.version:
            question.version = seen.version
            question.give_up_at = min(at.now + self._patience, question.last_at)
        try:
            token, trouble = self._take_over(seen.token, asked_at, at)
        except ForeignRecordError:
            return AskDirectly(Trouble.FOREIGN)
        if token is not None:
            return Use(token)
        if question.awaited is None:
            # An attempt that is under way counts, as for a caller that joins a round.
            question.awaited = seen.version + (seen.leased_for <= 0)
        failures, pause = self._meet_failure(seen.failure, question.awaited, at)
        # No lease is longer, whatever a store says.
        leased_for = min(seen.leased_for, LEASE)
        blocked_for = max(leased_for, pause, self.gap_ends_at - at.now)
        if blocked_for <= 0:
            return Claim(seen.version, failures, trouble)
        return self._wait(question, blocked_for, at)

    def claim_failed(self, question: Question, at: Moment) -> Decision:
        """Return what to do if another process was faster."""
        is_news, question.missed = question.missed != question.version, question.version
        if is_news and at.now < question.last_at:
            # Whoever was faster has another version, which is waited for anew. Where a lease ends
            # as late as it can, all would ask the endpoint at once otherwise.
            return Wait(0.0)
        return self._wait(question, 0.0, at)

    def _wait(self, question: Question, seconds: float, at: Moment) -> Decision:
        # Not before a look and a claim: this process may have been stopped for so long.
        if at.now >= question.give_up_at:
            return AskDirectly(Trouble.STUCK)
        return Wait(seconds)

    @property
    def _patience(self) -> float:
        """Seconds; no attempt lasts longer, and each that follows has another version."""
        return self._config.request_timeout + LEASE

    # Token requests

    def send(self, at: Moment) -> None:
        """Record that this process requests a token."""
        self._sent_at = at.now

    def hand_out(self, answer: object, at: Moment) -> None:
        """Record that a session gets what the endpoint answered."""
        # Of nonsense, a session makes an error.
        if isinstance(answer, TokenInfo):
            self.known.hand_out(answer, at)

    def failure_to_leave(
        self, failures: int, outcome: object, at: Moment
    ) -> tuple[str | None, float]:
        """Return what to tell the others about a failed attempt.

        Args:
            failures: how many attempts of the fleet have failed before.
            outcome: what the endpoint answered, or the error.
            at: the time.

        Returns:
            A record or None, and seconds for which no process may try again.
        """
        if not (isinstance(outcome, TokenRequestError) and outcome.retryable):
            return None, 0.0
        pause = 0.0
        if outcome.status_code is not None:
            # What the endpoint said holds for all of the fleet. That it could not be reached may
            # be this process's own trouble, and a rejection its own secret's.
            pause = self._schedule.background_pause(failures + 1, outcome)
            if outcome.retry_after is None:
                # No more than the pause of the session: otherwise its next attempt would meet what
                # the last one has left.
                pause /= 3
            pause = max(pause, self.gap_ends_at - at.now)
        return failure_record(outcome, failures + 1, self._config), pause

    # What the events have in common

    def _take_over(
        self, stored: StoredToken | None, asked_at: float, at: Moment
    ) -> tuple[TokenInfo | None, Trouble | None]:
        """Return the store's token if it is an answer, and what is wrong with it."""
        if stored is None:
            return None, None
        # The look took time. And nothing lies in the future, whatever a store says.
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
                # Who asks has it, and wants another one.
                return None, None
        self.known.hand_out(token, at)
        return token, None

    def _read(self, stored: StoredToken, sent_at: float) -> TokenInfo | None:
        token = read_token_record(stored.record, sent_at, self._config)
        if token is None or mark_of(token.access_token) != stored.mark:
            return None
        if self._config.refresh_jitter:
            return token
        # Who got the token is to refresh it first. The others find the new one then, or, where
        # the store is down by then, do not ask the endpoint all at once.
        share = self._draw(0.0, _SPREAD) * (token.expires_at - token.stale_at)
        return attrs.evolve(token, stale_at=token.stale_at + share)

    def _meet_failure(
        self, failure: StoredFailure | None, awaited: int, at: Moment
    ) -> tuple[int, float]:
        """Return how many attempts have failed in a row, and for how long nobody may try again.

        Raises:
            TokenRequestError: it is the answer.
        """
        if failure is None:
            return 0, 0.0
        longest = self._config.max_retry_interval
        if self._failure_met[0] != failure.fence:
            self._failure_met = failure.fence, at.now
        # No pause is longer, whatever a store says.
        pause = min(failure.pause, longest) if at.now < self._failure_met[1] + longest else 0.0
        error, count = read_failure_record(failure.record, pause, self._config)
        if error is None:
            return 0, 0.0
        # One that is about to end is waited for: whoever is told to come again so soon comes
        # too early once more.
        if failure.fence >= awaited or pause > PACE:
            try:
                raise error
            finally:
                # A frame and an exception that hold each other are left to the collector.
                del error
        return count, pause
