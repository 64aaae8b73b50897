"""`SessionAuth` for clients of httpx2, the maintained continuation of httpx (extra ``httpx2``).

httpx2 does not accept an ``httpx.Auth``. This class does the same for httpx2::

    from trio_anon_session.httpx2 import SessionAuth

    async with httpx2.AsyncClient(auth=SessionAuth(session)) as client:
        ...

For a synchronous client, :class:`SessionThreadAuth` does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._flow import TokenFlow
from ._secrets import Unpicklable
from .threads._flow import ThreadFlow

try:
    import httpx2
except ModuleNotFoundError as error:
    if error.name != "httpx2":
        raise
    raise ImportError(
        "trio_anon_session.httpx2 needs httpx2: pip install 'trio_anon_session[httpx2]'",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from ._flow import Session
    from .threads._flow import BlockingSession

__all__ = ["SessionAuth", "SessionThreadAuth"]


class SessionAuth(httpx2.Auth, Unpicklable):
    """An ``httpx2.Auth`` that sends a session's token with requests of an ``httpx2.AsyncClient``.

    It behaves like :class:`trio_anon_session.SessionAuth`. Each error of the session is raised as
    a subclass of its own class and of ``httpx2.RequestError``. For example, a subclass of
    ``CredentialsRejectedError`` is also an ``httpx2.RequestError``.

    Args:
        session: an open :class:`~trio_anon_session.AnonymousSession`.
        origins: origins that may receive the token, as ``scheme://host[:port]``; by default the
            origin of ``api_root_url``, and for Box also ``https://upload.box.com``. If
            ``api_root_url`` is Box's and ``token_url`` is not, there is no default.

    Raises:
        ConfigError: an origin is invalid, or is not https; or ``origins`` is missing and there is
            no default.
    """

    def __init__(self, session: Session, *, origins: Iterable[str] | None = None) -> None:
        self._flow = TokenFlow(httpx2, session, origins)

    def __repr__(self) -> str:
        return repr(self._flow)

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Raise an error, because a session works only with Trio."""
        self._flow.refuse_sync()
        yield request

    def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send the request with the token, and once more with a new one if the API rejects it."""
        return self._flow.run(request)


class SessionThreadAuth(httpx2.Auth, Unpicklable):
    """An ``httpx2.Auth`` that sends the token of a session with requests of an ``httpx2.Client``.

    It behaves like :class:`trio_anon_session.threads.SessionThreadAuth`, with errors of httpx2.

    Args:
        session: an open :class:`~trio_anon_session.threads.SessionThread`.
        origins: as for :class:`SessionAuth`.
        timeout: the longest wait for a token in seconds, or None for no limit.

    Raises:
        ConfigError: as for :class:`SessionAuth`, or ``timeout`` is negative.
        TypeError: ``timeout`` is not a number.
    """

    def __init__(
        self,
        session: BlockingSession,
        *,
        origins: Iterable[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._flow = ThreadFlow(httpx2, session, origins, timeout)

    def __repr__(self) -> str:
        return repr(self._flow)

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send the request with the token, and once more with a new one if the API rejects it."""
        return self._flow.drive(request)

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Raise an error, because waiting for a token would block the event loop."""
        self._flow.refuse_async()
        yield request
