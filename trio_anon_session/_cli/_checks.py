"""The checks of ``doctor``: one function for each check; they print nothing.

No check takes longer than the config's ``request_timeout``.
"""

from __future__ import annotations

import contextlib
import math
import ssl
import time
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.request import getproxies, proxy_bypass

import attrs
import httpx
import trio

from .._advice import BY_NETWORK_FAILURE, kind_of
from .._challenges import means_invalid_token
from .._checks import is_loopback
from .._config import secrets_of, why_no_revocation
from .._errors import ConfigError, TokenRequestError
from .._exchange import make_client
from .._manager import TokenManager
from .._origins import (
    Origin,
    default_origins,
    listed_origins,
    may_have_token,
    origin_of,
    shown_origin,
)
from .._secrets import Secrets, fingerprint
from .._token import TokenInfo
from ..stores import SharedTokenManager, StoreError
from ..stores._sealing import NO_KEY, WRONG_KEYS
from ._ending import FAILED, MISCONFIGURED, UNAVAILABLE, exit_code_of
from ._store import STORE_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._config import Config
    from ._flags import Source
    from ._settings import Settings

Verdict = Literal["ok", "warning", "failed", "skipped"]

_DAY = 86400.0
_EXPIRY_WARNING = 14 * _DAY
_SKEW_LIMIT = 60.0
_REVOKE_TIMEOUT = 2.0
"""Seconds that an interrupted run waits for the revocation of its token."""
_NEWS_ADVICE = (
    "Allow the store's user to publish and subscribe. Until then, each process polls the store "
    "for invalidated tokens twice a second."
)
_STORE_ADVICE = {
    "sqlite": (
        "Check that the directory exists, that only this user can write to it, and that the path "
        "does not belong to another file."
    ),
    "redis": ("Check host, port, database, user and password, and that the user may run scripts."),
}
_KEY_ADVICE = (
    f"Use the encryption key of the other processes ({STORE_KEY} or --store-key-file). If they "
    "use no key, use no key either, or another database."
)
_URL_PROBLEM = "--url must be a valid URL with https, or with http to this machine"
_QUOTES = ("'", '"')
_WITHOUT_REVOCATION = (
    "Set revoke_url (--revoke-url, BOX_REVOKE_URL) if this server can revoke tokens. Without it, "
    "tokens stay valid until they expire."
)


