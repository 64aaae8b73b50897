"""`Facts`: the referee's independent records of what happened, and what the promises require.

This module uses no decision of the machine. It computes ages since a token was sent, by either
clock; the machine compares times instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tools.lifecycle.bounds import (
    ATTEMPTS,
    EXPIRED_AGE,
    LONGEST_PAUSE,
    LOOK_UP_INTERVAL,
    REQUEST_TIMEOUT,
    SHORTEST_PAUSE,
    STALE_AGE,
    Bounds,
)
from trio_anon_session import TokenInfo, TokenState

if TYPE_CHECKING:
    from trio_anon_session import TokenRequestOptions
    from trio_anon_session._lifecycle import Caller, Request


class Seat(NamedTuple):
    """A waiting caller.

    Attributes:
        looks: whether it looks at the facts soon: it was woken, or waits for the gate's lock.
        round_failed: whether a round has failed since the caller began to wait.
        wait_ended: whether all waits have ended since then.
        options: the options of its call.
    """

    looks: bool
    round_failed: bool
    options: TokenRequestOptions | None
    wait_ended: bool = False


class Gone(NamedTuple):
    """A token that was dropped or revoked.

    Attributes:
        dropped_at: when it was dropped or revoked.
        sent_at: when its request was sent.
        is_revoked: whether it must never come back.
    """

    dropped_at: float
    sent_at: float
    is_revoked: bool


class Facts:
    """Records of what happened in one session.

    Attributes:
        now: Trio's clock.
        wall: the wall clock; equal to `now` in virtual time.
        token: the session's token.
        born: when the token's lifetime began, on Trio's clock.
        born_by_wall: when the token's lifetime began, on the wall clock.
        met_stale: whether a caller got the token while it was STALE.
        options: the options of the first caller that got the STALE token, or whose wait has ended.
        request: the request that has begun.
        is_sent: whether this request was sent.
        sent_at: when the last request was sent, on Trio's clock.
        sent_by_wall: when the last request was sent, on the wall clock.
        is_discarded: whether the token of the request must not be used.
        revoked_at: when a caller revoked the tokens during the request.
        attempts, failures, is_over, retry_at, failed_at: the failed attempts, as in `Rounds`.
        renewed: whether credentials that had changed were rejected in this round.
        had_token: whether any attempt has succeeded.
        goes_on: whether a token is wanted by callers whose waits have ended.
        wait_ends_at: when the waits of the waiting callers end.
        callers: the waiting callers, in the order in which they came.
        asked_at: when a caller last asked.
        gone: the tokens that were dropped.
        under_way: the tokens that the session is revoking.
        is_closed: whether the session has ended.
    """

    __slots__ = (
        *("asked_at", "attempts", "born", "born_by_wall", "bounds", "callers", "failed_at"),
        *("failures", "goes_on", "gone", "had_token", "is_closed", "is_discarded", "is_over"),
        *("is_sent", "met_stale", "now", "options", "renewed", "request", "retry_at", "revoked_at"),
        *("sent_at", "sent_by_wall", "token", "under_way", "wait_ends_at", "wall"),
    )

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.now = self.wall = 0.0
        self.token: TokenInfo | None = None
        self.born = self.born_by_wall = -math.inf
        self.met_stale = False
        self.options: TokenRequestOptions | None = None
        self.request: Request | None = None
        self.is_sent = False
        self.sent_at = self.sent_by_wall = self.revoked_at = -math.inf
        self.is_discarded = False
        self.attempts = self.failures = 0
        self.is_over = False
        self.retry_at = self.failed_at = -math.inf
        self.renewed = self.had_token = self.goes_on = False
        self.wait_ends_at = math.inf
        self.callers: dict[Caller, Seat] = {}
        self.asked_at = -math.inf
        self.gone: dict[str, Gone] = {}
        self.under_way: set[str] = set()
        self.is_closed = False

    # The token

    def age(self) -> float:
        """Return the age of the token, by the clock that shows more time."""
        return max(self.now - self.born, self.wall - self.born_by_wall)

    def state(self, later: float = 0.0) -> TokenState:
        """Return the state of the session, now or some seconds later."""
        if self.token is None:
            return TokenState.EMPTY
        age = self.age() + later
        if age >= EXPIRED_AGE:
            return TokenState.EXPIRED
        return TokenState.STALE if age >= STALE_AGE else TokenState.FRESH

    def usable(self) -> TokenInfo | None:
        """Return the token if a caller can get it; None otherwise."""
        return self.token if self.token is not None and self.age() < EXPIRED_AGE else None

    def problem_with(self, token: TokenInfo) -> str | None:
        """Return why the answer to the last request counts as a failure; None if it is valid."""
        elapsed = max(self.now - self.sent_at, self.wall - self.sent_by_wall)
        if elapsed + self.sent_at - token.sent_at >= EXPIRED_AGE:
            return "expired"
        gone = self.gone.get(token.access_token)
        if gone is None:
            return None
        if gone.is_revoked:
            return "revoked"
        if token.sent_at >= gone.dropped_at and token.sent_at > gone.sent_at:
            return None
        return "dropped"

    def get_token(self, token: TokenInfo) -> None:
        """Record the token that callers get from now on."""
        self.token = token
        self.born = token.sent_at
        self.born_by_wall = self.sent_by_wall - (self.sent_at - token.sent_at)
        self.met_stale = self.goes_on = False
        self.options = None
        self.gone.pop(token.access_token, None)

    def lose_token(self) -> None:
        """Record that the session has no token."""
        self.token = None
        self.born = self.born_by_wall = -math.inf

    def drop_token(self, *, is_revoked: bool) -> None:
        """Record that no caller must get this token, or the token of a request that has begun."""
        assert self.token is not None
        self.gone[self.token.access_token] = Gone(self.now, self.token.sent_at, is_revoked)
        self.lose_token()
        self.goes_on = False
        self.is_discarded = self.request is not None

    # Requests

    def is_idle(self, later: float = 0.0) -> bool:
        """Return whether the session does not refresh eagerly, now or some seconds later."""
        idle_timeout = self.bounds.idle_timeout
        return idle_timeout is not None and self.now + later - self.asked_at >= idle_timeout

    def wants_request(self, later: float = 0.0) -> bool:
        """Return whether a request is due, now or some seconds later, if nothing happens."""
        then = self.now + later
        if self.is_closed or self.request is not None:
            return False
        if then < self.sent_at + self.bounds.gap or then < self.retry_at:
            return False
        is_eager = self.bounds.refresh == "eager" and not self.is_idle(later)
        is_awaited = (bool(self.callers) or self.goes_on) and not self.is_over
        match self.state(later):
            case TokenState.EMPTY:
                return is_awaited
            case TokenState.STALE:
                return is_eager or self.met_stale
            case TokenState.EXPIRED:
                return is_eager or is_awaited
            case _:
                return False

    def request_in(self) -> float | None:
        """Return the seconds until the next request if nothing happens; None if there is none."""
        if self.request is not None:
            return 0.0
        if self.is_closed:
            return None
        earliest = max(0.0, self.sent_at + self.bounds.gap - self.now, self.retry_at - self.now)
        is_eager = self.bounds.refresh == "eager" and not self.is_idle()
        is_awaited = (bool(self.callers) or self.goes_on) and not self.is_over
        state = self.state()
        if state is TokenState.FRESH and is_eager:
            return max(earliest, STALE_AGE - self.age())
        is_wanted = {
            TokenState.EMPTY: is_awaited,
            TokenState.FRESH: False,
            TokenState.STALE: is_eager or self.met_stale,
            TokenState.EXPIRED: is_eager or is_awaited,
        }
        return earliest if is_wanted[state] else None

    def must_look_by(self) -> float:
        """Return when the session must look at the facts again, if nothing happens."""
        # In virtual time only Trio's clock counts, and nothing is further away than this.
        limit = EXPIRED_AGE + LONGEST_PAUSE if self.bounds.wall is None else LOOK_UP_INTERVAL
        state = self.state()
        later = 0.0
        while (later := later + 1.0) < limit:
            if (
                self.wants_request(later)
                or self.state(later) is not state
                or self.ends_waits(later)
            ):
                return self.now + later
        return math.inf if self.bounds.wall is None else self.now + limit

    def may_look_at(self) -> float:
        """Return the earliest time at which the session has a reason to look at the facts."""
        seconds = self.request_in()
        return min(self.must_look_by(), math.inf if seconds is None else self.now + seconds)

    def expected_options(self) -> TokenRequestOptions | None:
        """Return the options that a request must have if it starts now."""
        for seat in self.callers.values():
            return seat.options
        return self.options

    # Failed attempts

    def fail(self, problem: str) -> None:
        """Record a failed attempt."""
        is_renewed = problem == "renewed" and not self.renewed
        is_final = problem in ("rejected", "renewed") or (problem == "local" and not self.had_token)
        self.renewed = self.renewed or is_renewed
        self.attempts = min(self.attempts + 1, ATTEMPTS)
        self.failures += 1
        self.is_over = not is_renewed and (self.attempts == ATTEMPTS or is_final)
        doublings = (self.failures if self.is_over else self.attempts) - 1
        pause = 0.0 if is_renewed else min(2.0**doublings, LONGEST_PAUSE)
        self.failed_at = self.now
        self.retry_at = max(self.now + pause, self.sent_at + self.bounds.gap)
        if self.is_over:
            self.goes_on = False
            for caller, seat in self.callers.items():
                self.callers[caller] = seat._replace(round_failed=True)

    def succeed(self) -> None:
        """Record an attempt that got a token."""
        self.attempts = self.failures = 0
        self.is_over = self.renewed = False
        self.had_token = True
        self.retry_at = -math.inf

    def is_in_pause(self) -> bool:
        """Return whether a new caller gets the error of the last round."""
        return self.is_over and self.now < self.retry_at

    def can_join(self) -> bool:
        """Return whether a new caller waits."""
        return not (self.usable() or self.is_closed or self.is_in_pause())

    def come(self, caller: Caller, options: TokenRequestOptions | None, *, looks: bool) -> None:
        """Record a new caller that waits."""
        # A round without callers is forgotten after some time.
        is_forgotten = not self.callers and self.now >= self.failed_at + 2 * LONGEST_PAUSE
        if self.is_over or is_forgotten:
            self.is_over, self.renewed, self.attempts = False, False, 0
        self.callers[caller] = Seat(looks, round_failed=False, options=options)
        if self.wait_ends_at == math.inf and self.bounds.max_wait is not None:
            self.wait_ends_at = self.now + self.bounds.max_wait

    def leave(self, caller: Caller) -> None:
        """Record that a caller waits no longer."""
        del self.callers[caller]
        if not self.callers:
            self.wait_ends_at = math.inf

    def ends_waits(self, later: float = 0.0) -> bool:
        """Return whether all waits end, now or some seconds later."""
        is_usable = self.state(later) in (TokenState.FRESH, TokenState.STALE)
        return not is_usable and self.now + later >= self.wait_ends_at

    def end_waits(self) -> None:
        """Record that all callers that wait must get the facts now."""
        self.options = next(iter(self.callers.values())).options
        self.goes_on = not self.is_over
        self.wait_ends_at = math.inf
        for caller, seat in self.callers.items():
            self.callers[caller] = seat._replace(wait_ended=True)
        self.wake_callers()

    def next_attempt_in(self) -> float:
        """Return the seconds until the next attempt that callers must get with the facts."""
        if self.request is None:
            seconds = self.request_in()
            assert seconds is not None
            return seconds
        if not self.is_sent:
            return SHORTEST_PAUSE
        return max(SHORTEST_PAUSE, self.sent_at + REQUEST_TIMEOUT - self.now)

    def wake_callers(self) -> None:
        """Record that every waiting caller looks at the facts soon."""
        for caller, seat in self.callers.items():
            if not seat.looks:
                self.callers[caller] = seat._replace(looks=True)
