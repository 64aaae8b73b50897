"""`ThreadFlow`: the auth flow of a `SessionThread`, for synchronous clients of httpx and httpx2.

How it works
    `TokenFlow.run` makes all decisions, for asynchronous clients and for these. Here, everything
    that it awaits blocks the thread and returns, so `run` never suspends, and `ThreadFlow.drive`
    can run it without an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from .._flow import TokenFlow, error_class, remove_token
from .._session import AnonymousSession
from ._body import StartedSyncBody
from ._run import limit_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable
    from types import ModuleType

    from .._config import Config
    from .._flow import AuthRequest, AuthResponse, Sent

RequestT = TypeVar("RequestT", bound="AuthRequest")


class BlockingSession(Protocol):
    """The members of `SessionThread` that an auth uses.

    Importing that class here would be a cycle, because `SessionThread.auth` returns an auth.
    """

    @property
    def config(self) -> Config:
        """The settings, which define the default origins."""
        ...

    def get_access_token(self, timeout: float | None) -> str:
        """Return a usable token. Block the thread until there is one."""
        ...

    def invalidate(self, access_token: str) -> None:
        """Drop this token, so that no caller gets it again."""
        ...


class ThreadFlow(TokenFlow):
    """The auth flow that adds the token of a `SessionThread` to the requests of a client.

    Args:
        http: ``httpx`` or ``httpx2``.
        session: an open SessionThread.
        origins: the origins that get the token. None: those of the config.
        timeout: the longest wait for a token in seconds, or None.

    Raises:
        ConfigError, TypeError: as for `TokenFlow`, and if ``timeout`` is not a number of seconds.
    """

    auth_class = "SessionThreadAuth"
    body_class = StartedSyncBody
    stream_class = "SyncByteStream"

    def __init__(
        self,
        http: ModuleType,
        session: BlockingSession,
        origins: Iterable[str] | None,
        timeout: float | None,
    ) -> None:
        limit_of(timeout)
        if isinstance(session, AnonymousSession):
            raise TypeError("session must be a SessionThread, not AnonymousSession")
        super().__init__(http, _Waiter(session, timeout), origins)

    def drive(self, request: RequestT) -> Generator[RequestT, AuthResponse, None]:
        """Send the request with the token, and once more if the token is invalid."""
        flow = self.run(request)
        try:
            to_send = _result_of(anext(flow))
            while True:
                to_send = _result_of(flow.asend((yield to_send)))
        except StopAsyncIteration:
            return
        finally:
            _result_of(flow.aclose())

    def refuse_async(self) -> None:
        """Raise RuntimeError for an asynchronous client, whose event loop it would block."""
        raise RuntimeError(
            f"SessionThread.auth() needs {self._http.__name__}.Client, because it would block an "
            "event loop: on Trio, use the auth() of an AnonymousSession"
        )

    async def _set_token(self, request: AuthRequest, sent: Sent) -> bool:
        try:
            return await super()._set_token(request, sent)
        except TimeoutError as error:
            problem = error_class(TimeoutError, self._http.TimeoutException)(*error.args)
        # Raised outside of the except block, so that the session's error is not its context.
        problem.request = request
        remove_token(request)
        try:
            raise problem
        finally:
            del problem


class _Waiter:
    """A `SessionThread` with the methods that `TokenFlow` calls. They block the thread."""

    def __init__(self, session: BlockingSession, timeout: float | None) -> None:
        self._session = session
        self._timeout = timeout
        self.invalidate = session.invalidate

    def __repr__(self) -> str:
        return repr(self._session)

    @property
    def config(self) -> Config:
        return self._session.config

    def get_access_token_nowait(self) -> str:
        # The flow then calls `get_access_token`, which is as fast if the token is FRESH.
        raise trio.WouldBlock

    async def get_access_token(self) -> str:
        return self._session.get_access_token(self._timeout)


def _result_of(step: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a step of an async generator that does not suspend."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the flow has suspended")
