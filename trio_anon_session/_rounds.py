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

    Two kinds of failures have rules of their own. If the client was rejected, but its credentials
    have changed since, the next attempt needs no pause; this happens once in a round. If a local
    file is missing or cannot be read before the first token, a retry cannot help, so the round
    ends.

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
        "_has_succeeded",
        "_last_failure",
        "_renewed",
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
        self._has_succeeded = False
        # Whether an attempt of this round was the one with changed credentials.
        self._renewed = False
        # The error of the last attempt that failed, its cause, and the number of attempts.
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
            self.is_over, self._renewed, self.attempts = False, False, 0
        elif is_first and now >= self._failed_at + 2 * self._config.max_retry_interval:
            self._renewed, self.attempts = False, 0

    def succeed(self) -> None:
        """Record that an attempt returned a token."""
        self.attempts = self.consecutive_failures = 0
        self.is_over = self._renewed = False
        self._has_succeeded = True
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
        is_renewed = error._has_new_credentials and not self._renewed
        # This calls the user's retry_strategy, so it comes before all changes.
        pause: float | None = None
        if is_renewed:
            pause = 0.0
        elif self._has_succeeded or not error._is_local:
            pause = self._schedule.next_pause(attempts, error)
        is_over = pause is None
        if pause is None:
            pause = self._schedule.background_pause(failures, error)
            self.failed += 1
        self._renewed = self._renewed or is_renewed
        self._last_failure = error, cause, attempts
        self.attempts, self.consecutive_failures, self.is_over = attempts, failures, is_over
        self._failed_at = now
        self.retry_at = max(now + pause, not_before)
        return Failure(error, attempts, failures, self.retry_at, is_over)

    def raise_failure(
        self, now: float, *, retry_after: float | None = None, silent_for: float | None = None
    ) -> NoReturn:
        """Raise the error of the last failed attempt, as a new object for each caller.

        One object that is raised in many tasks would collect the tracebacks of all tasks.

        Args:
            now: the time on Trio's clock.
            retry_after: the seconds until the next attempt. Default: until the pause ends.
            silent_for: how long an attempt in progress has had no answer, or None.
        """
        assert self._last_failure is not None
        error, cause, attempts = self._last_failure
        if retry_after is None:
            retry_after = max(0.0, self.retry_at - now)
        ago = now - self._failed_at
        progress = None
        # A failure of this moment needs no date.
        if ago >= 1.0:
            failed = "1 attempt" if attempts == 1 else f"the last of {attempts} attempts"
            said = [f"{failed} failed {ago:.0f} s ago"]
            if silent_for is not None:
                said.append(f"the next one has had no answer for {silent_for:.0f} s")
            progress = _sentence(said, retry_after)
        raise error.copy_with(
            retry_after=retry_after, attempts=attempts, _progress=progress
        ) from as_cause(cause)

    def raise_facts(
        self, now: float, *, retry_after: float, silent_for: float | None = None
    ) -> NoReturn:
        """Raise what is known about a round that has not ended. See `raise_failure`."""
        if self.attempts:
            self.raise_failure(now, retry_after=retry_after, silent_for=silent_for)
        known = "the session has sent no token request yet"
        if silent_for is not None:
            known = f"no answer from the token endpoint for {silent_for:.0f} s"
        error = TokenUnavailableError(f"no token: {known}", retry_after=retry_after, attempts=0)
        error._is_scrubbed = True
        error._progress = _sentence([], retry_after)
        raise error


def _sentence(progress: list[str], retry_after: float) -> str:
    said = "; ".join([*progress, f"the next attempt is due in {retry_after:.0f} s"])
    return said[0].upper() + said[1:]
