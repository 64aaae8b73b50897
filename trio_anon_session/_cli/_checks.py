"""What ``doctor`` looks at: one function for each check, none of which prints anything.

Each takes no longer than the config's ``request_timeout``.
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
from .._challenges import means_dead_token
from .._config import is_loopback, revokes_elsewhere
from .._errors import ConfigError, TokenRequestError
from .._manager import TokenManager, _make_client
from .._origins import (
    Origin,
    default_origins,
    listed_origins,
    may_have_token,
    origin_of,
    shown_origin,
)
from .._secrets import Secrets, client_secrets, fingerprint
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
_PARTING_TIME = 2.0
"""Seconds that somebody who wants to leave waits for a revocation."""
_NEWS_ADVICE = (
    "Let the store's user publish and subscribe: until then, the processes look for dropped tokens "
    "twice a second."
)
_STORE_ADVICE = {
    "sqlite": (
        "Check that the directory exists, that only this user can write to it, and that the path "
        "is not the path of some other file."
    ),
    "redis": (
        "Check host, port, database, user and password, and that the user may run scripts there."
    ),
}
_KEY_ADVICE = (
    f"Give the key with which the others seal, in {STORE_KEY} or by --store-key-file; where they "
    "seal nothing, give none, or take another database."
)
_URL_PROBLEM = "--url must be a valid URL with https, or with http to this machine"
_QUOTES = ("'", '"')
_WITHOUT_REVOCATION = (
    "Set revoke_url (--revoke-url, BOX_REVOKE_URL), if this server revokes tokens at all; "
    "without, they live to their end."
)


@attrs.frozen
class Check:
    """Is what one check has found.

    Attributes:
        name: of the check.
        verdict: how it went.
        found: what was found, in one line.
        advice: what to do next, where there is something to do.
        exit_code: of a run in which this is the first that failed.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str | None = None
    exit_code: int = FAILED

    def scrubbed(self, secrets: Secrets) -> Check:
        """Return the same without a secret in it."""
        advice = secrets.hide(self.advice) if self.advice is not None else None
        return attrs.evolve(self, found=secrets.hide(self.found), advice=advice)


async def examine(source: Source, url: str | None, say: Callable[[Check], object]) -> None:
    """Make one check after the other, and say what each has found.

    Args:
        source: of the configuration.
        url: something protected to call with the token.
        say: is called with each check.
    """
    has_store = source.has_store
    names = ["configuration", *(["origin"] if url is not None else [])]
    names += ["store"] if has_store else []
    names += ["name", "connection", "grant", "lifetime", "clock"]
    names += ["resource"] if url is not None else []
    names += ["revocation"]
    names += ["dead token"] if url is not None else []
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
        secrets = Secrets(*client_secrets(config.client_id, config.client_secret))
    if not report(check) or config is None:
        skip_the_rest("there is no configuration to try")
        return
    if url is not None and not report(check_origin(url, config)):
        skip_the_rest("--url must be fixed first")
        return
    if has_store:
        check = await check_store(source, config)
        # Whatever else is wrong with a store, a token can be had without it.
        if not report(check) and check.exit_code == MISCONFIGURED:
            skip_the_rest("the configuration is to be mended first")
            return
    try:
        client = _make_client()
    except Exception as error:
        report(no_client(error))
        skip_the_rest("there is nothing to connect with")
        return
    token_url = httpx.URL(config.token_url)
    proxy = proxy_for(token_url)
    limit = config.request_timeout
    if not report(await check_name(token_url, proxy, limit)):
        skip_the_rest("the host's name leads nowhere")
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
        is_taken = False
        async with _revoked_if_broken_off(manager, token.access_token):
            report(check)
            report(check_lifetime(token.lifetime, config))
            report(clock)
            if url is not None:
                check = await check_resource(client, url, token.access_token, limit)
                report(check)
                # Of a redirect, or of nothing, nobody knows whether the token was looked at.
                is_taken = check.verdict == "ok"
        is_revoked = report(await check_revocation(manager, config, token.access_token))
        if url is not None and is_taken and is_revoked:
            report(await check_dead_token(client, url, token.access_token, limit))
        skip_the_rest("the token was not taken before, or could not be revoked")


