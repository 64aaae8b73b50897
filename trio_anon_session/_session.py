"""`AnonymousSession`: one token for all tasks of a program.

How it works
    `_lifecycle` decides. The session tells it what happens, passes the time, and does what it
    says. No await stands between a decision and its effect on the facts.

    The session has one long-lived task, ``_keep_fresh``. It sleeps until something is due: a
    token request, or the next boundary of the token's life. Each request runs in a task of its
    own, so that the sleeping task sees the boundaries that pass during the request. However the
    request ends, the session changes the facts first, and then wakes all waiting callers.

    Callers with a usable token touch no lock. The others wait at a gate. Before a caller waits,
    for the first time or again, it rings the alarm if the session would sleep for too long. A
    caller that is cancelled takes nothing with it: the request belongs to the session's task.

Ctrl-C
    An interrupt may come between any two lines. In a task of the session it ends the session,
    whose facts no longer count. What a caller's task does to the facts is protected, and so is
    every lock of the gate: there Trio raises ``KeyboardInterrupt`` at the next checkpoint.
"""

from __future__ import annotations

import time
from functools import partial
from logging import ERROR, WARNING
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, Self, final

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ._backoff import RetrySchedule
from ._clocks import is_mocked
from ._errors import SessionClosedError
from ._gate import Alarm, Gate, lock
from ._lifecycle import Lifecycle, Moment, Request
from ._logging import log
from ._manager import SharedTokenSource, TokenManager, TokenSource
from ._misuse import (
    Block,
    check_parts,
    clock_here,
    refuse_other_run,
    refuse_second_entry,
    refuse_unopened,
)
from ._nursery import Background, settle, worst_of
from ._revocation import Revocation
from ._secrets import Unpicklable
from ._token import TokenInfo, TokenState, check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from ._auth import SessionAuth
    from ._config import Config
    from ._events import Observer, SessionStatistics
    from ._lifecycle import Caller
    from ._states import StateView
    from ._token import TokenRequestOptions


