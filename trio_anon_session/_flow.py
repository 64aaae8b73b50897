"""What `SessionAuth` does with a request and its answers, for httpx and for httpx2.

How this works
    Both libraries drive an auth as an async generator: it yields a request, and is sent the
    response. `TokenFlow` is the one such generator. It is given the library, a module, and uses
    what both of them export under the same names. A thin class for each makes it an ``Auth``.

    Of an answer that may mean a dead token no more is read than is needed, for a body can be
    huge, or never end. Who asked finds it whole, unless the request is sent again.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import httpx
import trio

from ._backoff import logger
from ._challenges import means_dead_token
from ._config import is_loopback
from ._errors import AnonymousSessionError, ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
    from types import ModuleType

    from ._session import AnonymousSession

UPLOAD_ORIGIN = "https://upload.box.com"
NOT_REPLAYED = "trio_anon_session.not_replayed"
"""Key of a response's extensions: why a request with a dead token was not sent again."""

LEFTOVER_SIZE = 64 * 1024
"""Bytes; what is read at most of an answer whose request is sent again."""
LEFTOVER_TIME = 1.0
"""Seconds; how long is waited for it at most."""

_PIECES = 64
"""How many pieces of a body are looked at: some may be empty."""
_PACKED_SIZE = 512
"""Bytes; no empty body is larger than this when it is compressed."""

_SCHEME = "Bearer "
_MARK = "trio_anon_session.token"
"""Key of a request's extensions: the header that was set here, to tell it from a user's own."""

# What can be the name of a host, as httpx leaves it: a wildcard, for one, cannot.
_HOST = r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?"

_DEFAULT_PORTS = {"https": 443, "http": 80}

_Origin = tuple[str, str, int | None]


class _URL(Protocol):
    @property
    def scheme(self) -> str: ...
    @property
    def raw_host(self) -> bytes: ...
    @property
    def port(self) -> int | None: ...


