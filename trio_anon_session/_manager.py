"""`TokenManager`: one grant or revocation over httpx.

The only place where HTTP becomes errors of ours. An httpx error holds its request, and
with it the form and the secret; its frames hold the bytes sent. So none of them is ever
chained: what is raised here is raised outside of every ``except`` block, from functions
whose locals hold no secret.
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
    words_of,
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
"""Tokens, the last ones, that are scrubbed from what a server says."""

_REJECTIONS = frozenset({"invalid_client", "unauthorized_client", "invalid_grant"})
_PASSING = frozenset({"temporarily_unavailable", "server_error", "rate_limit_exceeded"})


class _Answer:
    """What came back: headers and body may hold a token, so there is no repr of them."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class _NoAnswer:
    """In words why there is none, fit to be shown, and of which kind the failure is."""

    __slots__ = ("failure", "reason")

    def __init__(self, reason: str, failure: NetworkFailure | None = None) -> None:
        self.reason = reason
        self.failure = failure


class _Form(httpx.AsyncByteStream):
    """The body of a token request.

    httpx' own is an async generator, and an attempt that is cancelled while it is sent would
    leave that to the garbage collector, of which Trio warns.
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
    """What a session needs of a token manager.

    A manager that shares its tokens with other sessions has more: see
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
    """A token manager that hands the same token to several sessions.

    When one session drops a token, because it was reported invalid or is being revoked, the
    manager must not return that token again, and the other sessions must stop using it. A session
    treats each manager that has the methods ``drop`` and ``on_drop`` as a shared one.
    """

    def drop(self, token: TokenInfo) -> None:
        """Take note that a session has dropped a token. It must not wait.

        The session calls this in its own Trio task. After that, a token is accepted if it is
        another one, or if its ``sent_at`` is later than this call.
        """
        ...

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Register a listener, and return a callable that removes it.

        A session registers one listener when it is entered, and removes it when it ends. The
        manager calls the listener in the session's Trio run with each token that it has handed
        out and that another session or process has dropped. The listener does not wait. It
        ignores a token that its session does not use.
        """
        ...


class TokenManager(Unpicklable):
    """Gets and revokes tokens at the endpoints of a config, one attempt a call.

    Args:
        config: credentials, endpoints, limits.
        http_client: the client to send with; without one, the manager makes its own,
            which honours the proxy variables, and closes it. (Plain http, which is for
            this machine alone, goes through no proxy elsewhere.) What a given client would
            add to a request is left out: no authentication, no cookies, no headers, no
            redirects, no timeouts but ``config.request_timeout``. Its event hooks are
            called, and see the secret and the token; an attempt in which one raises has
            failed, whatever the answer was.
    """

    # Python asks __del__ also of one whose constructor has raised.
    _owns_client = False
    _client: httpx.AsyncClient | None = None

    def __init__(self, config: Config, *, http_client: httpx.AsyncClient | None = None) -> None:
        if not isinstance(config, Config):
            raise TypeError(f"config must be a Config, not {type(config).__name__}")
        self._config = config
        self._client = http_client
        self._owns_client = http_client is None
        self._closed = False
        # The tokens that a server may know still, and show.
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
        """Close the HTTP client, if the manager made it.

        Cancellation: the sockets are closed all the same, without ceremony.
        """
        self._closed = True
        if self._owns_client and self._client is not None:
            await self._client.aclose()
        await trio.lowlevel.checkpoint()

    # An interrupt would show the locals of whatever is busy with the form.
    @trio.lowlevel.enable_ki_protection
    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Ask the token endpoint for a token, once (RFC 6749 §4.4).

        Args:
            options: what to send along.

        Returns:
            The token, its life counted from the moment before the request was sent.

        Raises:
            CredentialsRejectedError: the server does not take the client.
            TokenUnavailableError: no answer within ``request_timeout``, or a passing fault.
            MalformedTokenResponseError: the answer is not a token.
            TokenRequestError: the server refused for another reason.

        Cancellation: closes the connection. The server may have made a token that
        nobody will use.
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
                # A frame and an exception that hold each other are left to the collector.
                del outcome
        return outcome

    @trio.lowlevel.enable_ki_protection
    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Ask the server to end a token's life, once (RFC 7009 §2).

        A token that the server does not know counts as revoked.

        Args:
            token: the token.
            options: what to send along.

        Raises:
            RevocationError: the token may live on.

        Cancellation: closes the connection; the token may live on.
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
        # The form, which the frames of an error would keep as long as that is kept.
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
        """Return whether a token lives for more than ``buffer`` seconds from now.

        Judges the raw lifetime on Trio's clock; the config's buffers play no part.
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
            # RFC 6749 §3.2: an empty parameter counts as absent.
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
            # There is nothing to gain from packing 200 bytes, and no bomb to unpack.
            "Accept-Encoding": "identity",
            # A given client may keep connections, and what a server sends after an answer
            # would become the next one.
            "Connection": "close",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": f"trio_anon_session/{__version__}",
        }
        if options is not None and options.ip is not None:
            headers["X-Forwarded-For"] = options.ip
        # RFC 6749 §2.3: one way of client authentication in a request, never two.
        if config.auth_method == "client_secret_basic":
            credentials = basic_credentials(config.client_id, config.client_secret)
            headers["Authorization"] = f"Basic {credentials}"
        else:
            fields = [
                *fields,
                ("client_id", config.client_id),
                ("client_secret", config.client_secret),
            ]
        # Not client.build_request: it would add the client's headers, cookies and query.
        request = httpx.Request(
            "POST",
            url,
            headers=headers,
            # With half a character, which no server has sent, the token is an unknown one.
            content=urlencode(fields, errors="replace").encode(),
            extensions={"timeout": httpx.Timeout(None).as_dict(), "trace": _handshake_watch()},
        )
        request.stream = _Form(request.content)
        return request

    async def _send(self, request: httpx.Request, secrets: Secrets) -> _Answer | _NoAnswer:
        """Return the answer, or why there is none."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            return _NoAnswer(
                "the token manager is closed: use it and its sessions inside its 'async with' block"
            )
        if self._client is None:
            try:
                self._client = _make_client()
            except Exception as error:
                # Its words are left out: they quote the proxy's URL.
                return _NoAnswer(
                    f"the HTTP client could not be created: {type(error).__name__}; "
                    "check the proxy variables and SSL_CERT_FILE"
                )
        url = request.url
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        problem = f"{origin} did not answer within {self._config.request_timeout:g} s"
        failure: NetworkFailure | None = "timeout"
        # httpx's timeouts are per phase, and do nothing over ASGITransport.
        with trio.move_on_after(self._config.request_timeout), scrubbed_wire_logs(secrets):
            try:
                answer = await self._exchange(request)
                if isinstance(answer, _Answer):
                    return answer
                problem, failure = f"{origin} {answer}", None
            except Exception as error:
                # Whatever it is, there is no answer, and that may pass.
                failure = kind_of(error)
                said = secrets.quote(_words_of(error))
                problem = f"the request to {origin} failed: {type(error).__name__}"
                problem += f": {said}" if said else ""
            except BaseException as error:
                # A cancellation or an interrupt goes on as itself, without the frames below
                # and what they were busy with: those hold what was sent.
                error.__context__ = None
                error.__traceback__ = None
                raise
        return _NoAnswer(problem, failure)

    async def _exchange(self, request: httpx.Request) -> _Answer | str:
        """Send a request, and return the answer, or in words why it is refused."""
        assert self._client is not None
        jar = self._client.cookies.jar
        before = list(jar)
        try:
            response = await self._client.send(
                request, stream=True, auth=None, follow_redirects=False
            )
        except BaseException:
            # There may have been an answer, which httpx has refused, or a hook of the client's.
            _restore_cookies(jar, before, lambda each: _is_for(each, request.url.host))
            raise
        try:
            if list(jar) != before:
                # The client's user may be getting cookies from the same host at the same time.
                lines = response.headers.get_list("Set-Cookie")
                names = {line.partition("=")[0].strip() for line in lines}
                _restore_cookies(jar, before, lambda each: each.name in names)
            headers = read_headers(response)
            body = await read_body(response, headers.get("content-encoding", ""))
        finally:
            await response.aclose()
            # The two hold each other, and the form: it would be left to the collector.
            del response.stream
        return body.refusal or _Answer(response.status_code, headers, bytes(body.content))

    def _judge_grant(
        self, answer: _Answer | _NoAnswer, sent_at: float
    ) -> TokenInfo | TokenRequestError:
        if isinstance(answer, _NoAnswer):
            said = f"no token: {answer.reason}"
            # A manager that is closed will not be open again.
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
        # A fault by its status stays one, whatever code comes with it.
        if _is_passing(answer.status, facts["error"]):
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
        # RFC 7009 §2.2: the body of a 200 means nothing.
        if 200 <= answer.status < 300:
            return None
        facts = _facts(answer, parse_object(answer.body) or {}, secrets)
        # Box may say this where RFC 7009 wants a 200: either way the token is gone.
        if facts["error"] == "invalid_token" and answer.status < 500:
            return None
        return RevocationError(
            f"the token could not be revoked: {_summary(answer, facts, secrets)}",
            retryable=_is_passing(answer.status, facts["error"]),
            **facts,
        )

    def _advise(self, error: TokenRequestError, answer: _Answer | _NoAnswer) -> None:
        """Say in an error what to do about it."""
        if isinstance(answer, _NoAnswer):
            error.network_failure = answer.failure
        error._is_scrubbed = True
        error.next_step = next_step(error, self._config)

    def _secrets(self, fields: Mapping[str, Any] | None = None) -> Secrets:
        """Return what must not be seen in an answer: with the token that is in its fields."""
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
    """A jar that takes nothing: 100 kB of cookies would take 0.2 s to read."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Leave the cookies of an answer where they are."""


