"""Origins that may get a token: parsing, comparing and showing them."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Protocol

import httpx

from ._checks import is_box, is_loopback
from ._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._config import Config

UPLOAD_ORIGIN = "https://upload.box.com"
Origin = tuple[str, str, int | None]
"""Scheme, host and port."""
DEFAULT_PORTS = {"https": 443, "http": 80}
_LISTED_ORIGINS = 5
_SHOWN_ORIGIN = 300
"""Characters; a URL may have a host of any length."""

# This regex matches the host names that httpx returns for valid URLs, and no wildcards.
_HOST = r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?"


class URL(Protocol):
    @property
    def scheme(self) -> str: ...
    @property
    def raw_host(self) -> bytes: ...
    @property
    def port(self) -> int | None: ...


def origin_of(url: URL) -> Origin:
    """Return the origin of a URL in its normal form."""
    # httpx makes scheme and host lower-case, and converts an IDN host to ASCII. It changes neither
    # the spelling of an IPv6 address nor the default port after an upper-case scheme.
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    if port is None:
        port = DEFAULT_PORTS.get(scheme)
    return scheme, _compressed(host) if ":" in host else host, port


def default_origins(config: Config) -> frozenset[Origin]:
    """Return the origins that get the token by default.

    The set is empty if ``token_url`` is on another server, and ``api_root_url`` is Box's, which is
    its default: Box must not get the token of another server.
    """
    root, token_url = httpx.URL(config.api_root_url), httpx.URL(config.token_url)
    if not is_box(root):
        return frozenset({origin_of(root)})
    if not is_box(token_url):
        return frozenset()
    return frozenset({origin_of(root), origin_of(httpx.URL(UPLOAD_ORIGIN))})


def may_have_token(origin: Origin) -> bool:
    """Return whether an origin may be in ``origins`` (RFC 6750 §5)."""
    scheme, host, _port = origin
    return bool(host) and (scheme == "https" or (scheme == "http" and is_loopback(host)))


def shown_origin(origin: Origin) -> str:
    """Return an origin as text that is valid in ``origins=``."""
    scheme, host, port = origin
    if not scheme or not host:
        return "a URL without a host"
    text = f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}"
    if port is not None and port != DEFAULT_PORTS.get(scheme):
        text += f":{port}"
    return text if len(text) <= _SHOWN_ORIGIN else f"{text[:_SHOWN_ORIGIN]}..."


def listed_origins(origins: Iterable[Origin]) -> str:
    """Return origins as one text, separated by commas and "and"."""
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


def allowed_origin(text: object, index: int) -> Origin:
    # url.host decodes the host, which can also raise.
    try:
        url = httpx.URL(text) if isinstance(text, str) else httpx.URL()
        host = url.host
    except (httpx.InvalidURL, ValueError):
        url, host = httpx.URL(), ""
    is_host = ":" in host or re.fullmatch(_HOST, url.raw_host.decode("ascii"))
    is_port = url.port is None or 0 < url.port < 2**16
    has_more = url.userinfo or url.path != "/" or url.query or url.fragment
    # The origin is not shown, because it may contain a password.
    if not is_host or not is_port or has_more:
        raise ConfigError(
            "origins",
            "must be scheme and host, such as 'https://api.box.com', without path or wildcard; "
            f"origins[{index}] is not",
        )
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ConfigError(
            "origins",
            f"must use https, or http for a loopback host (RFC 6750 §5); origins[{index}] does not",
        )
    return origin_of(url)
