"""`AnonymousSession`: one token for all tasks of a program.

How this works
    What a token is good for is a pure function of the token and of now
    (`_token.state_at`). Nothing stores it.

    One task, `_keep_time`, sleeps until something is due: a grant, or the next boundary of
    the token's life. When it is, `_due_at` says so, from these facts alone:

    ========  ==============================================================
    state     a grant is wanted
    ========  ==============================================================
    EMPTY     while a getter is held
    FRESH     never yet
    STALE     once a getter has met the token, or in eager mode unless parked
    EXPIRED   while a getter is held, or in eager mode unless parked
    ========  ==============================================================

    and sent no earlier than the pause after a failure and the gap after the last grant
    allow. The grant runs in a task of the session's, one at a time. However it ends, the
    facts are changed first, without a checkpoint in between, and then all held getters
    are woken to look at them again.

    Getters with a usable token touch no lock. Those without wait at a gate, which is one
    of a few conditions, whose locks nobody holds across I/O. Before a getter waits, for the
    first time or again, it wakes the task that keeps time, if that would sleep too long. One
    that leaves takes nothing along but itself.

Ctrl-C
    An interrupt may come between any two lines. In a task of the session it ends the session,
    whose facts count no more. What a caller's task does to the facts, and whatever holds a lock
    of the gate, is protected: there Trio raises ``KeyboardInterrupt`` at the next checkpoint.

Two clocks
    Trio's clock stands still while a machine is suspended, the wall clock can be set. A
    token's age is the larger of what the two say has passed since its grant was sent.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
import weakref
from contextvars import ContextVar
from logging import ERROR, WARNING
from threading import get_ident
from typing import TYPE_CHECKING, NoReturn, Self, TypeVarTuple, final

import trio
from trio.lowlevel import checkpoint, current_clock, enable_ki_protection

from ._backoff import Rounds
from ._config import WHOSE_TOKEN, Config
from ._dropped import LIMIT, Drop, DroppedTokens
from ._errors import ConfigError, SessionClosedError, TokenUnavailableError
from ._logging import log
from ._manager import TokenManager, TokenSource
from ._nursery import end_nursery, outcome_of, settle, worst_of
from ._revocation import Revocation
from ._secrets import Secrets, Unpicklable, client_secrets, digest
from ._token import TokenInfo, TokenState, check_options, state_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from ._auth import SessionAuth
    from ._events import Observer, SessionStatistics
    from ._states import StateView
    from ._token import TokenRequestOptions

Ts = TypeVarTuple("Ts")

GATES = 8
"""Conditions over which held getters are spread.

A lock lets one pass each time that Trio looks round. To release 10,000 takes 2.1 times as long
as with a bare event from one, 1.85 from four, 1.8 from eight, and no less from more.
"""
PORTION = 64
"""Held getters that are woken at once at one gate; to wake 100,000 at once takes 30 ms."""
LOOK_UP_INTERVAL = 60.0
"""Seconds; the longest sleep, after which a suspend is noticed at the latest."""
_SCRUBBED = 10
"""Tokens, the last ones dropped, that are scrubbed from the words of others."""
_USABLE = frozenset({TokenState.FRESH, TokenState.STALE})
_sessions_around: ContextVar[tuple[weakref.ref[AnonymousSession], ...]] = ContextVar(
    "sessions_around", default=()
)
"""The sessions in whose blocks a task is, or was started. It may outlive them, and keeps none.