@attrs.frozen
class Check:
    """The result of one check.

    Attributes:
        name: name of the check.
        verdict: result of the check.
        found: what the check found, in one line.
        advice: what to do next, or None if there is nothing to do.
        exit_code: exit code of a run in which this check is the first that failed.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str | None = None
    exit_code: int = FAILED

    def scrubbed(self, secrets: Secrets) -> Check:
        """Return a copy with all secrets masked."""
        advice = secrets.hide(self.advice) if self.advice is not None else None
        return attrs.evolve(self, found=secrets.hide(self.found), advice=advice)


async def examine(source: Source, url: str | None, say: Callable[[Check], object]) -> None:
    """Run the checks in their order, and pass the result of each to `say`.

    Args:
        source: the configuration.
        url: a protected resource to call with the token, or None.
        say: called with each result.
    """
    has_store = source.has_store
    names = ["configuration", *(["origin"] if url is not None else [])]
    names += ["store"] if has_store else []
    names += ["name", "connection", "grant", "lifetime", "clock"]
    names += ["resource"] if url is not None else []
    names += ["revocation"]
    names += ["revoked token"] if url is not None else []
    done: list[str] = []
    secrets = Secrets()

    def report(check: Check) -> bool:
        done.append(check.name)
        say(check.scrubbed(secrets))
        return check.verdict != "failed"

    def skip_the_rest(reason: str) -> None:
        for name in names:
            if name not in done:
                report(Check(name, "skipped", reason))

    check, config = check_configuration(source)
    if config is not None:
        secrets = secrets_of(config)
    if not report(check) or config is None:
        skip_the_rest("the configuration must be fixed first")
        return
    if url is not None and not report(check_origin(url, config)):
        skip_the_rest("--url must be fixed first")
        return
    if has_store:
        check = await check_store(source, config)
        # A store that fails for another reason does not prevent token requests.
        if not report(check) and check.exit_code == MISCONFIGURED:
            skip_the_rest("the store must be configured first")
            return
    try:
        client = make_client()
    except Exception as error:
        report(no_client(error))
        skip_the_rest("there is no HTTP client")
        return
    token_url = httpx.URL(config.token_url)
    proxy = proxy_for(token_url)
    limit = config.request_timeout
    if not report(await check_name(token_url, proxy, limit)):
        skip_the_rest("the host name cannot be resolved")
        return
    if not report(await check_connection(token_url, proxy, limit)):
        skip_the_rest("there is no connection")
        return
    dates: list[str | None] = []
    async with client, TokenManager(config, http_client=client) as manager:
        client.event_hooks = {"response": [_date_keeper(dates)]}
        sent_at = time.time()
        check, token = await check_grant(manager)
        clock = check_clock(dates[0] if dates else None, sent_at, time.time())
        if token is None:
            report(check)
            report(clock)
            skip_the_rest("there is no token")
            return
        secrets = secrets.and_also(Secrets(token.access_token))
        is_accepted = False
        async with _revoked_on_error(manager, token.access_token):
            report(check)
            report(check_lifetime(token.lifetime, config))
            report(clock)
            if url is not None:
                check = await check_resource(client, url, token.access_token, limit)
                report(check)
                # A redirect or a 404 does not show whether the API checked the token.
                is_accepted = check.verdict == "ok"
        is_revoked = report(await check_revocation(manager, config, token.access_token))
        if url is not None and is_accepted and is_revoked:
            report(await check_dead_token(client, url, token.access_token, limit))
        skip_the_rest("the API did not accept the token, or the token was not revoked")


@asynccontextmanager
async def _revoked_on_error(manager: TokenManager, access_token: str) -> AsyncIterator[None]:
    """Revoke a token if Ctrl-C or a closed output pipe ends the block."""
    try:
        yield
    except BaseException:
        with (
            trio.move_on_after(_REVOKE_TIMEOUT, shield=True),
            contextlib.suppress(TokenRequestError),
        ):
            await manager.revoke_tokens(access_token)
        raise


def check_configuration(source: Source) -> tuple[Check, Config | None]:
    """Check that the settings are valid and were not pasted with white space or quotes."""
    advice = "Run the command with --show-config to see each setting and where it comes from."
    try:
        settings = source.settings()
        config = settings.config()
    except ConfigError as error:
        code = MISCONFIGURED
        return Check("configuration", "failed", str(error), advice, code), None
    odd = _oddly_pasted(settings)
    if odd:
        found = f"{', '.join(odd)} begins or ends with white space or a quote"
        advice = "Remove the white space or quote, unless it is part of the value."
        return Check("configuration", "warning", found, advice), config
    subject = (
        f"{config.box_subject_type} {config.box_subject_id}"
        if config.box_subject_type is not None
        else "no subject"
    )
    found = (
        f"client {config.client_id!r} ({settings.given['client_id'].source}), "
        f"secret ({settings.given['client_secret'].source}), {subject}, at {config.token_url}"
    )
    return Check("configuration", "ok", found), config


def _oddly_pasted(settings: Settings) -> list[str]:
    odd = []
    for name in ("client_id", "client_secret", "box_subject_id"):
        given = settings.given.get(name)
        if given is None:
            continue
        text = str(given.value)
        if text != text.strip() or text.startswith(_QUOTES) or text.endswith(_QUOTES):
            odd.append(f"{name} ({given.source})")
    return odd


def check_origin(url: str, config: Config) -> Check:
    """Check that ``session.auth()`` sends the token to a URL, without sending anything."""
    name = "origin"
    origin = _origin_for_token(url)
    if origin is None:
        # The message does not quote the URL, which may contain a password.
        advice = "Use a URL such as https://api.box.com/2.0/folders/0."
        return Check(name, "failed", _URL_PROBLEM, advice, MISCONFIGURED)
    shown, allowed = shown_origin(origin), default_origins(config)
    if origin in allowed:
        return Check(name, "ok", f"session.auth() sends the token to {shown}")
    found = f"session.auth() does not send the token to {shown}, only to {listed_origins(allowed)}"
    if not allowed:
        found = (
            "session.auth() has no default origins: api_root_url is Box's, and token_url is on "
            "another server"
        )
    advice = (
        f"Set api_root_url (--api-root-url, BOX_API_ROOT_URL) to {shown}, or add it to "
        "session.auth(origins=[...])."
    )
    return Check(name, "warning", found, advice)


def _origin_for_token(text: str) -> Origin | None:
    """Return the origin of a URL, or None if no token can be sent there."""
    try:
        url = httpx.URL(text)
        # httpx decodes the host only when it is read, and that can raise.
        found = origin_of(url) if url.host else None
    except (httpx.InvalidURL, ValueError):
        return None
    return found if found is not None and may_have_token(found) else None


async def check_store(source: Source, config: Config) -> Check:
    """Check that a store can be opened, written and read, and that its clock runs."""
    name = "store"
    try:
        settings = source.store_settings()
        assert settings is not None
        store, place = settings.make(), settings.place
    except ConfigError as error:
        return Check(name, "failed", str(error), None, MISCONFIGURED)
    problem = None
    limit = config.request_timeout
    # This manager sends no token request; it only uses the store.
    async with SharedTokenManager(TokenManager(config), store) as manager:
        began_at = trio.current_time()
        try:
            with trio.fail_after(limit):
                no_news = await manager.check_store()
                took = trio.current_time() - began_at
                status = await manager.look_at_store()
        except trio.TooSlowError:
            problem = f"no answer within {limit:g} s"
        except StoreError as error:
            problem = str(error)
    if problem is not None:
        found = f"{place.shown} cannot be used: {problem}"
        is_sealed = problem in (NO_KEY, WRONG_KEYS)
        return Check(name, "failed", found, _KEY_ADVICE if is_sealed else _STORE_ADVICE[place.kind])
    content = (
        f"token {status.fingerprint}, {status.age:.0f} s old"
        if status.fingerprint is not None
        else "no token for this configuration"
    )
    found = f"{place.shown} answered in {took:.2f} s; it contains {content}"
    # The exposure comes first because it is the more serious problem.
    troubles = [place.exposure] if place.exposure is not None else []
    if no_news is not None:
        troubles.append((f"it sends no notifications: {no_news}", _NEWS_ADVICE))
    if not troubles:
        return Check(name, "ok", found)
    words, advice = zip(*troubles, strict=True)
    return Check(name, "warning", "; ".join((found, *words)), " ".join(advice))


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


async def check_connection(url: httpx.URL, proxy: httpx.URL | None, limit: float) -> Check:
    """Check that the host, or the proxy, accepts connections, and that its TLS is valid."""
    target = proxy or url
    where = f"{target.host} port {_port_of(target)}"
    try:
        with trio.fail_after(limit):
            certificate = await _connect(target, with_tls=proxy is None)
    except trio.TooSlowError:
        found = f"{where}: no answer within {limit:g} s"
        return _no_connection(found, BY_NETWORK_FAILURE["timeout"])
    except (OSError, trio.BrokenResourceError) as error:
        kind = kind_of(error)
        found = f"{where}: {_what_failed(error)}"
        if kind is not None and proxy is not None:
            kind = "proxy"
        return _no_connection(found, BY_NETWORK_FAILURE[kind] if kind is not None else None)
    if proxy is not None:
        found = f"the proxy accepts connections at {where}; requests to {url.host} go through it"
        return Check("connection", "ok", found)
    if certificate is None:
        return Check("connection", "ok", f"{where} accepts connections (plain http, this machine)")
    return check_certificate(certificate, url.host, time.time())


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


async def _connect(target: httpx.URL, *, with_tls: bool) -> dict[str, Any] | None:
    """Connect, and return the server's certificate, or None without TLS."""
    stream = await trio.open_tcp_stream(target.host, _port_of(target))
    async with stream:
        if not with_tls or target.scheme != "https":
            return None
        tls = trio.SSLStream(
            stream,
            # The client of the token request uses the same context, with SSL_CERT_FILE.
            httpx.create_ssl_context(),
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
    days = math.floor((ends_at - now) / _DAY)
    found = f"TLS with {host} works; the certificate is valid until {date} ({days} days)"
    if ends_at - now < _EXPIRY_WARNING:
        advice = "Ask the operator of the server to renew the certificate."
        return Check("connection", "warning", found, advice)
    return Check("connection", "ok", found)


async def check_grant(manager: TokenManager) -> tuple[Check, TokenInfo | None]:
    """Check that a token request succeeds."""
    try:
        token = await manager.get_tokens_client_credentials_grant()
    except TokenRequestError as error:
        return _failed("grant", error), None
    latency = trio.current_time() - token.sent_at
    scope = f", scope {token.scope!r}" if token.scope else ""
    found = f"received token {fingerprint(token.access_token)} after {latency:.2f} s{scope}"
    return Check("grant", "ok", found), token


def _failed(name: str, error: TokenRequestError) -> Check:
    # The error message ends with the advice, which is printed separately here.
    found = str(error).removesuffix(error.next_step or "").rstrip(". ")
    return Check(name, "failed", found, error.next_step, exit_code_of(error))


def check_lifetime(lifetime: float, config: Config) -> Check:
    """Check that a token of this lifetime, in seconds, can be refreshed in time."""
    token = TokenInfo.from_answer("t", lifetime, 0.0, config.replace(refresh_jitter=0.0))
    window = token.expires_at - token.stale_at
    found = (
        f"tokens live {lifetime:g} s: stale after {token.stale_at:g} s, "
        f"expired for the session after {token.expires_at:g} s"
    )
    # The session limits a buffer that is too long, so there is nothing to change.
    if config.stale_buffer > lifetime / 2:
        found += f"; stale_buffer ({config.stale_buffer:g} s) is limited to half the lifetime"
    if config.expired_buffer > lifetime / 4:
        found += f"; expired_buffer ({config.expired_buffer:g} s) is limited to a quarter of it"
    trouble: list[tuple[str, str]] = []
    if lifetime < 2 * config.min_refresh_interval:
        trouble.append(
            (
                "the lifetime is less than twice min_refresh_interval "
                f"({config.min_refresh_interval:g} s), so callers will wait",
                "Lower min_refresh_interval, or configure the server for a longer lifetime.",
            )
        )
    if window < config.request_timeout:
        trouble.append(
            (
                f"a refresh must finish within {window:g} s, but one attempt may take "
                f"{config.request_timeout:g} s, so callers may wait",
                # A stale_buffer over half the lifetime has no effect.
                "Raise stale_buffer, or lower request_timeout."
                if config.stale_buffer < lifetime / 2
                else "Lower request_timeout, or configure the server for a longer lifetime.",
            )
        )
    if not trouble:
        return Check("lifetime", "ok", found)
    found = "; ".join([found, *(what for what, _ in trouble)])
    return Check("lifetime", "warning", found, " ".join(advice for _, advice in trouble))


def check_clock(date: str | None, sent_at: float, now: float) -> Check:
    """Compare this machine's clock with the date of a response.

    Args:
        date: the ``Date`` header of the response, or None.
        sent_at: wall-clock time at which the request was sent.
        now: wall-clock time at which the response had arrived.
    """
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return Check("clock", "skipped", "the response has no valid Date header")
    # The server set the date between `sent_at` and `now`, in whole seconds.
    ahead = max(0.0, sent_at - there - 1.0) or min(0.0, now - there)
    if abs(ahead) <= _SKEW_LIMIT:
        return Check("clock", "ok", "this machine's clock agrees with the server's")
    found = (
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
        "the server's"
    )
    advice = "Set the clock. Tokens do not depend on it, but certificates and signed requests do."
    return Check("clock", "warning", found, advice)


async def check_resource(
    client: httpx.AsyncClient, url: str, access_token: str, limit: float
) -> Check:
    """Check that a protected resource accepts the token."""
    name = "resource"
    answer = await _call(client, url, access_token, limit)
    if isinstance(answer, str):
        return Check(name, "failed", answer, "Check --url, and that this machine can reach it.")
    status, is_dead = answer
    found = f"GET {_plain(url)} answered {status}"
    if 200 <= status < 300:
        return Check(name, "ok", found)
    if status == 401 and is_dead:
        advice = (
            "The API does not accept this token. Check that the token endpoint belongs to the API, "
            "and whether it requires an audience (--param audience=...)."
        )
        return Check(name, "failed", found, advice)
    if status in (401, 403):
        advice = "The token lacks permission. Check the app's permissions, subject and scope."
        return Check(name, "failed", found, advice)
    if status == 404:
        advice = (
            "The API found nothing. Check --url, and whether the token's owner has access to it."
        )
        return Check(name, "warning", found, advice)
    if 300 <= status < 400:
        return Check(name, "warning", found, "Use the URL that it redirects to.")
    advice = "Try again later." if status >= 500 or status == 429 else "Check --url."
    return Check(name, "failed", found, advice)


async def check_revocation(manager: TokenManager, config: Config, access_token: str) -> Check:
    """Check that the token can be revoked."""
    name = "revocation"
    found = why_no_revocation(config)
    if found is not None:
        return Check(name, "warning", found, _WITHOUT_REVOCATION)
    try:
        await manager.revoke_tokens(access_token)
    except TokenRequestError as error:
        if error.status_code in (404, 405):
            found = f"no revocation endpoint at {config.revoke_url}: status {error.status_code}"
            return Check(name, "warning", found, _WITHOUT_REVOCATION)
        return _failed(name, error)
    return Check(name, "ok", f"token {fingerprint(access_token)} was revoked")


async def check_dead_token(
    client: httpx.AsyncClient, url: str, access_token: str, limit: float
) -> Check:
    """Check that a protected resource rejects the revoked token."""
    name = "revoked token"
    answer = await _call(client, url, access_token, limit)
    if isinstance(answer, str):
        return Check(name, "failed", answer, "Try again later.")
    status, _ = answer
    found = f"GET {_plain(url)} answered {status} to the revoked token"
    if status == 401:
        return Check(name, "ok", found)
    advice = (
        "The API still accepts the revoked token. Some APIs do so until the token expires; do not "
        "rely on revocation with this API."
    )
    return Check(name, "warning", found, advice)


async def _call(
    client: httpx.AsyncClient, text: str, access_token: str, limit: float
) -> tuple[int, bool] | str:
    """Return a status and whether it means an invalid token, or the reason for a failed request."""
    if _origin_for_token(text) is None:
        return _URL_PROBLEM
    headers = {"Authorization": f"Bearer {access_token}"}
    # A cookie of the previous call must not authorize this one.
    client.cookies.clear()
    try:
        with trio.fail_after(limit):
            async with client.stream("GET", text, headers=headers) as response:
                challenge = response.headers.get("WWW-Authenticate", "")
                return response.status_code, means_invalid_token(challenge) is True
    except trio.TooSlowError:
        return f"GET {_plain(text)}: no answer within {limit:g} s"
    except Exception as error:
        # The run must continue after every failure, so that the token is revoked.
        return f"GET {_plain(text)} failed: {type(error).__name__}"


def _plain(text: str) -> str:
    """Return a URL without user, password, query and fragment, which may be secret."""
    url = httpx.URL(text)
    port = f":{url.port}" if url.port is not None else ""
    return f"{url.scheme}://{url.host}{port}{url.path}"


def _date_keeper(dates: list[str | None]) -> Callable[[httpx.Response], Any]:
    async def keep(response: httpx.Response) -> None:  # noqa: ASYNC124  # httpx awaits it
        dates.append(response.headers.get("Date"))

    return keep


def exit_code_of_all(checks: list[Check]) -> int:
    """Return the exit code of the first failed check, or 0."""
    return next((check.exit_code for check in checks if check.verdict == "failed"), 0)
