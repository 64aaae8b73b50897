"""`SessionThreadAuth`: the auth that adds the token of a `SessionThread` to an httpx client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from .._secrets import Unpicklable
from ._flow import ThreadFlow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from ._flow import BlockingSession


class SessionThreadAuth(httpx.Auth, Unpicklable):
    """An ``httpx.Auth`` that adds a session's token to the requests of an ``httpx.Client``.

    It has the same rules as :class:`trio_anon_session.SessionAuth`: which origins get the token,
    when a request is sent again, the ``extensions`` of the response, and the errors.

    httpx's own timeouts do not limit the wait for a token. ``timeout`` does: the auth then raises
    a ``TimeoutError`` that is also an ``httpx.TimeoutException``.

    For a client of httpx2, use :class:`trio_anon_session.httpx2.SessionThreadAuth`.

    Args:
        session: an open :class:`SessionThread`.
        origins: as for :class:`trio_anon_session.SessionAuth`.
        timeout: the longest wait for a token in seconds, or None for no limit. A request that is
            sent again with a new token may wait twice.

    Raises:
        ConfigError: as for :class:`trio_anon_session.SessionAuth`, or ``timeout`` is negative.
        TypeError: ``timeout`` is not a number.
    """

    def __init__(
        self,
        session: BlockingSession,
        *,
        origins: Iterable[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._flow = ThreadFlow(httpx, session, origins, timeout)

    def __repr__(self) -> str:
        return repr(self._flow)

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with the token, and once more if the token is invalid."""
        return self._flow.drive(request)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Raise RuntimeError, because waiting for a token would block the event loop."""
        self._flow.refuse_async()
        yield request
