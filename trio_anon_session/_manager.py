"""`TokenManager`: one token request or revocation over httpx.

Only this module turns HTTP responses and httpx errors into errors of this package. An httpx
error refers to its request, and so to the form with the secret. Its frames contain the bytes that
were sent. So no httpx error becomes the cause or context of an error: this module raises outside
of ``except`` blocks, in functions whose locals contain no secret.
"""

from __future__ import annotations

import re
import time
import warnings
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable
from urllib.parse import urlencode
from urllib.request import getproxies

import httpx
import trio

from ._advice import kind_of, next_step
from ._backoff import parse_retry_after
from ._config import Config, is_loopback, revokes_elsewhere
from ._errors import (
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    TokenRequestError,
    TokenUnavailableError,
    message_of,
)
from ._reading import read_body, read_headers
from ._secrets import (
    Secrets,
    Unpicklable,
    basic_credentials,
    client_secrets,
    without_locals,
)
from ._token import (
    MalformedAnswerError,
    TokenInfo,
    check_options,
    parse_object,
    read_token_answer,
)
from ._version import __version__
from ._wire_logs import scrubbed_wire_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from http.cookiejar import Cookie
    from types import TracebackType

    from ._errors import Facts, NetworkFailure
    from ._token import TokenRequestOptions

_REMEMBERED = 10
"""How many of the last tokens are scrubbed from the texts of a server."""

_REJECTIONS = frozenset({"invalid_client", "unauthorized_client", "invalid_grant"})
_TEMPORARY = frozenset({"temporarily_unavailable", "server_error", "rate_limit_exceeded"})


class _Answer:
    """A response. It has no repr, because headers and body may contain a token."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class _NoAnswer:
    """The reason why there is no response, without secrets, and the kind of the failure."""

    __slots__ = ("failure", "reason")

    def __init__(self, reason: str, failure: NetworkFailure | None = None) -> None:
        self.reason = reason
        self.failure = failure


class _Form(httpx.AsyncByteStream):
    """The body of a token request.

    The class of httpx is an async generator. If an attempt were cancelled while it is sent, the
    generator would be left to the garbage collector, and Trio would warn.
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


class TokenSource(Protocol):
    """The methods that a session needs of a token manager.

    A manager that shares its tokens with other sessions has more methods: see
    :class:`SharedTokenSource`.
    """

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Make one attempt to get a token."""
        ...

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Make one attempt to revoke a token."""
        ...