@asynccontextmanager
async def _revoked_if_broken_off(manager: TokenManager, access_token: str) -> AsyncIterator[None]:
    """Revoke a token where Ctrl-C, or a reader that has gone, ends what it was got for."""
    try:
        yield
    except BaseException:
        with (
            trio.move_on_after(_PARTING_TIME, shield=True),
            contextlib.suppress(TokenRequestError),
        ):
            await manager.revoke_tokens(access_token)
        raise


def check_configuration(source: Source) -> tuple[Check, Config | None]:
    """Check that a config can be made, and look for what is often pasted along."""
    advice = "'--show-config' shows each setting and where it comes from."
    try:
        settings = source.settings()
        config = settings.config()
    except ConfigError as error:
        code = MISCONFIGURED
        return Check("configuration", "failed", str(error), advice, code), None
    odd = _oddly_pasted(settings)
    if odd:
        found = f"{', '.join(odd)} begins or ends with white space or a quote"
        advice = "Remove it where it is set, unless it belongs to the value."
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
    found = (
        f"session.auth() sends no token to {shown}: it sends the token only to "
        f"{listed_origins(allowed)}"
    )
    advice = (
        f"Set api_root_url (--api-root-url, BOX_API_ROOT_URL) to {shown}, or name it in "
        "session.auth(origins=[...])."
    )
    return Check(name, "warning", found, advice)


def _origin_for_token(text: str) -> Origin | None:
    """Return the origin of a URL, or None if no token can be sent there."""
    try:
        url = httpx.URL(text)
        # The host is decoded when it is read, and that can fail, too.
        found = origin_of(url) if url.host else None
    except (httpx.InvalidURL, ValueError):
        return None
    return found if found is not None and may_have_token(found) else None


async def check_store(source: Source, config: Config) -> Check:
    """Check that a store can be opened, written and read, and that time passes there."""
    name = "store"
    try:
        settings = source.store_settings()
        assert settings is not None
        store, place = settings.make(), settings.place
    except ConfigError as error:
        return Check(name, "failed", str(error), None, MISCONFIGURED)
    problem = None
    limit = config.request_timeout
    # Closed when this is done; its manager asks nobody for a token.
    async with SharedTokenManager(TokenManager(config), store) as manager:
        began_at = trio.current_time()
        try:
            with trio.fail_after(limit):
                deafness = await manager.check_store()
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
    held = (
        f"token {status.fingerprint}, {status.age:.0f} s old"
        if status.fingerprint is not None
        else "no token of this configuration"
    )
    found = f"{place.shown} answers, after {took:.2f} s; it has {held}"
    # The exposure first: it matters more.
    troubles = [place.exposure] if place.exposure is not None else []
    if deafness is not None:
        troubles.append((f"it brings no news: {deafness}", _NEWS_ADVICE))
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
    # Plain http is for this machine alone, and goes through no proxy elsewhere.
    return found if url.scheme == "https" or is_loopback(found.host) else None


def _port_of(url: httpx.URL) -> int:
    defaults = {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}
    return url.port or defaults.get(url.scheme, 80)


async def check_name(url: httpx.URL, proxy: httpx.URL | None, limit: float) -> Check:
    """Check that the host's name, or the proxy's, can be looked up."""
    name = "name"
    host = (proxy or url).host
    which = f"the proxy {host}" if proxy is not None else host
    try:
        with trio.fail_after(limit):
            infos = await trio.socket.getaddrinfo(
                host, _port_of(proxy or url), type=trio.socket.SOCK_STREAM
            )
    except trio.TooSlowError:
        found = f"{which}: no answer of the name servers within {limit:g} s"
        advice = "Check this machine's network and name servers."
        return Check(name, "failed", found, advice, UNAVAILABLE)
    except (OSError, UnicodeError) as error:
        # A name with a part of more than 63 characters is none.
        said = error.strerror if isinstance(error, OSError) else "no name of a host"
        found = f"{which}: {said or type(error).__name__}"
        advice = BY_NETWORK_FAILURE["proxy" if proxy is not None else "name"]
        return Check(name, "failed", found, advice, UNAVAILABLE)
    addresses = sorted({str(info[4][0]) for info in infos})
    shown = ", ".join(addresses[:3]) + (", ..." if len(addresses) > 3 else "")
    found = f"{which} is {'an address' if addresses == [host] else shown}"
    if proxy is not None:
        found += f"; the proxy looks {url.host} up"
    return Check(name, "ok", found)


