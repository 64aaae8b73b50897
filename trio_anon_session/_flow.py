"""What `SessionAuth` does with a request and its answers, for httpx and for httpx2.

How this works
    Both libraries drive an auth as an async generator: it yields a request, and is sent the
    response. `TokenFlow` is the one such generator. It is given the library, a module, and uses
    what both of them export under the same names. A thin class for each makes it an ``Auth``.

    A body can be huge, never end, stall, or unpack to a gigabyte. So the flow reads no more of a
    401 than it needs, never unpacks it, and waits at most a second for it. The caller gets the
    whole body, unless the flow sends the request again.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextvars import copy_context
from logging import WARNING
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import httpx
import trio

from ._challenges import means_dead_token
from ._config import is_loopback
from ._errors import AnonymousSessionError, ConfigError
from ._logging import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping
    from types import ModuleType

    from ._config import Config
    from ._session import AnonymousSession

UPLOAD_ORIGIN = "https://upload.box.com"
NOT_REPLAYED = "trio_anon_session.not_replayed"
"""Key of a response's extensions: why a request with a dead token was not sent again."""
TOKEN_NOT_SENT = "trio_anon_session.token_not_sent"
"""Key of a response's extensions: why its request had no token."""

LEFTOVER_SIZE = 64 * 1024
"""Bytes; the flow reads at most so much of an answer whose request it sends again."""
LEFTOVER_TIME = 1.0
"""Seconds; the flow waits at most so long for the first byte of a body, or for its rest."""

_PIECES = 64
"""How many pieces to read at most in search of a byte, and between two checkpoints."""
_LEAST_PIECE = 64
"""Bytes; a smaller piece counts as so many, so that tiny pieces end at `LEFTOVER_SIZE` too."""
_BUFFERED_PIECES = 16 * 1024
"""More pieces than httpcore gets from a socket in one read: 64 KiB of one-byte chunks."""

_WARNED_ORIGINS = 100
"""How many origins without a token an auth logs, and remembers, at most."""
_LISTED_ORIGINS = 5
_SHOWN_ORIGIN = 300
"""Characters; a URL may have a host of any length."""

_SCHEME = "Bearer "
_MARK = "trio_anon_session.token"
"""Key of a request's extensions: the header that was set here, to tell it from a user's own."""

# What can be the name of a host, as httpx leaves it: a wildcard, for one, cannot.
_HOST = r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?"

_DEFAULT_PORTS = {"https": 443, "http": 80}

