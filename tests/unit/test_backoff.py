"""Failed attempts: what was asked for, how long the pause is, who is told."""

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

from trio_anon_session import (
    Config,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session._backoff import RetrySchedule, parse_retry_after
from trio_anon_session._rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Coroutine

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
            ("1", 1.0),
            ("120", 120.0),
            ("007", 7.0),
            (" 5 ", 5.0),
            # No whole number, but what else could it mean?
            ("1.5", 1.5),
            ("2.", 2.0),
            ("9" * 20, 1e20),
            ("9" * 5000, math.inf),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_seconds(self, value: str, seconds: float) -> None:
        """A number is seconds, whatever the date."""
        assert parse_retry_after(value, None, NOW_UNIX) == seconds
        assert parse_retry_after(value, DATE, 0.0) == seconds

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            # The three forms of RFC 9110 §5.6.7.
            ("Sun, 01 Mar 2026 12:02:00 GMT", 120.0),
            ("Sunday, 01-Mar-26 12:02:00 GMT", 120.0),
            ("Sun Mar  1 12:02:00 2026", 120.0),
            # What servers make of it.
            ("Sun, 01 Mar 2026 12:02:00 +0000", 120.0),
            ("Sun, 01 Mar 2026 14:02:00 +0200", 120.0),
            ("Sun, 01 Mar 2026 12:02:00", 120.0),
            ("Sun, 01 Mar 2026 12:02:00 -0000", 120.0),
            ("01 Mar 2026 12:02:00 GMT", 120.0),
            (" Sun, 01 Mar 2026 12:02:00 GMT ", 120.0),
            ("Mon, 01 Mar 2027 12:00:00 GMT", 365 * 86400.0),
            ("Sun, 01 Mar 2026 12:00:00 GMT", 0.0),
            ("Sun, 01 Mar 2026 11:59:59 GMT", 0.0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ],
    )
    def test_date(self, value: str, seconds: float) -> None:
        """A date is the time until then, and 0 when it has passed."""
        assert parse_retry_after(value, None, NOW_UNIX) == seconds
        assert parse_retry_after(value, DATE, NOW_UNIX) == seconds

    @pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system's zone cannot be set")
    @pytest.mark.parametrize("value", ["Sun, 01 Mar 2026 12:02:00", "Sun Mar  1 12:02:00 2026"])
    def test_date_without_a_zone(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A date that names no zone is UTC, wherever the machine stands."""
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("TZ", "XYZ-9")
            time.tzset()
            assert parse_retry_after(value, DATE, NOW_UNIX) == 120.0
        time.tzset()

    @pytest.mark.parametrize("skew", [-(10**9), -3600.0, 3600.0, 10**9])
    def test_own_date(self, skew: float) -> None:
        """A date is measured against the answer's own Date, so clocks need not agree."""
        value = "Sun, 01 Mar 2026 12:02:00 GMT"
        assert parse_retry_after(value, DATE, NOW_UNIX + skew) == 120.0

    @pytest.mark.parametrize("date", [None, "", "yesterday", "0", "Sun, 99 Mar 2026 12:00:00 GMT"])
    def test_no_own_date(self, date: str | None) -> None:
        """Without a Date that can be read, the wall clock serves."""
        value = "Sun, 01 Mar 2026 12:02:00 GMT"
        assert parse_retry_after(value, date, NOW_UNIX + 20.0) == 100.0

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            " ",
            "-1",
            "+1",
            "1e3",
            "nan",
            "inf",
            "0x10",
            "1_000",
            ".5",
            "1,5",
            "٣",
            "²",
            "soon",
            "120 seconds",
            "120, 60",
            "Sun, 32 Mar 2026 12:00:00 GMT",
            "Sun, 01 Foo 2026 12:00:00 GMT",
            "Sun, 01 Mar 2026 25:00:00 GMT",
            "Sun, 01 Mar 99999 12:00:00 GMT",
            "Sun, 01 Mar 2026 12:00:00 +9999999999",
            "\x00",
            "\ud800",
            "," * 1000,
        ],
        ids=lambda value: ascii(value)[:40],
    )
    def test_nonsense(self, value: str | None) -> None:
        """No header, and nonsense, ask for nothing."""
        assert parse_retry_after(value, DATE, NOW_UNIX) is None

    @given(st.integers(0, 10**12))
    def test_any_seconds(self, seconds: int) -> None:
        """Any number of seconds is read back."""
        assert parse_retry_after(str(seconds), None, 0.0) == seconds

    @given(
        st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
        st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
        st.integers(-23, 23),
    )
    def test_any_dates(self, until: datetime, date: datetime, zone: int) -> None:
        """Any two dates give the seconds between them, in whatever zone they are written."""
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
        """Whatever the headers say, the outcome is None or seconds that are not negative."""
        seconds = parse_retry_after(value, date, now)
        assert seconds is None or seconds >= 0.0