async def check_connection(url: httpx.URL, proxy: httpx.URL | None, limit: float) -> Check:
    """Check that the host, or the proxy, takes connections, and that its TLS is sound."""
    target = proxy or url
    where = f"{target.host} port {_port_of(target)}"
    try:
        with trio.fail_after(limit):
            certificate = await _connect(target, wants_tls=proxy is None)
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
        found = f"the proxy takes connections at {where}; {url.host} is reached through it"
        return Check("connection", "ok", found)
    if certificate is None:
        return Check("connection", "ok", f"{where} takes connections; plain http, on this machine")
    return check_certificate(certificate, url.host, time.time())


def no_client(error: Exception) -> Check:
    """Return that no HTTP client can be made, as the session's own cannot be either."""
    # Its words are left out: they quote the proxy's URL.
    found = f"no HTTP client can be made: {type(error).__name__}"
    match error:
        case ImportError():
            advice = "For a SOCKS proxy, install httpx with it: pip install 'httpx[socks]'."
        case OSError():
            advice = "Check SSL_CERT_FILE and SSL_CERT_DIR: what they name cannot be read."
        case _:
            advice = BY_NETWORK_FAILURE["proxy"]
    return _no_connection(found, advice)


def _no_connection(found: str, advice: str | None) -> Check:
    return Check("connection", "failed", found, advice, UNAVAILABLE)


async def _connect(target: httpx.URL, *, wants_tls: bool) -> dict[str, Any] | None:
    """Connect, and return the certificate that was shown."""
    stream = await trio.open_tcp_stream(target.host, _port_of(target))
    async with stream:
        if not wants_tls or target.scheme != "https":
            return None
        tls = trio.SSLStream(
            stream,
            # As of the client that will make the grant: with SSL_CERT_FILE, too.
            httpx.create_ssl_context(),
            server_hostname=target.host,
            https_compatible=True,
        )
        await tls.do_handshake()
        certificate: dict[str, Any] = tls.getpeercert()
        return certificate


