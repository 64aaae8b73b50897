"""One HTTP request within limits, and its response, or why it failed.

Only this module sends requests and handles the errors of httpx and httpx2. Such an error refers to
its request, and so to the form with the secret. Its frames contain the bytes that were sent. So
none of them leaves this module, not even as the cause or context of another error.
"""

from __future__ import annotations

import math
import re
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode
from urllib.request import getproxies

import httpx
import trio

from ._advice import kind_of
from ._checks import is_loopback
from ._errors import message_of
from ._http_libraries import library_of, with_base
from ._reading import read_body, read_headers
from ._secrets import without_locals
from ._version import __version__
from ._wire_logs import scrubbed_wire_logs

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from http.cookiejar import Cookie
    from types import ModuleType

    from ._authentication import Credentials
    from ._errors import NetworkFailure
    from ._http_libraries import HTTPClient
    from ._secrets import Secrets


class Answer:
    """A response. It has no repr, because headers and body may contain a token."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class NoAnswer:
    """The reason why there is no response, without secrets.

    Attributes:
        reason: the reason.
        failure: the kind of the failure, if it was one of the network.
        is_final: whether a retry cannot help.
        is_local: whether a file of the client is missing or cannot be read.
    """

    __slots__ = ("failure", "is_final", "is_local", "reason")

    def __init__(
        self,
        reason: str,
        failure: NetworkFailure | None = None,
        *,
        is_final: bool = False,
        is_local: bool = False,
    ) -> None:
        self.reason = reason
        self.failure = failure
        self.is_final = is_final
        self.is_local = is_local


class _Body:
    """The body of a request. `with_base` adds a library's ``AsyncByteStream`` as a base class.

    The libraries' own class is an async generator. If an attempt were cancelled while it is sent,
    the generator would be left to the garbage collector, and Trio would warn.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._content)


class _Once:
    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        content, self._content = self._content, None
        if content is None:
            raise StopAsyncIteration
        return content


