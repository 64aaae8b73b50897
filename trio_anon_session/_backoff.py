"""Failed attempts: what ``Retry-After`` asks for, how long to pause, who is told when."""

from __future__ import annotations

import math
import random
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from logging import ERROR
from typing import TYPE_CHECKING, NoReturn

from ._callables import discard_coroutine
from ._errors import TokenRequestError, TokenUnavailableError, as_cause
from ._logging import log

if TYPE_CHECKING:
    from ._config import Config

_SECONDS = r"[0-9]+(\.[0-9]*)?"
# 2**1024 does not fit a float; long before that the cap holds.
_DOUBLINGS = 60


def parse_retry_after(value: str | None, date: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110 §10.2.3).

    Args:
        value: the header, a number of seconds or an HTTP date.
        date: the same answer's ``Date``, against which a date is measured, so that the
            two machines' clocks need not agree.
        now: the wall clock, in place of a missing ``Date``.

    Returns:
        Seconds, 0 for a date that has passed, None for no header or nonsense.
    """
    if value is None:
        return None
    # str.strip takes more for white space than float does.
    value = value.strip()
    if re.fullmatch(_SECONDS, value):
        # Digits past a float's range are infinity here, and the cap's business there.
        return float(value)
    until = _parse_date(value)
    if until is None:
        return None
    since = _parse_date(date) if date else None
    return max(0.0, until - (now if since is None else since))


def _parse_date(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def normal_pause(config: Config, attempt: int, error: TokenRequestError) -> float:
    """Return the seconds to wait after a failed attempt, by the normal schedule.

    What the server asked for is taken in place of the doubling, jittered interval;
    neither is longer than ``max_retry_interval``.
    """
    pause = error.retry_after
    # A token manager of somebody else's may have put anything there.
    if not isinstance(pause, int | float) or not pause >= 0:
        doubled = config.retry_interval * 2.0 ** min(attempt - 1, _DOUBLINGS)
        pause = doubled * random.uniform(0.5, 1.5)
    return min(pause, config.max_retry_interval)


def retry_pause(config: Config, attempt: int, error: TokenRequestError) -> float | None:
    """Return the seconds until the next attempt of a round, or None if the round is over.

    Args:
        config: the limits, and the ``retry_strategy`` where there is one.
        attempt: how many attempts of the round have failed, 1 or more.
        error: how the last one failed.
    """
    if not error.retryable or attempt > config.max_retries:
        return None
    if config.retry_strategy is None:
        return normal_pause(config, attempt, error)
    try:
        pause = config.retry_strategy(attempt, error)
    except Exception as problem:
        # Its type alone: the message is not ours, and may show anything.
        log(ERROR, "retry_strategy raised %s; the round is over", type(problem).__name__)
        return None
    if pause is None:
        return None
    if discard_coroutine(pause):
        log(ERROR, "retry_strategy returned a coroutine, not seconds; the round is over")
        return None
    if isinstance(pause, bool) or not isinstance(pause, int | float) or not 0.0 <= pause < math.inf:
        log(ERROR, "retry_strategy returned no number of seconds; the round is over")
        return None
    return float(min(pause, config.max_retry_interval))


class Rounds:
    """Counts attempts into rounds, and says when the next one may be sent.

    Held getters wait through a round: up to ``1 + max_retries`` attempts, with pauses.
    When it fails they are told, and so is who comes in the pause after it. The first one
    after that pause opens a new round. Attempts that are made with nobody waiting count as
    a round, too: once it has failed, whoever comes in the pause after one is told.

    After a round has failed, the session retries in the background until a getter comes. Each
    of these attempts counts as the last one of the round, so that no getter gets an error that
    names more attempts than a round has.

    Attributes:
        attempts: how many attempts of this round have failed, at most ``1 + max_retries``.
        is_over: whether this round has failed.
        failed: how many rounds have failed so far.
        consecutive_failures: failed attempts since the last success.
        retry_at: the earliest time of the next attempt, on Trio's clock.
    """

    __slots__ = (
        "_config",
        "_failed_at",
        "_last_failure",
        "attempts",
        "consecutive_failures",
        "failed",
        "is_over",
        "retry_at",
    )

    def __init__(self, config: Config) -> None:
        self._config = config
        self.attempts = 0
        self.is_over = False
        self.failed = 0
        self.consecutive_failures = 0
        self.retry_at = -math.inf
        self._failed_at = -math.inf
        # The error of the last round that failed, its cause, and the attempts that were made.
        self._last_failure: tuple[TokenRequestError, Exception, int] | None = None

    def join(self, now: float, *, is_first: bool) -> None:
        """Take a getter into the round, or into a new one.

        Args:
            now: the time on Trio's clock.
            is_first: whether nobody else is waiting. A round that all have left goes on all
                the same, until twice ``max_retry_interval`` after its last attempt failed:
                else getters with short deadlines, one after the other, would each begin
                with the shortest pause.

        Raises:
            TokenRequestError: in the pause after a failed round.
        """
        if self.is_over and now < self.retry_at:
            self.raise_failure(now)
        given_up_at = self._failed_at + 2 * self._config.max_retry_interval
        if self.is_over or (is_first and now >= given_up_at):
            self.is_over, self.attempts = False, 0

    def succeed(self) -> None:
        """Note that an attempt brought a token."""
        self.attempts = self.consecutive_failures = 0
        self.is_over = False
        self.retry_at = -math.inf

    def fail(self, cause: Exception, now: float, not_before: float) -> TokenRequestError:
        """Note a failed attempt, and return it as an error of ours.

        Args:
            cause: what the token manager raised.
            now: the time on Trio's clock.
            not_before: the earliest time of the next attempt for other reasons.
        """
        error = (
            cause
            if isinstance(cause, TokenRequestError)
            # No word of it: what others raise may show anything.
            else TokenUnavailableError(f"the token manager raised {type(cause).__name__}")
        )
        self.attempts = min(self.attempts + 1, 1 + self._config.max_retries)
        self.consecutive_failures += 1
        self._failed_at = now
        pause = retry_pause(self._config, self.attempts, error)
        self.is_over = pause is None
        if pause is None:
            pause = normal_pause(self._config, self.consecutive_failures, error)
            self.failed += 1
            self._last_failure = error, cause, self.attempts
        self.retry_at = max(now + pause, not_before)
        return error

    def raise_failure(self, now: float) -> NoReturn:
        """Raise the last failed round's error: an object of its own for each getter.

        One instance raised in many tasks would gather the tracebacks of them all.
        """
        assert self._last_failure is not None
        error, cause, attempts = self._last_failure
        retry_after = max(0.0, self.retry_at - now)
        raise error.twin(retry_after=retry_after, attempts=attempts) from as_cause(cause)
