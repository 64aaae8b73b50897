"""`AnonymousSession`: one token for all tasks of a program.

How it works
    `Lifecycle` makes the decisions. The session calls it for each event, passes the time, and
    does what the method returns. There is no await between a decision and its effect.

    The session has one long-lived task, ``_keep_fresh``. It sleeps until a token request is due,
    or until the token becomes STALE or EXPIRED. Each request runs in its own task, so the
    long-lived task also handles the boundaries that pass during a request. When a request ends,
    the session first changes the lifecycle and then wakes all waiting callers.

    Callers that find a usable token take no lock. All other callers wait at the gate. Before each
    wait, a caller rings the alarm if the session would sleep too long. Cancelling a caller does
    not cancel the request, because the request runs in a task of the session.

Ctrl-C
    Python can raise ``KeyboardInterrupt`` between any two lines. In a task of the session, it ends
    the session, so a half-done change does no harm. Code that changes the lifecycle in a caller's
    task is protected, and so is each lock of the gate. There, Trio raises ``KeyboardInterrupt`` at
    the next checkpoint.
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
from ._nursery import Background, raise_at_exit, worst_of
from ._revocation import Revocation
from ._secrets import Unpicklable
from ._token import TokenInfo, TokenState, check_options, why_no_access_token

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
    """One client-credentials token for all tasks of a program, refreshed before it expires.

    Use it with ``async with``. The session requests no token before a caller asks for one.

    Args:
        config: the settings.
        token_manager: the object that requests and revokes tokens. Without one, the session
            creates a :class:`TokenManager` and closes it. The manager sends requests with its own
            config, and the session uses ``config`` for timing, so pass the same config to both. A
            :class:`SharedTokenSource` shares its tokens with other sessions.
        observers: plain callables. The session calls each one with each frozen
            :data:`trio_anon_session.Event`, in order and between two checkpoints. If one raises an
            ``Exception``, the session logs that and continues. Any other exception propagates from
            the call that caused the event, or ends the session.

    Raises:
        TypeError: an argument has the wrong type, or an observer is async.
        ConfigError: the token manager's :class:`Config` describes other tokens.
    """

    # With a __dict__, a session would take 1.6 KB more, and a cached call 5 % more time.
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
        # Imported late, to keep the import of the package fast: see __init__.py.
        from ._reporter import Reporter

        check_parts(config, token_manager)
        self._config = config
        self._manager = TokenManager(config) if token_manager is None else token_manager
        # None if the session was given a token manager.
        self._block = Block(config) if token_manager is None else None
        self._reporter = Reporter(config, observers)
        self._lifecycle = Lifecycle(config, RetrySchedule(config))
        self._gate = Gate()
        self._alarm = Alarm()
        self._revocations: list[Revocation] = []
        self._stop_listening: Callable[[], object] | None = None
        self._background = Background()
        # The thread identifies the Trio run: a thread has at most one run at a time.
        self._thread: int | None = None
        self._now: Callable[[], float] = trio.current_time
        self._clock_is_mocked = False
        self._entered = False

    def __repr__(self) -> str:
        # The state is not shown, because it will have changed when someone reads the log.
        is_closed = self._lifecycle.is_closed
        condition = "closed" if is_closed else "open" if self._entered else "not entered"
        return f"<AnonymousSession for {self._config.client_id!r}, {condition}>"

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        clock = clock_here()
        await checkpoint()
        # Checked after the checkpoint, because two tasks may try to enter.
        if self._entered:
            refuse_second_entry()
        if self._block is not None:
            self._block.enter()
        if isinstance(self._manager, SharedTokenSource):
            self._stop_listening = self._manager.on_drop(self._on_shared_drop)
        self._thread, self._now = get_ident(), clock.current_time
        self._clock_is_mocked = is_mocked(clock)
        # Set after the attributes that a call from another thread reads, and before any await.
        self._entered = True
        await self._background.open(self._shut_for_callers)
        self._background.start_long_lived(self._keep_fresh)
        return self

    # Each await below is shielded, and has a time limit if it can take long.
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
        raise_at_exit(exc, crash)

    async def _end(self) -> BaseException | None:
        """End the tasks, revoke tokens if ``revoke_on_exit``, and return the first error."""
        broke_down = self._lifecycle.is_closed
        self._shut()
        # `close` shields itself, and is short because every task has been cancelled.
        crash = await self._background.close()
        if isinstance(crash, Exception) and not broke_down:
            # The token manager raised this when it was cancelled.
            log(
                ERROR,
                "a background task raised %s while the session closed; the error is ignored",
                type(crash).__name__,
            )
            crash = None
        try:
            self._reporter.closed()
        # An observer's error leaves the block, like the error of a task. Nothing is awaited here,
        # so this catches no cancellation.
        except BaseException as error:  # noqa: ASYNC103
            crash = worst_of(crash, error)
        if self._config.revoke_on_exit:
            crash = worst_of(crash, await self._revoke_on_exit())
        return crash

    async def _revoke_on_exit(self) -> BaseException | None:
        """Revoke the tokens that are left, and return the first error."""
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
                    # An observer raised this. The session still revokes the other tokens.
                    crash = worst_of(crash, raised)
        if limit.cancelled_caught:
            log(
                WARNING, "a token was not revoked on exit: the revocation exceeded shutdown_timeout"
            )
        return crash

    # What callers use

    async def get_access_token(self, options: TokenRequestOptions | None = None) -> str:
        """Return a token that is valid now.

        If the session has a FRESH or STALE token, this returns it immediately. Otherwise it waits
        for the token request that all waiting callers share.

        Args:
            options: sent with the token request if this call starts it; ignored if this call
                joins a request in progress.

        Returns:
            The access token.

        Raises:
            TokenRequestError: all attempts of the round failed, this is the pause after a failed
                round, or ``max_wait`` has passed since the first of the waiting callers began to
                wait. ``retry_after`` is the time until the next attempt, in seconds. Each caller
                gets its own exception object, with the same cause.
            SessionClosedError: the session is closed.
            RuntimeError: the session was not entered, or was entered in another Trio run.
            TypeError: ``options`` is not a TokenRequestOptions.

        Cancellation: cancels only this call. A token request in progress continues. Always a
        checkpoint.
        """
        # Inlined from _check_run: with a cached token, the call should cost little more than the
        # checkpoint.
        if get_ident() != self._thread:
            self._refuse_use()
        if options is not None:
            check_options(options)
        lifecycle = self._lifecycle
        if lifecycle.token is None and lifecycle.can_wait:
            # The wait for a token is the checkpoint. If many callers wait, a second checkpoint
            # would make them a fifth slower.
            await checkpoint_if_cancelled()
            return (await self._wait_for_token(self._moment(), options)).access_token
        await checkpoint()
        # There is no await between this check and the return, so the returned token is valid now.
        now = self._now()
        if now < lifecycle.fresh_until and time.time() < lifecycle.fresh_until_by_wall:
            lifecycle.asked_at = now
            return lifecycle.token.access_token  # type: ignore[union-attr]  # FRESH
        at = self._moment()
        token = self._take(at, options) or await self._wait_for_token(at, options)
        return token.access_token

    def get_access_token_nowait(self) -> str:
        """Return the FRESH or STALE token without waiting. Not a checkpoint.

        Raises:
            trio.WouldBlock: the session has no usable token. This call starts no token request. It
                counts as use for ``idle_timeout``, but does not wake a parked session.
            SessionClosedError: the session is closed.
            RuntimeError: the session was not entered, or was entered in another Trio run.
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

    def _fresh_token(self) -> str | None:
        """Return the token if it is FRESH. Works in any thread, for `SessionThread`."""
        lifecycle = self._lifecycle
        now = self._now()
        if now < lifecycle.fresh_until and time.time() < lifecycle.fresh_until_by_wall:
            lifecycle.asked_at = now
            # Read after the check: if the session's thread has changed the token since then, this
            # is the new one, or None.
            token = lifecycle.token
            return None if token is None else token.access_token
        return None

    async def exchange_token(
        self,
        scopes: str | Iterable[str],  # noqa: ARG002  # part of every session's signature
        resource: str | None = None,  # noqa: ARG002  # as above
        options: TokenRequestOptions | None = None,
    ) -> TokenInfo:
        """Return the session's own token, with all its permissions; the scopes are ignored.

        The token is not downscoped, so do not give it to a client that you do not trust. An
        anonymous session has no user credentials to downscope. With Box, a token that is limited to
        some scopes and one file needs another request, a token exchange (RFC 8693), which
        ``BoxCCGAuth(...).downscope_token`` of Box's SDK sends.

        Args:
            scopes: ignored. Code that works with other kinds of sessions passes it.
            resource: ignored, for the same reason.
            options: as for :meth:`get_access_token`. Errors and cancellation are the same, too.

        Returns:
            The token that :meth:`get_access_token` would return, with its times.
        """
        self._check_run()
        check_options(options)
        await checkpoint()
        at = self._moment()
        return self._take(at, options) or await self._wait_for_token(at, options)

    def invalidate(self, access_token: str) -> None:
        """Drop the current token, if it is this one. Call it when the API rejects the token.

        The next caller waits for a new token. The call has no effect if another token is current,
        if the token is EXPIRED, or if the session is closed. Not a checkpoint.

        Args:
            access_token: only the token, as :meth:`get_access_token` returned it.

        Raises:
            TypeError: it is not a str.
            ValueError: it is empty, or begins with ``Bearer``.
        """
        reported = self._lifecycle.token
        problem = None
        if reported is not None and reported.access_token != access_token:
            reported = None
        if reported is None:
            problem = why_no_access_token("access_token", access_token)
        # Delete the token, because a traceback can show the locals of its frames.
        del access_token
        if problem is not None:
            raise problem
        if not self._lifecycle.is_closed:
            self._check_run()
            if reported is not None:
                self._invalidate(reported)

    @enable_ki_protection
    async def revoke_tokens(self, options: TokenRequestOptions | None = None) -> None:
        """Drop the token, then revoke it at the server (RFC 7009).

        A revocation is retried like a token request. The call also waits for revocations in
        progress. If the session has no token, it sends nothing.

        Args:
            options: sent with the revocation request.

        Raises:
            RevocationError: the token may still be valid at the server. The session has dropped
                it.
            SessionClosedError: the session is closed.
            RuntimeError: the session was not entered, or was entered in another Trio run.
            TypeError: ``options`` is not a TokenRequestOptions.

        Cancellation: the token stays dropped, and the session continues to revoke it. Always a
        checkpoint.
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
        # Copy the list before the checkpoint. If a revocation fails during the checkpoint, it is
        # removed from the list, and this call must still raise its error.
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
        """Whether the block has been left, or a task of the session has crashed."""
        return self._lifecycle.is_closed

    @property
    def state(self) -> TokenState:
        """The state of the session's token now."""
        if self._lifecycle.token is None:
            # A session that was not entered has no clock.
            return TokenState.EMPTY
        return self._lifecycle.state(self._moment())

    @property
    def token_info(self) -> TokenInfo | None:
        """The session's current token in any state, or None."""
        return self._lifecycle.token

    @property
    def states(self) -> StateView:
        """The session's states, to wait for or to iterate over."""
        return self._reporter.view(None if self._lifecycle.is_closed else self.state)

    def statistics(self) -> SessionStatistics:
        """Return the session's counters and state as they are now."""
        lifecycle = self._lifecycle
        state, expires_in, next_refresh_in = TokenState.EMPTY, None, None
        if self._entered and not lifecycle.is_closed:
            at = self._moment()
            state, expires_in = lifecycle.state(at), lifecycle.expires_in(at)
            next_refresh_in = lifecycle.request_in(at)
        return self._reporter.statistics(
            consecutive_failures=lifecycle.rounds.consecutive_failures,
            callers_waiting=lifecycle.callers_waiting,
            callers_total=lifecycle.callers_total,
            state=state,
            expires_in=expires_in,
            next_refresh_in=next_refresh_in,
        )

    def auth(self, origins: Iterable[str] | None = None) -> SessionAuth:
        """Return an ``httpx.Auth`` that sends this session's token.

        Args:
            origins: as for :class:`SessionAuth`.
        """
        # Imported late, to keep the import of the package fast: see __init__.py.
        from ._auth import SessionAuth

        return SessionAuth(self, origins=origins)

    # Callers

    def _take(self, at: Moment, options: TokenRequestOptions | None = None) -> TokenInfo | None:
        """Return the token if it is usable."""
        token = self._lifecycle.take(at, options)
        # A caller that gets a STALE token makes a request due.
        if self._lifecycle.met_stale:
            self._alarm.ring_for(self._lifecycle.due_at(at))
        return token

    @enable_ki_protection
    async def _wait_for_token(self, at: Moment, options: TokenRequestOptions | None) -> TokenInfo:
        """Wait for a usable token. Raise the error if the round of attempts fails."""
        # Ring before `join`, which may raise, because each call wakes a parked session.
        self._alarm.ring()
        caller = self._lifecycle.join(at, options)
        condition = self._gate.condition_of(caller.number)
        try:
            # If the lock was taken, a token may have arrived while this caller waited for it.
            has_waited = await lock(condition)
            try:
                token = self._look(caller) if has_waited else None
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
            # Thousands of callers may wake together, so a cached token has a fast path.
            lifecycle.asked_at = now
            return lifecycle.token
        at = self._moment()
        token = self._lifecycle.look(caller, at)
        if token is None or self._lifecycle.met_stale:
            self._alarm.ring_for(self._lifecycle.wake_at(at))
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
        # A thread has at most one Trio run at a time.
        if get_ident() != self._thread:
            self._refuse_use()

    def _refuse_use(self) -> NoReturn:
        self._check_open()
        refuse_other_run()

    # The session's tasks

    async def _keep_fresh(self) -> None:
        """Start each token request when it is due, and report each change of state."""
        try:
            while not self._lifecycle.is_closed:
                self._reporter.state_is(self._lifecycle.state(self._moment()))
                # The observers that were called above may have taken time.
                at = self._moment()
                if self._lifecycle.callers_can_go(at) or self._lifecycle.end_waits(at):
                    self._background.start_soon(self._gate.wake_all)
                request = self._lifecycle.start_request(at)
                if request is not None:
                    self._start(request)
                with self._alarm.until(self._lifecycle.wake_at(at)):
                    await trio.sleep_forever()
        finally:
            await self._shut_for_callers()  # noqa: ASYNC102  # shields itself

    def _start(self, request: Request) -> None:
        conclude_and_send: list[Callable[..., Any]] = [
            partial(self._conclude, request),
            partial(self._send, request),
        ]
        self._background.start_soon(
            _request_token, self._manager, request.options, conclude_and_send
        )

    def _send(self, request: Request) -> bool:
        """Return whether a request is still needed, just before it is sent."""
        is_wanted = self._lifecycle.send(request, self._moment())
        if not is_wanted:
            self._alarm.ring()
        return is_wanted

    def _conclude(self, request: Request, answer: object) -> None:
        """Process the result of a request, report it, and wake all waiting callers."""
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

    # `invalidate` itself does not have this decorator. In older versions of Trio, the decorator
    # adds a frame whose locals contain the token.
    @enable_ki_protection
    def _invalidate(self, reported: TokenInfo, *, is_shared: bool = False) -> None:
        at = self._moment()
        token = self._lifecycle.invalidate(reported, at)
        if token is not None:
            if not is_shared:
                self._share_drop(token)
            state = self._lifecycle.state(at)
            self._reporter.invalidated(token, state, is_shared=is_shared)

    def _on_shared_drop(self, dropped: TokenInfo) -> None:
        """Drop a token, because another session has dropped it. The token manager calls this."""
        if not self._lifecycle.is_closed:
            self._check_run()
            self._invalidate(dropped, is_shared=True)

    def _share_drop(self, token: TokenInfo) -> None:
        """Notify a shared token manager that this session has dropped a token."""
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
        """End the session and wake all waiting callers, before a crash cancels the block."""
        self._shut()
        # `wake_all` shields itself, and is short: no task holds its locks during I/O.
        await self._gate.wake_all()

    def _shut(self) -> None:
        """End the session and cancel its tasks."""
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
    """Make one attempt, if it is still needed.

    The session keeps the last error. Its traceback contains this frame (since Python 3.12, also as
    the caller of another frame). If this frame referred to the session, only the garbage collector
    could free both, with the secret. So this function empties the list and binds no name to its
    items. Deleting such a name is not enough: older versions of Trio read the locals of each
    frame, and Python keeps what they read.
    """
    if conclude_and_send.pop()():
        # There is no checkpoint between the answer and its effect, so no other event can come
        # between them.
        conclude_and_send.pop()(await _outcome(manager, options))


async def _outcome(manager: TokenSource, options: TokenRequestOptions | None) -> object:
    # Return the exception instead of raising it, so that no frame refers to an exception that
    # refers to the frame.
    try:
        return await manager.get_tokens_client_credentials_grant(options)
    except Exception as error:
        return error