def _what_failed(error: BaseException) -> str:
    """Return in words why there is no connection."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS: {(cause.reason or 'handshake failed').lower().replace('_', ' ')}"
    words = {"refused": "connection refused", "no_route": "no route to it"}
    return words.get(kind_of(error) or "", "the connection failed")


def check_certificate(certificate: dict[str, Any], host: str, now: float) -> Check:
    """Check for how long a certificate is good; that it is good now, TLS has checked."""
    ends_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    date = time.strftime("%Y-%m-%d", time.gmtime(ends_at))
    days = math.floor((ends_at - now) / _DAY)
    found = f"TLS with {host} is sound; its certificate is good until {date} ({days} days)"
    if ends_at - now < _EXPIRY_WARNING:
        advice = "Tell whoever runs the server that the certificate ends soon."
        return Check("connection", "warning", found, advice)
    return Check("connection", "ok", found)


async def check_grant(manager: TokenManager) -> tuple[Check, TokenInfo | None]:
    """Check that the token endpoint grants a token."""
    try:
        token = await manager.get_tokens_client_credentials_grant()
    except TokenRequestError as error:
        return _failed("grant", error), None
    latency = trio.current_time() - token.sent_at
    scope = f", scope {token.scope!r}" if token.scope else ""
    found = f"token {fingerprint(token.access_token)} after {latency:.2f} s{scope}"
    return Check("grant", "ok", found), token


def _failed(name: str, error: TokenRequestError) -> Check:
    # The message ends with the advice, which has its own place here.
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
    """Check this machine's clock by the date of an answer.

    Args:
        date: the header of an answer.
        sent_at: when the request was sent, by the wall clock.
        now: when the answer was there.
    """
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return Check("clock", "skipped", "the server states no date")
    # The answer was dated in between, in whole seconds.
    ahead = max(0.0, sent_at - there - 1.0) or min(0.0, now - there)
    if abs(ahead) <= _SKEW_LIMIT:
        return Check("clock", "ok", "this machine's clock agrees with the server's")
    found = (
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
        "the server's"
    )
    advice = (
        "Set the clock: tokens are timed without it, but certificates and signed requests are not."
    )
    return Check("clock", "warning", found, advice)


async def check_resource(
    client: httpx.AsyncClient, url: str, access_token: str, limit: float
) -> Check:
    """Check what a protected resource says to the token."""
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
            "This API does not know the token: check that the token endpoint is this API's own, "
            "and whether it wants an audience (--param audience=...)."
        )
        return Check(name, "failed", found, advice)
    if status in (401, 403):
        advice = "The token may not do this: check the app's permissions, subject and scope."
        return Check(name, "failed", found, advice)
    if status == 404:
        advice = (
            "Nothing is there for this token: check --url, and whether the token's owner sees it."
        )
        return Check(name, "warning", found, advice)
    if 300 <= status < 400:
        return Check(name, "warning", found, "Give the URL to which it redirects.")
    advice = "Try again later." if status >= 500 or status == 429 else "Check --url."
    return Check(name, "failed", found, advice)


async def check_revocation(manager: TokenManager, config: Config, access_token: str) -> Check:
    """Check that the token can be revoked."""
    name = "revocation"
    if revokes_elsewhere(config):
        found = "token_url is another server's than api_root_url, and revoke_url is not set"
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
    """Check that a protected resource takes the token no longer."""
    name = "dead token"
    answer = await _call(client, url, access_token, limit)
    if isinstance(answer, str):
        return Check(name, "failed", answer, "Try again later.")
    status, _ = answer
    found = f"GET {_plain(url)} answered {status} to the revoked token"
    if status == 401:
        return Check(name, "ok", found)
    advice = (
        "The API takes a revoked token still, as some do until its life ends: "
        "do not count on revocation there."
    )
    return Check(name, "warning", found, advice)


async def _call(
    client: httpx.AsyncClient, text: str, access_token: str, limit: float
) -> tuple[int, bool] | str:
    """Return a status and whether it means a dead token, or in words why there is none."""
    if _origin_for_token(text) is None:
        return _URL_PROBLEM
    # As the session's own httpx.Auth sends it; without the query in anything shown.
    headers = {"Authorization": f"Bearer {access_token}"}
    # The token alone is to open the door, and no cookie of the last call.
    client.cookies.clear()
    try:
        with trio.fail_after(limit):
            async with client.stream("GET", text, headers=headers) as response:
                challenge = response.headers.get("WWW-Authenticate", "")
                return response.status_code, means_dead_token(challenge) is True
    except trio.TooSlowError:
        return f"GET {_plain(text)}: no answer within {limit:g} s"
    except Exception as error:
        # Whatever it is, the token is to be revoked yet.
        return f"GET {_plain(text)} failed: {type(error).__name__}"


def _plain(text: str) -> str:
    """Return a URL without what may be a secret in it."""
    url = httpx.URL(text)
    port = f":{url.port}" if url.port is not None else ""
    return f"{url.scheme}://{url.host}{port}{url.path}"


def _date_keeper(dates: list[str | None]) -> Callable[[httpx.Response], Any]:
    async def keep(response: httpx.Response) -> None:  # noqa: ASYNC124  # httpx awaits it
        dates.append(response.headers.get("Date"))

    return keep


def exit_code_of_all(checks: list[Check]) -> int:
    """Return the exit code of a run with these checks."""
    return next((check.exit_code for check in checks if check.verdict == "failed"), 0)
