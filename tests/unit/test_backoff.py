"""Tests of the pauses after failed attempts: Retry-After, strategies and the end of a round."""

from __future__ import annotations

import inspect
import logging
import math
import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.lazy import an_async_function
from trio_anon_session import (
    Config,
    CredentialsRejectedError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session._backoff import RetrySchedule, parse_retry_after
from trio_anon_session._rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_UNIX = NOW.timestamp()
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


def config(**changes: Any) -> Config:
    """Return a config with these settings."""
    return Config(**({"client_id": "id", "client_secret": "secret"} | changes))


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            ("007", 7.0),
            (" 5 ", 5.0),
            # These are not whole numbers, but their meaning is clear.
            ("1.5", 1.5),
            ("2.", 2.0),
            ("9" * 20, 1e20),
            ("9" * 5000, math.inf),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_seconds(self, value: str, seconds: float) -> None:
        """A number means seconds, whatever the Date header."""
        assert parse_retry_after(value, None, NOW_UNIX) == seconds
        assert parse_retry_after(value, DATE, 0.0) == seconds

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            # The three forms of RFC 9110 §5.6.7.
            ("Sun, 01 Mar 2026 12:02:00 GMT", 120.0),
            ("Sunday, 01-Mar-26 12:02:00 GMT", 120.0),
            ("Sun Mar  1 12:02:00 2026", 120.0),
            # Some servers send these forms.
            ("Sun, 01 Mar 2026 14:02:00 +0200", 120.0),
            ("Sun, 01 Mar 2026 12:02:00", 120.0),
            ("Sun, 01 Mar 2026 12:02:00 -0000", 120.0),
            ("01 Mar 2026 12:02:00 GMT", 120.0),
            (" Sun, 01 Mar 2026 12:02:00 GMT ", 120.0),
            ("Sun, 01 Mar 2026 11:59:59 GMT", 0.0),
        ],
    )
    # A date without a zone is in UTC, in any local time zone.
    @pytest.mark.usefixtures("_elsewhere")
    def test_date(self, value: str, seconds: float) -> None:
        """A date means the time until then, or 0 if it has passed."""
        assert parse_retry_after(value, None, NOW_UNIX) == seconds
        assert parse_retry_after(value, DATE, 0.0) == seconds

    @pytest.fixture
    def _elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        if not hasattr(time, "tzset"):
            yield
            return
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TZ", "XYZ-9")
            time.tzset()
            yield
        time.tzset()

    @pytest.mark.parametrize("date", [None, "", "yesterday", "0", "Sun, 99 Mar 2026 12:00:00 GMT"])
    def test_no_own_date(self, date: str | None) -> None:
        """Without a valid Date header, the wall clock is used."""
        value = "Sun, 01 Mar 2026 12:02:00 GMT"
        assert parse_retry_after(value, date, NOW_UNIX + 20.0) == 100.0

    @pytest.mark.parametrize(
        "value",
        [
            *(None, "", " ", "-1", "+1", "1e3", "nan", "inf", "0x10", "1_000", ".5", "1,5", "٣"),
            *("soon", "120 seconds", "120, 60", "\x00", "\ud800", "," * 1000),
            "Sun, 32 Mar 2026 12:00:00 GMT",
            "Sun, 01 Foo 2026 12:00:00 GMT",
            "Sun, 01 Mar 99999 12:00:00 GMT",
            "Sun, 01 Mar 2026 12:00:00 +9999999999",
        ],
        ids=lambda value: ascii(value)[:40],
    )
    def test_nonsense(self, value: str | None) -> None:
        """A missing or invalid header means None."""
        assert parse_retry_after(value, DATE, NOW_UNIX) is None

    @given(
        st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
        st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
        st.integers(-23, 23),
    )
    def test_any_dates(self, until: datetime, date: datetime, zone: int) -> None:
        """A date is measured against the answer's own Date header, in any time zone."""
        until = until.replace(microsecond=0, tzinfo=UTC)
        date = date.replace(microsecond=0, tzinfo=UTC)
        said = format_datetime(until.astimezone(timezone(timedelta(hours=zone))))

        seconds = parse_retry_after(said, format_datetime(date, usegmt=True), 0.0)

        assert seconds == max(0.0, (until - date).total_seconds())

    @given(
        st.none() | st.text() | st.from_regex(r"\w{0,3},? ?\d+ [A-Z][a-z]{2} \d+ [\d:]+ [+-]?\w*"),
        st.none() | st.text(),
        st.floats(0, 1e11),
    )
    @example("Sun, 01 Mar 0000 00:00:00 GMT", None, 0.0)
    @example("Mon, 01 Jan 0001 00:00:00 +2359", None, 0.0)
    def test_anything(self, value: str | None, date: str | None, now: float) -> None:
        """For any header texts, the result is None or not negative."""
        seconds = parse_retry_after(value, date, now)
        assert seconds is None or seconds >= 0.0