Origin = tuple[str, str, int | None]
"""Scheme, host and port."""


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
    def num_bytes_downloaded(self) -> int: ...
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
        self._has_default_origins = origins is None
        self._warned: set[str] = set()
        if origins is None:
            self._origins = default_origins(session.config)
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
        if not is_allowed and origin_of(url) not in self._origins:
            # Its user may have sent it before, to an allowed origin.
            _take_token_off(request)
            reason = self._say_not_sent(request)
            response = yield request
            response.extensions[TOKEN_NOT_SENT] = reason
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
            _drop_packed(response)
            yield request
        else:
            _tell_not_replayed(request, response, "the new token is the same")

    def _say_not_sent(self, request: _Request) -> str:
        """Return why a request has no token, and log it once for each origin."""
        origin = origin_of(request.url)
        shown = shown_origin(origin)
        if may_have_token(origin):
            rule = f"SessionAuth sends the token only to {listed_origins(self._origins)}"
            advice = (
                f"If {shown} is to get the token, set api_root_url (BOX_API_ROOT_URL) to it, or "
                "name it in session.auth(origins=[...])."
                if self._has_default_origins
                else f"If {shown} is to get the token, name it in session.auth(origins=[...])."
            )
        else:
            rule = "SessionAuth sends the token only over https, or over http to a loopback host"
            advice = "Use an https URL."
        # With credentials of its own the request has what its user meant it to have.
        is_new = shown not in self._warned and len(self._warned) < _WARNED_ORIGINS
        if is_new and "Authorization" not in request.headers:
            self._warned.add(shown)
            log(WARNING, "no token for a request to %s: %s. %s", shown, rule, advice)
        return f"{shown} is not an allowed origin: {rule}"

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
        if not _has_token(response.request):
            response.extensions[TOKEN_NOT_SENT] = (
                "the token was removed from the request later: by httpx, on a redirect to another "
                "origin, or by an event hook"
            )
            return False
        is_dead = means_dead_token(response.headers.get("WWW-Authenticate", ""))
        if is_dead is not None:
            return is_dead
        return await self._is_empty(response)

    async def _is_empty(self, response: _Response) -> bool:
        """Return whether an answer has no body, not even a compressed one."""
        if response.is_closed:
            # A transport or a hook has read it, and may have kept nothing.
            try:
                return not response.content and not response.num_bytes_downloaded
            except self._http.ResponseNotRead:
                return False
        headers = response.headers
        length = headers.get("Content-Length", "")
        if length.isdecimal() and "Transfer-Encoding" not in headers:
            return not length.strip("0")
        if response.request.method == "HEAD":
            # The answer to HEAD never has a body, and does not show whether GET would have one.
            return False
        try:
            return not await self._started(response).has_bytes()
        except self._http.RequestError as error:
            error.request = response.request
            raise

    def _started(self, response: _Response) -> StartedBody:
        if not isinstance(response.stream, StartedBody):
            kind = _with_base(StartedBody, self._http.AsyncByteStream)
            response.stream = kind(response.stream, self._http)
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
    """A body whose beginning may have been read already.

    Made with a library's ``AsyncByteStream`` as a second base, see `_with_base`.

    Attributes:
        pieces: what was read, and not yet given to the reader.
        is_whole: whether the end has been read.
    """

    def __init__(self, stream: Any, http: ModuleType) -> None:
        self.pieces: deque[bytes] = deque()
        self.is_whole = False
        self._stream = stream
        self._http = http
        self._rest: AsyncIterator[bytes] | None = aiter(stream)
        self._look: _Look | None = None

    @property
    def elapsed(self) -> Any:
        """The time that the whole response took, which httpx2 reads here."""
        return getattr(self._stream, "elapsed", None)

    # Not a generator: Trio would warn about one that its reader does not finish.
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        look, rest = self._look, self._rest
        if look is not None and not self.pieces:
            await look.done.wait()
        if self.pieces:
            return self.pieces.popleft()
        if look is not None:
            self._look = None
            look.raise_problem()
        if self._rest is None:
            if rest is not None and not self.is_whole:
                raise self._http.ReadError("another task closed the response during this read")
            raise StopAsyncIteration
        try:
            return await anext(self._rest)
        except StopAsyncIteration:
            self.is_whole = True
            raise

    async def has_bytes(self) -> bool:
        """Return whether the body has any byte; after `LEFTOVER_TIME` assume that it has.

        A read that is cancelled closes the connection. So a system task reads the first byte,
        and goes on with that read after this method has returned.
        """
        assert self._rest is not None
        self._look = look = _Look()
        trio.lowlevel.spawn_system_task(
            self._look_for_bytes, look, self._rest, context=copy_context()
        )
        with trio.move_on_after(LEFTOVER_TIME):
            await look.done.wait()
        look.is_wanted = False
        look.raise_problem()
        return not self.is_whole or any(self.pieces)

    async def _look_for_bytes(self, look: _Look, rest: AsyncIterator[bytes]) -> None:
        try:
            with look.scope:
                for _ in range(_PIECES):
                    piece = await anext(rest)
                    self.pieces.append(piece)
                    if piece or not look.is_wanted:
                        break
        except StopAsyncIteration:
            self.is_whole = True
        except trio.Cancelled:
            # The end of the run.
            raise
        except BaseException as error:
            # It would crash Trio here, and it belongs to the reader of the body.
            look.problem = error
        finally:
            look.done.set()

    async def finish(self) -> None:
        """Free the connection: keep a short body, and drop one that is long, slow or broken."""
        if self._rest is None:
            return
        # A body that was looked at has no byte here, and its end was read.
        if self._look is None:
            with trio.move_on_after(LEFTOVER_TIME), contextlib.suppress(self._http.RequestError):
                await self._read_rest(self._rest)
        if not self.is_whole:
            self.pieces.clear()
        await self.aclose()

    async def _read_rest(self, rest: AsyncIterator[bytes]) -> None:
        # A stream without checkpoints meets no cancellation: it needs a deadline of its own.
        deadline = trio.current_time() + LEFTOVER_TIME
        size = 0
        while size <= LEFTOVER_SIZE and trio.current_time() < deadline:
            try:
                piece = await anext(rest)
            except StopAsyncIteration:
                self.is_whole = True
                return
            self.pieces.append(piece)
            size += max(len(piece), _LEAST_PIECE)
            if len(self.pieces) % _PIECES == 0:
                await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the body and what is below it."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        # In a finally: the reader's own cancellation, or an interrupt, can be raised here as well.
        try:
            if self._look is not None:
                await self._look.stop()
            if not self.is_whole:
                await _end(rest)
        finally:
            await self._stream.aclose()