class _Request(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def url(self) -> _URL: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...
    @property
    def extensions(self) -> MutableMapping[str, Any]: ...
    @property
    def stream(self) -> object: ...


class _Response(Protocol):
    stream: Any

    @property
    def status_code(self) -> int: ...
    @property
    def request(self) -> _Request: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...
    @property
    def extensions(self) -> MutableMapping[str, Any]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def is_closed(self) -> bool: ...


_RequestT = TypeVar("_RequestT", bound=_Request)


class _Sent:
    """Is the token with which one request was sent: another task may send the same object."""

    token = ""


class TokenFlow:
    """Sends a session's token with the requests of a client of either library.

    Args:
        http: ``httpx`` or ``httpx2``.
        session: an open session.
        origins: where the token may go; None for the config's API root and Box's upload host.

    Raises:
        ConfigError: for an origin that is none, or is not https.
    """

    def __init__(
        self, http: ModuleType, session: AnonymousSession, origins: Iterable[str] | None
    ) -> None:
        self._http = http
        self._session = session
        if origins is None:
            root = httpx.URL(session.config.api_root_url)
            self._origins = frozenset({_origin(root), _origin(httpx.URL(UPLOAD_ORIGIN))})
        elif isinstance(origins, str) or not isinstance(origins, Iterable):
            raise ConfigError(
                "origins", f"wants a list of origins, not one {type(origins).__name__}"
            )
        else:
            self._origins = frozenset(
                _allowed_origin(text, number) for number, text in enumerate(origins, start=1)
            )
        # Of those with the default port, as httpx spells nearly all: to look there first saves a
        # request 1 %.
        self._schemes = {
            host.encode("ascii"): scheme
            for scheme, host, port in self._origins
            if port == _DEFAULT_PORTS[scheme]
        }

    def __repr__(self) -> str:
        return f"<SessionAuth of {self._session!r}>"

    def refuse_sync(self) -> None:
        """Refuse a client that is not async: a session lives on Trio."""
        raise RuntimeError(
            f"SessionAuth needs {self._http.__name__}.AsyncClient, on Trio: a sync client cannot "
            "wait for a token"
        )

    async def run(self, request: _RequestT) -> AsyncGenerator[_RequestT, _Response]:
        """Set the token, and once more if it turns out to be dead."""
        url = request.url
        is_allowed = url.port is None and self._schemes.get(url.raw_host) == url.scheme
        if not is_allowed and _origin(url) not in self._origins:
            # Its user may have sent it before, to an allowed origin.
            _take_token_off(request)
            yield request
            return
        sent = _Sent()
        if not self._set_token_at_once(request, sent):
            await self._set_token(request, sent)
        response = yield request
        if response.status_code != 401 or not await self._says_dead_token(response):
            return
        self._session.invalidate(sent.token)
        if response.request.method != request.method:
            # A redirect to the result of what has been done: it would be done twice.
            _tell_not_replayed(request, response, "a redirect has answered it already")
            return
        if not self._can_be_sent_twice(request):
            _tell_not_replayed(request, response, "its body cannot be sent twice")
            return
        # Before the wait for a token, for which the connection need not wait.
        if not response.is_closed:
            await self._started(response).finish()
        if await self._set_token(request, sent):
            yield request
        else:
            _tell_not_replayed(request, response, "the new token is the same")

    def _set_token_at_once(self, request: _Request, sent: _Sent) -> bool:
        """Put the session's token on a request, and return whether there was one.

        What sends the request is checkpoint enough. A getter's own checkpoint would make a
        request over a transport that does nothing 5 % slower, and no safer; a coroutine alone,
        1 %.
        """
        try:
            sent.token = self._session.get_access_token_nowait()
        except (trio.WouldBlock, RuntimeError, AnonymousSessionError):
            # Whoever waits for a token is told what is wrong.
            return False
        request.headers["Authorization"] = request.extensions[_MARK] = _SCHEME + sent.token
        return True

    async def _set_token(self, request: _Request, sent: _Sent) -> bool:
        """Put the session's token on a request, and return whether it is another than before."""
        try:
            # No token in a local while this may raise: a traceback shows the locals.
            token = self._token_now() or await self._session.get_access_token()
        except AnonymousSessionError as error:
            problem = as_request_error(error, self._http.RequestError)
        else:
            is_new = token != sent.token
            sent.token = token
            request.headers["Authorization"] = request.extensions[_MARK] = _SCHEME + token
            return is_new
        # Outside of the except block: one that was made anew has no other as its context.
        problem.request = request
        _take_token_off(request)
        try:
            raise problem
        finally:
            del problem

    def _token_now(self) -> str | None:
        """Return the token if there is one, without a checkpoint of its own."""
        try:
            return self._session.get_access_token_nowait()
        except trio.WouldBlock:
            return None
        except RuntimeError:
            if _is_on_trio():
                raise
        # Outside of the except block: what the session says is less to the point.
        raise RuntimeError(
            f"SessionAuth needs {self._http.__name__}.AsyncClient on Trio, for a session works on "
            "Trio alone: start the program with trio.run(main), where that client works as it is; "
            "in a program of asyncio, run the part that needs the session with "
            "'await asyncio.to_thread(trio.run, main)'"
        )

    async def _says_dead_token(self, response: _Response) -> bool:
        """Return whether a 401 means that the token it was asked with is dead.

        The error ``invalid_token`` in a Bearer challenge means that (RFC 6750 §3.1). Another
        error in a Bearer challenge is about permission: a new token would not help. If no
        Bearer challenge has an error, an empty body means a dead token, as Box answers.
        """
        # A redirect to elsewhere has taken the token off, or a hook has.
        if not _has_token(response.request):
            return False
        is_dead = means_dead_token(response.headers.get("WWW-Authenticate", ""))
        if is_dead is not None:
            return is_dead
        return await self._is_empty(response)

    async def _is_empty(self, response: _Response) -> bool:
        """Return whether an answer has no body, and read no more of it than that takes."""
        if response.is_closed:
            # Read by a transport or by a hook, which may have kept nothing.
            try:
                return not response.content
            except self._http.ResponseNotRead:
                return False
        headers = response.headers
        is_packed = "Content-Encoding" in headers
        length = headers.get("Content-Length", "")
        if length.isdecimal() and not is_packed and "Transfer-Encoding" not in headers:
            return not length.strip("0")
        if response.request.method == "HEAD":
            # What the body would be, nobody can tell.
            return False
        body = self._started(response)
        try:
            await body.read_on(_PACKED_SIZE if is_packed else 0)
        except self._http.RequestError as error:
            error.request = response.request
            raise
        if not body.is_whole:
            return False
        copy = self._http.Response(
            401, headers=headers, stream=self._http.ByteStream(b"".join(body.pieces))
        )
        try:
            return not copy.read()
        except self._http.DecodingError:
            return False

    def _started(self, response: _Response) -> StartedBody:
        if not isinstance(response.stream, StartedBody):
            kind = _with_base(StartedBody, self._http.AsyncByteStream)
            response.stream = kind(response.stream, self._http.RequestError)
        body: StartedBody = response.stream
        return body

    def _can_be_sent_twice(self, request: _Request) -> bool:
        # httpx keeps a body that it was given whole, and rewinds the files of a form. What
        # comes from an iterator is gone.
        if isinstance(request.stream, self._http.ByteStream):
            return True
        if not isinstance(request.stream, _form_class(self._http)):
            return False
        parts = [
            getattr(field, "file", getattr(field, "value", None))
            for field in getattr(request.stream, "fields", [None])
        ]
        return all(isinstance(part, bytes | str) or _can_be_rewound(part) for part in parts)


class StartedBody:
    """A body of which the beginning may have been read already.

    Made with a library's ``AsyncByteStream`` as a second base, see `_with_base`.

    Attributes:
        pieces: what has been read.
        is_whole: whether that is all of it.
    """

    def __init__(self, stream: Any, error: type[Exception]) -> None:
        self.pieces: list[bytes] = []
        self.is_whole = False
        self._stream = stream
        self._error = error
        self._given = 0
        self._rest: AsyncIterator[bytes] | None = aiter(stream)

    @property
    def elapsed(self) -> Any:
        """What httpx2 has a response read here: the time that all took."""
        return getattr(self._stream, "elapsed", None)

    # No generator, which Trio would warn of where a reader stops half-way.
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._given < len(self.pieces):
            self._given += 1
            return self.pieces[self._given - 1]
        if self._rest is None:
            raise StopAsyncIteration
        try:
            return await anext(self._rest)
        except StopAsyncIteration:
            self.is_whole = True
            raise

    async def read_on(self, size: int) -> None:
        """Read until there are more bytes than this, or all of them."""
        assert self._rest is not None
        while sum(map(len, self.pieces)) <= size and len(self.pieces) < _PIECES:
            try:
                self.pieces.append(await anext(self._rest))
            except StopAsyncIteration:
                self.is_whole = True
                return

    async def finish(self) -> None:
        """Free the connection; a short body is kept, and one that is not is dropped."""
        if self._rest is None:
            return
        # One that breaks has served its purpose, too.
        with trio.move_on_after(LEFTOVER_TIME), contextlib.suppress(self._error):
            await self.read_on(LEFTOVER_SIZE)
        if not self.is_whole:
            self.pieces.clear()
        await self.aclose()

    async def aclose(self) -> None:
        """Close the body and what is below it."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        # In a finally: the reader's own cancellation, or an interrupt, comes up here as well.
        try:
            if not self.is_whole:
                # These are generators, one in another, of which httpx 0.28 closes the outermost
                # at best; Trio warns of the others. A cancellation ends them from the inside.
                with trio.CancelScope() as scope, contextlib.suppress(Exception):
                    scope.cancel()
                    for _ in range(_PIECES):
                        await anext(rest)
        finally:
            await self._stream.aclose()


@functools.cache
def _with_base(kind: type[Any], base: type[Any]) -> type[Any]:
    """Return a class that is both, made once."""
    return type(kind.__name__, (kind, base), {"__module__": kind.__module__})


@functools.cache
def _error_class(kind: type[Any], base: type[Any]) -> type[Any]:
    """Return the class of an error of ours that is one of another library too, made once."""

    def reduce(self: AnonymousSessionError) -> tuple[Any, ...]:
        # This class has no name by which a pickle would find it.
        return kind, self.args, self.__dict__

    names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    return type(kind.__name__, (kind, base), names)


def as_request_error(error: AnonymousSessionError, base: Any) -> Any:
    """Return an error that is of a library's kind as well, with the same facts."""
    if isinstance(error, base):
        return error
    # Any, for mypy takes no class for hashable that is a parameter's type.
    ours: Any = type(error)
    kind = _error_class(ours, base)
    # Without the constructor: a subclass of somebody else's may have any.
    told = Exception.__new__(kind, *error.args)
    told.__dict__.update(error.__dict__)
    told.__context__ = error.__context__
    told.__cause__ = error.__cause__
    told.__suppress_context__ = error.__suppress_context__
    return told.with_traceback(error.__traceback__)


@functools.cache
def _form_class(http: ModuleType) -> type[Any]:
    """Return the class of the body of a form with files, which has no public name."""
    return type(http.Request("POST", "http://localhost", files={"file": b""}).stream)


def _can_be_rewound(file: Any) -> bool:
    if getattr(file, "closed", True):
        return False
    return bool(getattr(file, "seekable", bool)())


def _tell_not_replayed(request: _Request, response: _Response, reason: str) -> None:
    response.extensions[NOT_REPLAYED] = reason
    scheme, host, port = _origin(request.url)
    logger.warning(
        "%s to %s://%s:%s met a dead token, and is not sent again: %s",
        request.method,
        scheme,
        f"[{host}]" if ":" in host else host,
        port,
        reason,
    )


def _has_token(request: _Request) -> bool:
    # The copy that httpx makes for a redirect has the mark, too.
    header = request.headers.get("Authorization")
    return header is not None and header == request.extensions.get(_MARK)


def _take_token_off(request: _Request) -> None:
    if _has_token(request):
        del request.headers["Authorization"]
    request.extensions.pop(_MARK, None)


def _origin(url: _URL) -> _Origin:
    # httpx has made scheme and host lower-case, and an IDN host ASCII. It leaves an IPv6
    # address as it is spelt, and the default port of a scheme that is given in upper case.
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
    return scheme, _compressed(host) if ":" in host else host, port


def _compressed(host: str) -> str:
    try:
        return ipaddress.IPv6Address(host).compressed
    except ValueError:
        return host


def _is_on_trio() -> bool:
    try:
        trio.lowlevel.current_clock()
    except RuntimeError:
        return False
    return True


def _allowed_origin(text: object, number: int) -> _Origin:
    # The host is decoded when it is read, and that can fail, too.
    try:
        url = httpx.URL(text) if isinstance(text, str) else httpx.URL()
        host = url.host
    except (httpx.InvalidURL, ValueError):
        url, host = httpx.URL(), ""
    is_host = ":" in host or re.fullmatch(_HOST, url.raw_host.decode("ascii"))
    is_port = url.port is None or 0 < url.port < 2**16
    has_more = url.userinfo or url.path != "/" or url.query or url.fragment
    # The origin is not shown: there may be a password in it.
    if not is_host or not is_port or has_more:
        raise ConfigError(
            "origins",
            "wants origins such as 'https://api.box.com', each by its full name; "
            f"number {number} is none",
        )
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ConfigError(
            "origins",
            "wants https origins, plain http for a loopback host alone (RFC 6750 §5); "
            f"number {number} is neither",
        )
    return _origin(url)
