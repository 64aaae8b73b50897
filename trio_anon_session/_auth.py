"""`SessionAuth`: a session's token on the requests of an httpx client."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import httpx

from ._config import is_loopback
from ._errors import ConfigError
from ._secrets import Unpicklable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from ._session import AnonymousSession

UPLOAD_ORIGIN = "https://upload.box.com"
_SCHEME = "Bearer "
_MARK = "trio_anon_session.token"
"""Marks a request, among its extensions, that carries a token of ours."""

# RFC 6750 §3: an auth-param of the challenge, its value quoted or not.
_CHALLENGE_ERROR = re.compile(r"""(?:^|[\s,])error\s*=\s*"?([^",\s]*)""", re.IGNORECASE)

# What can be the name of a host, as httpx leaves it: a wildcard, for one, cannot.
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")

_DEFAULT_PORTS = {"https": 443, "http": 80}

_Origin = tuple[str, str, int | None]


def _origin(url: httpx.URL) -> _Origin:
    # httpx has made scheme and host lower-case, and an IDN host ASCII. It leaves an IPv6
    # address as it is spelt, and the default port of a scheme that is given in upper case.
    host = url.raw_host.decode("ascii")
    port = url.port if url.port is not None else _DEFAULT_PORTS.get(url.scheme)
    return url.scheme, _compressed(host), port


def _compressed(host: str) -> str:
    try:
        return ipaddress.IPv6Address(host).compressed
    except ValueError:
        return host


def _allowed_origin(text: object, number: int) -> _Origin:
    # The host is decoded when it is read, and that can fail, too.
    try:
        url = httpx.URL(text) if isinstance(text, str) else httpx.URL()
        host = url.host
    except (httpx.InvalidURL, ValueError):
        url, host = httpx.URL(), ""
    is_host = ":" in host or _HOST.fullmatch(url.raw_host.decode("ascii"))
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


class SessionAuth(httpx.Auth, Unpicklable):
    """Sends a session's token with the requests of an ``httpx.AsyncClient``.

    A request to another origin than the allowed ones goes out as it is. A 401 that means
    a dead token drops that token, and the request is sent once more with a new one,
    unless its body cannot be sent twice.

    A client that follows redirects asks for the token once, for the first request. httpx
    takes it off where a redirect leads to another origin, an allowed one too, and never puts
    it back; but from ``http://localhost`` to ``https://localhost``, both with their default
    ports, httpx keeps it, as it does for any host.

    What goes wrong with the token comes up as the session's own errors, which are all
    ``httpx.RequestError`` too.

    Args:
        session: an open session.
        origins: where the token may go, as ``scheme://host[:port]``; by default the
            config's API root and ``https://upload.box.com``.

    Raises:
        ConfigError: for an origin that is none, or is not https.
    """

    def __init__(self, session: AnonymousSession, *, origins: Iterable[str] | None = None) -> None:
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

    def __repr__(self) -> str:
        return f"<SessionAuth of {self._session!r}>"

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: a session lives on Trio."""
        raise RuntimeError("SessionAuth needs httpx.AsyncClient, on Trio")
        yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Set the token, and once more if it turns out to be dead."""
        if _origin(request.url) not in self._origins:
            if request.extensions.pop(_MARK, False):
                # Its user has sent it before, to an allowed origin.
                request.headers.pop("Authorization", None)
            yield request
            return
        await self._set_token(request)
        response = yield request
        if not await _says_dead_token(request, response):
            return
        self._session.invalidate(_token_of(request))
        if _can_be_sent_twice(request) and await self._set_token(request):
            yield request

    async def _set_token(self, request: httpx.Request) -> bool:
        """Put the session's token on a request, and return whether it is a new one there."""
        # No token in a local while this may raise: a traceback shows the locals.
        header = _SCHEME + await self._session.get_access_token()
        is_new: bool = request.headers.get("Authorization") != header
        request.headers["Authorization"] = header
        request.extensions[_MARK] = True
        return is_new


def _token_of(request: httpx.Request) -> str:
    return request.headers["Authorization"].removeprefix(_SCHEME)


def _can_be_sent_twice(request: httpx.Request) -> bool:
    # httpx keeps a body that it was given whole; one from an iterator is gone.
    return isinstance(request.stream, httpx.ByteStream)


async def _says_dead_token(request: httpx.Request, response: httpx.Response) -> bool:
    """Return whether a response means that the token it was asked with is dead.

    That is a 401 with ``error="invalid_token"`` (RFC 6750 §3.1), or, as Box does, one
    without any body or other error. A 401 that names another reason is about permission:
    a new token would not help.
    """
    if response.status_code != 401:
        return False
    # After a redirect to elsewhere, httpx has taken the token off.
    if response.request.headers.get("Authorization") != request.headers["Authorization"]:
        return False
    error = _CHALLENGE_ERROR.search(response.headers.get("WWW-Authenticate", ""))
    if error is not None:
        return error[1] == "invalid_token"
    return not await response.aread()