def failed(retry_after: Any = None, **facts: Any) -> TokenUnavailableError:
    """Return a retryable error."""
    return TokenUnavailableError("not now", retry_after=retry_after, **facts)


class TestNormalPause:
    @given(st.integers(1, 60), st.floats(1e-3, 1e4), st.floats(1e-3, 1e6))
    def test_bounds(self, attempt: int, interval: float, cap: float) -> None:
        """The interval doubles, has a jitter of ±50 %, and is limited."""
        limits = config(retry_interval=interval, max_retry_interval=cap)
        pause = RetrySchedule(limits).background_pause(attempt, failed())
        doubled = interval * 2 ** (attempt - 1)
        assert min(doubled * 0.5, cap) <= pause <= min(doubled * 1.5, cap)

    @pytest.mark.parametrize(("attempt", "least", "most"), [(1, 1, 3), (5, 16, 48)])
    def test_jitter(self, attempt: int, least: float, most: float) -> None:
        """With the defaults, pauses are those of Box's SDK, with jitter over the whole range."""
        schedule = RetrySchedule(config())
        pauses = [schedule.background_pause(attempt, failed()) for _ in range(500)]
        edge = (most - least) / 20
        assert least <= min(pauses) <= least + edge
        assert most - edge <= max(pauses) <= most

    @pytest.mark.parametrize("attempt", [7, 1025, 10**400])
    def test_huge_attempts(self, attempt: int) -> None:
        """After any large number of failures, the pause is max_retry_interval."""
        assert RetrySchedule(config()).background_pause(attempt, failed()) == 60.0

    @given(st.floats(0, 1e300), st.floats(1e-3, 1e6), st.integers(1, 10**6))
    @example(math.inf, 60.0, 1)
    @example(10**400, 60.0, 1)
    def test_retry_after(self, asked: float, cap: float, attempt: int) -> None:
        """The pause is exactly the server's Retry-After, up to max_retry_interval."""
        limits = config(max_retry_interval=cap)
        assert RetrySchedule(limits).background_pause(attempt, failed(asked)) == min(asked, cap)

    @pytest.mark.parametrize("asked", [None, math.nan, -1.0, "5", [5], object()])
    def test_nonsense_retry_after(self, asked: Any) -> None:
        """A ``retry_after`` that is no number of seconds is ignored."""
        assert 1.0 <= RetrySchedule(config()).background_pause(1, failed(asked)) <= 3.0