class _Look:
    """The read of a body's first byte, in a task of its own.

    Attributes:
        scope: that of the task's read.
        done: set when the task reads no more.
        is_wanted: whether the flow still waits for a byte.
        problem: what the read raised, until somebody receives it.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.is_wanted = True
        self.problem: BaseException | None = None

    def raise_problem(self) -> None:
        """Raise what the read raised, once."""
        problem, self.problem = self.problem, None
        try:
            if problem is not None:
                raise problem
        finally:
            del problem

    async def stop(self) -> None:
        """Cancel the read, and wait for its end; raise only what is not an Exception."""
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.done.wait()
        with contextlib.suppress(Exception):
            self.raise_problem()


async def _end(rest: AsyncIterator[bytes]) -> None:
    """End the generators of a body that is not read to its end.

    They are nested, and httpx 0.28 closes at most the outermost; Trio warns about the others.
    A cancelled read ends them from the inside, once the pieces in their buffers are gone.
    """
    with trio.CancelScope() as scope, contextlib.suppress(Exception):
        scope.cancel()
        for number in range(1, _BUFFERED_PIECES):
            await anext(rest)
            if number % _PIECES == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()


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


def _drop_packed(response: _Response) -> None:
    """Drop a compressed body: httpx reads the first answer for the history, and unpacks it."""
    if "Content-Encoding" in response.headers and isinstance(response.stream, StartedBody):
        response.stream.pieces.clear()


def _tell_not_replayed(request: _Request, response: _Response, reason: str) -> None:
    response.extensions[NOT_REPLAYED] = reason
    log(
        WARNING,
        "%s to %s met a dead token, and is not sent again: %s",
        request.method,
        shown_origin(origin_of(request.url)),
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


def origin_of(url: _URL) -> Origin:
    """Return the origin of a URL, each in one spelling."""
    # httpx has made scheme and host lower-case, and an IDN host ASCII. It leaves an IPv6
    # address as it is spelt, and the default port of a scheme that is given in upper case.
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
    return scheme, _compressed(host) if ":" in host else host, port


def default_origins(config: Config) -> frozenset[Origin]:
    """Return where the token may go if a program names no origins."""
    return frozenset(origin_of(httpx.URL(url)) for url in (config.api_root_url, UPLOAD_ORIGIN))


def may_have_token(origin: Origin) -> bool:
    """Return whether an origin can be an allowed one (RFC 6750 §5)."""
    scheme, host, _port = origin
    return bool(host) and (scheme == "https" or (scheme == "http" and is_loopback(host)))


def shown_origin(origin: Origin) -> str:
    """Return an origin as text, which can be named in ``origins=``."""
    scheme, host, port = origin
    if not scheme or not host:
        return "a URL without a host"
    text = f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}"
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        text += f":{port}"
    return text if len(text) <= _SHOWN_ORIGIN else f"{text[:_SHOWN_ORIGIN]}..."


def listed_origins(origins: Iterable[Origin]) -> str:
    """Return origins as a list in words."""
    shown = sorted(map(shown_origin, origins))
    if len(shown) > _LISTED_ORIGINS:
        shown[_LISTED_ORIGINS:] = [f"{len(shown) - _LISTED_ORIGINS} more"]
    *others, last = shown or ["no origin"]
    return f"{', '.join(others)} and {last}" if others else last


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


def _allowed_origin(text: object, number: int) -> Origin:
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
    return origin_of(url)
