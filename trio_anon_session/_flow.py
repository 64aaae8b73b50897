"""`TokenFlow`: the auth flow of `SessionAuth`, for httpx and for httpx2.

How it works
    Both libraries run an auth as an async generator: it yields a request and receives the
    response. `TokenFlow.run` is that generator. `TokenFlow` gets the library's module, and uses
    only names that both libraries export. A small class for each library makes it an ``Auth``.

    The body of a 401 can be huge or endless, can stall, and can decompress to a gigabyte. So the
    flow reads only what it needs, never decompresses it, and waits at most a second. The caller
    gets the whole body, unless the flow sends the request again.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Iterable
from logging import WARNING
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from ._body import StartedBody
from ._challenges import means_invalid_token
from ._config import for_prefix
from ._errors import AnonymousSessionError, ConfigError
from ._http_libraries import with_base
from ._logging import log
from ._misuse import is_on_trio
from ._origins import (
    DEFAULT_PORTS,
    URL,
    allowed_origin,
    default_origins,
    listed_origins,
    may_have_token,
    origin_of,
    shown_origin,
)

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import ModuleType

    from ._config import Config

NOT_REPLAYED = "trio_anon_session.not_replayed"
"""Key in a response's extensions: why a request with an invalid token was not sent again."""
TOKEN_NOT_SENT = "trio_anon_session.token_not_sent"
"""Key in a response's extensions: why its request had no token."""


_WARNED_ORIGINS = 100
"""The most origins for which one auth logs that it sends no token."""

_SCHEME = "Bearer "
_MARK = "trio_anon_session.token"
"""Key in a request's extensions: the header that the auth has set. The user may set another."""


class Session(Protocol):
    """The members of `AnonymousSession` that an auth uses.

    Importing that class here would be a cycle, because `AnonymousSession.auth` returns an auth.
    """

    @property
    def config(self) -> Config:
        """The settings, which define the default origins."""
        ...

    def get_access_token_nowait(self) -> str:
        """Return a usable token, or raise `trio.WouldBlock`."""
        ...

    async def get_access_token(self) -> str:
        """Return a usable token. Wait for one if necessary."""
        ...

    def invalidate(self, access_token: str) -> None:
        """Drop this token, so that no caller gets it again."""
        ...


