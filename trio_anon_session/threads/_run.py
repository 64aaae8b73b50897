"""`SessionRun`: the Trio run of a session, in its own thread, and calls from other threads."""

from __future__ import annotations

import math
import socket
import threading
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import trio

from .._errors import ConfigError, SessionClosedError
from .._session import AnonymousSession
from .._workers import in_worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from .._config import Config
    from .._events import Observer
    from .._manager import TokenSource

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

_ENDED = (SessionClosedError, trio.RunFinishedError, trio.Cancelled)
"""What a call raises if the session has closed. When a run ends, Trio cancels the calls from other
threads, and only then: a cancellation of the run's own tasks does not reach them."""


class SessionRun:
    """A thread that enters a session in a Trio run, and leaves it after `stop`.

    The thread is a daemon, because Python joins all other threads before it runs the functions of
    `atexit`. So a program that does not leave its block ends, too.

    Args:
        config: the settings of the session.
        token_manager: as for `SessionThread`.
        observers: the observers of the session.
        name: the name of the thread.

    Attributes:
        session: the session; None until it is open.
        crash: the exception that ended the run, or None.
    """

    def __init__(
        self,
        config: Config,
        token_manager: Callable[[Config], AbstractAsyncContextManager[TokenSource]] | None,
        observers: tuple[Observer, ...],
        name: str,
    ) -> None:
        self.session: AnonymousSession | None = None
        self.crash: BaseException | None = None
        self._config = config
        self._token_manager = token_manager
        self._observers = observers
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        # Set when the session is open, or when the thread ends.
        self._is_ready = threading.Event()
        self._trio_token: trio.lowlevel.TrioToken | None = None
        self._must_stop = False
        self._stop = trio.Event()

    # Called in other threads

    def start(self) -> None:
        """Start the thread. Return when the session is open, or raise what prevents that."""
        self._thread.start()
        self._is_ready.wait()
        if self.session is None and self.crash is not None:
            raise self.crash

    def stop(self) -> None:
        """Let the run end. Threads that wait for the session get a SessionClosedError."""
        # The run sets the token before it reads `_must_stop`, so it does not miss this call.
        self._must_stop = True
        if self._trio_token is not None:
            with suppress(trio.RunFinishedError):
                self._trio_token.run_sync_soon(self._stop.set)

    def join(self, limit: float | None = None) -> None:
        """Wait until the thread has ended, at most for a number of seconds."""
        self._thread.join(limit)

    def call(self, limit: float, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Call an async function of the session in the Trio run, and return its result.

        Args:
            limit: seconds; the longest time that the call may take.
            function: the function.
            args: its arguments.

        Raises:
            TimeoutError: the call took longer than the limit, and was cancelled.
            SessionClosedError: the session is closed.
        """
        with suppress(*_ENDED):
            return trio.from_thread.run(
                _call_within, limit, function, *args, trio_token=self._trio_token
            )
        raise self._closed_error()

    def call_sync(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a plain function of the session in the Trio run, and return its result.

        Raises:
            SessionClosedError: the session is closed.
        """
        with suppress(*_ENDED):
            return trio.from_thread.run_sync(function, *args, trio_token=self._trio_token)
        raise self._closed_error()

    def _closed_error(self) -> SessionClosedError:
        if self.crash is None:
            return SessionClosedError(
                "the session is closed: use it inside the 'with' block of the SessionThread, or "
                "open a new one"
            )
        error = SessionClosedError(
            f"the session has crashed with {type(self.crash).__name__}: leave the 'with' block of "
            "the SessionThread, which raises that error, and open a new one"
        )
        error.__cause__ = self.crash
        return error

    # Runs in the thread

    def _work(self) -> None:
        try:
            trio.run(self._keep_open)
        except BaseException as error:  # noqa: ASYNC103  # raised in another thread
            self.crash = error
        finally:
            self._is_ready.set()

    async def _keep_open(self) -> None:
        self._trio_token = trio.lowlevel.current_trio_token()
        trio.socket.set_custom_hostname_resolver(_Resolver())
        async with AsyncExitStack() as stack:
            manager = None
            if self._token_manager is not None:
                manager = await stack.enter_async_context(self._token_manager(self._config))
            session = AnonymousSession(self._config, manager, observers=self._observers)
            self.session = await stack.enter_async_context(session)
            self._is_ready.set()
            if not self._must_stop:
                await self._stop.wait()


class _Resolver(trio.abc.HostnameResolver):
    """Look up host names as Trio does, but also if no thread can be started.

    On Python 3.12, no thread can be started after the main thread has ended, but other threads may
    still need a token, and the session may have to revoke one.
    """

    async def getaddrinfo(self, *args: Any) -> Any:
        return await in_worker(socket.getaddrinfo, *args)

    async def getnameinfo(self, *args: Any) -> Any:
        return await in_worker(socket.getnameinfo, *args)


def limit_of(timeout: float | None) -> float:
    """Return a timeout as a number of seconds, or raise a TypeError or ConfigError."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(
            f"timeout must be a number of seconds or None, not {type(timeout).__name__}"
        )
    if not timeout >= 0:
        raise ConfigError("timeout", f"must be a number of seconds ≥ 0, or None, got {timeout!r}")
    return timeout


async def _call_within(limit: float, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    with trio.move_on_after(limit):
        return await function(*args)
    raise TimeoutError
