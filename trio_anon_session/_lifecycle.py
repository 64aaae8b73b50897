"""`Lifecycle`: the facts about one session's token, and every decision about them.

This module is pure: no Trio call, no clock, no log record, no I/O. Each method of `Lifecycle` is
a question or an event. An event receives the time, changes the facts before it returns, and returns
what the session has to do. `AnonymousSession` does the waiting and sends the requests.

The life of a token
    What a token is good for is a function of the token and the time. Nothing stores it. EMPTY means
    that there is no token: none was requested yet, or it was dropped.

    =======  ================  =======================================================
    state    a caller          a token request is due
    =======  ================  =======================================================
    EMPTY    waits             while a caller waits, in eager mode too
    FRESH    gets the token    when the token becomes STALE (eager)
    STALE    gets the token    now (eager), or once a caller got the STALE token
    EXPIRED  waits             now (eager), or while a caller waits
    =======  ================  =======================================================

    "Eager" means ``refresh="eager"`` while some caller has asked in the last ``idle_timeout``
    seconds. A request is sent no earlier than ``min_refresh_interval`` after the last one, and no
    earlier than the pause after a failure allows. There is one request at a time.

The life of a token request
    ``start_request`` begins a request. A task of the session calls ``send`` just before it sends
    anything, and ``conclude`` with the answer. The cancellation of a caller stops no request.
    ``invalidate`` and ``revoke`` discard a request that has begun: its token is not used, because
    it may have been granted before. A token manager may share tokens: its answer can be a token
    that another process has requested, at another time.

The life of a failure
    A request without a usable token is a failed attempt. A round is a few attempts with pauses
    between them (see `_rounds`). When the last attempt of a round fails, the round is over, and
    each waiting caller gets its error. In the pause after it, ``join`` raises. A usable token wins
    over a failure: while there is one, no caller gets an error.

The life of a waiting caller
    ``take`` has returned None: there is no usable token. The caller calls ``join`` and then
    ``look``, each time that the facts may have changed, until ``look`` returns a token or raises.
    However that ends, it calls ``leave``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ._dropped import LIMIT, Drop, DroppedTokens
from ._errors import SessionClosedError, TokenUnavailableError
from ._rounds import Failure, Rounds, Schedule
from ._secrets import digest
from ._token import TokenInfo, TokenState, state_at

if TYPE_CHECKING:
    from ._config import Config
    from ._token import TokenRequestOptions

LOOK_UP_INTERVAL = 60.0
"""Seconds; the longest sleep. No event reports a suspend or a wall clock that is set: the session
looks at the clocks after that time at the latest."""


class Moment(NamedTuple):
    """The time of an event.

    A token's age is the larger of what the two clocks say. Trio's clock stands still while the
    machine is suspended, and the wall clock can be set.

    Attributes:
        now: seconds on Trio's clock.
        wall: seconds on the wall clock; None in virtual time, where only Trio's clock counts.
    """

    now: float
    wall: float | None


class Request:
    """One token request (RFC 6749 section 4.4.2), from the decision to send it to its answer.

    Attributes:
        options: what to send along.
        sent_at: when it was sent, on Trio's clock.
        wall_offset: at that moment, Trio's clock minus the wall clock.
        is_discarded: whether its token must not be used.
        revoked_at: when a caller revoked the session's tokens during the request. A token that
            was granted before is to be revoked too; a shared one may have been granted later.
    """

    __slots__ = ("is_discarded", "options", "revoked_at", "sent_at", "wall_offset")

    def __init__(self, options: TokenRequestOptions | None) -> None:
        self.options = options
        self.sent_at = self.wall_offset = self.revoked_at = -math.inf
        self.is_discarded = False


class Caller:
    """One caller that waits for a token.

    Attributes:
        number: how many callers came before this one.
        options: what to send along, if this caller has waited longest when a request starts.
        rounds_failed: how many rounds had failed when it came.
    """

    __slots__ = ("number", "options", "rounds_failed")

    def __init__(self, number: int, options: TokenRequestOptions | None, failed: int) -> None:
        self.number = number
        self.options = options
        self.rounds_failed = failed


class Conclusion(NamedTuple):
    """What the answer to a token request means.

    Attributes:
        token: the token that the request got, or None.
        is_current: whether callers get that token from now on.
        is_same: whether the session had the same token before.
        failure: why there is no token, or None.
        to_revoke: a token that the session has to revoke, or None.
    """

    token: TokenInfo | None = None
    is_current: bool = False
    is_same: bool = False
    failure: Failure | None = None
    to_revoke: TokenInfo | None = None


class Lifecycle:
    """Decides for one session.

    Args:
        config: the settings.
        schedule: the pauses after failed attempts.

    Attributes:
        token: the session's token, usable or not.
        request: the token request that has begun, or None.
        is_closed: whether the session has ended.
        asked_at: when a caller last asked for a token, on Trio's clock.
        fresh_until: a time on Trio's clock. The token is FRESH if Trio's clock is before this, and
            the wall clock before ``fresh_until_by_wall``. Then a caller may use it without `take`,
            if it sets ``asked_at``.
        fresh_until_by_wall: a time on the wall clock.
        met_stale: whether a caller got the token while it was STALE.
        rounds: the failed attempts.
    """

    __slots__ = (
        "_being_revoked",
        "_callers_total",
        "_config",
        "_dropped",
        "_revoked",
        "_sent_at",
        "_stale_options",
        "_waiting",
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
        # The token's age on the wall clock counts from its request, as on Trio's clock.
        self._wall_offset = -math.inf
        self.fresh_until = self.fresh_until_by_wall = -math.inf
        self.met_stale = False
        # The options of the first caller that got the token while it was STALE.
        self._stale_options: TokenRequestOptions | None = None

        self.request: Request | None = None
        self._sent_at = -math.inf

        # The waiting callers, oldest first.
        self._waiting: dict[Caller, None] = {}
        self._callers_total = 0
        self.asked_at = -math.inf

        # Refused if they were requested before the drop; accepted if the server grants them later.
        self._dropped = DroppedTokens()
        # Digests of the last ones that are always refused: they were revoked, or will be.
        self._revoked: tuple[str, ...] = ()
        # Digests of tokens whose revocation has not ended.
        self._being_revoked: tuple[str, ...] = ()

    # Questions: they change nothing

    def state(self, at: Moment) -> TokenState:
        """Return what the token is good for."""
        return state_at(self.token, self._aged(at))

    def expires_in(self, at: Moment) -> float | None:
        """Return the seconds until callers no longer get the token, or None without one."""
        # Read once: `AnonymousSession.statistics` may be called in another thread.
        token = self.token
        return None if token is None else max(0.0, token.expires_at - self._aged(at))

    def due_at(self, at: Moment) -> float:
        """Return when to start the next token request, or infinity if none is wanted."""
        if self.request is not None or self.is_closed:
            return math.inf
        is_eager = self._config.refresh == "eager" and not self.is_idle(at)
        # After a failed round the waiting callers are about to leave with its error.
        is_awaited = self._waiting and not self.rounds.is_over
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
        """Return the time at which the session must look again if no event comes."""
        # No machine is suspended in virtual time.
        look_up_at = math.inf if at.wall is None else at.now + LOOK_UP_INTERVAL
        return min(self.due_at(at), self._next_boundary(at), look_up_at)

    def request_in(self, at: Moment) -> float | None:
        """Return the seconds until the next token request, 0 during one, or None."""
        due_at = at.now if self.request is not None else self.due_at(at)
        return max(0.0, due_at - at.now) if due_at < math.inf else None

    def is_idle(self, at: Moment) -> bool:
        """Return whether no caller has asked for ``idle_timeout`` seconds."""
        idle_timeout = self._config.idle_timeout
        return idle_timeout is not None and at.now - self.asked_at >= idle_timeout

    def callers_can_go(self, at: Moment) -> bool:
        """Return whether callers wait although the token is usable.

        That happens when the wall clock was ahead and someone sets it back.
        """
        return bool(self._waiting) and self._is_usable(at)

    @property
    def can_wait(self) -> bool:
        """Whether `join` accepts a caller at any time. If not, it may raise."""
        return not self.is_closed and not self.rounds.is_over

    @property
    def callers_waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waiting)

    @property
    def callers_total(self) -> int:
        """How many callers have ever waited."""
        return self._callers_total

    # Callers

    def take(self, at: Moment, options: TokenRequestOptions | None = None) -> TokenInfo | None:
        """Return the token if it is usable, FRESH or STALE.

        A STALE token may make a request due: the session has to look at ``due_at``.

        Args:
            at: the time.
            options: what to send along, if this caller is the first to get the STALE token.
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
            self._stale_options = options
        return token

    def miss(self, at: Moment) -> None:
        """Record that a caller that does not wait found no usable token.

        It keeps an eager session from becoming idle, but does not wake an idle one.
        """
        if not self.is_idle(at):
            self.asked_at = at.now

    def join(self, at: Moment, options: TokenRequestOptions | None = None) -> Caller:
        """Add a caller that waits for a token.

        Raises:
            SessionClosedError: the session has ended.
            TokenRequestError: in the pause after a failed round.
        """
        if self.is_closed:
            raise SessionClosedError
        # Even if it gets an error: from now on an idle session is awake.
        self.asked_at = at.now
        self.rounds.join(at.now, is_first=not self._waiting)
        caller = Caller(self._callers_total, options, self.rounds.failed)
        self._callers_total += 1
        self._waiting[caller] = None
        return caller

    def look(self, caller: Caller, at: Moment) -> TokenInfo | None:
        """Return the token for a waiting caller, or None if it has to keep waiting.

        Raises:
            SessionClosedError: the session has ended.
            TokenRequestError: a round has failed since the caller came.
        """
        token = self.take(at, caller.options)
        if token is not None:
            return token
        if self.is_closed:
            raise SessionClosedError
        if self.rounds.failed != caller.rounds_failed:
            self.rounds.raise_failure(at.now)
        return None

    def leave(self, caller: Caller) -> None:
        """Remove a caller: it has a token or an error, or it was cancelled."""
        del self._waiting[caller]

    # Token requests

    def start_request(self, at: Moment) -> Request | None:
        """Begin a token request if one is due, and return it."""
        if self.due_at(at) > at.now:
            return None
        # The options of one caller: the one that has waited longest, or else the first that got
        # the token while it was STALE. The options of the others are not used.
        first = next(iter(self._waiting), None)
        self.request = Request(self._stale_options if first is None else first.options)
        return self.request

    def send(self, request: Request, at: Moment) -> bool:
        """Record that a request is about to be sent. Return False if it must not be sent.

        Then the request is over, and if a caller still waits, another request is due.
        """
        if request.is_discarded or self.is_closed:
            self.request = None
            return False
        # Both clocks before anything is sent, so that a suspend during the request counts.
        self._sent_at = request.sent_at = at.now
        request.wall_offset = -math.inf if at.wall is None else at.now - at.wall
        return True

    def conclude(self, request: Request, answer: object, at: Moment) -> Conclusion:
        """Receive the answer to a token request.

        Args:
            request: the request.
            answer: what the token manager returned, or the `Exception` that it raised.
            at: the time.
        """
        self.request = None
        # In this order: a token to revoke is refused from now on.
        problem = self._problem_with(request, answer, at)
        to_revoke = self._token_to_revoke(request, answer)
        if self.is_closed:
            # The answer came while the session was ending.
            return Conclusion(to_revoke=to_revoke)
        if problem is not None:
            failure = self.rounds.fail(problem, at.now, self._gap_ends_at())
            return Conclusion(failure=failure, to_revoke=to_revoke)
        assert isinstance(answer, TokenInfo)
        # The outcome of a discarded request counts as an attempt too.
        self.rounds.succeed()
        if request.is_discarded:
            return Conclusion(answer, to_revoke=to_revoke)
        old = self.token
        self.token = answer
        self._wall_offset = request.wall_offset
        self.fresh_until = answer.stale_at
        self.fresh_until_by_wall = answer.stale_at - request.wall_offset
        self.met_stale = False
        self._stale_options = None
        # The server may have granted a dropped token again.
        self._dropped.forget(digest(answer.access_token))
        is_same = old is not None and old.access_token == answer.access_token
        return Conclusion(answer, is_current=True, is_same=is_same, to_revoke=to_revoke)

    # Invalidation, revocation, the end

    def invalidate(self, reported: TokenInfo, at: Moment) -> TokenInfo | None:
        """Drop a token that was reported invalid, if it is the current one and usable.

        A late report about another token changes nothing.

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
        """Drop the token, and return it: the session has to revoke it at the server."""
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
        """End the session. Return a token if the session has to revoke it."""
        token = self.token if self._config.revoke_on_exit else None
        if token is not None:
            self._note_revocation(token)
        self.is_closed = True
        self._forget_token()
        return token

    # What the events have in common

    def _aged(self, at: Moment) -> float:
        """Return Trio's time, or the wall clock's time converted to Trio's, whichever is later."""
        return at.now if at.wall is None else max(at.now, at.wall + self._wall_offset)

    def _is_usable(self, at: Moment) -> bool:
        return self.token is not None and self._aged(at) < self.token.expires_at

    def _next_boundary(self, at: Moment) -> float:
        """Return when the token becomes STALE or EXPIRED, on Trio's clock, if nothing happens."""
        token, aged = self.token, self._aged(at)
        if token is None or aged >= token.expires_at:
            return math.inf
        boundary = token.stale_at if aged < token.stale_at else token.expires_at
        return boundary - (aged - at.now)

    def _gap_ends_at(self) -> float:
        return self._sent_at + self._config.min_refresh_interval

    def _problem_with(self, request: Request, answer: object, at: Moment) -> Exception | None:
        """Return what makes an answer a failed attempt, or None if nothing does."""
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
        """Return the token of an answer that arrived after `revoke` or `close`."""
        ends_now = self.is_closed and self._config.revoke_on_exit
        if not isinstance(answer, TokenInfo):
            return None
        if not ends_now and answer.sent_at > request.revoked_at:
            return None
        # The server may have granted a token again that the session is revoking.
        is_under_way = digest(answer.access_token) in self._being_revoked
        self._note_revocation(answer)
        return None if is_under_way else answer

    def _note_revocation(self, token: TokenInfo) -> None:
        name = digest(token.access_token)
        self._revoked = (*self._revoked, name)[-LIMIT:]
        self._being_revoked = (*self._being_revoked, name)

    def _drop(self, token: TokenInfo, at: Moment) -> None:
        """Make sure that no caller gets this token, or the token of the request in flight."""
        self._dropped.add(digest(token.access_token), _drop_of(token, at))
        self._forget_token()
        if self.request is not None:
            self.request.is_discarded = True

    def _forget_token(self) -> None:
        self.token = None
        self.fresh_until = -math.inf


def _drop_of(token: TokenInfo, at: Moment) -> Drop:
    return Drop(at.now, token.sent_at, token.sent_at + token.lifetime)
