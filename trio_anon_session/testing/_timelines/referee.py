"""The referee: finds the first broken promise in the log of a timeline.

It contains a model of the session that was written only from the promises and shares no code
with the session. Deadlines are checked when time advances, because all tasks have run by
then. Everything that depends on the order of events is checked at each entry of the log.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import attrs

from ..._errors import (
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)
from ..._token import TokenState
from .log import (
    Asked,
    Blocked,
    Came,
    Cancelling,
    CutOff,
    Decided,
    Entry,
    Failed,
    GaveUp,
    Got,
    Leaving,
    Left,
    Presented,
    Reported,
    RevocationCame,
    RevocationSent,
    RevokeCancelling,
    RevokeEnded,
    Revoking,
    Sent,
    Stopped,
    WallSet,
)
from .names import token_names
from .record import Breach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .timeline import AnswerKind, Timeline

NEARLY = 1e-6
"""Seconds; tolerance for the rounding errors of sums of floats."""
LOOK_UP_INTERVAL = 60.0
"""Seconds within which a session notices a suspend."""

_ERROR_OF: dict[AnswerKind, type[TokenRequestError]] = {
    "unavailable": TokenUnavailableError,
    "rate limited": TokenUnavailableError,
    "rejected": CredentialsRejectedError,
    "refused": TokenRequestError,
    "malformed": MalformedTokenResponseError,
    "bad lifetime": MalformedTokenResponseError,
    "cut": TokenUnavailableError,
    "hang": TokenUnavailableError,
    "raises": TokenUnavailableError,
    "nonsense": TokenUnavailableError,
}


def judge(timeline: Timeline, log: Sequence[Entry]) -> Breach | None:
    """Return the first broken promise that the log shows, or None if it shows none."""
    referee = _Referee(timeline, log)
    try:
        referee.run()
    except _BrokenError as broken:
        return broken.breach
    return None


class _BrokenError(Exception):
    def __init__(self, breach: Breach) -> None:
        self.breach = breach


@attrs.define
class _Token:
    text: str = attrs.field(repr=False)
    sent_at: float
    stale_at: float
    expires_at: float
    ends_at: float
    wall_at_sending: float
    sent_index: int


@attrs.define
class _Flight:
    number: int
    kind: AnswerKind
    sent_at: float
    index: int
    wall: float
    discarded: bool = False
    revoked: bool = False


@attrs.define
class _Waiting:
    asked_at: float
    told: bool = False
    ended_at: float | None = None


@attrs.define
class _Failure:
    """A failed round of attempts, whose error its getters must get."""

    kind: AnswerKind
    attempts: int
    cause: BaseException | None = None


@attrs.define
class _Revocation:
    begun_at: float
    succeeded: bool | None = None
    failures: int = 0
    in_flight: bool = False
    is_untried: bool = True
    retry_from: float = -math.inf
    retry_until: float = math.inf
    calls: set[int] = attrs.field(factory=set)


@attrs.define
class _Call:
    """A call of ``revoke_tokens()``, and the revocations that it must wait for."""

    begun_at: float
    texts: set[str] = attrs.field(factory=set, repr=False)
    is_late: bool = False


class _Referee:
    def __init__(self, timeline: Timeline, log: Sequence[Entry]) -> None:
        self.timeline = timeline
        self.log = log
        self.names = token_names(log)
        self.now = 0.0
        self.index = 0
        # How many seconds the wall clock is ahead of Trio's clock.
        self.wall = 0.0
        self.wall_set_at = -math.inf
        self.wall_set_index = -1
        # The session adds the times of two clocks in another order, so rounding differs.
        self.slack = NEARLY if timeline.moves_wall_clock else 0.0

        self.token: _Token | None = None
        # The tokens of all responses, usable or not, by the token's text.
        self.brought: dict[str, list[_Token]] = {}
        self.dropped_at_index = -1
        self.dropped_by = "invalidate"
        self.flight: _Flight | None = None
        self.last_sent_at = -math.inf
        self.last_number = 0

        self.waiting: dict[int, _Waiting] = {}
        self.undecided: dict[int, float] = {}
        self.must_get: set[int] = set()
        self.must_end: set[int] = set()
        self.refused_at_once: set[int] = set()
        self.cancelling: dict[int, float] = {}
        self.ended: set[int] = set()
        self.errors_seen: set[int] = set()
        self.asked_at = -math.inf
        self.met_stale = False

        self.attempts = self.consecutive = 0
        self.is_over = False
        self.failed_at = self.retry_from = self.retry_until = -math.inf
        self.failure: _Failure | None = None
        # The failure of the last attempt, also before the end of its round.
        self.last_failure: _Failure | None = None
        self.wait_ends_at = math.inf
        # Whether the session continues a round without its callers.
        self.goes_on = False
        self.is_wanted = False

        self.revocations: dict[str, _Revocation] = {}
        self.calls: dict[int, _Call] = {}
        self.calls_cancelled: set[int] = set()

        self.grants = self.failures = self.invalidations = self.same = self.held_total = 0
        self.left_at: float | None = None
        self.crash: BaseException | None = None
        self.crashed_at: float | None = None
        self.has_left = False
        # The tokens that must be revoked at the end, and those that may be.
        self.owed_at_the_end: set[str] = set()
        self.may_be_ended: set[str] = set()

    # The run through the log

    def run(self) -> None:
        for index, entry in enumerate(self.log):
            self.index = index
            if entry.at != self.now:
                self.end_moment(entry.at)
                self.now = entry.at
                self.is_wanted = False
                self.look()
            self.see(entry)
            self.look()
        self.end_moment(math.inf)
        self.check_everybody_came_back()

    def see(self, entry: Entry) -> None:
        match entry.what:
            case Asked(getter):
                self.undecided[getter] = self.now
            case Decided(getter):
                self.decide(getter)
            case Got(getter, text):
                self.got(getter, text)
            case Failed(getter, error):
                self.failed(getter, error)
            case Blocked(getter):
                self.blocked(getter)
            case Cancelling(getter):
                if getter not in self.ended:
                    self.cancelling[getter] = self.now
            case GaveUp(getter):
                self.gave_up(getter)
            case Presented(getter, text, verdict):
                if verdict == "expired":
                    self.broken(1, "the server refused the token as expired", getter=getter)
            case Sent(number, kind):
                self.sent(number, kind)
            case Came():
                self.came(entry.what)
            case CutOff(number):
                self.cut_off(number)
            case Reported():
                self.reported(entry.what)
            case Revoking(call, before):
                self.revoking(call, before)
            case RevokeCancelling(call):
                self.calls_cancelled.add(call)
            case RevokeEnded(call, outcome):
                self.revoke_ended(call, outcome)
            case RevocationSent(_, text):
                self.revocation_sent(text)
            case RevocationCame():
                self.revocation_came(entry.what)
            case WallSet(by):
                self.wall += by
                self.wall_set_at, self.wall_set_index = self.now, self.index
            case Leaving():
                self.leaving(entry.what)
            case Left():
                self.left(entry.what)
            case Stopped(why):
                self.stopped(why)

    def broken(
        self,
        promise: int,
        text: str,
        *,
        getter: int | None = None,
        attempt: int | None = None,
        token: str | None = None,
        at: float | None = None,
    ) -> NoReturn:
        raise _BrokenError(
            Breach(
                promise=promise,
                at=self.now if at is None else at,
                text=text,
                getter=getter,
                attempt=attempt,
                token=None if token is None else self.name(token),
            )
        )

    def name(self, text: str) -> str:
        return self.names.get(text, "a token that was never issued")

    # The model of the session

    @property
    def is_closed(self) -> bool:
        return self.left_at is not None or self.crashed_at is not None

    def age_clock(self, token: _Token) -> float:
        """Return the current time on the clock by which the token is older."""
        return self.now + max(0.0, self.wall - token.wall_at_sending)

    def state(self, ahead: float = 0.0) -> TokenState:
        if self.token is None:
            return TokenState.EMPTY
        aged = self.age_clock(self.token) + ahead
        if aged >= self.token.expires_at:
            return TokenState.EXPIRED
        return TokenState.STALE if aged >= self.token.stale_at else TokenState.FRESH

    def has_usable_token(self) -> bool:
        return self.state() in {TokenState.FRESH, TokenState.STALE} and not self.is_closed

    def idles_until(self) -> float:
        idle = self.timeline.idle_timeout
        return math.inf if idle is None else self.asked_at + idle

    def is_eager_at(self, when: float) -> bool:
        return self.timeline.refresh == "eager" and when < self.idles_until() - NEARLY

    def may_be_eager(self) -> bool:
        return self.timeline.refresh == "eager" and self.now < self.idles_until() + NEARLY

    def is_awaited(self) -> bool:
        return self.goes_on or any(not waiting.told for waiting in self.waiting.values())

    def look(self) -> None:
        """Note whether a request is due now; it may be sent later at the same moment."""
        match self.state(ahead=self.slack):
            case TokenState.EMPTY:
                wanted = self.is_awaited()
            case TokenState.FRESH:
                wanted = False
            case TokenState.STALE:
                wanted = self.may_be_eager() or self.met_stale
            case TokenState.EXPIRED:
                wanted = self.may_be_eager() or self.is_awaited()
        self.is_wanted = self.is_wanted or wanted

    def due(self) -> tuple[float, int, str] | None:
        """Return the deadline of the next request, the promise that requires it, and the reason."""
        at_earliest = max(
            self.now, self.last_sent_at + self.timeline.min_refresh_interval, self.retry_until
        )
        state = self.state()
        if state in {TokenState.EMPTY, TokenState.EXPIRED} and (self.waiting or self.goes_on):
            promise = 12 if self.consecutive or self.goes_on else 10
            return at_earliest, promise, "getters wait or have waited"
        if self.token is None:
            return None
        ages_by = self.age_clock(self.token) - self.now
        if (
            state is TokenState.STALE
            and self.met_stale
            # After that the token is EXPIRED, and no request is due without a new call.
            and at_earliest < self.token.expires_at - ages_by - NEARLY
        ):
            promise = 11 if self.consecutive else 3
            return at_earliest, promise, "a getter got the STALE token"
        if state is TokenState.EXPIRED:
            when = max(at_earliest, self.noticed_by(self.token.expires_at))
            promise, why = 4, "the token is EXPIRED, and the session is not parked"
        else:
            when = max(at_earliest, self.noticed_by(self.token.stale_at))
            promise = 11 if self.consecutive else 3
            why = "the token is STALE, and the session is eager"
        if self.wall_set_index > self.token.sent_index and promise != 11:
            promise = 5
        return (when, promise, why) if self.is_eager_at(when) else None

    def noticed_by(self, boundary: float) -> float:
        """Return the latest moment at which the session notices that a boundary has passed."""
        assert self.token is not None
        passed = boundary - max(0.0, self.wall - self.token.wall_at_sending)
        if self.wall_set_index > self.token.sent_index:
            return max(passed, self.wall_set_at + LOOK_UP_INTERVAL)
        return passed

    def drop(self, by: str) -> None:
        self.token = None
        self.goes_on = False
        self.dropped_at_index = self.index
        self.dropped_by = by
        if self.flight is not None:
            self.flight.discarded = True

    # Checks when time advances

    def end_moment(self, next_at: float) -> None:
        """Check what must be true when all tasks have run."""
        for getter, at in self.cancelling.items():
            if at <= self.now:
                self.broken(9, "a cancelled getter did not end immediately", getter=getter)
        for getter in self.undecided:
            self.broken(2, "a getter did not run", getter=getter)
        for getter in self.must_get:
            self.broken(2, "a getter waited although the token is usable", getter=getter)
        for getter in self.refused_at_once:
            self.broken(12, "a getter waits during the pause after a failed round", getter=getter)
        if self.is_closed:
            for getter in (*self.waiting, *self.must_end):
                self.broken(19, "a getter still waits after the session was closed", getter=getter)
            return
        for getter, waiting in self.waiting.items():
            is_noticed = next_at > self.wall_set_at + LOOK_UP_INTERVAL + NEARLY
            if self.has_usable_token() and (is_noticed or self.wall_set_at < waiting.asked_at):
                self.broken(10, "a getter waits although there is a new token", getter=getter)
            if waiting.told:
                self.broken(10, "a getter waits although its round has failed", getter=getter)
            if waiting.ended_at is not None and waiting.asked_at < waiting.ended_at:
                self.broken(12, "a getter waits although others stopped waiting", getter=getter)
            if not self.has_usable_token() and self.wait_ends_at < next_at - NEARLY:
                text, when = "a getter waits longer than max_wait", self.wait_ends_at
                self.broken(12, text, getter=getter, at=when)
        for number, call in self.calls.items():
            # The call may also wait for revocations that began at the same moment.
            if all(
                revocation.succeeded is not None
                for text, revocation in self.revocations.items()
                if text in call.texts or revocation.begun_at == call.begun_at
            ):
                self.broken(18, f"call {number} of revoke_tokens() waits without a revocation")
        for text, revocation in self.revocations.items():
            is_resting = revocation.succeeded is None and not revocation.in_flight
            if is_resting and revocation.retry_until < next_at - NEARLY:
                when = revocation.retry_until
                words = f"the revocation of {self.name(text)} is not retried at {when:g} s"
                self.broken(18, words, token=text, at=when)
            if revocation.is_untried:
                promise = 18 if revocation.calls else 17
                self.broken(promise, f"{self.name(text)} is not revoked at the server", token=text)
        self.check_due(next_at)

    def check_due(self, next_at: float) -> None:
        if self.flight is not None:
            return
        due = self.due()
        if due is None:
            return
        when, promise, why = due
        if when < next_at - NEARLY and not (next_at == math.inf and not self.waiting):
            self.broken(promise, f"no token request at {when:g} s, although {why}", at=when)

    # Getters

    def decide(self, getter: int) -> None:
        """Handle a getter at the moment at which it reads the state of the session."""
        del self.undecided[getter]
        if self.is_closed:
            self.waiting[getter] = _Waiting(self.now)
            return
        if self.has_usable_token():
            self.must_get.add(getter)
            self.is_asked_for()
            return
        if isinstance(self.log[self.index + 1].what, Blocked):
            # A nowait getter prevents parking, but does not wake a parked session.
            if self.now < self.idles_until():
                self.asked_at = self.now
            return
        self.asked_at = self.now
        self.join(getter)

    def is_asked_for(self) -> None:
        self.asked_at = self.now
        if self.state() is TokenState.STALE:
            self.met_stale = True

    def join(self, getter: int) -> None:
        """Add a getter to the current round, to a new one, or to the pause after a failed one."""
        following = self.log[self.index + 1].what
        is_refused = isinstance(following, Failed) and following.getter == getter
        if is_refused:
            if not self.is_over or self.now > self.retry_until + NEARLY:
                text = "a getter got an error immediately, outside the pause after a failed round"
                self.broken(12, text, getter=getter)
            self.refused_at_once.add(getter)
            return
        if self.is_over and self.now < self.retry_from - NEARLY:
            self.broken(12, "a getter waits during the pause after a failed round", getter=getter)
        given_up_at = self.failed_at + 2 * self.timeline.max_retry_interval
        if self.is_over or (not self.waiting and self.now >= given_up_at):
            self.is_over, self.attempts = False, 0
        self.waiting[getter] = _Waiting(self.now)
        self.held_total += 1
        if self.wait_ends_at == math.inf and self.timeline.max_wait is not None:
            self.wait_ends_at = self.now + self.timeline.max_wait

    def end_waits(self) -> None:
        """End the waits of all getters; those that came at this moment may wait again."""
        self.wait_ends_at = math.inf
        self.goes_on = not self.is_over
        for waiting in self.waiting.values():
            waiting.ended_at = self.now
            if waiting.asked_at == self.now and self.timeline.max_wait is not None:
                self.wait_ends_at = self.now + self.timeline.max_wait

    def got(self, getter: int, text: str) -> None:
        self.end(getter)
        if self.is_closed and self.crashed_at != self.now:
            self.broken(19, "a getter got a token after the session was closed", getter=getter)
        self.check_token(getter, text)
        if not self.is_closed and (self.token is None or self.token.text != text):
            words = f"a getter got {self.name(text)}, which is not the current token"
            self.broken(1, words, getter=getter, token=text)
        self.is_asked_for()

    def check_token(self, getter: int, text: str) -> None:
        """Check that a token may be handed out now."""
        brought = self.brought.get(text)
        if not brought:
            self.broken(1, "a getter got a token that no response contained", getter=getter)
        after_drop = [t for t in brought if t.sent_index > self.dropped_at_index]
        if not after_drop:
            promise, what = (18, "revoke") if self.dropped_by == "revoke" else (17, "invalidate")
            text = f"a getter got {self.name(text)}, requested before the {what}"
            self.broken(promise, text, getter=getter, token=brought[0].text)
        token = after_drop[-1]
        is_by_wall = self.wall != token.wall_at_sending
        aged = self.age_clock(token)
        if aged >= token.ends_at or aged >= token.expires_at + self.slack:
            late = aged - token.expires_at
            when = f"{late:g} s after it expired" if late else "at the moment it expired"
            words = f"a getter got {self.name(text)} {when}"
            self.broken(5 if is_by_wall else 1, words, getter=getter, token=text)

    def failed(self, getter: int, error: Exception) -> None:
        waiting = self.waiting.get(getter)
        was_told = waiting is not None and waiting.told
        if waiting is not None and not was_told and self.now >= self.wait_ends_at - NEARLY:
            self.end_waits()
        has_waited = waiting is not None and waiting.ended_at == self.now
        was_usable = self.has_usable_token()
        was_refused = getter in self.refused_at_once
        self.end(getter)
        if isinstance(error, SessionClosedError):
            if not self.is_closed:
                self.broken(
                    19, "a getter got SessionClosedError from an open session", getter=getter
                )
            return
        if self.is_closed and self.crashed_at != self.now:
            kind = type(error).__name__
            self.broken(19, f"a getter got {kind} after the session was closed", getter=getter)
        if was_usable:
            kind = type(error).__name__
            self.broken(11, f"a getter got {kind} while the token is usable", getter=getter)
        if not was_told and not was_refused and not has_waited:
            kind = type(error).__name__
            self.broken(12, f"a getter got {kind} before the end of a round", getter=getter)
        if was_told or was_refused:
            assert self.failure is not None
            self.check_error(getter, error, self.failure)
        else:
            # Without a failed attempt in this round, all that is known is that no answer has come.
            failure = self.last_failure if self.attempts else None
            self.check_error(getter, error, failure or _Failure("hang", 0))

    def check_error(self, getter: int, error: Exception, failure: _Failure) -> None:
        if not isinstance(error, TokenRequestError):
            self.broken(14, f"a getter got {type(error).__name__}", getter=getter)
        expected = _ERROR_OF.get(failure.kind, TokenUnavailableError)
        if type(error) is not expected:
            promise = 13 if failure.kind == "rejected" else 14
            text = f"a getter got {type(error).__name__}, not {expected.__name__}"
            self.broken(promise, text, getter=getter)
        if id(error) in self.errors_seen:
            self.broken(12, "two getters got the same exception object", getter=getter)
        self.errors_seen.add(id(error))
        if failure.cause is not None and error.__cause__ is not failure.cause:
            self.broken(12, "a getter's error has another cause than the round", getter=getter)
        if error.attempts != failure.attempts:
            text = f"a getter's error has attempts={error.attempts}, not {failure.attempts}"
            self.broken(12, text, getter=getter)
        retry_at = math.nan if error.retry_after is None else self.now + error.retry_after
        earliest, latest = self.next_attempt()
        if not earliest - NEARLY <= retry_at <= latest + NEARLY:
            self.broken(12, f"a getter's error says to retry at {retry_at:g} s", getter=getter)
        if self.retry_from < self.retry_until:
            # The pause was drawn, and the error shows which one.
            self.retry_from = self.retry_until = retry_at

    def next_attempt(self) -> tuple[float, float]:
        """Return the earliest and the latest time of the next attempt that an error may name."""
        timeline = self.timeline
        gap_ends_at = self.last_sent_at + timeline.min_refresh_interval
        if self.flight is not None:
            times_out_at = self.flight.sent_at + timeline.request_timeout
            return (max(self.now + timeline.retry_interval, times_out_at),) * 2
        earliest = max(self.now, gap_ends_at, self.retry_from)
        latest = max(self.now, gap_ends_at, self.retry_until)
        # A request that is due now may have begun, and not been sent yet.
        return earliest, latest + (timeline.retry_interval if latest <= self.now + NEARLY else 0.0)

    def blocked(self, getter: int) -> None:
        if self.is_closed and self.crashed_at != self.now:
            self.broken(19, "a nowait getter got no SessionClosedError", getter=getter)
        if getter in self.must_get:
            self.broken(2, "a nowait getter did not get the usable token", getter=getter)
        self.end(getter)
        self.waiting.pop(getter, None)

    def gave_up(self, getter: int) -> None:
        if getter not in self.cancelling:
            self.broken(9, "a getter ended as cancelled, but was not cancelled", getter=getter)
        self.end(getter)

    def end(self, getter: int) -> None:
        self.ended.add(getter)
        self.waiting.pop(getter, None)
        if not self.waiting:
            self.wait_ends_at = math.inf
        self.undecided.pop(getter, None)
        self.cancelling.pop(getter, None)
        self.must_get.discard(getter)
        self.must_end.discard(getter)
        self.refused_at_once.discard(getter)

    # Token requests

    def sent(self, number: int, kind: AnswerKind) -> None:
        self.last_number = number
        if self.left_at is not None or self.crashed_at is not None:
            self.broken(19, "a token request was sent after the session was closed", attempt=number)
        if self.flight is not None:
            self.broken(8, "two token requests are in flight", attempt=number)
        gap = self.now - self.last_sent_at
        if gap < self.timeline.min_refresh_interval - NEARLY:
            text = f"a token request was sent {gap:g} s after the previous one"
            self.broken(7, text, attempt=number)
        if self.now < self.retry_from - NEARLY:
            early = self.retry_from - self.now
            self.broken(12, f"a token request was sent {early:g} s too early", attempt=number)
        if not self.is_wanted:
            self.sent_unasked(number)
        self.last_sent_at = self.now
        self.is_wanted = False
        self.flight = _Flight(number, kind, self.now, self.index, self.wall)

    def sent_unasked(self, number: int) -> None:
        match self.state():
            case TokenState.EMPTY:
                self.broken(16, "a token request was sent although no getter waits", attempt=number)
            case TokenState.FRESH:
                text = "a token request was sent although the token is FRESH"
                self.broken(3, text, attempt=number)
            case _ if self.timeline.refresh == "eager":
                text = "a token request was sent although the session is parked"
                self.broken(4, text, attempt=number)
            case _:
                text = "a token request was sent although no getter called (refresh='on_request')"
                self.broken(3, text, attempt=number)

    def came(self, came: Came) -> None:
        flight = self.flight
        assert flight is not None
        self.flight = None
        # This is the request that was due.
        self.is_wanted = False
        is_of_server = flight.kind not in {"raises", "nonsense", "crash"}
        if is_of_server and self.now > flight.sent_at + self.timeline.request_timeout + NEARLY:
            self.broken(12, "an attempt took longer than request_timeout", attempt=came.number)
        if self.is_closed and came.token is not None:
            self.may_be_ended.add(came.token.access_token)
        if flight.kind == "crash":
            self.crash, self.crashed_at = came.error, self.now
        elif came.token is None:
            self.fail(self.kind_of_failure(flight, came.error), came.error)
        elif flight.kind == "bad lifetime":
            self.broken(7, "a token without a valid lifetime was accepted", attempt=came.number)
        else:
            self.brought_token(flight, came)

    def kind_of_failure(self, flight: _Flight, error: BaseException | None) -> AnswerKind:
        answer, timeline = self.timeline.answer(flight.number - 1), self.timeline
        has_status = getattr(error, "status_code", None) is not None
        is_in_time = answer.latency < timeline.request_timeout
        if not answer.is_of_manager and not (
            # At the moment of the timeout, both results are correct.
            is_in_time or (has_status and answer.latency == timeline.request_timeout)
        ):
            return "hang"
        lifetime = timeline.lifetime if answer.lifetime is None else answer.lifetime
        return "bad lifetime" if flight.kind == "token" and lifetime == 0 else flight.kind

    def brought_token(self, flight: _Flight, came: Came) -> None:
        token = self.expected(flight, came)
        self.brought.setdefault(token.text, []).append(token)
        is_to_be_revoked = token.text in self.revocations
        if flight.revoked:
            self.owe_revocation(token.text)
        if self.age_clock(token) >= token.expires_at or is_to_be_revoked:
            self.fail("unavailable", None)
        else:
            self.succeed(token, flight)

    def expected(self, flight: _Flight, came: Came) -> _Token:
        """Check the boundaries of a received token, and return the model of the token."""
        token, timeline = came.token, self.timeline
        assert token is not None
        end = flight.sent_at + came.lifetime
        expires_at = end - min(timeline.expired_buffer, came.lifetime / 4)
        stale_at = min(end - min(timeline.stale_buffer, came.lifetime / 2), expires_at)
        moved = min(timeline.refresh_jitter, (expires_at - stale_at) / 2)
        text = token.access_token
        if abs(token.expires_at - expires_at) > NEARLY:
            words = f"{self.name(text)} expires at {token.expires_at:g}, not {expires_at:g} s"
            self.broken(1, words, attempt=came.number, token=text)
        if not stale_at - NEARLY <= token.stale_at <= stale_at + moved + NEARLY:
            words = f"{self.name(text)} is STALE from {token.stale_at:g}, not {stale_at:g} s, on"
            self.broken(3, words, attempt=came.number, token=text)
        ends_at = max(came.ends_at, expires_at)
        return _Token(
            text,
            flight.sent_at,
            token.stale_at,
            token.expires_at,
            ends_at,
            flight.wall,
            flight.index,
        )

    def succeed(self, token: _Token, flight: _Flight) -> None:
        self.grants += 1
        self.attempts = self.consecutive = 0
        self.is_over = False
        self.retry_from = self.retry_until = -math.inf
        if flight.discarded:
            return
        if self.token is not None and self.token.text == token.text:
            self.same += 1
        self.token = token
        self.met_stale = self.goes_on = False

    def fail(self, kind: AnswerKind, cause: BaseException | None) -> None:
        """Count a failed attempt, and compute the pause after it."""
        self.failures += 1
        self.attempts = min(self.attempts + 1, 1 + self.timeline.max_retries)
        self.consecutive += 1
        self.failed_at = self.now
        asked = self.timeline.answer(self.last_number - 1).retry_after
        pauses = self.pauses(kind, self.attempts, asked)
        failure = _Failure(kind, self.attempts, None if kind == "nonsense" else cause)
        self.last_failure = failure
        if pauses is None:
            self.is_over, self.goes_on = True, False
            self.failure = failure
            for waiting in self.waiting.values():
                waiting.told = True
            pauses = self.normal_pauses(kind, self.consecutive, asked)
        else:
            self.is_over = False
        gap_ends_at = self.last_sent_at + self.timeline.min_refresh_interval
        self.retry_from = max(self.now + pauses[0], gap_ends_at)
        self.retry_until = max(self.now + pauses[1], gap_ends_at)

    def pauses(
        self, kind: AnswerKind, attempt: int, asked: float | None
    ) -> tuple[float, float] | None:
        """Return the minimum and maximum pause until the round's next attempt, or None."""
        timeline = self.timeline
        if kind in {"rejected", "refused"} or attempt > timeline.max_retries:
            return None
        if timeline.strategy is None:
            return self.normal_pauses(kind, attempt, asked)
        pause = timeline.pause_of_strategy(attempt)
        if pause is None:
            return None
        return (min(pause, timeline.max_retry_interval),) * 2

    def normal_pauses(
        self, kind: AnswerKind, attempt: int, asked: float | None
    ) -> tuple[float, float]:
        timeline, longest = self.timeline, self.timeline.max_retry_interval
        if asked is not None and kind in {"unavailable", "rate limited"}:
            return (min(asked, longest),) * 2
        doubled = timeline.retry_interval * 2.0 ** min(attempt - 1, 60)
        return min(doubled * 0.5, longest), min(doubled * 1.5, longest)

    def cut_off(self, number: int) -> None:
        self.flight = None
        if not self.is_closed:
            self.broken(9, "a token request was cancelled", attempt=number)

    # Reports and revocations

    def reported(self, report: Reported) -> None:
        if self.is_closed:
            return
        self.check_held(report.before)
        current = None if self.token is None else self.token.text
        if report.token == current and self.state() is not TokenState.EXPIRED:
            if report.after is not None:
                self.broken(17, "an invalidated token was not dropped", token=report.token)
            self.invalidations += 1
            self.drop("invalidate")
        elif report.after != report.before:
            text = f"a late invalidate of {self.name(report.token)} dropped the token"
            self.broken(16, text, token=report.before)

    def check_held(self, text: str | None) -> None:
        current = None if self.token is None else self.token.text
        if text != current:
            held = "nothing" if text is None else self.name(text)
            expected = "nothing" if current is None else self.name(current)
            self.broken(17, f"the session holds {held}, not {expected}")

    def revoking(self, call: int, before: str | None) -> None:
        if self.is_closed:
            # At the moment of a crash, the session may not have noticed it yet.
            is_late = self.left_at is not None or self.crashed_at != self.now
            self.calls[call] = _Call(self.now, is_late=is_late)
            if before is not None and not is_late:
                self.may_be_ended.add(before)
            return
        self.check_held(before)
        if self.flight is not None:
            self.flight.discarded = self.flight.revoked = True
        if self.token is not None:
            self.owe_revocation(self.token.text, call)
        self.drop("revoke")
        pending = {text for text, known in self.revocations.items() if known.succeeded is None}
        self.calls[call] = _Call(self.now, pending)

    def owe_revocation(self, text: str, call: int | None = None) -> None:
        revocation = self.revocations.get(text)
        if revocation is None or revocation.succeeded is not None:
            revocation = self.revocations[text] = _Revocation(self.now)
        if call is not None:
            revocation.calls.add(call)

    def revoke_ended(self, call: int, outcome: object) -> None:
        begun = self.calls.pop(call)
        results = [self.revocations[text].succeeded for text in begun.texts]
        other = [
            known.succeeded
            for known in self.revocations.values()
            if known.begun_at == begun.begun_at
        ]
        is_told = isinstance(outcome, SessionClosedError) or outcome == "cancelled"
        if begun.is_late and not is_told:
            self.broken(19, f"revoke_tokens() ended with {outcome!r} after the session was closed")
        match outcome:
            case "cancelled":
                if call not in self.calls_cancelled:
                    self.broken(18, "revoke_tokens() ended as cancelled, but was not cancelled")
            case "well":
                if not all(results):
                    self.broken(18, "revoke_tokens() returned although the token may be valid")
            case SessionClosedError():
                if not self.is_closed:
                    self.broken(19, "revoke_tokens() raised SessionClosedError in an open session")
            case RevocationError():
                if False not in results + other:
                    self.broken(18, "revoke_tokens() failed although no round of attempts failed")
            case _:
                self.broken(18, f"revoke_tokens() raised {type(outcome).__name__}")

    def revocation_sent(self, text: str) -> None:
        revocation = self.revocations.get(text)
        is_pending = revocation is not None and revocation.succeeded is None
        if self.is_closed:
            if not is_pending and text not in self.may_be_ended:
                self.broken(19, f"{self.name(text)} is revoked without a reason", token=text)
            self.owed_at_the_end.discard(text)
            return
        if revocation is None or revocation.in_flight or not is_pending:
            self.broken(18, f"{self.name(text)} is revoked again without a reason", token=text)
        if self.now < revocation.retry_from - NEARLY:
            early = revocation.retry_from - self.now
            words = f"the revocation of {self.name(text)} was retried {early:g} s too early"
            self.broken(18, words, token=text)
        revocation.in_flight, revocation.is_untried = True, False

    def revocation_came(self, came: RevocationCame) -> None:
        if self.is_closed:
            return
        revocation = self.revocations[came.token]
        revocation.in_flight = False
        if came.succeeded:
            revocation.succeeded = True
            return
        revocation.failures += 1
        answer = came.answer
        if answer is None:
            words = f"the revocation of {self.name(came.token)} was cancelled"
            self.broken(18, words, token=came.token)
        kind = answer.kind if answer.latency < self.timeline.request_timeout else "hang"
        pauses = self.pauses(kind, revocation.failures, answer.retry_after)
        if pauses is None:
            revocation.succeeded = False
        else:
            revocation.retry_from = self.now + pauses[0]
            revocation.retry_until = self.now + pauses[1]

    # The end

    def leaving(self, leaving: Leaving) -> None:
        if self.crashed_at is None:
            self.check_statistics(leaving)
        self.left_at = self.now
        # From now on, all getters must get SessionClosedError. These may also get what was decided.
        self.must_end |= self.must_get | self.refused_at_once
        self.must_get.clear()
        self.refused_at_once.clear()
        self.calls = {number: _Call(call.begun_at) for number, call in self.calls.items()}
        if self.timeline.revoke_on_exit and self.token is not None:
            self.owed_at_the_end.add(self.token.text)
            self.may_be_ended.add(self.token.text)

    def check_statistics(self, leaving: Leaving) -> None:
        seen = leaving.statistics
        for promise, name, expected in (
            (11, "grants", self.grants),
            (11, "failures", self.failures),
            (11, "consecutive_failures", self.consecutive),
            (10, "getters_held", len(self.waiting)),
            (16, "invalidations", self.invalidations),
            (7, "same_token_answers", self.same),
            (1, "state", self.state()),
            (10, "getters_held_total", self.held_total),
        ):
            if getattr(seen, name) != expected:
                text = f"statistics().{name} is {getattr(seen, name)}, not {expected}"
                self.broken(promise, text)

    def left(self, left: Left) -> None:
        assert self.left_at is not None
        self.has_left = True
        error, expected = left.error, left.expected
        takes = self.timeline.shutdown_timeout if self.timeline.revoke_on_exit else 0.0
        if self.now > self.left_at + takes + NEARLY:
            late = self.now - self.left_at
            self.broken(19, f"leaving the block took {late:g} s")
        if self.flight is not None:
            self.broken(
                19,
                "a token request continues after the session was closed",
                attempt=self.flight.number,
            )
        if self.crash is None and self.now < self.left_at + takes:
            for text in self.owed_at_the_end:
                self.broken(19, f"{self.name(text)} was not revoked at the end", token=text)
        if left.was_swallowed:
            self.broken(20, "the block did not raise its cancellation")
        if self.crash is not None and (expected is None or error is self.crash):
            expected = self.crash
        if error is not expected:
            promise = 14 if self.crash is not None else 20
            self.broken(promise, f"the block raised {error!r}, not {expected!r}")

    def stopped(self, why: str) -> None:
        promise = 10 if "indefinitely" in why else 7
        # Report a waiting getter first, because it is more precise than the reason of the stop.
        for getter in self.waiting:
            self.broken(10, "a getter waits indefinitely", getter=getter)
        self.broken(promise, why)

    def check_everybody_came_back(self) -> None:
        if self.left_at is not None and not self.has_left:
            self.broken(19, "the block did not end")
        for call in self.calls:
            self.broken(19, f"call {call} of revoke_tokens() did not end")