class AuthRequest(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def url(self) -> URL: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...
    @property
    def extensions(self) -> MutableMapping[str, Any]: ...
    @property
    def stream(self) -> object: ...


class AuthResponse(Protocol):
    stream: Any

    @property
    def status_code(self) -> int: ...
    @property
    def request(self) -> AuthRequest: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...
    @property
    def extensions(self) -> MutableMapping[str, Any]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def num_bytes_downloaded(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...


_RequestT = TypeVar("_RequestT", bound=AuthRequest)


class Sent:
    """The token that one request was sent with. Two tasks may send the same request object."""

    token = ""


class TokenFlow:
    """The auth flow that adds a session's token to the requests of a client.

    Args:
        http: ``httpx`` or ``httpx2``.
        session: an open session.
        origins: the origins that get the token. None: those of the config.

    Raises:
        ConfigError: an origin is not a scheme and host, or does not use https; or there are no
            default origins.
        TypeError: a client called ``session.auth`` with a request.

    Attributes:
        auth_class: the name of the auth that the user has.
        body_class: the class for the body of a 401.
        stream_class: the name of the library's base class for bodies.
    """

    auth_class = "SessionAuth"
    body_class: Any = StartedBody
    stream_class = "AsyncByteStream"

    def __init__(self, http: ModuleType, session: Session, origins: Iterable[str] | None) -> None:
        self._http = http
        self._session = session
        self._has_default_origins = origins is None
        self._warned: set[str] = set()
        if origins is None:
            self._origins = default_origins(session.config)
            if not self._origins:
                wants = (
                    "must be set, or api_root_url (BOX_API_ROOT_URL) must be the root URL of your "
                    "API: api_root_url is Box's, and token_url is on another server"
                )
                raise ConfigError("origins", for_prefix(wants, session.config))
        elif type(origins).__name__ == "Request":
            # The user passed the method `session.auth` to a client, and the client called it with a
            # request.
            raise TypeError("pass auth=session.auth() to the client, not auth=session.auth")
        elif isinstance(origins, str) or not isinstance(origins, Iterable):
            raise ConfigError("origins", f"must be a list of origins, not {type(origins).__name__}")
        else:
            self._origins = frozenset(
                allowed_origin(text, index) for index, text in enumerate(origins)
            )
        # The schemes of the origins with a default port, by host. Nearly all requests match one of
        # them, and this lookup makes a request 1 % faster.
        self._schemes = {
            host.encode("ascii"): scheme
            for scheme, host, port in self._origins
            if port == DEFAULT_PORTS[scheme]
        }

    def __repr__(self) -> str:
        return f"<{self.auth_class} of {self._session!r}>"

    def refuse_sync(self) -> None:
        """Raise RuntimeError for a synchronous client, because a session works only on Trio."""
        raise RuntimeError(
            f"SessionAuth needs {self._http.__name__}.AsyncClient on Trio: for a synchronous "
            "client, use trio_anon_session.threads.SessionThread and its auth()"
        )

    async def run(self, request: _RequestT) -> AsyncGenerator[_RequestT, AuthResponse]:
        """Send the request with the token, and once more if the token is invalid."""
        url = request.url
        is_allowed = url.port is None and self._schemes.get(url.raw_host) == url.scheme
        if not is_allowed and origin_of(url) not in self._origins:
            # If the user has sent this request object to an allowed origin before, it contains the
            # token.
            remove_token(request)
            reason = self._reason_not_sent(request)
            response = yield request
            response.extensions[TOKEN_NOT_SENT] = reason
            return
        sent = Sent()
        if not self._set_token_nowait(request, sent):
            await self._set_token(request, sent)
        response = yield request
        if response.status_code != 401 or not await self._has_invalid_token(response):
            return
        self._session.invalidate(sent.token)
        if response.request.method != request.method:
            # If a redirect changes the method, the server has already processed the first request.
            # Another request would make the server process it twice.
            _report_not_replayed(
                request, response, "the server has already answered it with a redirect"
            )
            return
        if not self._can_be_sent_twice(request):
            _report_not_replayed(request, response, "its body cannot be sent twice")
            return
        # Free the connection before the wait for a new token.
        if not response.is_closed:
            await self._started(response).finish()
        if await self._set_token(request, sent):
            self._drop_compressed(response)
            yield request
        else:
            _report_not_replayed(request, response, "the new token is the same")

    def _reason_not_sent(self, request: AuthRequest) -> str:
        """Return why a request has no token, and log it once for each origin."""
        origin = origin_of(request.url)
        shown = shown_origin(origin)
        if may_have_token(origin):
            rule = f"{self.auth_class} sends the token only to {listed_origins(self._origins)}"
            setting = "api_root_url (BOX_API_ROOT_URL)"
            setting = for_prefix(setting, self._session.config)
            advice = (
                f"To send the token to {shown}, set {setting} to it, or "
                "list it in session.auth(origins=[...])."
                if self._has_default_origins
                else f"To send the token to {shown}, list it in session.auth(origins=[...])."
            )
        else:
            rule = f"{self.auth_class} sends the token only over https, or over http to loopback"
            advice = "Use an https URL."
        # A request with its own credentials needs no warning.
        is_new = shown not in self._warned and len(self._warned) < _WARNED_ORIGINS
        if is_new and "Authorization" not in request.headers:
            self._warned.add(shown)
            log(WARNING, "a request to %s is sent without the token: %s. %s", shown, rule, advice)
        return f"{shown} is not an allowed origin: {rule}"

    def _set_token_nowait(self, request: AuthRequest, sent: Sent) -> bool:
        """Add the session's token to a request without waiting. Return whether it exists.

        Sending the request is a checkpoint. With a transport that does nothing, a second checkpoint
        for the token would make a request 5 % slower. Even a coroutine without a checkpoint would
        make it 1 % slower.
        """
        try:
            sent.token = self._session.get_access_token_nowait()
        except (trio.WouldBlock, RuntimeError, AnonymousSessionError):
            # `run` then calls `_set_token`, which waits for a token or raises the error.
            return False
        request.headers["Authorization"] = request.extensions[_MARK] = _SCHEME + sent.token
        return True

    async def _set_token(self, request: AuthRequest, sent: Sent) -> bool:
        """Add the session's token to a request. Return whether it is another one than before."""
        try:
            # No local variable may contain the token while this call can raise, because a traceback
            # can show the locals.
            token = self._token_now() or await self._session.get_access_token()
        except AnonymousSessionError as error:
            problem = as_request_error(error, self._http.RequestError)
        else:
            is_new = token != sent.token
            sent.token = token
            request.headers["Authorization"] = request.extensions[_MARK] = _SCHEME + token
            return is_new
        # Raised outside of the except block, so that the session's error is not its context.
        problem.request = request
        remove_token(request)
        try:
            raise problem
        finally:
            del problem

    def _token_now(self) -> str | None:
        """Return the token if there is one, without a checkpoint."""
        try:
            return self._session.get_access_token_nowait()
        except trio.WouldBlock:
            return None
        except RuntimeError:
            if is_on_trio():
                raise
        # Raised outside of the except block, because the session's error would add nothing.
        raise RuntimeError(
            f"SessionAuth works only on Trio: start the program with trio.run(main), where "
            f"{self._http.__name__}.AsyncClient works without changes; in an asyncio program, run "
            "the code that needs the session with 'await asyncio.to_thread(trio.run, main)'"
        )

    async def _has_invalid_token(self, response: AuthResponse) -> bool:
        """Return whether a 401 means that the token of the request is invalid.

        The error ``invalid_token`` in a Bearer challenge means that (RFC 6750 §3.1). Another
        error in a Bearer challenge is about permissions, and a new token would not help. If no
        Bearer challenge has an error, an empty body means an invalid token, as Box answers.
        """
        if not _has_token(response.request):
            response.extensions[TOKEN_NOT_SENT] = (
                "the token was removed from the request later: by httpx, on a redirect to another "
                "origin, or by an event hook"
            )
            return False
        is_dead = means_invalid_token(response.headers.get("WWW-Authenticate", ""))
        if is_dead is not None:
            return is_dead
        return await self._is_empty(response)

    async def _is_empty(self, response: AuthResponse) -> bool:
        """Return whether a response has no body, not even a compressed one."""
        if response.is_closed:
            # A transport or an event hook has read the body, and may not have kept it.
            try:
                return not response.content and not response.num_bytes_downloaded
            except self._http.ResponseNotRead:
                return False
        headers = response.headers
        length = headers.get("Content-Length", "")
        if length.isdecimal() and "Transfer-Encoding" not in headers:
            return not length.strip("0")
        if response.request.method == "HEAD":
            # A response to HEAD never has a body, so an empty one means nothing.
            return False
        try:
            return not await self._started(response).has_bytes()
        except self._http.RequestError as error:
            error.request = response.request
            raise

    def _started(self, response: AuthResponse) -> Any:
        if not isinstance(response.stream, self.body_class):
            kind = with_base(self.body_class, getattr(self._http, self.stream_class))
            response.stream = kind(response.stream, self._http)
        return response.stream

    def _drop_compressed(self, response: AuthResponse) -> None:
        """Drop a compressed body, because httpx would decompress it for ``response.history``."""
        if "Content-Encoding" in response.headers and isinstance(response.stream, self.body_class):
            response.stream.pieces.clear()

    def _can_be_sent_twice(self, request: AuthRequest) -> bool:
        # httpx can send bytes again, and rewinds the files of a form. But the content of an
        # iterator is gone after the first request.
        if isinstance(request.stream, self._http.ByteStream):
            return True
        if not isinstance(request.stream, _form_class(self._http)):
            return False
        parts = [
            getattr(field, "file", getattr(field, "value", None))
            for field in getattr(request.stream, "fields", [None])
        ]
        return all(isinstance(part, bytes | str) or _can_be_rewound(part) for part in parts)


@functools.cache
def error_class(kind: type[Any], base: type[Any]) -> type[Any]:
    """Return the class of an error that is also an error of another library."""

    def reduce(self: AnonymousSessionError) -> tuple[Any, ...]:
        # No module contains this class, so `pickle` could not find it.
        return kind, self.args, self.__dict__

    names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    return type(kind.__name__, (kind, base), names)


def as_request_error(error: AnonymousSessionError, base: Any) -> Any:
    """Return an error that is also an error of a library, with the same attributes."""
    if isinstance(error, base):
        return error
    # The annotation is Any, because mypy does not accept the type of a parameter as hashable.
    ours: Any = type(error)
    kind = error_class(ours, base)
    # Do not call the constructor, because a user's subclass may have another one.
    converted = Exception.__new__(kind, *error.args)
    converted.__dict__.update(error.__dict__)
    converted.__context__ = error.__context__
    converted.__cause__ = error.__cause__
    converted.__suppress_context__ = error.__suppress_context__
    return converted.with_traceback(error.__traceback__)


@functools.cache
def _form_class(http: ModuleType) -> type[Any]:
    """Return the library's class for the body of a form with files, which is not public."""
    return type(http.Request("POST", "http://localhost", files={"file": b""}).stream)


def _can_be_rewound(file: Any) -> bool:
    if getattr(file, "closed", True):
        return False
    return bool(getattr(file, "seekable", bool)())


def _report_not_replayed(request: AuthRequest, response: AuthResponse, reason: str) -> None:
    response.extensions[NOT_REPLAYED] = reason
    log(
        WARNING,
        "the token of a %s to %s is invalid, and the request is not sent again: %s",
        request.method,
        shown_origin(origin_of(request.url)),
        reason,
    )


def _has_token(request: AuthRequest) -> bool:
    # The copy that httpx creates for a redirect has the extension, too.
    header = request.headers.get("Authorization")
    return header is not None and header == request.extensions.get(_MARK)


def remove_token(request: AuthRequest) -> None:
    if _has_token(request):
        del request.headers["Authorization"]
    request.extensions.pop(_MARK, None)