@runtime_checkable
class SharedTokenSource(TokenSource, Protocol):
    """A token manager that returns the same token to several sessions.

    A session drops a token that was reported invalid or is being revoked. Then the manager must
    not return that token again, and the other sessions must stop using it. A session treats each
    manager with the methods ``drop`` and ``on_drop`` as shared.
    """

    def drop(self, token: TokenInfo) -> None:
        """Record that a session has dropped a token. This method must not wait.

        The session calls it in a Trio task. Afterwards, the session accepts a token if it is
        another one, or if its ``sent_at`` is later than this call.
        """
        ...

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Register a listener, and return a callable that removes it.

        A session registers one listener when it is entered, and removes it when it ends. The
        manager calls the listener if another session or process drops a token that this manager
        has returned. It passes the token, and calls in the session's Trio run. The listener does
        not wait. It ignores a token that its session does not use.
        """
        ...


class TokenManager(Unpicklable):
    """A client of the token and revocation endpoints that makes one attempt for each call.

    Args:
        config: credentials, endpoints and limits.
        http_client: the httpx client to use. Without one, the manager creates a client and closes
            it. That client uses the proxy variables, but plain http goes only through a loopback
            proxy. With your client, the manager uses none of its authentication, cookies, headers,
            redirects and timeouts; only ``config.request_timeout`` applies. The client's event
            hooks are called, and can read the secret and the token. If a hook raises, the
            attempt fails.

    Raises:
        TypeError: ``config`` is not a Config.
    """

    # Python calls __del__ even if the constructor has raised.
    _owns_client = False
    _client: httpx.AsyncClient | None = None

    def __init__(self, config: Config, *, http_client: httpx.AsyncClient | None = None) -> None:
        if not isinstance(config, Config):
            raise TypeError(f"config must be a Config, not {type(config).__name__}")
        self._config = config
        self._client = http_client
        self._owns_client = http_client is None
        self._closed = False
        # The last tokens: the server may quote one of them.
        self._granted: tuple[Secrets, ...] = ()

    @property
    def config(self) -> Config:
        """The settings."""
        return self._config

    def __repr__(self) -> str:
        return f"<TokenManager for {self._config.client_id!r} at {self._config.token_url}>"

    def __del__(self) -> None:
        if self._owns_client and self._client is not None and not self._closed:
            warnings.warn(
                f"{self!r} was not closed: use it with 'async with', or await its aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the HTTP client, if the manager created it.

        Cancellation: the sockets are still closed, but forcefully.
        """
        self._closed = True
        if self._owns_client and self._client is not None:
            await self._client.aclose()
        await trio.lowlevel.checkpoint()

    # Without this, the traceback of a KeyboardInterrupt could show locals with the form.
    @trio.lowlevel.enable_ki_protection
    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Request a token from the token endpoint, in one attempt (RFC 6749 §4.4).

        Args:
            options: sent with the request.

        Returns:
            The token. Its lifetime counts from the moment before the request was sent.

        Raises:
            CredentialsRejectedError: the server rejects the client, or does not allow it the grant.
            TokenUnavailableError: there was no response within ``request_timeout``, or a temporary
                failure.
            MalformedTokenResponseError: the response is not a valid token response.
            TokenRequestError: the server refused the request for another reason, or the manager
                is closed.
            TypeError: ``options`` is not a TokenRequestOptions.

        Cancellation: closes the connection. The server may have granted a token that is not used.
        """
        sent_at = trio.current_time()
        answer = await self._send(self._build_grant(options), self._secrets())
        outcome = self._judge_grant(answer, sent_at)
        if isinstance(outcome, TokenInfo):
            granted = Secrets(outcome.access_token)
            self._granted = (*self._granted, granted)[-_REMEMBERED:]
        if isinstance(outcome, TokenRequestError):
            self._advise(outcome, answer)
            try:
                raise outcome
            finally:
                # Otherwise, frame and exception refer to each other until garbage collection.
                del outcome
        return outcome

    @trio.lowlevel.enable_ki_protection
    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token at the server, in one attempt (RFC 7009 §2).

        A token that the server does not know counts as revoked.

        Args:
            token: the token.
            options: sent with the request.

        Raises:
            RevocationError: the token may still be valid.
            TypeError: ``options`` is not a TokenRequestOptions.

        Cancellation: closes the connection. The token may still be valid.
        """
        if revokes_elsewhere(self._config):
            # A traceback can show the locals of its frames.
            del token
            await trio.lowlevel.checkpoint()
            raise _no_revocation_endpoint()
        try:
            request = self._build_revocation(token, options)
        finally:
            secrets = self._secrets().and_also(Secrets(token))
            # As above.
            del token
        answer = await self._send(request, secrets)
        # The request contains the form, and the frames of an error would refer to it.
        del request
        problem = self._judge_revocation(answer, secrets)
        if problem is not None:
            self._advise(problem, answer)
            try:
                raise problem
            finally:
                # As above.
                del problem

    def is_access_token_valid(self, token_info: TokenInfo, buffer: float = 0.0) -> bool:
        """Return whether a token is valid for more than ``buffer`` seconds from now.

        This uses ``sent_at`` and ``lifetime`` on Trio's clock. It ignores the config's buffers.
        """
        return token_info.sent_at + token_info.lifetime - buffer > trio.current_time()

    @without_locals
    def _build_grant(self, options: TokenRequestOptions | None) -> httpx.Request:
        config = self._config
        fields = [("grant_type", "client_credentials")]
        optional = {
            "scope": config.scope,
            "box_subject_type": config.box_subject_type,
            "box_subject_id": config.box_subject_id,
            **config.extra_params,
        }
        for name, value in optional.items():
            # RFC 6749 §3.2: a parameter without a value counts as omitted.
            texts = value if isinstance(value, tuple) else (value,)
            fields += [(name, text) for text in texts if text]
        return self._build(config.token_url, fields, options)

    @without_locals
    def _build_revocation(self, token: str, options: TokenRequestOptions | None) -> httpx.Request:
        return self._build(self._config.revoke_url, [("token", token)], options)

    def _build(
        self, url: str, fields: list[tuple[str, str]], options: TokenRequestOptions | None
    ) -> httpx.Request:
        check_options(options)
        config = self._config
        headers = {
            "Accept": "application/json",
            # Compression saves nothing for 200 bytes, and a response could be a zip bomb.
            "Accept-Encoding": "identity",
            # A user's client may reuse connections. Bytes that a server sends after a response
            # would then become the next response.
            "Connection": "close",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": f"trio_anon_session/{__version__}",
        }
        if options is not None and options.ip is not None:
            headers["X-Forwarded-For"] = options.ip
        # RFC 6749 §2.3: a request must use only one method of client authentication.
        if config.auth_method == "client_secret_basic":
            credentials = basic_credentials(config.client_id, config.client_secret)
            headers["Authorization"] = f"Basic {credentials}"
        else:
            fields = [
                *fields,
                ("client_id", config.client_id),
                ("client_secret", config.client_secret),
            ]
        # client.build_request would add the headers, cookies and query of the client.
        request = httpx.Request(
            "POST",
            url,
            headers=headers,
            # "replace", because no server grants a token with a lone surrogate.
            content=urlencode(fields, errors="replace").encode(),
            extensions={"timeout": httpx.Timeout(None).as_dict(), "trace": _handshake_watch()},
        )
        request.stream = _Form(request.content)
        return request

    async def _send(self, request: httpx.Request, secrets: Secrets) -> _Answer | _NoAnswer:
        """Send a request, and return the response or the reason why there is none."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            return _NoAnswer(
                "the token manager is closed: use it and its sessions inside its 'async with' block"
            )
        if self._client is None:
            try:
                self._client = _make_client()
            except Exception as error:
                # Only the type: the message contains the proxy's URL.
                return _NoAnswer(
                    f"the HTTP client could not be created: {type(error).__name__}; "
                    "check the proxy variables and SSL_CERT_FILE"
                )
        url = request.url
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        problem = f"{origin} did not answer within {self._config.request_timeout:g} s"
        failure: NetworkFailure | None = "timeout"
        # The timeouts of httpx apply to single phases, and have no effect with ASGITransport.
        with trio.move_on_after(self._config.request_timeout), scrubbed_wire_logs(secrets):
            try:
                answer = await self._exchange(request)
                if isinstance(answer, _Answer):
                    return answer
                problem, failure = f"{origin} {answer}", None
            except Exception as error:
                # Each error without a response counts as temporary.
                failure = kind_of(error)
                said = secrets.quote(_message_of(error))
                problem = f"the request to {origin} failed: {type(error).__name__}"
                problem += f": {said}" if said else ""
            except BaseException as error:
                # A cancellation or an interrupt propagates without the context and the frames
                # below this one, because those contain the bytes that were sent.
                error.__context__ = None
                error.__traceback__ = None
                raise
        return _NoAnswer(problem, failure)

    async def _exchange(self, request: httpx.Request) -> _Answer | str:
        """Send a request, and return the response or the text why it is refused."""
        assert self._client is not None
        jar = self._client.cookies.jar
        before = list(jar)
        try:
            response = await self._client.send(
                request, stream=True, auth=None, follow_redirects=False
            )
        except BaseException:
            # httpx or an event hook may have raised after a response set cookies.
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
        return body.refusal or _Answer(response.status_code, headers, bytes(body.content))

    def _judge_grant(
        self, answer: _Answer | _NoAnswer, sent_at: float
    ) -> TokenInfo | TokenRequestError:
        if isinstance(answer, _NoAnswer):
            said = f"no token: {answer.reason}"
            # A closed manager stays closed, so a retry cannot help.
            return (
                TokenRequestError(said, retryable=False)
                if self._closed
                else TokenUnavailableError(said)
            )
        fields = parse_object(answer.body)
        if not 200 <= answer.status < 300 or (
            fields and "access_token" not in fields and isinstance(fields.get("error"), str)
        ):
            return self._refusal(answer, fields or {})
        if fields is None:
            reason = "the body is not a JSON object"
        else:
            try:
                return read_token_answer(fields, sent_at, self._config)
            except MalformedAnswerError as error:
                reason = str(error)
        secrets = self._secrets(fields)
        return MalformedTokenResponseError(
            f"the token endpoint did not send a valid token response: {reason} "
            f"({_outline(answer, secrets)})",
            **_facts(answer, {}, secrets),
        )

    def _refusal(self, answer: _Answer, fields: dict[str, Any]) -> TokenRequestError:
        secrets = self._secrets(fields)
        facts = _facts(answer, fields, secrets)
        said = _summary(answer, facts, secrets)
        # The status of a server error counts, whatever error code the body has.
        if _is_temporary(answer.status, facts["error"]):
            return TokenUnavailableError(f"the token endpoint is not available: {said}", **facts)
        if answer.status in (401, 403) or facts["error"] in _REJECTIONS:
            return CredentialsRejectedError(
                f"the token endpoint rejected the client {self._config.client_id!r}: {said}",
                **facts,
            )
        return TokenRequestError(
            f"the token endpoint refused the request: {said}", retryable=False, **facts
        )

    def _judge_revocation(
        self, answer: _Answer | _NoAnswer, secrets: Secrets
    ) -> RevocationError | None:
        if isinstance(answer, _NoAnswer):
            return RevocationError(
                f"the token could not be revoked: {answer.reason}", retryable=not self._closed
            )
        # RFC 7009 §2.2: a client ignores the body of a 200.
        if 200 <= answer.status < 300:
            return None
        facts = _facts(answer, parse_object(answer.body) or {}, secrets)
        # RFC 7009 requires a 200 for an unknown token, but Box may send this error.
        if facts["error"] == "invalid_token" and answer.status < 500:
            return None
        return RevocationError(
            f"the token could not be revoked: {_summary(answer, facts, secrets)}",
            retryable=_is_temporary(answer.status, facts["error"]),
            **facts,
        )

    def _advise(self, error: TokenRequestError, answer: _Answer | _NoAnswer) -> None:
        """Add to an error what to do about it."""
        if isinstance(answer, _NoAnswer):
            error.network_failure = answer.failure
        error._is_scrubbed = True
        error.next_step = next_step(error, self._config)

    def _secrets(self, fields: Mapping[str, Any] | None = None) -> Secrets:
        """Return the texts to hide in a response: secrets, and tokens including its own."""
        config = self._config
        secrets = Secrets(*client_secrets(config.client_id, config.client_secret))
        if fields is not None and isinstance(fields.get("access_token"), str):
            secrets = secrets.and_also(Secrets(fields["access_token"]))
        return secrets.and_also(*self._granted)


def _no_revocation_endpoint() -> RevocationError:
    error = RevocationError(
        "the token cannot be revoked: token_url and api_root_url are on different servers, "
        "and revoke_url is not set",
        retryable=False,
    )
    error.next_step = (
        "If the server of token_url can revoke tokens, set revoke_url (BOX_REVOKE_URL)."
    )
    return error


class _NoCookies(CookieJar):
    """A cookie jar that stores nothing: parsing 100 kB of cookies would take 0.2 s."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Ignore the cookies of a response."""