Those alone that own their token manager, since no other is warned of: each task has a copy, and
one that opens many sessions in each other would have copies as long.
"""


class _Grant:
    """A grant under way, and whether its token is still wanted when it comes."""

    # Written out, as all classes are that nobody sees: attrs takes 0.2 to 0.5 % of an import of
    # this package to make one.
    __slots__ = ("discarded", "options", "revoked_at")

    def __init__(self, options: TokenRequestOptions | None) -> None:
        self.options = options
        self.discarded = False
        # A token is revoked if its grant was sent before; a shared one may be newer.
        self.revoked_at = -math.inf


@final
class AnonymousSession(Unpicklable):
    """Keeps one client-credentials token alive for all tasks of a program.

    Open it with ``async with``. Nothing is requested before the first getter asks.

    Args:
        config: the settings.
        token_manager: what grants and revokes; without one the session makes a
            :class:`TokenManager` of its own, and closes it. A manager grants by the config that
            it was made with, and the session keeps time by its own: give both the same.
        observers: plain callables that receive the frozen objects of
            :data:`trio_anon_session.Event`, all in the order in which it happened, each
            between two checkpoints. One that raises is logged and changes nothing; what is
            no ``Exception`` comes out of the call that caused it, or ends the session.

    Raises:
        TypeError: an argument is not what it has to be, or an observer is async.
        ConfigError: the token manager has a :class:`Config` that asks for other tokens.
    """

    # A dict for so many would take 1.6 KB a session, and make a hit 5 % slower.
    __slots__ = (
        "__weakref__",
        "_asked_at",
        "_clock_is_mocked",
        "_closed",
        "_config",
        "_dropped",
        "_entered",
        "_forgetting",
        "_fresh_until",
        "_fresh_until_by_wall",
        "_gates",
        "_grant",
        "_held",
        "_manager",
        "_met_stale",
        "_now",
        "_nursery",
        "_nursery_manager",
        "_owns_manager",
        "_reporter",
        "_revocations",
        "_revoked",
        "_rounds",
        "_scopes",
        "_scrubbed",
        "_sent_at",
        "_sleep",
        "_stale_options",
        "_thread",
        "_to_forget",
        "_token",
        "_wall_offset",
    )

    def __init__(
        self,
        config: Config,
        token_manager: TokenSource | None = None,
        *,
        observers: Iterable[Observer] = (),
    ) -> None:
        # With the events that it tells of, an import of this package is 1.8 % slower.
        from ._reporter import Reporter

        if not isinstance(config, Config):
            raise TypeError(f"config: wants a Config; got {type(config).__name__}")
        for method in ("get_tokens_client_credentials_grant", "revoke_tokens"):
            if token_manager is not None and not callable(getattr(token_manager, method, None)):
                raise TypeError(f"token_manager: wants an async method {method}")
        granting = getattr(token_manager, "config", None)
        for field in WHOSE_TOKEN if isinstance(granting, Config) else ():
            if getattr(config, field) != getattr(granting, field):
                raise ConfigError(
                    field,
                    "wants what the token manager's config has, whose tokens are handed out: give "
                    "both the same config",
                )
        self._config = config
        self._manager = TokenManager(config) if token_manager is None else token_manager
        self._owns_manager = token_manager is None
        self._reporter = Reporter(observers)

        self._token: TokenInfo | None = None
        self._wall_offset = -math.inf
        self._fresh_until = self._fresh_until_by_wall = -math.inf
        self._grant: _Grant | None = None
        self._revocations: list[Revocation] = []
        self._dropped = DroppedTokens()
        # Never to come back, also if the server gives them again.
        self._revoked = DroppedTokens()
        # The last ones, which are scrubbed from the words of others.
        self._scrubbed: tuple[Secrets, ...] = ()
        self._to_forget: tuple[TokenInfo, ...] = ()
        # So that no grant is sent while the manager is told; there where it wants to be told.
        self._forgetting: trio.Lock | None = None
        if hasattr(self._manager, "forget_token"):
            self._forgetting = trio.Lock()

        # There while getters are held, who are spread over them.
        self._gates: tuple[trio.Condition, ...] = ()
        # The options of each held getter, in the order in which they came.
        self._held: dict[int, TokenRequestOptions | None] = {}
        self._met_stale = False
        self._stale_options: TokenRequestOptions | None = None
        self._asked_at = -math.inf

        self._sent_at = -math.inf
        self._rounds = Rounds(config)

        self._sleep = trio.CancelScope()
        # Of the tasks that are to end with the session.
        self._scopes: tuple[trio.CancelScope, ...] = ()
        # Of the run in which the session is opened, which is the only one in its thread.
        self._thread: int | None = None
        self._now: Callable[[], float] = trio.current_time
        self._entered = False
        self._closed = False

    def __repr__(self) -> str:
        # Not the state: it is another one by the time at which somebody reads a log.
        condition = "closed" if self._closed else "open" if self._entered else "not entered"
        return f"<AnonymousSession for {self._config.client_id!r}, {condition}>"

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        clock = _clock_here()
        await checkpoint()
        # After the checkpoint: two tasks may try at once.
        if self._entered:
            raise RuntimeError(
                "this session was opened before, and a session is entered once: "
                "make a new AnonymousSession"
            )
        if self._owns_manager:
            self._warn_of_twin()
            # Without those that are gone: they would pile up where each session's block starts
            # the task that opens the next.
            around = [there for there in _sessions_around.get() if there() is not None]
            _sessions_around.set((*around, weakref.ref(self)))
        self._thread, self._now = get_ident(), clock.current_time
        self._clock_is_mocked = is_mocked(clock)
        # After all that a look from another thread takes for granted, and before any await.
        self._entered = True
        self._nursery_manager = trio.open_nursery(strict_exception_groups=True)
        self._nursery = await self._nursery_manager.__aenter__()
        self._nursery.start_soon(self._keep_time)
        if hasattr(self._manager, "watch_drops"):
            self._nursery.start_soon(self._serve, self._watch_drops)
        return self

    # Whatever is awaited here is shielded where it is, with a limit where it may take long.
    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            crash = await self._end()  # noqa: ASYNC102
        finally:
            if isinstance(self._manager, TokenManager) and self._owns_manager:
                around = _sessions_around.get()
                _sessions_around.set(tuple(there for there in around if there() is not self))
                with trio.move_on_after(self._config.shutdown_timeout, shield=True):
                    await self._manager.aclose()
        settle(exc, crash)

    def _warn_of_twin(self) -> None:
        """Warn of an open session that does the same work: two get a token each."""
        for there in _sessions_around.get():
            other = there()
            if other is not None and not other._closed and other._config == self._config:
                warnings.warn(
                    "a session with the same config is open around this one, and each of the two "
                    "gets tokens of its own: hand that session on instead of opening another",
                    RuntimeWarning,
                    stacklevel=3,
                )
                return

    async def _end(self) -> BaseException | None:
        """End the tasks, revoke if asked to, and return what was raised first meanwhile."""
        broke_down = self._closed
        self._shut()
        # Shielded within, and short: every task has been cancelled.
        crash = await end_nursery(self._nursery_manager, self._nursery)
        # Nurseries know tasks, whose contexts know the session. In such a circle, it would
        # be left to the garbage collector, and the secret with it.
        del self._nursery_manager, self._nursery
        if isinstance(crash, Exception) and not broke_down:
            # Of a token manager that fails when it is cancelled.
            log(ERROR, "the end of the session made %s", type(crash).__name__)
            crash = None
        try:
            self._reporter.closed()
        # Not awaited: what an observer raises ends up with the block, as a task's crash does.
        except BaseException as error:  # noqa: ASYNC103
            crash = worst_of(crash, error)
        try:
            # Who drops a token and leaves has others to think of, who may be handing it out.
            with trio.CancelScope(shield=True):
                await self._forget_shared_tokens(self._config.shutdown_timeout)
        # As above: it keeps no token from being revoked. Shielded, so that it is no cancellation.
        except BaseException as error:  # noqa: ASYNC103
            crash = worst_of(crash, error)
        if self._config.revoke_on_exit:
            crash = worst_of(crash, await self._revoke_on_exit())
        return crash

    async def _serve(self, job: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
        """Be one of the session's tasks, until it is done or the session ends.

        Shielded: what cancels the block ends the session when the block is left, not
        before, so that the block's own cleanup still has a token.
        """
        scope = trio.CancelScope(shield=True)
        self._scopes = (*self._scopes, scope)
        if self._closed:
            scope.cancel()
        try:
            with scope:
                await job(*args)
        except BaseException:
            self._shut()
            # Before the block is cancelled, so that they learn that the session is closed.
            await self._wake_held_getters()  # noqa: ASYNC102
            raise
        finally:
            self._scopes = tuple(other for other in self._scopes if other is not scope)

    async def _revoke_on_exit(self) -> BaseException | None:
        """Revoke what is left to revoke, and return what was raised first."""
        crash: BaseException | None = None
        with trio.move_on_after(self._config.shutdown_timeout, shield=True) as limit:
            for revocation in tuple(self._revocations):
                try:
                    await self._revoke(revocation)
                except trio.Cancelled:
                    raise
                except KeyboardInterrupt as interrupt:
                    log(WARNING, "a token was not revoked on exit: the program was interrupted")
                    return worst_of(crash, interrupt)
                except BaseException as raised:
                    # Of an observer: it keeps no other token from being revoked.
                    crash = worst_of(crash, raised)
        if limit.cancelled_caught:
            log(WARNING, "a token was not revoked on exit: no end within shutdown_timeout")
        return crash

    # What users ask for

    async def get_access_token(self, options: TokenRequestOptions | None = None) -> str:
        """Return a token that is good now.

        At once while there is one, FRESH or STALE; else this waits for the grant that all
        held getters share.

        Args:
            options: what to send along, if it is this getter for which a grant is sent;
                one that joins another's grant has no say.

        Returns:
            The access token.

        Raises:
            TokenRequestError: no attempt of the round brought a token, or a round has
                just failed; ``retry_after`` says when the session tries again. Each
                caller gets an error of its own, with the shared cause.
            SessionClosedError: the session's block was left.
            RuntimeError: the session was not entered, or not in this Trio run.
            TypeError: the options are none.

        Cancellation: takes nothing along; a grant under way goes on. Always a checkpoint.
        """
        # As in _check_run, without a call: a hit should cost little more than its checkpoint.
        if get_ident() != self._thread:
            self._refuse_use()
        if options is not None:
            check_options(options)
        await checkpoint()
        # No await between this look and the return: what is returned is good now.
        now = self._now()
        if now < self._fresh_until and time.time() < self._fresh_until_by_wall:
            self._asked_at = now
            return self._token.access_token  # type: ignore[union-attr]  # it is there while it is FRESH
        token = self._usable_token(options) or await self._hold(options)
        return token.access_token

    def get_access_token_nowait(self) -> str:
        """Return the token, FRESH or STALE, without waiting and without a checkpoint.

        Raises:
            trio.WouldBlock: there is none; no grant is started for it. It keeps an eager
                session from parking, but wakes no parked one.
            SessionClosedError: the session's block was left.
            RuntimeError: the session was not entered, or not in this Trio run.
        """
        if get_ident() != self._thread:
            self._refuse_use()
        now = self._now()
        if now < self._fresh_until and time.time() < self._fresh_until_by_wall:
            self._asked_at = now
            return self._token.access_token  # type: ignore[union-attr]  # it is there while it is FRESH
        token = self._usable_token()
        if token is None:
            self._check_open()
            now = self._now()
            if not self._is_parked(now):
                self._asked_at = now
            raise trio.WouldBlock
        return token.access_token

    async def exchange_token(
        self,
        scopes: str | Iterable[str],  # noqa: ARG002  # part of every session's signature
        resource: str | None = None,  # noqa: ARG002  # likewise
        options: TokenRequestOptions | None = None,
    ) -> TokenInfo:
        """Return the session's own token, whatever the scopes.

        There are no user credentials here that could be downscoped, so that an anonymous
        session answers an exchange with what it has, as in Box's SDKs.

        Args:
            scopes: taken for the sake of callers that work with other sessions too.
            resource: likewise.
            options: as for :meth:`get_access_token`, whose errors and cancellation hold
                here too.

        Returns:
            The very token that satisfied the get.
        """
        self._check_run()
        check_options(options)
        await checkpoint()
        return self._usable_token(options) or await self._hold(options)

    def invalidate(self, access_token: str) -> None:
        """Drop the current token, if it is this one: the API said that it is dead.

        The next getter is held until there is a new one. A late report of another token
        does nothing, and neither does one while the token is EXPIRED, since nobody gets
        it, nor one to a closed session. Not a checkpoint.
        """
        if self._closed:
            return
        token = self._token
        if token is not None and token.access_token != access_token:
            token = None
        # A traceback can show the locals of its frames.
        del access_token
        self._check_run()
        if token is not None and self.state is not TokenState.EXPIRED:
            self._drop_token(token)
            self._reporter.invalidated(token, self.state)

    @enable_ki_protection
    async def revoke_tokens(self, options: TokenRequestOptions | None = None) -> None:
        """Forget the token, then revoke it at the server (RFC 7009).

        Retries as a grant does. With nothing held, and no revocation under way to wait
        for, nothing is sent.

        Args:
            options: what to send along.

        Raises:
            RevocationError: the token may live on at the server. It is forgotten all the
                same.
            SessionClosedError: the session's block was left.
            RuntimeError: the session was not entered, or not in this Trio run.
            TypeError: the options are none.

        Cancellation: the token is forgotten, and the session goes on revoking it. Always
        a checkpoint.
        """
        self._check_run()
        self._check_open()
        check_options(options)
        if self._grant is not None:
            self._grant.discarded = True
            self._grant.revoked_at = self._now()
        if self._token is not None:
            self._start_revocation(self._token, options)
            self._drop_token(self._token)
            self._reporter.state_is(self.state)
        # Before the checkpoint: one that fails meanwhile is this call's failure, too.
        under_way = tuple(self._revocations)
        await checkpoint()
        for revocation in under_way:
            await revocation.wait()

    @property
    def config(self) -> Config:
        """The settings."""
        return self._config

    @property
    def state(self) -> TokenState:
        """What the session's token is good for now."""
        if self._token is None:
            return TokenState.EMPTY
        return state_at(self._token, self._aged(self._now()))

    @property
    def token_info(self) -> TokenInfo | None:
        """The token that the session holds, whatever its state."""
        return self._token

    @property
    def states(self) -> StateView:
        """The states, to wait for and to iterate over."""
        if self._reporter.states is None:
            # With trio-util, an import of this package is 2 % slower.
            from ._states import StateView

            self._reporter.states = StateView(None if self._closed else self.state)
        return self._reporter.states

    def statistics(self) -> SessionStatistics:
        """Return what there is to be seen from outside, as it is now."""
        from ._events import SessionStatistics

        expires_in = next_refresh_in = None
        if self._entered and not self._closed:
            now = self._now()
            # Looked at once: in a thread, the next line may find another.
            token = self._token
            if token is not None:
                expires_in = max(0.0, token.expires_at - self._aged(now))
            due_at = now if self._grant is not None else self._due_at(now)
            next_refresh_in = max(0.0, due_at - now) if due_at < math.inf else None
        told = self._reporter
        return SessionStatistics(
            grants=told.grants,
            failures=told.failures,
            consecutive_failures=self._rounds.consecutive_failures,
            getters_held=len(self._held),
            getters_held_total=told.held_total,
            invalidations=told.invalidations,
            revocations=told.revocations,
            same_token_answers=told.same_token_answers,
            last_error=told.last_error,
            state=self.state,
            expires_in=expires_in,
            next_refresh_in=next_refresh_in,
        )

    def auth(self, origins: Iterable[str] | None = None) -> SessionAuth:
        """Return an ``httpx.Auth`` that sends this session's token.

        Args:
            origins: as for :class:`SessionAuth`.
        """
        from ._auth import SessionAuth

        return SessionAuth(self, origins=origins)

    # Getters

    def _usable_token(self, options: TokenRequestOptions | None = None) -> TokenInfo | None:
        """Return the token if it is FRESH or STALE, and note that it was asked for."""
        token = self._token
        if token is None:
            return None
        now = self._now()
        # As in _aged, without a call: two would be a third of a hit.
        aged = time.time() + self._wall_offset
        if aged < now:
            aged = now
        if aged >= token.expires_at:
            return None
        self._asked_at = now
        if aged >= token.stale_at:
            if not self._met_stale:
                self._met_stale = True
                self._stale_options = options
            # Not the first one alone: a clock that is set back makes a token STALE again.
            self._wake_in_time(now)
        return token

    def _wake_in_time(self, now: float) -> None:
        """Wake the task that keeps time, if it would sleep past the next grant."""
        if self._due_at(now) < self._sleep.deadline:
            self._sleep.cancel()

    # An interrupt between two lines would leave the lock taken, and hang all others.
    @enable_ki_protection
    async def _hold(self, options: TokenRequestOptions | None) -> TokenInfo:
        """Wait at the gate for a usable token, or for a round to fail."""
        self._check_open()
        self._asked_at = self._now()
        # Also for one that is told to come again: a parked session has to be there then.
        self._sleep.cancel()
        self._rounds.join(self._asked_at, is_first=not self._held)
        rounds_failed_before = self._rounds.failed
        self._reporter.held_total += 1
        ticket = self._reporter.held_total
        if not self._held:
            self._gates = tuple(trio.Condition() for _ in range(GATES))
        self._held[ticket] = options
        gate = self._gates[ticket % GATES]
        try:
            # Not `async with`, whose exit is a coroutine more for each of 100,000.
            await gate.acquire()
            try:
                while (token := self._usable_token()) is None:
                    self._check_open()
                    now = self._now()
                    if self._rounds.failed != rounds_failed_before:
                        self._rounds.raise_failure(now)
                    # A token may have come and gone while the lock was waited for.
                    self._wake_in_time(now)
                    await gate.wait()
                return token
            finally:
                gate.release()
        finally:
            del self._held[ticket]
            if not self._held:
                self._gates = ()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosedError
        if not self._entered:
            _refuse_asyncio()
            raise RuntimeError(
                "the session is not open: write 'async with AnonymousSession(config) as session:', "
                "and use it inside that block"
            )

    def _check_run(self) -> None:
        """Raise unless this is the Trio run in which the session was opened."""
        # An open session's run is the only one in its thread.
        if get_ident() != self._thread:
            self._refuse_use()

    def _refuse_use(self) -> NoReturn:
        self._check_open()
        _clock_here()
        raise RuntimeError(
            "this session was opened in another Trio run: open one in each run, "
            "or reach that run with trio.from_thread"
        )

    # Time

    async def _keep_time(self) -> None:
        """Start each grant when it is due, and see each boundary when it is passed."""
        try:
            while not self._closed:
                self._reporter.state_is(self.state)
                if self._held and self.state in _USABLE:
                    # As when a wall clock that ran ahead is set right.
                    self._nursery.start_soon(self._wake_held_getters)
                now = self._now()
                due_at = self._due_at(now)
                if due_at <= now:
                    self._start_grant()
                    due_at = math.inf
                boundary = self._next_boundary(now, self._aged(now))
                wake_at = min(due_at, boundary, now + LOOK_UP_INTERVAL)
                self._sleep = trio.CancelScope(deadline=wake_at, shield=True)
                with self._sleep:
                    await trio.sleep_forever()
        finally:
            self._shut()
            # Shielded within, and short: nobody holds the gate's lock across I/O.
            await self._wake_held_getters()  # noqa: ASYNC102

    def _due_at(self, now: float) -> float:
        """Return when the next grant is to be sent; infinity if none is wanted as yet."""
        if self._grant is not None:
            return math.inf
        aged = self._aged(now)
        is_eager = self._config.refresh == "eager" and not self._is_parked(now)
        # Those whose round is over have been told, and are about to leave.
        is_awaited = self._held and not self._rounds.is_over
        wanted_at = math.inf
        match state_at(self._token, aged):
            case TokenState.EMPTY if is_awaited:
                wanted_at = now
            case TokenState.FRESH if is_eager:
                wanted_at = self._next_boundary(now, aged)
            case TokenState.STALE if is_eager or self._met_stale:
                wanted_at = now
            case TokenState.EXPIRED if is_eager or is_awaited:
                wanted_at = now
        return max(wanted_at, self._gap_ends_at(), self._rounds.retry_at)

    def _is_parked(self, now: float) -> bool:
        idle_timeout = self._config.idle_timeout
        return idle_timeout is not None and now - self._asked_at >= idle_timeout

    def _gap_ends_at(self) -> float:
        return self._sent_at + self._config.min_refresh_interval

    def _aged(self, now: float) -> float:
        """Return now, by whichever clock says that the token is older."""
        return max(now, time.time() + self._wall_offset)

    def _next_boundary(self, now: float, aged: float) -> float:
        """Return when, on Trio's clock, time alone brings the next state."""
        token = self._token
        if token is None or aged >= token.expires_at:
            return math.inf
        return (token.stale_at if aged < token.stale_at else token.expires_at) - (aged - now)

    # Grants

    def _start_grant(self) -> None:
        # One caller's options are not for another's grant: those of the getter that has
        # waited longest count, or of the one that met the token STALE first.
        options = next(iter(self._held.values())) if self._held else self._stale_options
        self._grant = _Grant(options)
        self._nursery.start_soon(self._serve, self._get_token, self._grant)

    async def _get_token(self, grant: _Grant) -> None:
        """Make one attempt, then change the facts and wake everybody."""
        if self._forgetting is not None and self._to_forget:
            # One attempt is enough: who waits for the token waits for this, too.
            was_busy = self._forgetting.locked()
            async with self._forgetting:
                if not was_busy:
                    await self._forget_shared_tokens(self._config.request_timeout)
        if grant.discarded or self._closed:
            # Nothing has been sent for it: whoever still wants a token gets a new grant.
            self._grant = None
            self._sleep.cancel()
            return
        # Both clocks before anything is sent: a suspend during the grant counts.
        self._sent_at = self._now()
        wall_offset = -math.inf if self._clock_is_mocked else self._sent_at - time.time()
        ask = self._manager.get_tokens_client_credentials_grant
        self._conclude(grant, await outcome_of(ask, grant.options), wall_offset)
        if not self._closed:
            self._sleep.cancel()
            await self._wake_held_getters()

    def _conclude(self, grant: _Grant, answer: object, wall_offset: float) -> None:
        """Change the facts by what came of an attempt."""
        self._grant = None
        problem = self._problem_with(answer, wall_offset)
        ends_now = self._closed and self._config.revoke_on_exit
        if isinstance(answer, TokenInfo) and (ends_now or answer.sent_at <= grant.revoked_at):
            self._start_revocation(answer, grant.options)
        if self._closed:
            # It came in the very moment in which the session ended.
            return
        if problem is not None:
            self._note_failure(problem)
        else:
            assert isinstance(answer, TokenInfo)
            self._note_success(answer, wall_offset, grant)

    async def _forget_at_once(self, lock: trio.Lock) -> None:
        async with lock:
            await self._forget_shared_tokens(self._config.request_timeout)

    async def _forget_shared_tokens(self, seconds: float) -> None:
        """Tell a shared token manager of dropped tokens: it is not to answer with them."""
        # A dead one is refused without that. Else these would pile up beside a store that is
        # down, and so would the calls.
        self._to_forget = _living(self._to_forget, self._now())
        # One that fails or hangs is tried again before the next grant. Until then, an answer
        # with that token is refused. One limit for all: getters may be held meanwhile.
        with trio.move_on_after(seconds) as limit:
            for token in self._to_forget:
                # Last in the line for the next time, so that it keeps none from its turn.
                self._to_forget = (*self._without(token), token)
                try:
                    await self._manager.forget_token(token.access_token)  # type: ignore[attr-defined]  # else there would be no lock
                    self._to_forget = self._without(token)
                except Exception as error:
                    log(WARNING, "forget_token raised %s", type(error).__name__)
        if limit.cancelled_caught:
            log(WARNING, "forget_token did not end within %g s", seconds)

    def _without(self, token: TokenInfo) -> tuple[TokenInfo, ...]:
        return tuple(other for other in self._to_forget if other is not token)

    async def _watch_drops(self) -> None:
        """Hear from a shared token manager which tokens others have dropped."""
        try:
            await self._manager.watch_drops(self.invalidate)  # type: ignore[attr-defined]  # asked for before
        except Exception as error:
            log(WARNING, "watch_drops raised %s", type(error).__name__)

    def _problem_with(self, answer: object, wall_offset: float) -> Exception | None:
        """Return what makes an answer a failed grant, or None if nothing does."""
        if isinstance(answer, Exception):
            return answer
        if not isinstance(answer, TokenInfo):
            return TokenUnavailableError(
                f"the token manager answered with {type(answer).__name__}, not TokenInfo"
            )
        now = max(self._now(), time.time() + wall_offset)
        if state_at(answer, now) is TokenState.EXPIRED:
            return TokenUnavailableError("the token had expired when it arrived")
        name = digest(answer.access_token)
        if self._revoked.get(name) is not None:
            return TokenUnavailableError("the token is one that was to be revoked")
        if self._dropped.refuse(name, answer.sent_at):
            return TokenUnavailableError("the shared token is one that was dropped")
        return None

    def _note_success(self, token: TokenInfo, wall_offset: float, grant: _Grant) -> None:
        self._reporter.grants += 1
        self._rounds.succeed()
        if grant.discarded:
            return
        if self._token is not None and self._token.access_token == token.access_token:
            self._reporter.same_token_answers += 1
        self._token = token
        self._wall_offset = wall_offset
        # All that a hit looks at: to work them out from the token each time is 4 % of one.
        self._fresh_until = token.stale_at
        self._fresh_until_by_wall = token.stale_at - wall_offset
        self._met_stale = False
        self._stale_options = None
        now = self._now()
        self._dropped.forget(digest(token.access_token))
        self._reporter.granted(token, self.state, now=now, latency=now - self._sent_at)

    def _note_failure(self, cause: Exception) -> None:
        now = self._now()
        error = self._rounds.fail(cause, now, self._gap_ends_at())
        self._reporter.failed(
            error, self._rounds, self._secrets(), now=now, latency=now - self._sent_at
        )

    # Not `invalidate`: older Trios put a frame around it, in whose locals the token would be.
    @enable_ki_protection
    def _drop_token(self, token: TokenInfo) -> None:
        """Make sure that neither this token nor one asked for before now is handed out."""
        self._dropped.add(digest(token.access_token), _drop_of(token, self._now()))
        self._scrub_from_now_on(token)
        if self._forgetting is not None:
            self._to_forget = (*self._to_forget, token)[-LIMIT:]
            # At once, for other processes may be handing it out. One that waits for its turn
            # takes all that have come by then.
            if not self._forgetting.statistics().tasks_waiting:
                self._nursery.start_soon(self._serve, self._forget_at_once, self._forgetting)
        self._let_go()
        if self._grant is not None:
            self._grant.discarded = True

    def _let_go(self) -> None:
        self._token = None
        self._fresh_until = -math.inf

    def _start_revocation(self, token: TokenInfo, options: TokenRequestOptions | None) -> None:
        # Never to come back, also if the server will not end it.
        self._revoked.add(digest(token.access_token), _drop_of(token, self._now()))
        self._scrub_from_now_on(token)
        if _has((known.token for known in self._revocations), token):
            # The server gave it again, and is being asked to end it already.
            return
        revocation = Revocation(token, options)
        self._revocations.append(revocation)
        if not self._closed:
            self._nursery.start_soon(self._serve, self._revoke, revocation)

    async def _revoke(self, revocation: Revocation) -> None:
        await revocation.run(self._manager, self._config)
        # Before it is removed: its token is one of the secrets.
        secrets = self._secrets()
        self._revocations.remove(revocation)
        self._reporter.revoked(revocation.token, revocation.error, secrets)

    def _secrets(self) -> Secrets:
        """Return what must not be seen in the words of others."""
        config = self._config
        secrets = Secrets(*client_secrets(config.client_id, config.client_secret))
        if self._token is not None:
            secrets = secrets.and_also(Secrets(self._token.access_token))
        return secrets.and_also(*self._scrubbed)

    def _scrub_from_now_on(self, token: TokenInfo) -> None:
        self._scrubbed = (*self._scrubbed, Secrets(token.access_token))[-_SCRUBBED:]

    # The gate and the end

    @enable_ki_protection
    async def _wake_held_getters(self) -> None:
        """Have all held getters look at the facts again, and return when they have."""
        gates = self._gates
        # Shielded: a lock is held for a moment only, and nobody must be left behind.
        with trio.CancelScope(shield=True):
            longest = max((gate.statistics().tasks_waiting for gate in gates), default=0)
            for _ in range(0, longest, PORTION):
                # In the line for a lock, this stands behind those who were woken before.
                for gate in gates:
                    async with gate:
                        gate.notify(PORTION)
            for gate in gates:
                async with gate:
                    pass

    def _shut(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._sleep.cancel()
        for scope in self._scopes:
            scope.cancel()
        if self._token is not None and self._config.revoke_on_exit:
            self._revocations.append(Revocation(self._token))
        self._let_go()
        if self._reporter.states is not None:
            self._reporter.states._set(None)


def is_mocked(clock: trio.abc.Clock) -> bool:
    """Tell whether time is virtual, so that no other clock goes along with it."""
    # Where nobody has imported trio.testing there is no MockClock, and importing it here would
    # double a program's start.
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(clock, testing.MockClock)


def _clock_here() -> trio.abc.Clock:
    try:
        return current_clock()
    except RuntimeError:
        pass
    # Outside of the except block: Trio's error has nothing to add.
    _refuse_asyncio()
    raise RuntimeError(
        "an AnonymousSession is used in Trio tasks alone, and this is none: start the program with "
        "trio.run(main); in a worker thread, call trio.from_thread.run(session.get_access_token)"
    )


def _refuse_asyncio() -> None:
    """Raise on asyncio, where a session can be neither opened nor used."""
    # Who has not imported it is not on it, and need not wait for the import.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "this is asyncio, and an AnonymousSession works on Trio alone: start the program with "
            "trio.run(main), or with anyio.run(main, backend='trio')"
        )


def _drop_of(token: TokenInfo, now: float) -> Drop:
    return Drop(now, token.sent_at, token.sent_at + token.lifetime)


def _living(tokens: Iterable[TokenInfo], now: float) -> tuple[TokenInfo, ...]:
    """Return the tokens that the server may take still."""
    return tuple(token for token in tokens if token.sent_at + token.lifetime > now)


def _has(tokens: Iterable[TokenInfo], wanted: TokenInfo) -> bool:
    """Tell whether one of the tokens is the same, perhaps of another grant."""
    return any(token.access_token == wanted.access_token for token in tokens)
