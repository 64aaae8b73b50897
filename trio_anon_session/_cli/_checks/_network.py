"""The checks of the host name, the connection and its TLS, and the server's certificate."""

from __future__ import annotations

import contextlib
import math
import ssl
import time
from typing import Any
from urllib.request import getproxies, proxy_bypass

import attrs
import httpx
import trio

from ..._advice import BY_NETWORK_FAILURE, ENDPOINT, kind_of
from ..._checks import is_loopback
from .._ending import UNAVAILABLE
from ._certificate import DAY, EXPIRY_WARNING
from ._result import Check

_PROBE_TIMEOUT = 2.0
"""Seconds of the look at the other scheme, after a check has failed."""
_NOT_TLS = "the URL says https, but the server speaks http"


def proxy_for(url: httpx.URL) -> httpx.URL | None:
    """Return the proxy through which a URL is reached, or None."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    found = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
    # The session uses plain http only on this machine, and never through a remote proxy.
    return found if url.scheme == "https" or is_loopback(found.host) else None


def _port_of(url: httpx.URL) -> int:
    defaults = {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}
    return url.port or defaults.get(url.scheme, 80)


async def check_name(url: httpx.URL, proxy: httpx.URL | None, limit: float) -> Check:
    """Check that the name of the host, or of the proxy, can be resolved."""
    name = "name"
    host = (proxy or url).host
    which = f"the proxy {host}" if proxy is not None else host
    try:
        with trio.fail_after(limit):
            infos = await trio.socket.getaddrinfo(
                host, _port_of(proxy or url), type=trio.socket.SOCK_STREAM
            )
    except trio.TooSlowError:
        found = f"{which}: no answer from the DNS server within {limit:g} s"
        advice = "Check this machine's network and DNS servers."
        return Check(name, "failed", found, advice, UNAVAILABLE)
    except (OSError, UnicodeError) as error:
        # A part of a host name may have at most 63 characters; Python raises UnicodeError.
        said = error.strerror if isinstance(error, OSError) else "not a valid host name"
        found = f"{which}: {said or type(error).__name__}"
        advice = BY_NETWORK_FAILURE["proxy" if proxy is not None else "name"]
        return Check(name, "failed", found, advice, UNAVAILABLE)
    addresses = sorted({str(info[4][0]) for info in infos})
    shown = ", ".join(addresses[:3]) + (", ..." if len(addresses) > 3 else "")
    found = f"{which} is an IP address" if addresses == [host] else f"{which} resolves to {shown}"
    if proxy is not None:
        found += f"; the proxy resolves {url.host}"
    return Check(name, "ok", found)


async def check_connection(
    url: httpx.URL,
    proxy: httpx.URL | None,
    limit: float,
    context: ssl.SSLContext | None = None,
) -> Check:
    """Check that the host, or the proxy, accepts connections, and that its TLS is valid.

    Args:
        url: the endpoint.
        proxy: the proxy, or None.
        limit: seconds for this check.
        context: the TLS context with the client's certificate, or None for the default.
    """
    target = proxy or url
    where = f"{target.host} port {_port_of(target)}"
    try:
        with trio.fail_after(limit):
            certificate = await _connect(target, context, with_tls=proxy is None)
    except trio.TooSlowError:
        found = f"{where}: no answer within {limit:g} s"
        return _no_connection(found, BY_NETWORK_FAILURE["timeout"])
    except (OSError, trio.BrokenResourceError) as error:
        kind = kind_of(error)
        found = f"{where}: {_what_failed(error)}"
        if proxy is None and kind in (None, "tls") and await _speaks_http(url, error):
            return _no_connection(f"{where}: {_NOT_TLS}", advice_for_http(url))
        if kind is not None and proxy is not None:
            kind = "proxy"
        return _no_connection(found, BY_NETWORK_FAILURE[kind] if kind is not None else None)
    if proxy is not None:
        found = f"the proxy accepts connections at {where}; requests to {url.host} go through it"
        return Check("connection", "ok", found)
    if certificate is None:
        return Check("connection", "ok", f"{where} accepts connections (plain http, this machine)")
    return check_certificate(certificate, url.host, time.time())


async def _speaks_http(url: httpx.URL, error: BaseException) -> bool:
    """Return whether a server whose TLS handshake failed speaks plain http."""
    if url.scheme != "https" or "ALERT" in _reason_of(error):
        # An alert is a message of TLS. Some servers that speak TLS also answer plain http, with
        # an error.
        return False
    with trio.move_on_after(_PROBE_TIMEOUT), contextlib.suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(url.host, _port_of(url)) as stream:
            await stream.send_all(b"HEAD / HTTP/1.0\r\n\r\n")
            return (await stream.receive_some(16)).startswith(b"HTTP/")
    return False


async def speaks_tls(url: httpx.URL) -> bool:
    """Return whether a server speaks TLS, whatever its certificate is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Nothing is sent after the handshake, so the certificate does not matter.
    context.verify_mode = ssl.CERT_NONE
    try:
        target = url.copy_with(scheme="https", port=_port_of(url))
        with trio.fail_after(_PROBE_TIMEOUT):
            await _connect(target, context, with_tls=True)
    except (trio.TooSlowError, OSError, trio.BrokenResourceError) as error:
        return "ALERT" in _reason_of(error)
    return True