class TestRetryPause:
    @pytest.mark.parametrize("max_retries", [0, 1, 5])
    @pytest.mark.parametrize("strategy", [None, lambda attempt, error: 7.0], ids=["none", "one"])
    def test_max_retries(self, max_retries: int, strategy: Any) -> None:
        """The round ends after max_retries retries, also with a strategy."""
        limits = config(max_retries=max_retries, retry_strategy=strategy)
        pauses = [
            RetrySchedule(limits).next_pause(attempt, failed(7.0))
            for attempt in range(1, max_retries + 3)
        ]
        assert pauses == [7.0] * max_retries + [None] * 2

    @pytest.mark.parametrize(
        "error",
        [CredentialsRejectedError("no"), TokenRequestError("no", retryable=False, retry_after=1.0)],
        ids=["rejected", "refused"],
    )
    def test_final_error(self, error: TokenRequestError) -> None:
        """An error that is not retryable ends the round, without a call of the strategy."""
        asked: list[int] = []
        limits = config(retry_strategy=lambda attempt, error: asked.append(attempt))
        assert RetrySchedule(config()).next_pause(1, error) is None
        assert RetrySchedule(limits).next_pause(1, error) is None
        assert asked == []

    @pytest.mark.parametrize(
        ("chosen", "pause"),
        [
            (0, 0.0),
            (-0.0, 0.0),
            (0.25, 0.25),
            (60.0, 60.0),
            (61.0, 60.0),
            (10**400, 60.0),
            (10**5000, 60.0),
            (None, None),
        ],
        ids=lambda value: f"{value.bit_length()} bits" if isinstance(value, int) else str(value),
    )
    def test_strategy(
        self, chosen: float | None, pause: float | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A strategy's seconds are used up to the limit, and None ends the round."""
        limits = config(retry_strategy=lambda attempt, error: chosen)
        assert RetrySchedule(limits).next_pause(1, failed(7.0)) == pause
        assert caplog.records == []

    @pytest.mark.parametrize(
        "nonsense",
        [True, False, math.nan, math.inf, -0.001, -(10**400), "5", b"5", [5], 1j],
        ids=lambda value: ascii(value)[:20],
    )
    def test_nonsense(self, nonsense: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A strategy that returns no number of seconds ends the round, and is logged."""
        limits = config(retry_strategy=lambda attempt, error: nonsense)
        assert RetrySchedule(limits).next_pause(1, failed()) is None
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("trio_anon_session", logging.ERROR)
        assert "retry_strategy returned neither seconds" in record.getMessage()

    def test_raises(self, caplog: pytest.LogCaptureFixture) -> None:
        """A strategy that raises ends the round; only the type of its error is logged."""

        def strategy(attempt: int, error: TokenRequestError) -> float:
            raise StopIteration("client_secret=hunter2")

        assert RetrySchedule(config(retry_strategy=strategy)).next_pause(1, failed()) is None
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "retry_strategy raised StopIteration" in record.getMessage()
        assert record.exc_info is None
        assert "hunter2" not in caplog.text

    def test_a_coroutine_is_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        """A coroutine of a plain strategy is closed and logged, and the round ends."""
        coroutine = an_async_function()
        limits = config(retry_strategy=lambda attempt, error: coroutine)
        assert RetrySchedule(limits).next_pause(1, failed()) is None
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "retry_strategy returned a coroutine" in record.getMessage()

    @given(st.from_type(object) | st.floats() | st.integers())
    def test_any_strategy(self, chosen: Any) -> None:
        """Whatever a strategy returns, the pause is None or within the limits."""
        limits = config(retry_strategy=lambda attempt, error: chosen)
        pause = RetrySchedule(limits).next_pause(1, failed())
        assert pause is None or 0.0 <= pause <= 60.0


class TestRounds:
    def test_failures_and_a_success(self) -> None:
        """A success resets the round, the pause and the consecutive failures."""

        def facts() -> tuple[object, ...]:
            return rounds.attempts, rounds.consecutive_failures, rounds.is_over, rounds.retry_at

        limits = config(max_retries=0)
        rounds = Rounds(limits, RetrySchedule(limits))
        assert (*facts(), rounds.failed) == (0, 0, False, -math.inf, 0)

        rounds.fail(failed(8.0), 100.0, 101.0)
        assert (*facts(), rounds.failed) == (1, 1, True, 108.0, 1)
        # In the background, each further attempt counts as the last one of that round.
        rounds.fail(failed(16.0), 108.0, 109.0)
        assert (*facts(), rounds.failed) == (1, 2, True, 124.0, 2)
        rounds.succeed()

        assert (*facts(), rounds.failed) == (0, 0, False, -math.inf, 2)
        rounds.join(100.0, is_first=False)

    @pytest.mark.parametrize(
        ("now", "is_first", "attempts"), [(200.0, True, 0), (199.9, True, 1), (1e6, False, 1)]
    )
    def test_a_round_is_given_up(self, now: float, *, is_first: bool, attempts: int) -> None:
        """Twice the longest pause later, a first caller begins a new round."""
        limits = config(max_retries=1, max_retry_interval=50.0)
        rounds = Rounds(limits, RetrySchedule(limits))
        rounds.fail(failed(4.0), 100.0, 101.0)

        rounds.join(now, is_first=is_first)

        # The backoff continues.
        assert (rounds.consecutive_failures, rounds.retry_at) == (1, 104.0)
        assert rounds.attempts == attempts
        assert rounds.fail(failed(4.0), now, now).round_over is (attempts == 1)

    def test_foreign_error(self) -> None:
        """An unexpected exception becomes a retryable error that shows only its type."""
        limits = config(max_retries=0)
        rounds = Rounds(limits, RetrySchedule(limits))
        cause = RuntimeError("hunter2")

        error = rounds.fail(cause, 100.0, 101.0).error

        assert type(error) is TokenUnavailableError
        assert error.retryable
        with pytest.raises(TokenUnavailableError) as caught:
            rounds.join(100.0, is_first=True)
        assert caught.value.__cause__ is cause
        for shown in (error, caught.value):
            assert str(shown) == "the token manager raised RuntimeError"
