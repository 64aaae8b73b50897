"""`Lifecycle`: the data of one session's token, and all decisions about it.

This module is pure: no Trio call, no clock, no log record, no I/O. Each method of `Lifecycle` is
a query or an event. An event receives the time, changes the data before it returns, and returns
what the session must do. `AnonymousSession` waits and sends the requests.

Tokens
    The state of a token is a function of the token and the time, and is not stored. EMPTY means
    that there is no token: the session has requested none yet, or has dropped it.

    =======  ================  =======================================================
    state    a caller          a token request is due
    =======  ================  =======================================================
    EMPTY    waits             while a caller waits, in eager mode too
    FRESH    gets the token    when the token becomes STALE (eager)
    STALE    gets the token    now (eager), or after a caller got the STALE token
    EXPIRED  waits             now (eager), or while a caller waits
    =======  ================  =======================================================

    "Eager" means ``refresh="eager"`` if a caller has asked in the last ``idle_timeout`` seconds.
    The next request is sent ``min_refresh_interval`` after the last one or later, and not during
    the pause after a failure. There is one request at a time.

Token requests
    ``start_request`` begins a request. A task of the session calls ``send`` just before it sends
    anything, and ``conclude`` with the result. Cancelling a caller does not stop a request.
    ``invalidate`` and ``revoke`` discard a request in progress. Its token is not used, because the
    server may have granted it before the call. A token manager may share tokens, and can return a
    token that another process requested at another time.

Failures
    A request that returns no usable token is a failed attempt. A round is a few attempts with
    pauses between them (see `_rounds`). When the last attempt of a round fails, the round is over,
    and each waiting caller gets the error. During the pause after it, ``join`` raises. While there
    is a usable token, no caller gets an error.

    Callers wait at most ``max_wait`` seconds, counted from the moment since which any caller has
    waited. Then ``end_waits`` ends the waits of all of them, and each gets what is known so far.
    The round continues without callers, and the next caller starts a new wait.

Waiting callers
    If ``take`` returns None, there is no usable token. The caller calls ``join`` once. Then it
    calls ``look`` after each change, until ``look`` returns a token or raises. At the end, also if
    it is cancelled, it calls ``leave``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ._dropped import LIMIT, Drop, DroppedTokens
from ._errors import SessionClosedError, TokenUnavailableError
from ._rounds import Failure, Rounds, Schedule
from ._secrets import digest
from ._token import TokenInfo, TokenState, state_at

if TYPE_CHECKING:
    from ._config import Config
    from ._token import TokenRequestOptions

LOOK_UP_INTERVAL = 60.0
"""Seconds; the longest sleep. No event reports that the machine was suspended or that the wall
clock was set, so the session reads the clocks at least this often."""


class Moment(NamedTuple):
    """The time of an event.

    A token's age is the larger of its ages on the two clocks. Trio's clock stops while the machine
    is suspended, and the wall clock can be set.

    Attributes:
        now: seconds on Trio's clock.
        wall: seconds on the wall clock; None in virtual time, where only Trio's clock counts.
    """

    now: float
    wall: float | None


class Request:
    """One token request (RFC 6749 section 4.4.2), from the decision to send it to its result.

    Attributes:
        options: sent with the request.
        sent_at: when it was sent, on Trio's clock.
        wall_offset: Trio's clock minus the wall clock at ``sent_at``.
        is_discarded: whether its token must not be used.
        revoked_at: when a caller revoked the session's tokens during the request. The session also
            revokes a token that was granted before that. A shared token may be granted later.
    """

    __slots__ = ("is_discarded", "options", "revoked_at", "sent_at", "wall_offset")

    def __init__(self, options: TokenRequestOptions | None) -> None:
        self.options = options
        self.sent_at = self.wall_offset = self.revoked_at = -math.inf
        self.is_discarded = False


class Caller:
    """One waiting caller.

    Attributes:
        number: how many callers have waited before this one.
        options: sent with the next request, if this caller has waited longest when it starts.
        rounds_failed: how many rounds had failed when the caller started to wait.
        waits_ended: how often `Lifecycle.end_waits` had ended all waits by then.
    """

    __slots__ = ("number", "options", "rounds_failed", "waits_ended")

    def __init__(
        self, number: int, options: TokenRequestOptions | None, failed: int, ended: int
    ) -> None:
        self.number = number
        self.options = options
        self.rounds_failed = failed
        self.waits_ended = ended


class Conclusion(NamedTuple):
    """The outcome of a token request.

    Attributes:
        token: the token that the request returned, or None.
        is_current: whether callers get that token from now on.
        is_same: whether the session had the same token before.
        failure: the failed attempt, or None.
        to_revoke: a token that the session must revoke, or None.
    """

    token: TokenInfo | None = None
    is_current: bool = False
    is_same: bool = False
    failure: Failure | None = None
    to_revoke: TokenInfo | None = None


class Lifecycle:
    """The data of one session, with a method for each query and event.

    Args:
        config: the settings.
        schedule: the pauses after failed attempts.

    Attributes:
        token: the session's token, usable or not, or None.
        request: the token request in progress, or None.
        is_closed: whether the session has ended.
        asked_at: when a caller last asked for a token, on Trio's clock.
        fresh_until: a time on Trio's clock. The token is FRESH if Trio's clock is before this time
            and the wall clock is before ``fresh_until_by_wall``. Then a caller may use the token
            without `take`, if it sets ``asked_at``.
        fresh_until_by_wall: a time on the wall clock.
        met_stale: whether a caller got the token while it was STALE.
        rounds: the failed attempts.
    """

    __slots__ = (
        "_being_revoked",
        "_callers_total",
        "_config",
        "_dropped",
        "_goes_on",
        "_options",
        "_revoked",
        "_sent_at",
        "_wait_ends_at",
        "_waiting",
        "_waits_ended",
        "_wall_offset",
        "asked_at",
        "fresh_until",
        "fresh_until_by_wall",
        "is_closed",
        "met_stale",
        "request",
        "rounds",
        "token",
    )

    def __init__(self, config: Config, schedule: Schedule) -> None:
        self._config = config
        self.rounds = Rounds(config, schedule)
        self.is_closed = False

        self.token: TokenInfo | None = None
        # Trio's clock minus the wall clock, when the token's request was sent.
        self._wall_offset = -math.inf
        self.fresh_until = self.fresh_until_by_wall = -math.inf
        self.met_stale = False
        # The options of a request for which no caller waits: those of the first caller that got
        # the token while it was STALE, or of the first one whose wait has ended.
        self._options: TokenRequestOptions | None = None

        self.request: Request | None = None
        self._sent_at = -math.inf

        # The waiting callers, oldest first.
        self._waiting: dict[Caller, None] = {}
        self._callers_total = 0
        self.asked_at = -math.inf
        # When all callers that wait now have waited long enough, and how often that has happened.
        self._wait_ends_at = math.inf
        self._waits_ended = 0
        # Whether a token is wanted although the callers that wanted it no longer wait.
        self._goes_on = False

        # The session refuses these tokens, unless the server has granted them again after the drop.
        self._dropped = DroppedTokens()
        # Digests of the last tokens that were revoked or will be. They are always refused.
        self._revoked: tuple[str, ...] = ()
        # Digests of the tokens whose revocation is in progress.
        self._being_revoked: tuple[str, ...] = ()

    # Queries: they change nothing

    def state(self, at: Moment) -> TokenState:
        """Return the state of the token."""
        return state_at(self.token, self._aged(at))

    def expires_in(self, at: Moment) -> float | None:
        """Return the seconds until callers no longer get the token, or None without a token."""
        # Read once, because `AnonymousSession.statistics` may be called in another thread.
        token = self.token
        return None if token is None else max(0.0, token.expires_at - self._aged(at))

    def due_at(self, at: Moment) -> float:
        """Return when to start the next token request, or infinity if none is needed."""
        if self.request is not None or self.is_closed:
            return math.inf
        is_eager = self._config.refresh == "eager" and not self.is_idle(at)
        # After a failed round, the waiting callers leave with its error.
        is_awaited = (self._waiting or self._goes_on) and not self.rounds.is_over
        wanted_at = math.inf
        match self.state(at):
            case TokenState.EMPTY if is_awaited:
                wanted_at = at.now
            case TokenState.FRESH if is_eager:
                wanted_at = self._next_boundary(at)
            case TokenState.STALE if is_eager or self.met_stale:
                wanted_at = at.now
            case TokenState.EXPIRED if is_eager or is_awaited:
                wanted_at = at.now
        return max(wanted_at, self._gap_ends_at(), self.rounds.retry_at)

    def wake_at(self, at: Moment) -> float:
        """Return when the session's task must wake up if no event comes."""
        # In virtual time, a suspend has no effect.
        look_up_at = math.inf if at.wall is None else at.now + LOOK_UP_INTERVAL
        return min(self.due_at(at), self._next_boundary(at), self._end_of_waits(at), look_up_at)

    def request_in(self, at: Moment) -> float | None:
        """Return the seconds until the next token request, 0 during one, None if none is due."""
        due_at = at.now if self.request is not None else self.due_at(at)
        return max(0.0, due_at - at.now) if due_at < math.inf else None

    def is_idle(self, at: Moment) -> bool:
        """Return whether no caller has asked for ``idle_timeout`` seconds."""
        idle_timeout = self._config.idle_timeout
        return idle_timeout is not None and at.now - self.asked_at >= idle_timeout

    def callers_can_go(self, at: Moment) -> bool:
        """Return whether callers wait although the token is usable.

        That happens if the wall clock was ahead and is set back.
        """
        return bool(self._waiting) and self._is_usable(at)

    @property
    def can_wait(self) -> bool:
        """Whether `join` accepts a caller now. If False, it may raise."""
        return not self.is_closed and not self.rounds.is_over

    @property
    def callers_waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waiting)

    @property
    def callers_total(self) -> int:
        """How many callers have waited so far."""
        return self._callers_total

    # Callers

    def take(self, at: Moment, options: TokenRequestOptions | None = None) -> TokenInfo | None:
        """Return the token if it is usable: FRESH or STALE.

        If the token is STALE, a request may be due: the session must check ``due_at``.

        Args:
            at: the time.
            options: sent with the next request, if this caller is the first to get the token
                while it is STALE.
        """
        token = self.token
        if token is None:
            return None
        aged = self._aged(at)
        if aged >= token.expires_at:
            return None
        self.asked_at = at.now
        if aged >= token.stale_at and not self.met_stale:
            self.met_stale = True
            self._options = options
        return token

    def miss(self, at: Moment) -> None:
        """Record that a caller that does not wait found no usable token.

        The call counts as use for ``idle_timeout``, but does not wake an idle session.
        """
        if not self.is_idle(at):
            self.asked_at = at.now

    def join(self, at: Moment, options: TokenRequestOptions | None = None) -> Caller:
        """Add a waiting caller.

        Raises:
            SessionClosedError: the session has ended.
            TokenRequestError: this is the pause after a failed round.
        """
        if self.is_closed:
            raise SessionClosedError
        # Record the call even if the next line raises, because each call wakes an idle session.
        self.asked_at = at.now
        self.rounds.join(at.now, is_first=not self._waiting)
        caller = Caller(self._callers_total, options, self.rounds.failed, self._waits_ended)
        self._callers_total += 1
        self._waiting[caller] = None
        if self._wait_ends_at == math.inf and self._config.max_wait is not None:
            self._wait_ends_at = at.now + self._config.max_wait
        return caller

    def look(self, caller: Caller, at: Moment) -> TokenInfo | None:
        """Return the token for a waiting caller, or None if it must keep waiting.

        Raises:
            SessionClosedError: the session has ended.
            TokenRequestError: a round has failed, or the waits have ended, since the caller
                started to wait.
        """
        token = self.take(at, caller.options)
        if token is not None:
            return token
        if self.is_closed:
            raise SessionClosedError
        if self.rounds.failed != caller.rounds_failed:
            self.rounds.raise_failure(at.now)
        if self._waits_ended != caller.waits_ended:
            self._raise_facts(at)
        return None

    def leave(self, caller: Caller) -> None:
        """Remove a waiting caller that has a token or an error, or that was cancelled."""
        del self._waiting[caller]
        if not self._waiting:
            self._wait_ends_at = math.inf

    def end_waits(self, at: Moment) -> bool:
        """End the waits of all callers if they have waited for ``max_wait``.

        The round of attempts continues without them.

        Returns:
            Whether the waits have ended. Then the session must wake the callers.
        """
        if self._end_of_waits(at) > at.now:
            return False
        self._wait_ends_at = math.inf
        self._waits_ended += 1
        # After a failed round, each caller gets its error, and nothing goes on.
        self._goes_on = not self.rounds.is_over
        self._options = next(iter(self._waiting)).options
        return True

    # Token requests

    def start_request(self, at: Moment) -> Request | None:
        """Begin a token request if one is due, and return it."""
        if self.due_at(at) > at.now:
            return None
        # The request uses the options of one caller: the one that has waited longest, or else the
        # first one that got the token while it was STALE.
        first = next(iter(self._waiting), None)
        self.request = Request(self._options if first is None else first.options)
        return self.request

    def send(self, request: Request, at: Moment) -> bool:
        """Record that a request is about to be sent. Return False if it must not be sent.

        In that case the request has ended. If a caller still waits, another request is due.
        """
        if request.is_discarded or self.is_closed:
            self.request = None
            return False
        # Both clocks are read before anything is sent, so that a suspend during the request counts.
        self._sent_at = request.sent_at = at.now
        request.wall_offset = -math.inf if at.wall is None else at.now - at.wall
        return True

    def conclude(self, request: Request, answer: object, at: Moment) -> Conclusion:
        """Process the result of a token request, and return what the session must do.

        Args:
            request: the request.
            answer: what the token manager returned, or the `Exception` that it raised.
            at: the time.
        """
        self.request = None
        # The order matters: from `_token_to_revoke` on, the session refuses the token.
        problem = self._problem_with(request, answer, at)
        to_revoke = self._token_to_revoke(request, answer)
        if self.is_closed:
            # The result arrived while the session was ending.
            return Conclusion(to_revoke=to_revoke)
        if problem is not None:
            failure = self.rounds.fail(problem, at.now, self._gap_ends_at())
            self._goes_on = self._goes_on and not failure.round_over
            return Conclusion(failure=failure, to_revoke=to_revoke)
        assert isinstance(answer, TokenInfo)
        # A discarded request with a token counts as a success, too.
        self.rounds.succeed()
        if request.is_discarded:
            return Conclusion(answer, to_revoke=to_revoke)
        old = self.token
        self.token = answer
        self._wall_offset = request.wall_offset
        self.fresh_until = answer.stale_at
        self.fresh_until_by_wall = answer.stale_at - request.wall_offset
        self.met_stale = self._goes_on = False
        self._options = None
        # The server may have granted a dropped token again.
        self._dropped.forget(digest(answer.access_token))
        is_same = old is not None and old.access_token == answer.access_token
        return Conclusion(answer, is_current=True, is_same=is_same)

    # Invalidation, revocation, the end

    def invalidate(self, reported: TokenInfo, at: Moment) -> TokenInfo | None:
        """Drop a token that was reported invalid, if it is the current one and usable.

        A report about another token changes nothing.

        Returns:
            The token, if it was dropped.
        """
        token = self.token
        if token is None or token.access_token != reported.access_token:
            return None
        if not self._is_usable(at):
            return None
        self._drop(token, at)
        return token

    def revoke(self, at: Moment) -> TokenInfo | None:
        """Drop the token, and return it for the session to revoke at the server."""
        self._goes_on = False
        if self.request is not None:
            self.request.is_discarded = True
            self.request.revoked_at = at.now
        token = self.token
        if token is not None:
            self._note_revocation(token)
            self._drop(token, at)
        return token

    def revocation_ended(self, token: TokenInfo) -> None:
        """Record that the revocation of a token has ended, successful or not."""
        ended = digest(token.access_token)
        self._being_revoked = tuple(name for name in self._being_revoked if name != ended)

    def close(self) -> TokenInfo | None:
        """End the session. Return the token if the session must revoke it."""
        token = self.token if self._config.revoke_on_exit else None
        if token is not None:
            self._note_revocation(token)
        self.is_closed = True
        self._forget_token()
        return token

    # Helpers

    def _aged(self, at: Moment) -> float:
        """Return the later of Trio's time and the wall clock's time, on Trio's clock."""
        return at.now if at.wall is None else max(at.now, at.wall + self._wall_offset)

    def _is_usable(self, at: Moment) -> bool:
        return self.token is not None and self._aged(at) < self.token.expires_at

    def _next_boundary(self, at: Moment) -> float:
        """Return when the token next becomes STALE or EXPIRED, on Trio's clock."""
        token, aged = self.token, self._aged(at)
        if token is None or aged >= token.expires_at:
            return math.inf
        boundary = token.stale_at if aged < token.stale_at else token.expires_at
        return boundary - (aged - at.now)

    def _end_of_waits(self, at: Moment) -> float:
        """Return when the waits of all callers end; with a usable token, they only look again."""
        return math.inf if self._is_usable(at) else max(at.now, self._wait_ends_at)

    def _raise_facts(self, at: Moment) -> NoReturn:
        """Raise what is known about a round that goes on."""
        config, request = self._config, self.request
        if request is None:
            self.rounds.raise_facts(at.now, retry_after=max(0.0, self.due_at(at) - at.now))
        # The next attempt comes after this one, unless this one succeeds.
        times_out_in = request.sent_at + config.request_timeout - at.now
        self.rounds.raise_facts(
            at.now,
            retry_after=max(config.retry_interval, times_out_in),
            silent_for=max(0.0, min(at.now - request.sent_at, config.request_timeout)),
        )

    def _gap_ends_at(self) -> float:
        return self._sent_at + self._config.min_refresh_interval

    def _problem_with(self, request: Request, answer: object, at: Moment) -> Exception | None:
        """Return the error if a result is a failed attempt, or None."""
        if isinstance(answer, Exception):
            return answer
        if not isinstance(answer, TokenInfo):
            return TokenUnavailableError(
                f"the token manager returned {type(answer).__name__}, not a TokenInfo"
            )
        aged = at.now if at.wall is None else max(at.now, at.wall + request.wall_offset)
        if aged >= answer.expires_at:
            return TokenUnavailableError("the token had already expired when it arrived")
        name = digest(answer.access_token)
        if name in self._revoked:
            return TokenUnavailableError(
                "the token manager returned a token that the session revokes"
            )
        if self._dropped.refuse(name, answer.sent_at):
            return TokenUnavailableError(
                "the token manager returned a shared token that was dropped"
            )
        return None

    def _token_to_revoke(self, request: Request, answer: object) -> TokenInfo | None:
        """Return the token of a result, if the session must revoke it."""
        ends_now = self.is_closed and self._config.revoke_on_exit
        if not isinstance(answer, TokenInfo):
            return None
        if not ends_now and answer.sent_at > request.revoked_at:
            return None
        # The server may have granted the token again while the session is revoking it.
        is_under_way = digest(answer.access_token) in self._being_revoked
        self._note_revocation(answer)
        return None if is_under_way else answer

    def _note_revocation(self, token: TokenInfo) -> None:
        name = digest(token.access_token)
        self._revoked = (*self._revoked, name)[-LIMIT:]
        self._being_revoked = (*self._being_revoked, name)

    def _drop(self, token: TokenInfo, at: Moment) -> None:
        """Make sure that no caller gets this token, or the token of the request in progress."""
        self._dropped.add(digest(token.access_token), _drop_of(token, at))
        self._forget_token()
        if self.request is not None:
            self.request.is_discarded = True

    def _forget_token(self) -> None:
        self.token = None
        self.fresh_until = -math.inf


def _drop_of(token: TokenInfo, at: Moment) -> Drop:
    return Drop(at.now, token.sent_at, token.sent_at + token.lifetime)
