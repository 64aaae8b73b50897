"""`SessionAuth`: a session's token on the requests of an httpx client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from ._flow import TokenFlow
from ._secrets import Unpicklable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from ._flow import Session


class SessionAuth(httpx.Auth, Unpicklable):
    """Sends a session's token with the requests of an ``httpx.AsyncClient``.

    A request to another origin than the allowed ones goes out as it is: the log has a warning,
    once per origin, and ``"trio_anon_session.token_not_sent"`` in the ``extensions`` of the
    response says why. A 401 that means
    a dead token drops that token, and the request is sent once more with a new one,
    unless its body cannot be sent twice. The caller then has the 401, in whose ``extensions``
    ``"trio_anon_session.not_replayed"`` says why, as a record of the log does.

    A client that follows redirects asks for the token once, for the first request. httpx
    takes it off where a redirect leads to another origin, an allowed one too, and never puts
    it back; but from ``http://localhost`` to ``https://localhost``, both with their default
    ports, httpx keeps it, as it does for any host.

    What goes wrong with the token comes up as the session's own errors, which are all
    ``httpx.RequestError`` too; their ``request`` is the one that was to be sent.

    A client of httpx2 takes :class:`trio_anon_session.httpx2.SessionAuth`.

    Args:
        session: an open :class:`AnonymousSession`.
        origins: where the token may go, as ``scheme://host[:port]``; by default the
            config's API root and ``https://upload.box.com``.

    Raises:
        ConfigError: for an origin that is none, or is not https.
    """

    def __init__(self, session: Session, *, origins: Iterable[str] | None = None) -> None:
        self._flow = TokenFlow(httpx, session, origins)

    def __repr__(self) -> str:
        return repr(self._flow)

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: a session lives on Trio."""
        self._flow.refuse_sync()
        yield request

    def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Set the token, and once more if it turns out to be dead."""
        return self._flow.run(request)