def _make_client() -> httpx.AsyncClient:
    """Return a client that uses the proxy variables, but no remote proxy for plain http."""
    settings: dict[str, Any] = {
        # The manager's own time limit applies to the whole request.
        "timeout": None,
        "cookies": _NoCookies(),
        # Bytes that a server sends after a response must not become the next response.
        "limits": httpx.Limits(max_keepalive_connections=0),
    }
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


def _message_of(error: BaseException) -> str:
    """Return the message of an error, or of its first cause that has one."""
    # On Trio, httpcore's errors have no message. A cause names the problem with a certificate.
    link: BaseException | None = error
    for _ in range(10):
        if link is None or message_of(link):
            break
        link = link.__cause__ or link.__context__
    said = "" if link is None else message_of(link)
    if isinstance(error, httpx.ProxyError):
        # Only the status: the rest is the proxy's text, which may quote the credentials for it.
        return " ".join(re.findall(r"^\d{3}\b", said))
    if isinstance(error, httpx.ProtocolError):
        # The end of the message quotes the server, and may contain a new token.
        return re.split(r"[:<'\"]", said, maxsplit=1)[0].strip()
    return said


def _is_temporary(status: int, code: str | None) -> bool:
    return status >= 500 or status in (408, 425, 429) or code in _TEMPORARY