class Request:
    """A request for a client of either library. It has no repr, because it may contain a token."""

    __slots__ = ("content", "headers", "method", "url")

    def __init__(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.content = content


class Form:
    """A POST request without credentials. It has no repr, because a field may be a token.

    Args:
        url: the endpoint.
        fields: the form fields.
        ip: the address for ``X-Forwarded-For``, or None.
    """

    __slots__ = ("_fields", "_ip", "_url")

    def __init__(self, url: str, fields: Iterable[tuple[str, str]], ip: str | None) -> None:
        self._url = url
        self._fields = tuple(fields)
        self._ip = ip

    @without_locals
    def request(self, credentials: Credentials) -> Request:
        """Return the request with these credentials."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", **credentials.headers}
        if self._ip is not None:
            headers["X-Forwarded-For"] = self._ip
        # "replace", because no server grants a token with a lone surrogate.
        content = urlencode([*self._fields, *credentials.fields], errors="replace").encode()
        return Request("POST", self._url, headers, content)


class Exchange:
    """Sends requests over a user's HTTP client, or over one of its own.

    Args:
        client: the user's client, or None to create one for the first request.

    Attributes:
        is_closed: whether it was closed.

    Raises:
        TypeError: the client is not of httpx or httpx2.
    """

    def __init__(self, client: HTTPClient | None) -> None:
        self._http = httpx if client is None else library_of(client)
        self._client = client
        self._owns_client = client is None
        self.is_closed = False

    @property
    def must_be_closed(self) -> bool:
        """Whether there is a client of its own that is open."""
        return self._owns_client and self._client is not None and not self.is_closed

    async def aclose(self) -> None:
        """Close the HTTP client of its own."""
        self.is_closed = True
        if self._owns_client and self._client is not None:
            await self._client.aclose()
        await trio.lowlevel.checkpoint()

    async def send(
        self,
        request: Request,
        secrets: Secrets,
        *,
        limit: float,
        deadline: float = math.inf,
        ssl_context: ssl.SSLContext | None = None,
    ) -> Answer | NoAnswer:
        """Send a request, and return the response, or why the request failed.

        Args:
            request: the request.
            secrets: the texts to hide.
            limit: seconds for the whole request.
            deadline: an earlier end, on Trio's clock.
            ssl_context: the TLS context, if a client of its own is created.
        """
        await trio.lowlevel.checkpoint()
        if self.is_closed:
            return NoAnswer(
                "the token manager is closed: use it and its sessions inside its 'async with' "
                "block",
                is_final=True,
            )
        if self._client is None:
            try:
                self._client = make_client(ssl_context)
            except Exception as error:
                # Only the type: the message contains the proxy's URL.
                return NoAnswer(
                    f"the HTTP client could not be created: {type(error).__name__}; "
                    "check the proxy variables and SSL_CERT_FILE"
                )
        url = httpx.URL(request.url)
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        problem = f"{origin} did not answer within {limit:g} s"
        failure: NetworkFailure | None = "timeout"
        # The timeouts of httpx apply to single phases, and have no effect with ASGITransport.
        ends_at = min(deadline, trio.current_time() + limit)
        with trio.move_on_at(ends_at), scrubbed_wire_logs(secrets):
            try:
                answer = await self._read_answer(_made_with(self._http, request))
                if isinstance(answer, Answer):
                    return answer
                problem, failure = f"{origin} {answer}", None
            except Exception as error:
                # Each error without a response counts as temporary.
                is_proxys = isinstance(error, self._http.ProxyError)
                failure = "proxy" if is_proxys else kind_of(error)
                said = secrets.quote(_message_of(error, self._http))
                problem = f"the request to {origin} failed: {type(error).__name__}"
                problem += f": {said}" if said else ""
            except BaseException as error:
                # A cancellation or an interrupt propagates without the context and the frames
                # below this one, because those contain the bytes that were sent.
                error.__context__ = None
                error.__traceback__ = None
                raise
        return NoAnswer(problem, failure, is_final=self.is_closed)

    async def _read_answer(self, request: Any) -> Answer | str:
        """Send a request, and return the response or the text why it is refused."""
        assert self._client is not None
        jar = self._client.cookies.jar
        before = list(jar)
        try:
            response = await self._client.send(
                request, stream=True, auth=None, follow_redirects=False
            )
        except BaseException:
            # The library or an event hook may have raised after a response set cookies.
            _restore_cookies(jar, before, lambda each: _is_for(each, request.url.host))
            raise
        try:
            if list(jar) != before:
                # The user's own requests may set cookies of the same host at the same time.
                lines = response.headers.get_list("Set-Cookie")
                names = {line.partition("=")[0].strip() for line in lines}
                _restore_cookies(jar, before, lambda each: each.name in names)
            headers = read_headers(response)
            body = await read_body(response, headers.get("content-encoding", ""))
        finally:
            await response.aclose()
            # Response and stream refer to each other and to the form. Only the garbage collector
            # would free them.
            del response.stream
        return body.refusal or Answer(response.status_code, headers, bytes(body.content))


def get_request(url: str) -> Request:
    """Return a GET request for a JSON document."""
    return Request("GET", url, {})


def _made_with(http: ModuleType, request: Request) -> Any:
    """Return a request of this library."""
    # client.build_request would add the headers, cookies and query of the client.
    made = http.Request(
        request.method,
        request.url,
        headers={
            "Accept": "application/json",
            # Compression saves nothing for 200 bytes, and a response could be a zip bomb.
            "Accept-Encoding": "identity",
            # The client must not reuse the connection: bytes that a server sends after a response
            # would become the next response.
            "Connection": "close",
            "User-Agent": f"trio_anon_session/{__version__}",
            **request.headers,
        },
        content=request.content,
        extensions={"timeout": http.Timeout(None).as_dict(), "trace": _handshake_watch()},
    )
    made.stream = with_base(_Body, http.AsyncByteStream)(request.content)
    return made


class _NoCookies(CookieJar):
    """A cookie jar that stores nothing: parsing 100 kB of cookies would take 0.2 s."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Ignore the cookies of a response."""


def make_client(ssl_context: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Return a client that uses the proxy variables, but no remote proxy for plain http."""
    settings: dict[str, Any] = {
        # The manager's own time limit applies to the whole request.
        "timeout": None,
        "cookies": _NoCookies(),
    }
    if ssl_context is not None:
        settings["verify"] = ssl_context
    proxies = getproxies()
    proxy = proxies.get("http") or proxies.get("all")
    if proxy:
        url = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
        if not is_loopback(url.host):
            # Plain http is only for loopback (RFC 6749 §3.2). A remote proxy would get the secret
            # unencrypted.
            settings["mounts"] = {"http://": None}
    return httpx.AsyncClient(**settings)


def _handshake_watch() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a ``trace`` for httpcore that closes a connection if its TLS handshake fails.

    httpcore closes it after an error. After a cancellation, which also ends an attempt that takes
    too long, it would leave the socket to the garbage collector.
    """
    connected: list[Any] = []

    async def watch(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".connect_tcp.complete"):
            connected.append(info["return_value"])
        elif event.endswith(".start_tls.failed"):
            with trio.CancelScope() as at_once:
                at_once.cancel()
                for stream in connected:
                    await stream.aclose()

    return watch


def _restore_cookies(
    jar: CookieJar, before: list[Cookie], is_meant: Callable[[Cookie], bool]
) -> None:
    """Undo the changes that a response has made to the cookies of a user's client.

    This removes the new cookies, and adds those that the response has replaced or deleted.
    """
    kept = set(map(id, before))
    for cookie in [each for each in jar if id(each) not in kept and is_meant(each)]:
        jar.clear(cookie.domain, cookie.path, cookie.name)
    left = {(cookie.domain, cookie.path, cookie.name) for cookie in jar}
    for cookie in before:
        if is_meant(cookie) and (cookie.domain, cookie.path, cookie.name) not in left:
            jar.set_cookie(cookie)


def _is_for(cookie: Cookie, host: str) -> bool:
    # The jar adds ".local" to a host name without a dot.
    return f".{host}".endswith(cookie.domain.removesuffix(".local"))


def _message_of(error: BaseException, http: ModuleType) -> str:
    """Return the message of an error, or of its first cause that has one."""
    # On Trio, httpcore's errors have no message. If a certificate is the problem, a cause says why.
    link: BaseException | None = error
    for _ in range(10):
        if link is None or message_of(link):
            break
        link = link.__cause__ or link.__context__
    said = "" if link is None else message_of(link)
    if isinstance(error, http.ProxyError):
        # Only the status: the rest is the proxy's text, which may quote the credentials for it.
        return " ".join(re.findall(r"^\d{3}\b", said))
    if isinstance(error, http.ProtocolError):
        # The end of the message quotes the server, and may contain a new token.
        return re.split(r"[:<'\"]", said, maxsplit=1)[0].strip()
    return said
