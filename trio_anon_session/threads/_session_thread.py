"""`SessionThread`: one token for all threads of a program.

How it works
    A `SessionRun` keeps an `AnonymousSession` open in a Trio run, in a thread of its own. A thread
    that asks for a FRESH token reads it directly. All other calls run in the Trio run, while the
    thread that calls waits.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self, final

import trio

from .._errors import SessionClosedError
from .._misuse import check_parts, is_on_trio
from .._nursery import raise_at_exit
from .._reporter import checked_observers
from .._secrets import Unpicklable, without_locals
from ._auth import SessionThreadAuth
from ._run import SessionRun, limit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .._config import Config
    from .._events import Observer, SessionStatistics
    from .._manager import TokenSource
    from .._session import AnonymousSession
    from .._token import TokenState

_EXIT_LIMIT = 5.0
"""Seconds; how long the exit of the program may take in addition to ``shutdown_timeout``."""

_forks: list[None] = []
"""One item for each fork between the start of the program and this process."""

# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forks.append(None))


def _this_process() -> tuple[int, int]:
    """Return the id of this process, and a number; a forked child differs in one of them.

    In a PID namespace of its own, a child can have the id of its parent. A server that forks in C
    may not run the functions of ``os.register_at_fork``, which count.
    """
    return os.getpid(), len(_forks)


@final
class SessionThread(Unpicklable):
    """An :class:`~trio_anon_session.AnonymousSession` in its own thread, for all other threads.

    Use it with ``with``. Open it in the process that uses it: it does not work after a fork.

    If the program ends without leaving the block, the session closes after all threads that are
    not daemons have ended.

    Args:
        config: the settings.
        token_manager: a function that gets the config and returns an async context manager, such
            as a :class:`~trio_anon_session.stores.SharedTokenManager`. The session's thread calls
            the function, enters the context manager, and uses what it returns to request and
            revoke tokens. Default: :class:`~trio_anon_session.TokenManager`.
        observers: plain callables, as for an ``AnonymousSession``. They are called in the session's
            thread, so they must be short.
        name: the name of the thread.

    Raises:
        TypeError: an argument has the wrong type, or an observer is async.
    """

    def __init__(
        self,
        config: Config,
        token_manager: Callable[[Config], AbstractAsyncContextManager[TokenSource]] | None = None,
        *,
        observers: Iterable[Observer] = (),
        name: str = "SessionThread",
    ) -> None:
        check_parts(config, None)
        if token_manager is not None and not callable(token_manager):
            kind = type(token_manager).__name__
            raise TypeError(
                f"token_manager must be a function that gets the config and returns a token "
                f"manager, not {kind}"
            )
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        self._config = config
        self._token_manager = token_manager
        self._observers = checked_observers(observers)
        self._name = name
        self._run: SessionRun | None = None
        self._process = _this_process()

    def __repr__(self) -> str:
        return f"<SessionThread for {self._config.client_id!r}>"

    def __enter__(self) -> Self:
        self._check_process()
        if is_on_trio():
            raise RuntimeError(
                "a SessionThread would block this Trio run: use an AnonymousSession in it"
            )
        if self._run is not None:
            raise RuntimeError(
                "a SessionThread can be opened only once, and this one was: "
                "create a new SessionThread"
            )
        self._process = _this_process()
        run = SessionRun(self._config, self._token_manager, self._observers, self._name)
        self._run = run
        atexit.register(self._close_at_exit)
        try:
            run.start()
        except BaseException:
            run.stop()
            atexit.unregister(self._close_at_exit)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run = self._run
        # After a fork, the thread exists only in the other process, and a lock of its run may stay
        # locked.
        if run is None or self._process != _this_process():
            return
        run.stop()
        run.join()
        atexit.unregister(self._close_at_exit)
        raise_at_exit(exc, run.crash)

    def _close_at_exit(self) -> None:
        if self._run is not None and self._process == _this_process():
            self._run.stop()
            self._run.join(2 * self._config.shutdown_timeout + _EXIT_LIMIT)

    @property
    def config(self) -> Config:
        """The settings."""
        return self._config

    def get_access_token(self, timeout: float | None = None) -> str:
        """Return a token that is valid now.

        If the session has a FRESH token, this returns it immediately. If the token is STALE, this
        returns it after a round trip to the session's thread. Otherwise the call waits for the
        token request that all waiting callers share.

        Args:
            timeout: the longest wait for a token in seconds, or None for no limit. A token request
                in progress continues after the timeout.

        Raises:
            TimeoutError: there was no token within ``timeout``.
            TokenRequestError: as for ``AnonymousSession.get_access_token``.
            SessionClosedError: the block was left, or the session has broken down.
            RuntimeError: the block was not entered, or was entered before a fork; or this is a
                thread with a Trio run, which the call would block.
            TypeError: ``timeout`` is not a number.
            ConfigError: ``timeout`` is negative.
        """
        limit = limit_of(timeout)
        run, session = self._opened()
        token = session._fresh_token()
        if token is not None:
            return token
        try:
            return run.call(limit, _get_access_token, session)
        except TimeoutError:
            raise TimeoutError(f"no token within {timeout} s") from None

    @without_locals
    def invalidate(self, access_token: str) -> None:
        """Drop the current token, if it is this one. Call it when the API rejects the token.

        The next caller waits for a new token. The call has no effect if another token is current,
        or if the session is closed.

        Raises:
            RuntimeError: as for :meth:`get_access_token`.
            TypeError, ValueError: as for :meth:`~trio_anon_session.AnonymousSession.invalidate`.
        """
        run, session = self._opened()
        with suppress(SessionClosedError):
            run.call_sync(session.invalidate, access_token)

    def revoke_tokens(self, timeout: float | None = None) -> None:
        """Drop the token, then revoke it at the server (RFC 7009).

        Args:
            timeout: the longest wait in seconds, or None for no limit. The session continues to
                revoke the token after the timeout.

        Raises:
            TimeoutError: the token was not revoked within ``timeout``.
            RevocationError: as for ``AnonymousSession.revoke_tokens``.
            SessionClosedError, RuntimeError, TypeError, ConfigError: as for
                :meth:`get_access_token`.
        """
        limit = limit_of(timeout)
        run, session = self._opened()
        try:
            run.call(limit, session.revoke_tokens)
        except TimeoutError:
            raise TimeoutError(f"the token was not revoked within {timeout} s") from None

    @property
    def state(self) -> TokenState:
        """The state of the session's token now."""
        return self._opened()[1].state

    def statistics(self) -> SessionStatistics:
        """Return the session's counters and state as they are now."""
        return self._opened()[1].statistics()

    def auth(
        self, origins: Iterable[str] | None = None, *, timeout: float | None = None
    ) -> SessionThreadAuth:
        """Return an ``httpx.Auth`` for an ``httpx.Client``.

        Args:
            origins: as for :class:`SessionThreadAuth`.
            timeout: as for :class:`SessionThreadAuth`.
        """
        return SessionThreadAuth(self, origins=origins, timeout=timeout)

    def _opened(self) -> tuple[SessionRun, AnonymousSession]:
        """Return the run and its session, or raise RuntimeError if this thread cannot use them."""
        self._check_process()
        run = self._run
        if run is None or run.session is None:
            raise RuntimeError(
                "the session is not open: write 'with SessionThread(config) as session:', "
                "and use it inside that block"
            )
        if is_on_trio():
            raise RuntimeError(
                "a SessionThread would block this Trio run: use an AnonymousSession in it, or call "
                "the SessionThread with trio.to_thread.run_sync"
            )
        return run, run.session

    def _check_process(self) -> None:
        if self._run is not None and self._process != _this_process():
            raise RuntimeError(
                f"this SessionThread was opened in process {self._process[0]}, before a fork, and "
                "its thread does not exist in this process: open a SessionThread in each worker "
                "after the fork, for example in Gunicorn's post_worker_init hook"
            )


async def _get_access_token(session: AnonymousSession) -> str:
    # Without a checkpoint, so that a timeout of 0 s returns a STALE token, too.
    with suppress(trio.WouldBlock):
        return session.get_access_token_nowait()
    return await session.get_access_token()