def _facts(answer: _Answer, fields: dict[str, Any], secrets: Secrets) -> Facts:
    def text(*names: str) -> str | None:
        return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)

    # Box sends two formats of errors: that of OAuth, and that of its API with `code`.
    code, description = text("error", "code"), text("error_description", "message")
    request_id = text("request_id") or answer.headers.get("box-request-id")
    return {
        "status_code": answer.status,
        "error": None if code is None else secrets.name(code),
        "error_description": None if description is None else secrets.quote(description),
        "retry_after": parse_retry_after(
            answer.headers.get("retry-after"), answer.headers.get("date"), time.time()
        ),
        "request_id": None if request_id is None else secrets.name(request_id),
    }


def _outline(answer: _Answer, secrets: Secrets) -> str:
    # Nothing of the body, because even a web page may contain a token.
    kind = answer.headers.get("content-type", "").partition(";")[0]
    said = secrets.name(kind) if kind else "no content type"
    return f"status {answer.status}, {said}, {len(answer.body)} bytes"


def _summary(answer: _Answer, facts: Facts, secrets: Secrets) -> str:
    if facts["error"] is None:
        return _outline(answer, secrets)
    said = f"status {answer.status}, {facts['error']}"
    return said + (f": {facts['error_description']}" if facts["error_description"] else "")