def only_https(check: Check) -> Check:
    """Return the failed check of a token request over http to a server that speaks TLS."""
    advice = f"Write https:// instead of http:// in {ENDPOINT}."
    found = f"the URL says http, but the server speaks https; {check.found}"
    return attrs.evolve(check, found=found, advice=advice)


def _reason_of(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (cause.reason or "") if isinstance(cause, ssl.SSLError) else ""


def advice_for_http(url: httpx.URL) -> str:
    """Return what to do if the server of an https URL speaks http."""
    if is_loopback(url.host):
        return f"Write http:// instead of https:// in {ENDPOINT}."
    return (
        f"Use the port at which the server speaks https in {ENDPOINT}. The session uses http only "
        "on this machine, because http shows the secret to others."
    )


def no_client(error: Exception) -> Check:
    """Return the failed check for an HTTP client that cannot be created."""
    # The message of the error is left out because it may quote the proxy's URL.
    found = f"the HTTP client cannot be created: {type(error).__name__}"
    match error:
        case ImportError():
            advice = "Install the SOCKS support of httpx: pip install 'httpx[socks]'."
        case OSError():
            advice = "Check SSL_CERT_FILE and SSL_CERT_DIR: the path in one of them cannot be read."
        case _:
            advice = BY_NETWORK_FAILURE["proxy"]
    return _no_connection(found, advice)


def _no_connection(found: str, advice: str | None) -> Check:
    return Check("connection", "failed", found, advice, UNAVAILABLE)


async def _connect(
    target: httpx.URL, context: ssl.SSLContext | None, *, with_tls: bool
) -> dict[str, Any] | None:
    """Connect, and return the server's certificate, or None without TLS."""
    stream = await trio.open_tcp_stream(target.host, _port_of(target))
    async with stream:
        if not with_tls or target.scheme != "https":
            return None
        tls = trio.SSLStream(
            stream,
            # The client of the token request uses the same context, with SSL_CERT_FILE.
            context or httpx.create_ssl_context(),
            server_hostname=target.host,
            https_compatible=True,
        )
        await tls.do_handshake()
        certificate: dict[str, Any] = tls.getpeercert()
        return certificate


def _what_failed(error: BaseException) -> str:
    """Return the reason why there is no connection."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {(cause.reason or 'handshake failed').lower().replace('_', ' ')}"
    words = {"refused": "connection refused", "no_route": "no route to host"}
    return words.get(kind_of(error) or "", "the connection failed")


def check_certificate(certificate: dict[str, Any], host: str, now: float) -> Check:
    """Check how long a certificate remains valid. The TLS handshake has checked the rest."""
    ends_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    date = time.strftime("%Y-%m-%d", time.gmtime(ends_at))
    days = math.floor((ends_at - now) / DAY)
    found = f"TLS with {host} works; the certificate is valid until {date} ({days} days)"
    if ends_at - now < EXPIRY_WARNING:
        advice = "Ask the operator of the server to renew the certificate."
        return Check("connection", "warning", found, advice)
    return Check("connection", "ok", found)
