"""`Rounds`: rounds of failed attempts. Pure, like `_lifecycle`: times are passed in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from ._errors import TokenRequestError, TokenUnavailableError, as_cause

if TYPE_CHECKING:
    from ._config import Config


class Schedule(Protocol):
    """The pauses between attempts, in seconds."""

    def next_pause(self, attempt: int, error: TokenRequestError) -> float | None:
        """Return the pause until the next attempt of a round, or None to end the round.

        Args:
            attempt: how many attempts of the round have failed, 1 or more.
            error: the error of the last attempt.
        """
        ...

    def background_pause(self, failures: int, error: TokenRequestError) -> float:
        """Return the pause after a round has failed.

        Args:
            failures: how many attempts have failed since the last success.
            error: the error of the last attempt.
        """
        ...


class Failure(NamedTuple):
    """The outcome of one failed attempt.

    Attributes:
        error: the attempt's error, as an error of this package.
        attempts: how many attempts of the round have failed.
        consecutive_failures: how many attempts have failed since the last success.
        retry_at: the earliest time of the next attempt, on Trio's clock.
        round_over: whether the round has failed, and waiting callers get the error.
    """

    error: TokenRequestError
    attempts: int
    consecutive_failures: int
    retry_at: float
    round_over: bool


class Rounds:
    """The rounds of attempts of a session, and the time of the next attempt.

    Callers wait for one round: up to ``1 + max_retries`` attempts, with pauses. If the round
    fails, each waiting caller gets the error. So does a caller that asks during the pause after
    it. The first caller after that pause starts a new round.

    The session also retries in the background, without waiting callers. Those attempts form
    rounds, too. After a failed round, each further attempt counts as the last one of that round.
    So no error reports more attempts than a round has.

    Attributes:
        attempts: how many attempts of this round have failed, at most ``1 + max_retries``.
        is_over: whether this round has failed.
        failed: how many rounds have failed so far.
        consecutive_failures: how many attempts have failed since the last success.
        retry_at: the earliest time of the next attempt, on Trio's clock.
    """

    __slots__ = (
        "_config",
        "_failed_at",
        "_last_failure",
        "_schedule",
        "attempts",
        "consecutive_failures",
        "failed",
        "is_over",
        "retry_at",
    )

    def __init__(self, config: Config, schedule: Schedule) -> None:
        self._config = config
        self._schedule = schedule
        self.attempts = 0
        self.is_over = False
        self.failed = 0
        self.consecutive_failures = 0
        self.retry_at = -math.inf
        self._failed_at = -math.inf
        # The error of the last round that failed, its cause, and the number of attempts.
        self._last_failure: tuple[TokenRequestError, Exception, int] | None = None

    def join(self, now: float, *, is_first: bool) -> None:
        """Add a caller to the round, or start a new round for it.

        Args:
            now: the time on Trio's clock.
            is_first: whether no other caller is waiting. A round continues after all its callers
                have left, until twice ``max_retry_interval`` after its last failed attempt.
                Otherwise, each of many callers with short deadlines would start again with the
                shortest pause.

        Raises:
            TokenRequestError: this is the pause after a failed round.
        """
        if self.is_over:
            if now < self.retry_at:
                self.raise_failure(now)
            self.is_over, self.attempts = False, 0
        elif is_first and now >= self._failed_at + 2 * self._config.max_retry_interval:
            self.attempts = 0

    def succeed(self) -> None:
        """Record that an attempt returned a token."""
        self.attempts = self.consecutive_failures = 0
        self.is_over = False
        self.retry_at = -math.inf

    def fail(self, cause: Exception, now: float, not_before: float) -> Failure:
        """Record a failed attempt.

        Args:
            cause: the exception of the token manager.
            now: the time on Trio's clock.
            not_before: the earliest time of the next attempt, apart from the pause.
        """
        error = (
            cause
            if isinstance(cause, TokenRequestError)
            # Show only the type, because the message of another exception may contain a secret.
            else TokenUnavailableError(f"the token manager raised {type(cause).__name__}")
        )
        attempts = min(self.attempts + 1, 1 + self._config.max_retries)
        failures = self.consecutive_failures + 1
        # This calls the user's retry_strategy, so it comes before all changes.
        pause = self._schedule.next_pause(attempts, error)
        is_over = pause is None
        if pause is None:
            pause = self._schedule.background_pause(failures, error)
            self.failed += 1
            self._last_failure = error, cause, attempts
        self.attempts, self.consecutive_failures, self.is_over = attempts, failures, is_over
        self._failed_at = now
        self.retry_at = max(now + pause, not_before)
        return Failure(error, attempts, failures, self.retry_at, is_over)

    def raise_failure(self, now: float) -> NoReturn:
        """Raise the error of the last failed round, as a new object for each caller.

        One object that is raised in many tasks would collect the tracebacks of all tasks.
        """
        assert self._last_failure is not None
        error, cause, attempts = self._last_failure
        retry_after = max(0.0, self.retry_at - now)
        raise error.copy_with(retry_after=retry_after, attempts=attempts) from as_cause(cause)
