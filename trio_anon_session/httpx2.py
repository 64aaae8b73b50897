"""`SessionAuth` for clients of httpx2, the maintained continuation of httpx (extra ``httpx2``).

httpx2 refuses an ``httpx.Auth``, and so has one of its own, which does the same::

    from trio_anon_session.httpx2 import SessionAuth

    async with httpx2.AsyncClient(auth=SessionAuth(session)) as client:
        ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._flow import TokenFlow
from ._secrets import Unpicklable

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

__all__ = ["SessionAuth"]


class SessionAuth(httpx2.Auth, Unpicklable):
    """Sends a session's token with the requests of an ``httpx2.AsyncClient``.

    All that is said of :class:`trio_anon_session.SessionAuth` holds here. The session's errors
    come up as classes of their own, derived of both: ``CredentialsRejectedError``, say, and
    ``httpx2.RequestError``.

    Args:
        session: an open :class:`~trio_anon_session.AnonymousSession`.
        origins: where the token may go, as ``scheme://host[:port]``; by default the
            config's API root and ``https://upload.box.com``.

    Raises:
        ConfigError: for an origin that is none, or is not https.
    """

    def __init__(self, session: Session, *, origins: Iterable[str] | None = None) -> None:
        self._flow = TokenFlow(httpx2, session, origins)

    def __repr__(self) -> str:
        return repr(self._flow)

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Refuse: a session lives on Trio."""
        self._flow.refuse_sync()
        yield request

    def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Set the token, and once more if it turns out to be dead."""
        return self._flow.run(request)