def _make_client() -> httpx.AsyncClient:
    """Return a client that honours the proxy variables, as far as they keep a secret."""
    settings: dict[str, Any] = {
        # None: the manager's own limit holds for all of a request.
        "timeout": None,
        "cookies": _NoCookies(),
        # What a server sends after an answer must not become the next one.
        "limits": httpx.Limits(max_keepalive_connections=0),
    }
    proxies = getproxies()
    proxy = proxies.get("http") or proxies.get("all")
    if proxy:
        url = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
        if not is_loopback(url.host):
            # Plain http is for loopback alone (RFC 6749 §3.2), and with a proxy elsewhere the
            # secret would go over the network in clear.
            settings["mounts"] = {"http://": None}
    return httpx.AsyncClient(**settings)


def _handshake_watch() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a ``trace`` for httpcore that closes a connection whose TLS handshake is ended.

    httpcore does so for an error. A cancellation, which ends an attempt that takes too long
    as well, would leave the socket to the garbage collector.
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
    """Undo what an answer has done to a given client's cookies.

    The client has kept the new ones, and has lost those that they replaced or ended.
    """
    kept = set(map(id, before))
    for cookie in [each for each in jar if id(each) not in kept and is_meant(each)]:
        jar.clear(cookie.domain, cookie.path, cookie.name)
    left = {(cookie.domain, cookie.path, cookie.name) for cookie in jar}
    for cookie in before:
        if is_meant(cookie) and (cookie.domain, cookie.path, cookie.name) not in left:
            jar.set_cookie(cookie)


