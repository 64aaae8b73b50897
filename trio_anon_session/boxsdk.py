"""`SessionAuthentication`: Box's official SDK with the token of a session (extra ``box``).

The SDK is ``box_sdk_gen``, from the package ``boxsdk``. It is for programs of threads, so the
session has a thread of its own::

    from box_sdk_gen import BoxClient
    from trio_anon_session.boxsdk import SessionAuthentication
    from trio_anon_session.threads import SessionThread

    with SessionThread(Config.from_env()) as session:
        client = BoxClient(auth=SessionAuthentication(session))
        print(client.files.get_file_by_id("11111").name)
"""

from __future__ import annotations

import math
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import httpx

from ._checks import seconds, to_float
from ._errors import AnonymousSessionError, ConfigError
from ._flow import as_request_error
from ._origins import origin_of, shown_origin
from ._secrets import Unpicklable
from .threads import SessionThread

try:
    from box_sdk_gen import AccessToken, AccessTokenTokenTypeField, Authentication, BoxSDKError
except ModuleNotFoundError as error:
    if error.name != "box_sdk_gen":
        raise
    raise ImportError(
        "trio_anon_session.boxsdk needs boxsdk 10: pip install 'trio_anon_session[box]'",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable

    from box_sdk_gen import NetworkSession

__all__ = ["SessionAuthentication"]

T = TypeVar("T")


class SessionAuthentication(Authentication, Unpicklable):
    """An ``Authentication`` of Box's SDK that sends a session's token with requests of a client.

    All clients and all threads may share it, also clients made with ``client.with_…()``. It gets
    the token from the session for each request, so it never sends an expired one. Each error of
    the session is raised as a subclass of its own class and of the SDK's ``BoxSDKError``. The SDK
    does not retry it, because the session has done that.

    After each 401, the SDK calls :meth:`refresh_token`. It does not report why the API answered
    401: the token may be revoked, or a permission may be missing. So the authentication replaces
    a token that the API refused, but only once in ``replacement_interval``. After that, it keeps
    the new token for the rest of the interval, even if the API refuses it too. However many
    threads and requests get a 401, the session sends at most one token request per interval for
    them.

    Args:
        session_thread: the open session of the program.
        replacement_interval: seconds between two replacements of refused tokens. 0 replaces every
            refused token.

    Raises:
        TypeError: ``session_thread`` is not a ``SessionThread``.
        ConfigError: ``replacement_interval`` is not a finite number of seconds ≥ 0.
    """

    def __init__(
        self, session_thread: SessionThread, *, replacement_interval: float = 60.0
    ) -> None:
        if not isinstance(session_thread, SessionThread):
            raise TypeError(
                f"session_thread must be a SessionThread, not {type(session_thread).__name__}"
            )
        self._interval = to_float(replacement_interval)
        seconds(zero=True)("replacement_interval", self._interval)
        self._session = session_thread
        self._root = origin_of(httpx.URL(session_thread.config.api_root_url))
        self._last = _Last()
        self._lock = threading.Lock()
        self._replace_next_at = -math.inf

    def __repr__(self) -> str:
        return f"<SessionAuthentication of {self._session!r}>"

    def retrieve_token(self, *, network_session: NetworkSession | None = None) -> AccessToken:
        """Return a token that is valid now. Wait for one if necessary.

        The token has no ``expires_in``: call this method whenever you need a token.

        Args:
            network_session: the settings of the client.

        Raises:
            TokenRequestError: the session got no token; also a ``BoxSDKError``.
            SessionClosedError: the session is closed; also a ``BoxSDKError``.
            ConfigError: the SDK would send the token to another server than ``api_root_url`` of
                the session.
            RuntimeError: the session is not open, or was opened before a fork; or this is a thread
                with a Trio run, which the call would block.
        """
        self._check_base_url(network_session)
        self._take()
        return self._taken()

    def refresh_token(self, *, network_session: NetworkSession | None = None) -> AccessToken:
        """Report the last token of this thread as refused, and return the token to use now.

        If the session already has another token, this method only returns that token. If this
        thread has not had a token yet, or ``replacement_interval`` is not over, it returns the
        current token.

        Args:
            network_session: the settings of the client.

        Raises:
            TokenRequestError: as for :meth:`retrieve_token`.
            SessionClosedError: as for :meth:`retrieve_token`.
            ConfigError: as for :meth:`retrieve_token`.
            RuntimeError: as for :meth:`retrieve_token`.
        """
        self._check_base_url(network_session)
        if not self._take():
            self._replace()
            self._take()
        return self._taken()

    def retrieve_authorization_header(
        self, *, network_session: NetworkSession | None = None
    ) -> str:
        """Return the value of the header ``Authorization``.

        Args:
            network_session: the settings of the client.

        Raises:
            TokenRequestError: as for :meth:`retrieve_token`.
            SessionClosedError: as for :meth:`retrieve_token`.
            ConfigError: as for :meth:`retrieve_token`.
            RuntimeError: as for :meth:`retrieve_token`.
        """
        self._check_base_url(network_session)
        self._take()
        return f"Bearer {self._last.token}"

    def revoke_token(
        self,
        *,
        network_session: NetworkSession | None = None,  # noqa: ARG002  # part of the SDK's signature
    ) -> None:
        """Revoke the session's token at the server. The next request gets a new one.

        All users of the session lose the token, also those that do not use this SDK.

        Args:
            network_session: not used: the session sends the request.

        Raises:
            RevocationError: the server did not revoke the token; also a ``BoxSDKError``. The
                session does not return that token again.
            SessionClosedError: the session is closed; also a ``BoxSDKError``.
        """
        _call(self._session.revoke_tokens)

    def downscope_token(
        self,
        scopes: list[str],  # noqa: ARG002  # as above
        *,
        resource: str | None = None,  # noqa: ARG002  # as above
        shared_link: str | None = None,  # noqa: ARG002  # as above
        network_session: NetworkSession | None = None,  # noqa: ARG002  # as above
    ) -> NoReturn:
        """Raise an error, because the session does not exchange tokens (RFC 8693).

        Args:
            scopes: not used.
            resource: not used.
            shared_link: not used.
            network_session: not used.

        Raises:
            BoxSDKError: always.
        """
        raise BoxSDKError(
            "SessionAuthentication cannot downscope a token, because the session sends no token "
            "exchange (RFC 8693). To limit all requests, set Config(scope=...) (BOX_SCOPE). For a "
            "token that is limited to one file or shared link, use "
            "box_sdk_gen.BoxCCGAuth(...).downscope_token(...)"
        )

    def _take(self) -> bool:
        """Get the token for this thread. Return whether it is another one than the last."""
        # No local variable may contain a token while this call can raise, because a traceback can
        # show the locals.
        token = _call(self._session.get_access_token)
        is_new = token != self._last.token
        self._last.token = token
        return is_new

    def _taken(self) -> AccessToken:
        return AccessToken(
            access_token=self._last.token, token_type=AccessTokenTokenTypeField.BEARER
        )

    def _replace(self) -> None:
        """Drop the last token of this thread, unless the interval since a replacement is open."""
        # Another thread with the same token waits at the lock until the session has dropped it.
        with self._lock:
            now = time.monotonic()
            if now >= self._replace_next_at:
                self._replace_next_at = now + self._interval
                self._session.invalidate(self._last.token)

    def _check_base_url(self, network_session: NetworkSession | None) -> None:
        """Raise an error if the SDK's requests go to another server than the session's API."""
        if network_session is None:
            return
        base = origin_of(httpx.URL(network_session.base_urls.base_url))
        if base != self._root:
            raise ConfigError(
                "base_urls.base_url",
                "must be on the same server as the session's api_root_url (BOX_API_ROOT_URL), "
                f"{shown_origin(self._root)}, got {shown_origin(base)}",
            )


class _Last(threading.local):
    """The last token of a thread. The SDK does not report which token the API refused."""

    token = ""


class _SDKError(BoxSDKError):
    """The base class of errors of a session that are also errors of the SDK."""

    name = "BoxSDKError"
    error = None

    def __str__(self) -> str:
        # BoxSDKError would show its attributes, on several lines.
        return Exception.__str__(self)


def _call(method: Callable[[], T]) -> T:
    """Call a method of the session. Its errors are raised as errors of the SDK, too."""
    try:
        return method()
    except AnonymousSessionError as error:
        problem: Any = as_request_error(error, _SDKError)
    # Raised outside of the except block, so that the session's error is not its context.
    problem.__dict__.update(message=str(problem), timestamp=datetime.now(), extra={})
    try:
        raise problem
    finally:
        del problem