def failed(retry_after: Any = None, **facts: Any) -> TokenUnavailableError:
    """Return a transient error."""
    return TokenUnavailableError("not now", retry_after=retry_after, **facts)


class TestNormalPause:
    @given(
        st.integers(1, 60),
        st.floats(1e-3, 1e4),
        st.floats(1e-3, 1e6),
    )
    def test_bounds(self, attempt: int, interval: float, cap: float) -> None:
        """The interval doubles, is jittered from half to one and a half, and is capped."""
        limits = config(retry_interval=interval, max_retry_interval=cap)
        pause = RetrySchedule(limits).background_pause(attempt, failed())
        doubled = interval * 2 ** (attempt - 1)
        assert min(doubled * 0.5, cap) <= pause <= min(doubled * 1.5, cap)

    @pytest.mark.parametrize(
        ("attempt", "least", "most"),
        [(1, 1, 3), (2, 2, 6), (3, 4, 12), (4, 8, 24), (5, 16, 48), (6, 32, 60), (7, 60, 60)],
    )
    def test_defaults(self, attempt: int, least: float, most: float) -> None:
        """With the defaults the pauses are those of Box's SDK, up to a minute."""
        pauses = [RetrySchedule(config()).background_pause(attempt, failed()) for _ in range(200)]
        assert least <= min(pauses) <= max(pauses) <= most
        if least < most:
            assert len(set(pauses)) > 50

    @pytest.mark.parametrize("attempt", [61, 1024, 1025, 10**6, 10**30, 10**400])
    def test_huge_attempts(self, attempt: int) -> None:
        """After any number of failures the pause is the longest one."""
        assert RetrySchedule(config()).background_pause(attempt, failed()) == 60.0

    @given(st.floats(0, 1e300), st.floats(1e-3, 1e6), st.integers(1, 10**6))
    def test_retry_after(self, asked: float, cap: float, attempt: int) -> None:
        """What the server asked for is taken as it is, up to the cap."""
        limits = config(max_retry_interval=cap)
        assert RetrySchedule(limits).background_pause(attempt, failed(asked)) == min(asked, cap)

    @pytest.mark.parametrize("asked", [math.inf, 10**400, 61])
    def test_huge_retry_after(self, asked: Any) -> None:
        """However long the server asks for, the cap holds."""
        assert RetrySchedule(config()).background_pause(1, failed(asked)) == 60.0

    @pytest.mark.parametrize("asked", [None, math.nan, -1.0, -math.inf, "5", [5], object()])
    def test_nonsense_retry_after(self, asked: Any) -> None:
        """What a strange token manager put there instead of seconds is passed over."""
        assert 1.0 <= RetrySchedule(config()).background_pause(1, failed(asked)) <= 3.0


