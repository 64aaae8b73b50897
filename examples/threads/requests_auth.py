"""An auth for requests, which sends the token of a session.

session = requests.Session()
session.auth = TokenAuth(session_thread)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests.auth import AuthBase

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

    from trio_anon_session.threads import SessionThread


class TokenAuth(AuthBase):
    """Send the token to the API, and send a request again if the API rejects the token.

    Args:
        session: an open session.
        timeout: the longest wait for a token in seconds.
    """

    def __init__(self, session: SessionThread, timeout: float | None = None) -> None:
        self._session = session
        self._timeout = timeout
        self._origin = urlsplit(session.config.api_root_url)[:2]

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the token to a request, unless it goes to another server."""
        if urlsplit(str(request.url))[:2] == self._origin:
            self._set_token(request)
            request.register_hook("response", self._send_again)
        return request

    def _set_token(self, request: PreparedRequest) -> None:
        token = self._session.get_access_token(self._timeout)
        request.headers["Authorization"] = f"Bearer {token}"

    def _send_again(self, response: Response, **kwargs: Any) -> Response:
        request = response.request
        # requests removes the header if a redirect leads to another server.
        scheme, _, token = str(request.headers.get("Authorization", "")).partition(" ")
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code != 401 or 'error="invalid_token"' not in challenge:
            return response
        if scheme != "Bearer":
            return response
        self._session.invalidate(token)
        if not isinstance(request.body, str | bytes | None):
            # The content of a file or an iterator is gone.
            return response
        # The connection can be used again after the whole body has been read.
        response.content  # noqa: B018  # reads the body
        response.close()
        again = request.copy()
        self._set_token(again)
        answer: Response = response.connection.send(again, **kwargs)
        answer.history.append(response)
        answer.request = again
        return answer