def _is_for(cookie: Cookie, host: str) -> bool:
    # A name without a dot has one in the jar.
    return f".{host}".endswith(cookie.domain.removesuffix(".local"))


def _words_of(error: BaseException) -> str:
    """Return what an error says, or else the first of its causes that says anything."""
    # On Trio, httpcore's errors are mute: what is wrong with a certificate is in a cause.
    link: BaseException | None = error
    for _ in range(10):
        if link is None or words_of(link):
            break
        link = link.__cause__ or link.__context__
    said = "" if link is None else words_of(link)
    if isinstance(error, httpx.ProxyError):
        # The status alone: the rest is the proxy's, and it was told who we are.
        return " ".join(re.findall(r"^\d{3}\b", said))
    if isinstance(error, httpx.ProtocolError):
        # What is quoted of the server, a token perhaps that nobody knows as yet, comes last.
        return re.split(r"[:<'\"]", said, maxsplit=1)[0].strip()
    return said


def _is_passing(status: int, code: str | None) -> bool:
    return status >= 500 or status in (408, 425, 429) or code in _PASSING


def _facts(answer: _Answer, fields: dict[str, Any], secrets: Secrets) -> Facts:
    def text(*names: str) -> str | None:
        return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)

    # Box has two shapes of error: OAuth's own, and its API's with `code`.
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
    # No word of the body: what looks like a page may hold a token.
    kind = answer.headers.get("content-type", "").partition(";")[0]
    said = secrets.name(kind) if kind else "no content type"
    return f"status {answer.status}, {said}, {len(answer.body)} bytes"


def _summary(answer: _Answer, facts: Facts, secrets: Secrets) -> str:
    if facts["error"] is None:
        return _outline(answer, secrets)
    said = f"status {answer.status}, {facts['error']}"
    return said + (f": {facts['error_description']}" if facts["error_description"] else "")