class TestRetryPause:
    def test_normal_schedule(self) -> None:
        """Without a strategy the normal schedule holds."""
        assert 1.0 <= (RetrySchedule(config()).next_pause(1, failed()) or 0.0) <= 3.0
        assert RetrySchedule(config()).next_pause(1, failed(7.0)) == 7.0
        assert RetrySchedule(config()).next_pause(1, failed(0.0)) == 0.0

    @pytest.mark.parametrize("max_retries", [0, 1, 5])
    @pytest.mark.parametrize("strategy", [None, lambda attempt, error: 1.0], ids=["none", "one"])
    def test_max_retries(self, max_retries: int, strategy: Any) -> None:
        """After the last retry the round is over, with a strategy too."""
        limits = config(max_retries=max_retries, retry_strategy=strategy)
        pauses = [
            RetrySchedule(limits).next_pause(attempt, failed())
            for attempt in range(1, max_retries + 3)
        ]
        assert [pause is None for pause in pauses] == [False] * max_retries + [True] * 2

    @pytest.mark.parametrize(
        "error",
        [CredentialsRejectedError("no"), TokenRequestError("no", retryable=False, retry_after=1.0)],
        ids=["rejected", "refused"],
    )
    def test_final_error(self, error: TokenRequestError) -> None:
        """An error that is not passing ends the round; no strategy is asked."""
        asked: list[int] = []

        def strategy(attempt: int, error: TokenRequestError) -> float:
            asked.append(attempt)
            return 1.0

        assert RetrySchedule(config()).next_pause(1, error) is None
        assert RetrySchedule(config(retry_strategy=strategy)).next_pause(1, error) is None
        assert asked == []

    @pytest.mark.parametrize(
        ("chosen", "pause"),
        [
            (0, 0.0),
            (0.0, 0.0),
            (-0.0, 0.0),
            (0.25, 0.25),
            (3, 3.0),
            (60.0, 60.0),
            (61.0, 60.0),
            (1e308, 60.0),
            (10**300, 60.0),
            (10**400, 60.0),
            (10**5000, 60.0),
            (None, None),
        ],
        ids=lambda value: f"{value.bit_length()} bits" if isinstance(value, int) else str(value),
    )
    def test_strategy(
        self, chosen: float | None, pause: float | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A strategy's seconds hold up to the cap, and its None ends the round quietly."""
        limits = config(retry_strategy=lambda attempt, error: chosen)
        assert RetrySchedule(limits).next_pause(1, failed(7.0)) == pause
        assert caplog.records == []

    def test_strategy_is_told(self) -> None:
        """A strategy gets the number of the attempt, from 1 on, and the very error."""
        told: list[tuple[int, TokenRequestError]] = []

        def strategy(attempt: int, error: TokenRequestError) -> float:
            told.append((attempt, error))
            return 0.0

        limits = config(retry_strategy=strategy)
        first, second = failed(), MalformedTokenResponseError("what?")
        RetrySchedule(limits).next_pause(1, first)
        RetrySchedule(limits).next_pause(2, second)
        assert told == [(1, first), (2, second)]
        assert told[1][1] is second

    @pytest.mark.parametrize(
        "nonsense",
        [
            True,
            False,
            math.nan,
            math.inf,
            -math.inf,
            -1,
            -0.001,
            -(10**400),
            "5",
            b"5",
            [5],
            1j,
            ...,
        ],
        ids=lambda value: ascii(value)[:20],
    )
    def test_nonsense(self, nonsense: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A strategy that returns no number of seconds ends the round, and is logged."""
        limits = config(retry_strategy=lambda attempt, error: nonsense)
        assert RetrySchedule(limits).next_pause(1, failed()) is None
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("trio_anon_session", logging.ERROR)
        assert "retry_strategy" in record.getMessage()

    @pytest.mark.parametrize("problem", [ValueError, ZeroDivisionError, StopIteration, Exception])
    def test_raises(self, problem: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
        """A strategy that raises ends the round; only the type of its error is logged."""

        def strategy(attempt: int, error: TokenRequestError) -> float:
            raise problem("client_secret=hunter2")

        assert RetrySchedule(config(retry_strategy=strategy)).next_pause(1, failed()) is None
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert problem.__name__ in record.getMessage()
        assert record.exc_info is None
        assert "hunter2" not in caplog.text

    def test_a_coroutine_is_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        """A plain strategy that returns a coroutine ends the round, and Python does not warn."""
        coroutines: list[Coroutine[Any, Any, float]] = []

        async def pause() -> float:
            return 1.0

        def strategy(attempt: int, error: TokenRequestError) -> Any:
            coroutines.append(pause())
            return coroutines[-1]

        assert RetrySchedule(config(retry_strategy=strategy)).next_pause(1, failed()) is None
        (coroutine,) = coroutines
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "retry_strategy returned a coroutine" in record.getMessage()

    @given(st.from_type(object) | st.floats() | st.integers())
    def test_any_strategy(self, chosen: Any) -> None:
        """Whatever a strategy returns, the pause is None or within the limits."""
        pause = RetrySchedule(config(retry_strategy=lambda attempt, error: chosen)).next_pause(
            1, failed()
        )
        assert pause is None or 0.0 <= pause <= 60.0


def rounds_of(**changes: Any) -> Rounds:
    """Return new rounds of a config with these settings."""
    limits = config(**changes)
    return Rounds(limits, RetrySchedule(limits))


def told(rounds: Rounds, now: float, *, is_first: bool = True) -> TokenRequestError:
    """Return what a getter that comes now is told."""
    with pytest.raises(TokenRequestError) as caught:
        rounds.join(now, is_first=is_first)
    return caught.value


class TestRounds:
    def test_new(self) -> None:
        """In the beginning nothing has failed, and anybody may join."""
        rounds = rounds_of()
        rounds.join(-math.inf, is_first=True)
        rounds.join(0.0, is_first=False)
        assert (rounds.attempts, rounds.failed, rounds.consecutive_failures) == (0, 0, 0)
        assert not rounds.is_over
        assert rounds.retry_at == -math.inf

    def test_between_two_attempts(self) -> None:
        """Who comes between two attempts joins the round."""
        rounds = rounds_of()
        error = failed(4.0)

        assert rounds.fail(error, 100.0, 101.0).error is error
        rounds.join(101.0, is_first=False)

        assert not rounds.is_over
        assert (rounds.attempts, rounds.failed, rounds.retry_at) == (1, 0, 104.0)

    def test_a_round_is_given_up(self) -> None:
        """Attempts that are long past are not taken off a getter's round."""
        rounds = rounds_of(max_retries=1, max_retry_interval=50.0)
        rounds.fail(failed(4.0), 100.0, 101.0)

        rounds.join(200.0, is_first=True)

        # The backoff goes on all the same.
        assert (rounds.attempts, rounds.consecutive_failures, rounds.retry_at) == (0, 1, 104.0)
        rounds.fail(failed(4.0), 200.0, 201.0)
        assert not rounds.is_over
        rounds.fail(failed(4.0), 204.0, 205.0)
        assert rounds.is_over
        assert told(rounds, 204.0).attempts == 2

    @pytest.mark.parametrize(("now", "is_first"), [(199.9, True), (1e6, False)])
    def test_a_round_goes_on(self, now: float, *, is_first: bool) -> None:
        """A round that all have left for a while, or that somebody waits for, goes on."""
        rounds = rounds_of(max_retries=1, max_retry_interval=50.0)
        rounds.fail(failed(4.0), 100.0, 101.0)

        rounds.join(now, is_first=is_first)

        assert (rounds.attempts, rounds.retry_at) == (1, 104.0)
        rounds.fail(failed(4.0), now, now)
        assert told(rounds, now).attempts == 2

    def test_pause_after_the_round(self) -> None:
        """Who comes in the pause after a failed round is told at once, each by an own object."""
        rounds = rounds_of(max_retries=1)
        rounds.fail(failed(4.0), 100.0, 101.0)
        last = failed(8.0, status_code=503)
        rounds.fail(last, 104.0, 105.0)
        assert rounds.is_over

        one, other = told(rounds, 104.0), told(rounds, 110.5)

        assert one is not other
        assert one is not last
        assert type(one) is TokenUnavailableError
        assert (one.retry_after, other.retry_after) == (8.0, 1.5)
        assert (one.attempts, other.attempts) == (2, 2)
        assert one.status_code == 503
        assert one.__cause__ is other.__cause__ is last
        assert one.__context__ is None
        assert last.retry_after == 8.0
        assert last.__traceback__ is None

    def test_after_the_pause(self) -> None:
        """The first one after the pause, at its very end, opens a new round."""
        rounds = rounds_of(max_retries=0)
        rounds.fail(failed(8.0), 100.0, 101.0)
        told(rounds, math.nextafter(108.0, 0.0))

        rounds.join(108.0, is_first=True)

        assert not rounds.is_over
        assert (rounds.attempts, rounds.failed, rounds.consecutive_failures) == (0, 1, 1)
        rounds.fail(failed(8.0), 108.0, 109.0)
        assert (rounds.attempts, rounds.failed, rounds.consecutive_failures) == (1, 2, 2)

    def test_background_attempts(self) -> None:
        """Attempts that go on with nobody waiting count as the last one of the round."""
        rounds = rounds_of(max_retries=0)
        rounds.fail(failed(8.0), 100.0, 101.0)

        second = failed(16.0)
        rounds.fail(second, 108.0, 109.0)

        assert rounds.failed == 2
        error = told(rounds, 120.0)
        assert (error.retry_after, error.attempts) == (4.0, 1)
        assert error.__cause__ is second
        assert rounds.consecutive_failures == 2

    def test_backoff_grows_over_rounds(self) -> None:
        """The pause after a round counts failures since the last success, over all rounds."""
        rounds = rounds_of(max_retries=0, max_retry_interval=1e9)
        now = 0.0
        for number in range(12):
            rounds.join(now, is_first=True)
            rounds.fail(failed(), now, now)
            pause = rounds.retry_at - now
            assert 2.0**number * 0.99 <= pause <= 3.0 * 2.0**number * 1.01
            now = rounds.retry_at

    def test_rejected(self) -> None:
        """Rejected credentials end a round at the first attempt."""
        rounds = rounds_of()
        rounds.fail(CredentialsRejectedError("no", status_code=400), 100.0, 101.0)
        error = told(rounds, 100.5)
        assert type(error) is CredentialsRejectedError
        assert not error.retryable
        assert error.attempts == 1

    def test_not_before(self) -> None:
        """No attempt comes earlier than other reasons allow."""
        rounds = rounds_of(max_retries=1)
        rounds.fail(failed(0.0), 100.0, 101.0)
        assert rounds.retry_at == 101.0
        rounds.fail(failed(0.0), 101.0, 102.5)
        assert rounds.retry_at == 102.5
        assert told(rounds, 101.0).retry_after == 1.5

    @pytest.mark.parametrize("cause", [RuntimeError("hunter2"), OSError(5, "hunter2"), KeyError()])
    def test_foreign_error(self, cause: Exception) -> None:
        """What a token manager should not raise counts as passing, its words are not shown."""
        rounds = rounds_of(max_retries=0)

        error = rounds.fail(cause, 100.0, 101.0).error

        assert type(error) is TokenUnavailableError
        assert error.retryable
        assert type(cause).__name__ in str(error)
        assert "hunter2" not in str(error)
        shown = told(rounds, 100.0)
        assert shown.__cause__ is cause
        assert "hunter2" not in str(shown)

    def test_success(self) -> None:
        """A success ends the round, the pause and the count."""
        rounds = rounds_of(max_retries=0)
        rounds.fail(failed(8.0), 100.0, 101.0)

        rounds.succeed()

        rounds.join(100.0, is_first=False)
        assert not rounds.is_over
        assert (rounds.attempts, rounds.consecutive_failures) == (0, 0)
        assert rounds.retry_at == -math.inf
        assert rounds.failed == 1
        rounds.fail(failed(), 200.0, 200.0)
        assert 1.0 <= rounds.retry_at - 200.0 <= 3.0

    def test_strategy_gives_up(self) -> None:
        """A strategy's None ends the round; the pause after it is by the normal schedule."""
        rounds = rounds_of(retry_strategy=lambda attempt, error: None)
        rounds.fail(failed(8.0), 100.0, 101.0)
        assert rounds.is_over
        assert rounds.retry_at == 108.0

    def test_own_subclass(self) -> None:
        """An error of a token manager's own class is told as that class."""

        class VaultError(TokenRequestError):
            def __init__(self, vault: str) -> None:
                super().__init__(f"{vault} is sealed", retryable=False)
                self.vault = vault

        rounds = rounds_of()
        rounds.fail(VaultError("main"), 100.0, 101.0)
        error = told(rounds, 100.0)
        assert isinstance(error, VaultError)
        assert (error.vault, str(error)) == ("main", "main is sealed")
