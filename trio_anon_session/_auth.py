"""`SessionAuth`: the auth that adds a session's token to the requests of an httpx client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from ._flow import TokenFlow
from ._secrets import Unpicklable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from ._flow import Session


class SessionAuth(httpx.Auth, Unpicklable):
    """An ``httpx.Auth`` that adds a session's token to the requests of an ``httpx.AsyncClient``.

    Only requests to allowed origins get the token. A request to another origin is sent without it.
    Then the log has one warning for each origin, and the ``extensions`` of the response have the
    reason as ``"trio_anon_session.token_not_sent"``.

    If the server answers 401 because the token is invalid, the auth drops the token and sends the
    request once more with a new one. If the body cannot be sent twice, you get the 401. The log
    has the reason, and the ``extensions`` of the response have it as
    ``"trio_anon_session.not_replayed"``.

    With a client that follows redirects, the auth adds the token only to the first request. httpx
    removes the header if a redirect leads to another origin, even to an allowed one. It keeps the
    header from ``http://localhost`` to ``https://localhost`` with their default ports, as it does
    for any host.

    If there is no token, the auth raises the session's errors. Each is also an
    ``httpx.RequestError``, and its ``request`` is the request that was not sent.

    For a client of httpx2, use :class:`trio_anon_session.httpx2.SessionAuth`.

    Args:
        session: an open :class:`AnonymousSession`.
        origins: the origins that get the token, as ``scheme://host[:port]``. Default: the
            origin of ``api_root_url``, and for Box also ``https://upload.box.com``. If
            ``api_root_url`` is Box's and ``token_url`` is not, there is no default.

    Raises:
        ConfigError: an origin is not a scheme and host, or does not use https; or ``origins`` is
            missing and there is no default.
    """

    def __init__(self, session: Session, *, origins: Iterable[str] | None = None) -> None:
        self._flow = TokenFlow(httpx, session, origins)

    def __repr__(self) -> str:
        return repr(self._flow)

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Raise RuntimeError, because a session works only on Trio."""
        self._flow.refuse_sync()
        yield request

    def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request with the token, and once more if the token is invalid."""
        return self._flow.run(request)
