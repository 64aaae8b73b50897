"""`RetrySchedule`: the pauses after failed attempts, and the parsing of ``Retry-After``."""

from __future__ import annotations

import math
import random
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from logging import ERROR
from typing import TYPE_CHECKING

from ._callables import discard_coroutine
from ._logging import log

if TYPE_CHECKING:
    from ._config import Config
    from ._errors import TokenRequestError

_SECONDS = r"[0-9]+(\.[0-9]*)?"
# A pause reaches `max_retry_interval` after fewer doublings. 2.0**1024 would overflow a float.
_DOUBLINGS = 60


def parse_retry_after(value: str | None, date: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110 §10.2.3).

    Args:
        value: the header: a number of seconds, or an HTTP date.
        date: the ``Date`` header of the same response. An HTTP date is compared with it, so the
            clocks of the two machines may differ.
        now: the time of the wall clock, used if ``Date`` is missing.

    Returns:
        Seconds; 0 for a date in the past; None without a valid header.
    """
    if value is None:
        return None
    # str.strip removes more kinds of white space than float accepts.
    value = value.strip()
    if re.fullmatch(_SECONDS, value):
        # Too many digits give infinity. The caller limits the pause.
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


class RetrySchedule:
    """The pauses after failed token requests and revocations, as a config defines them.

    Args:
        config: the limits, and the ``retry_strategy``, if any.
    """

    __slots__ = ("_config",)

    def __init__(self, config: Config) -> None:
        self._config = config

    def background_pause(self, failures: int, error: TokenRequestError) -> float:
        """Return the seconds to wait after a number of failures, without ``retry_strategy``.

        This is the server's ``Retry-After``, or else an interval with jitter that doubles with
        each failure. It is never longer than ``max_retry_interval``.
        """
        config = self._config
        pause = error.retry_after
        # A custom token manager may have set `retry_after` to a value of any type.
        if not isinstance(pause, int | float) or not pause >= 0:
            doubled = config.retry_interval * 2.0 ** min(failures - 1, _DOUBLINGS)
            pause = doubled * random.uniform(0.5, 1.5)
        return min(pause, config.max_retry_interval)

    def next_pause(self, attempt: int, error: TokenRequestError) -> float | None:
        """Return the seconds until the next attempt of a round, or None to end the round.

        Args:
            attempt: how many attempts of the round have failed, 1 or more.
            error: the error of the last attempt.
        """
        config = self._config
        if not error.retryable or attempt > config.max_retries:
            return None
        if config.retry_strategy is None:
            return self.background_pause(attempt, error)
        try:
            pause = config.retry_strategy(attempt, error)
        except Exception as problem:
            # Log only the type, because the user's message may contain a secret.
            log(
                ERROR,
                "retry_strategy raised %s; the round of attempts ends",
                type(problem).__name__,
            )
            return None
        if pause is None:
            return None
        if discard_coroutine(pause):
            log(
                ERROR,
                "retry_strategy returned a coroutine, not seconds; the round of attempts ends",
            )
            return None
        is_number = isinstance(pause, int | float) and not isinstance(pause, bool)
        if not is_number or not 0.0 <= pause < math.inf:
            log(
                ERROR,
                "retry_strategy returned neither seconds >= 0 nor None; the round of attempts ends",
            )
            return None
        return float(min(pause, config.max_retry_interval))