@final
class AnonymousSession(Unpicklable):
    """Keeps one client-credentials token alive for all tasks of a program.

    Open it with ``async with``. Nothing is requested before the first getter asks.

    Args:
        config: the settings.
        token_manager: what grants and revokes; without one the session makes a
            :class:`TokenManager` of its own, and closes it. A manager grants by the config that
            it was made with, and the session keeps time by its own: give both the same. One that
            is a :class:`SharedTokenSource` shares its tokens with others.
        observers: plain callables that receive the frozen objects of
            :data:`trio_anon_session.Event`, all in the order in which it happened, each
            between two checkpoints. One that raises is logged and changes nothing; what is
            no ``Exception`` comes out of the call that caused it, or ends the session.

    Raises:
        TypeError: an argument is not what it has to be, or an observer is async.
        ConfigError: the token manager has a :class:`Config` that asks for other tokens.
    """

    # With a dict, a session would take 1.6 KB more, and a cached token 5 % more time.
    __slots__ = (
        "__weakref__",
        "_alarm",
        "_background",
        "_block",
        "_clock_is_mocked",
        "_config",
        "_entered",
        "_gate",
        "_lifecycle",
        "_manager",
        "_now",
        "_reporter",
        "_revocations",
        "_stop_listening",
        "_thread",
    )

    def __init__(
        self,
        config: Config,
        token_manager: TokenSource | None = None,
        *,
        observers: Iterable[Observer] = (),
    ) -> None:
        # Late, for a fast import: see __init__.py.
        from ._reporter import Reporter

        check_parts(config, token_manager)
        self._config = config
        self._manager = TokenManager(config) if token_manager is None else token_manager
        # Only of a session that owns its token manager.
        self._block = Block(config) if token_manager is None else None
        self._reporter = Reporter(config, observers)
        self._lifecycle = Lifecycle(config, RetrySchedule(config))
        self._gate = Gate()
        self._alarm = Alarm()
        self._revocations: list[Revocation] = []
        self._stop_listening: Callable[[], object] | None = None
        self._background = Background()
        # A Trio run is the only one in its thread.
        self._thread: int | None = None
        self._now: Callable[[], float] = trio.current_time
        self._clock_is_mocked = False
        self._entered = False

    def __repr__(self) -> str:
        # Not the state: it will have changed when somebody reads the log.
        is_closed = self._lifecycle.is_closed
        condition = "closed" if is_closed else "open" if self._entered else "not entered"
        return f"<AnonymousSession for {self._config.client_id!r}, {condition}>"

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        clock = clock_here()
        await checkpoint()
        # After the checkpoint: two tasks may try to enter.
        if self._entered:
            refuse_second_entry()
        if self._block is not None:
            self._block.enter()
        if isinstance(self._manager, SharedTokenSource):
            self._stop_listening = self._manager.on_drop(self._hear_of_drop)
        self._thread, self._now = get_ident(), clock.current_time
        self._clock_is_mocked = is_mocked(clock)
        # After the facts that a call from another thread relies on, and before any await.
        self._entered = True
        await self._background.open(self._shut_for_callers)
        self._background.start_long_lived(self._keep_fresh)
        return self

    # Each await is shielded where it is, with a limit where it may take long.
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
            if self._block is not None and isinstance(self._manager, TokenManager):
                self._block.leave()
                with trio.move_on_after(self._config.shutdown_timeout, shield=True):
                    await self._manager.aclose()
        settle(exc, crash)

    async def _end(self) -> BaseException | None:
        """End the tasks, revoke if asked to, and return what was raised first."""
        broke_down = self._lifecycle.is_closed
        self._shut()
        # Shielded within, and short: every task has been cancelled.
        crash = await self._background.close()
        if isinstance(crash, Exception) and not broke_down:
            # A token manager that fails when it is cancelled.
            log(
                ERROR,
                "a background task raised %s while the session closed; the error is ignored",
                type(crash).__name__,
            )
            crash = None
        try:
            self._reporter.closed()
        # Not awaited: what an observer raises leaves the block, as the crash of a task does.
        except BaseException as error:  # noqa: ASYNC103
            crash = worst_of(crash, error)
        if self._config.revoke_on_exit:
            crash = worst_of(crash, await self._revoke_on_exit())
        return crash

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
            log(
                WARNING, "a token was not revoked on exit: the revocation exceeded shutdown_timeout"
            )
        return crash

    # What callers use

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
        # As in _check_run, without a call: a cached token costs little more than the checkpoint.
        if get_ident() != self._thread:
            self._refuse_use()
        if options is not None:
            check_options(options)
        lifecycle = self._lifecycle
        if lifecycle.token is None and lifecycle.can_wait:
            # The wait is the checkpoint. With another one before it, a crowd without a token would
            # take a fifth longer.
            await checkpoint_if_cancelled()
            return (await self._wait_for_token(self._moment(), options)).access_token
        await checkpoint()
        # No await between this look and the return: what is returned is good now.
        now = self._now()
        if now < lifecycle.fresh_until and time.time() < lifecycle.fresh_until_by_wall:
            lifecycle.asked_at = now
            return lifecycle.token.access_token  # type: ignore[union-attr]  # FRESH
        at = self._moment()
        token = self._take(at, options) or await self._wait_for_token(at, options)
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
        lifecycle = self._lifecycle
        now = self._now()
        if now < lifecycle.fresh_until and time.time() < lifecycle.fresh_until_by_wall:
            lifecycle.asked_at = now
            return lifecycle.token.access_token  # type: ignore[union-attr]  # FRESH
        at = self._moment()
        token = self._take(at)
        if token is None:
            self._check_open()
            lifecycle.miss(at)
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
        at = self._moment()
        return self._take(at, options) or await self._wait_for_token(at, options)

    def invalidate(self, access_token: str) -> None:
        """Drop the current token, if it is this one: the API said that it is dead.

        The next getter is held until there is a new one. A late report of another token
        does nothing, and neither does one while the token is EXPIRED, since nobody gets
        it, nor one to a closed session. Not a checkpoint.
        """
        reported = self._lifecycle.token
        if reported is not None and reported.access_token != access_token:
            reported = None
        # A traceback can show the locals of its frames.
        del access_token
        if not self._lifecycle.is_closed:
            self._check_run()
            if reported is not None:
                self._invalidate(reported)

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
        at = self._moment()
        token = self._lifecycle.revoke(at)
        if token is not None:
            self._start_revocation(token, options)
            self._share_drop(token)
            self._reporter.state_is(self._lifecycle.state(at))
        # Before the checkpoint: one that fails during it is this call's failure, too.
        under_way = tuple(self._revocations)
        await checkpoint()
        for revocation in under_way:
            await revocation.wait()

    @property
    def config(self) -> Config:
        """The settings."""
        return self._config

    @property
    def is_closed(self) -> bool:
        """Whether the session's block was left, or one of its tasks crashed."""
        return self._lifecycle.is_closed

    @property
    def state(self) -> TokenState:
        """What the session's token is good for now."""
        if self._lifecycle.token is None:
            # Before the session is entered, there is no clock.
            return TokenState.EMPTY
        return self._lifecycle.state(self._moment())

    @property
    def token_info(self) -> TokenInfo | None:
        """The token that the session holds, whatever its state."""
        return self._lifecycle.token

    @property
    def states(self) -> StateView:
        """The states, to wait for and to iterate over."""
        return self._reporter.view(None if self._lifecycle.is_closed else self.state)

    def statistics(self) -> SessionStatistics:
        """Return what there is to be seen from outside, as it is now."""
        lifecycle = self._lifecycle
        expires_in = next_refresh_in = None
        if self._entered and not lifecycle.is_closed:
            at = self._moment()
            expires_in, next_refresh_in = lifecycle.expires_in(at), lifecycle.request_in(at)
        return self._reporter.statistics(
            consecutive_failures=lifecycle.rounds.consecutive_failures,
            callers_waiting=lifecycle.callers_waiting,
            callers_total=lifecycle.callers_total,
            state=self.state,
            expires_in=expires_in,
            next_refresh_in=next_refresh_in,
        )

    def auth(self, origins: Iterable[str] | None = None) -> SessionAuth:
        """Return an ``httpx.Auth`` that sends this session's token.

        Args:
            origins: as for :class:`SessionAuth`.
        """
        # Late, for a fast import: see __init__.py.
        from ._auth import SessionAuth

        return SessionAuth(self, origins=origins)

    # Callers

    def _take(self, at: Moment, options: TokenRequestOptions | None = None) -> TokenInfo | None:
        """Return the token if it is usable."""
        token = self._lifecycle.take(at, options)
        # A STALE token makes a request due.
        if self._lifecycle.met_stale:
            self._alarm.ring_for(self._lifecycle.due_at(at))
        return token

    @enable_ki_protection
    async def _wait_for_token(self, at: Moment, options: TokenRequestOptions | None) -> TokenInfo:
        """Wait at the gate for a usable token, or for a round to fail."""
        # Also for a caller that gets an error now: the call wakes an idle session.
        self._alarm.ring()
        caller = self._lifecycle.join(at, options)
        condition = self._gate.condition_of(caller.number)
        try:
            # What a caller waits for may have come while it waited for the lock.
            is_late = await lock(condition)
            try:
                token = self._look(caller) if is_late else None
                while token is None:
                    await condition.wait()
                    token = self._look(caller)
                return token
            finally:
                condition.release()
        finally:
            self._lifecycle.leave(caller)

    def _look(self, caller: Caller) -> TokenInfo | None:
        lifecycle = self._lifecycle
        now = self._now()
        if now < lifecycle.fresh_until and time.time() < lifecycle.fresh_until_by_wall:
            # As for a cached token: thousands of callers may be released together.
            lifecycle.asked_at = now
            return lifecycle.token
        at = self._moment()
        token = self._lifecycle.look(caller, at)
        if token is None or self._lifecycle.met_stale:
            self._alarm.ring_for(self._lifecycle.due_at(at))
        return token

    def _moment(self) -> Moment:
        return Moment(self._now(), None if self._clock_is_mocked else time.time())

    def _check_open(self) -> None:
        if self._lifecycle.is_closed:
            raise SessionClosedError
        if not self._entered:
            refuse_unopened()

    def _check_run(self) -> None:
        """Raise unless this is the Trio run in which the session was opened."""
        # An open session's run is the only one in its thread.
        if get_ident() != self._thread:
            self._refuse_use()

    def _refuse_use(self) -> NoReturn:
        self._check_open()
        refuse_other_run()

    # The session's tasks

    async def _keep_fresh(self) -> None:
        """Start each token request when it is due, and report each boundary that passes."""
        try:
            while not self._lifecycle.is_closed:
                self._reporter.state_is(self._lifecycle.state(self._moment()))
                # Once more: observers are called there, and may have taken their time.
                at = self._moment()
                if self._lifecycle.callers_can_go(at):
                    self._background.start_soon(self._gate.wake_all)
                request = self._lifecycle.start_request(at)
                if request is not None:
                    self._start(request)
                with self._alarm.until(self._lifecycle.wake_at(at)):
                    await trio.sleep_forever()
        finally:
            await self._shut_for_callers()  # noqa: ASYNC102  # shielded within

    def _start(self, request: Request) -> None:
        conclude_and_send: list[Callable[..., Any]] = [
            partial(self._conclude, request),
            partial(self._send, request),
        ]
        self._background.start_soon(
            _request_token, self._manager, request.options, conclude_and_send
        )

    def _send(self, request: Request) -> bool:
        """Tell whether a request is still wanted, just before it is sent."""
        is_wanted = self._lifecycle.send(request, self._moment())
        if not is_wanted:
            self._alarm.ring()
        return is_wanted

    def _conclude(self, request: Request, answer: object) -> None:
        """Change the facts by what came of a request, report it, and wake all waiting callers."""
        at = self._moment()
        if isinstance(answer, TokenInfo):
            self._reporter.keep_secret(answer)
        conclusion = self._lifecycle.conclude(request, answer, at)
        if conclusion.to_revoke is not None:
            self._start_revocation(conclusion.to_revoke, request.options)
        latency = at.now - request.sent_at
        if conclusion.failure is not None:
            self._reporter.failed(conclusion.failure, now=at.now, latency=latency)
        elif conclusion.is_current:
            assert conclusion.token is not None
            self._reporter.granted(
                conclusion.token,
                self._lifecycle.state(at),
                is_same=conclusion.is_same,
                now=at.now,
                latency=latency,
            )
        elif conclusion.token is not None:
            self._reporter.discarded()
        if not self._lifecycle.is_closed:
            self._alarm.ring()
            self._background.start_soon(self._gate.wake_all)

    # Not `invalidate`: older Trios put a frame around it, in whose locals the token would be.
    @enable_ki_protection
    def _invalidate(self, reported: TokenInfo, *, is_shared: bool = False) -> None:
        at = self._moment()
        token = self._lifecycle.invalidate(reported, at)
        if token is not None:
            if not is_shared:
                self._share_drop(token)
            self._reporter.invalidated(token, self._lifecycle.state(at))

    def _hear_of_drop(self, dropped: TokenInfo) -> None:
        """Drop a token that another session has dropped, as a shared token manager reports."""
        if not self._lifecycle.is_closed:
            self._check_run()
            self._invalidate(dropped, is_shared=True)

    def _share_drop(self, token: TokenInfo) -> None:
        """Report a dropped token to a shared token manager."""
        if isinstance(self._manager, SharedTokenSource):
            try:
                self._manager.drop(token)
            except Exception as error:
                log(
                    WARNING,
                    "the token manager's drop() raised %s; other sessions may still use the token",
                    type(error).__name__,
                )

    def _start_revocation(self, token: TokenInfo, options: TokenRequestOptions | None) -> None:
        revocation = Revocation(token, options)
        self._revocations.append(revocation)
        if not self._lifecycle.is_closed:
            self._background.start_soon(self._revoke, revocation)

    async def _revoke(self, revocation: Revocation) -> None:
        await revocation.run(self._manager, self._config)
        self._revocations.remove(revocation)
        self._lifecycle.revocation_ended(revocation.token)
        self._reporter.revoked(revocation.token, revocation.error)

    async def _shut_for_callers(self) -> None:
        """End the session, and let waiting callers know, before a crash cancels the block."""
        self._shut()
        # Shielded within, and short: no task holds a lock of the gate across I/O.
        await self._gate.wake_all()

    def _shut(self) -> None:
        """End the session; its tasks end as soon as they run."""
        if self._lifecycle.is_closed:
            return
        token = self._lifecycle.close()
        if token is not None:
            self._revocations.append(Revocation(token))
        self._alarm.ring()
        self._background.cancel()
        if self._stop_listening is not None:
            self._stop_listening()
        self._reporter.closing()


async def _request_token(
    manager: TokenSource,
    options: TokenRequestOptions | None,
    conclude_and_send: list[Callable[..., Any]],
) -> None:
    """Make one attempt, if it is still wanted.

    The session keeps an error, whose traceback holds this frame (since Python 3.12, also as the
    caller of another one). If this frame held the session, both would be left to the garbage
    collector, and so would the secret. That is why the list is emptied, and no name refers to what
    was in it. To delete such a name would not do: older Trios look at the locals of each frame, and
    Python keeps what they saw.
    """
    if conclude_and_send.pop()():
        # Between two checkpoints: no event comes between the answer and its effect.
        conclude_and_send.pop()(await _outcome(manager, options))


async def _outcome(manager: TokenSource, options: TokenRequestOptions | None) -> object:
    # Returned, not raised: no frame is left that holds its own exception.
    try:
        return await manager.get_tokens_client_credentials_grant(options)
    except Exception as error:
        return error
