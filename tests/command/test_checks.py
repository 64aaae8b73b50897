"""``doctor``'s checks of settings, name, connection, lifetime and clock, each by itself."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import make_config
from tests.ports import closed_port
from tests.wire import listening, open_peer
from trio_anon_session import TokenInfo
from trio_anon_session._cli._checks import Check, exit_code_of_all
from trio_anon_session._cli._checks._configuration import check_configuration
from trio_anon_session._cli._checks._network import (
    advice_for_http,
    check_certificate,
    check_connection,
    check_name,
    no_client,
    proxy_for,
)
from trio_anon_session._cli._checks._resource import check_origin
from trio_anon_session._cli._checks._token import check_clock, check_lifetime
from trio_anon_session._secrets import Secrets

from .running import SECRET, source

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

URL = httpx.URL("https://api.example/oauth2/token")
PROXY = httpx.URL("http://proxy.example:3128")
AUTHORITY = trustme.CA()


def test_a_valid_configuration() -> None:
    """The check shows the sources of client ID and secret, the subject and the token URL."""
    check, settings = check_configuration(
        source(client_id="id", client_secret=SECRET, box_subject_type="user", box_subject_id="7")
    )
    assert settings is not None
    assert check == Check(
        "configuration",
        "ok",
        "client 'id' (flag --client-id), secret (flag --client-secret-file), user 7, "
        "at https://api.box.com/oauth2/token",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("client_id", "{} "),
        ("client_id", "\n{}"),
        ("client_secret", "'{}'"),
        ("client_secret", '"{}'),
        ("box_subject_id", "{}'"),
    ],
)
def test_white_space_or_quotes_around_a_value(name: str, text: str) -> None:
    """White space or a quote around a value is a warning that does not show the secret."""
    flags = {"client_id": "id", "client_secret": SECRET, "box_subject_type": "user"}
    flags |= {"box_subject_id": "7"}
    check, settings = check_configuration(source(**flags | {name: text.format(flags[name])}))
    assert settings is not None
    assert check.verdict == "warning"
    assert check.found.startswith(f"{name} (flag ")
    assert SECRET not in check.found


@pytest.mark.parametrize(
    ("url", "settings", "verdict", "found"),
    [
        ("https://api.box.com/2.0/folders/0", {}, "ok", "sends the token to https://api.box.com"),
        ("https://UPLOAD.box.com:443", {}, "ok", "sends the token to https://upload.box.com"),
        (
            "https://me:hunter2@api.example:8443/hunter2?hunter2",
            {},
            "warning",
            "session.auth() does not send the token to https://api.example:8443, only to "
            "https://api.box.com and https://upload.box.com",
        ),
        ("https://api.box.com", {"api_root_url": "https://a.example"}, "warning", "does not send"),
        (
            "https://api.box.com",
            {"token_url": "https://login.example/token"},
            "warning",
            "session.auth() has no default origins",
        ),
        ("http://127.0.0.1:8765/a", {}, "warning", "not send the token to http://127.0.0.1:8765"),
        ("http://[::1]:1/a", {"api_root_url": "http://[::1]:1"}, "ok", "http://[::1]:1"),
        ("http://api.box.com/hunter2", {}, "failed", "--url must be a valid URL"),
        ("mailto:hunter2", {}, "failed", "--url must be a valid URL"),
        ("http://[", {}, "failed", "--url must be a valid URL"),
        ("https://xn--0.example/x", {}, "failed", "--url must be a valid URL"),
        ("", {}, "failed", "--url must be a valid URL"),
    ],
)
def test_the_origin_of_a_url(url: str, settings: dict[str, Any], verdict: str, found: str) -> None:
    """A ``--url`` to which ``session.auth()`` sends no token is a warning; an invalid one fails."""
    check = check_origin(url, make_config(**settings))
    assert (check.name, check.verdict) == ("origin", verdict)
    assert found in check.found
    assert "hunter2" not in f"{check.found} {check.advice}"
    assert (check.advice is None) == (verdict == "ok")
    if verdict == "warning":
        assert "--api-root-url" in (check.advice or "")
        assert "session.auth(origins=[...])" in (check.advice or "")


class Names(trio.abc.HostnameResolver):
    """A resolver that answers as a test decides: with an address, an error, or never."""

    def __init__(self, answer: str | Exception | None) -> None:
        self._answer = answer
        self.asked: list[object] = []

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(host)
        if self._answer is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if isinstance(self._answer, Exception):
            raise self._answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self._answer, port))]

    async def getnameinfo(self, *args: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "verdict", "found", "advice"),
    [
        ("192.0.2.1", "ok", "api.example resolves to 192.0.2.1", None),
        (socket.gaierror(-2, "Name not known"), "failed", "api.example: Name not known", "name"),
        (UnicodeError("label too long"), "failed", "api.example: not a valid host name", "name"),
        (None, "failed", "api.example: no answer from the DNS server within 10 s", "network"),
    ],
)
async def test_the_name(
    autojump_clock: MockClock,
    answer: str | Exception | None,
    verdict: str,
    found: str,
    advice: str | None,
) -> None:
    """The check shows the address of a host name, or fails with the error or after 10 s."""
    trio.socket.set_custom_hostname_resolver(Names(answer))
    check = await check_name(URL, None, 10.0)
    assert (check.verdict, check.found) == (verdict, found)
    assert advice in (check.advice or "") if advice is not None else check.advice is None
    assert check.exit_code == (4 if verdict == "failed" else 1)
    assert trio.current_time() == (10.0 if answer is None else 0.0)


@pytest.mark.parametrize(
    ("url", "proxy", "asked", "found"),
    [
        (
            URL,
            PROXY,
            [b"proxy.example"],
            "the proxy proxy.example resolves to 192.0.2.7; the proxy resolves api.example",
        ),
        (httpx.URL("http://127.0.0.1:8765"), None, [], "127.0.0.1 is an IP address"),
    ],
)
async def test_which_name_is_looked_up(
    autojump_clock: MockClock, url: httpx.URL, proxy: httpx.URL | None, asked: object, found: str
) -> None:
    """Behind a proxy, the check looks up the proxy's name; an IP address needs no lookup."""
    names = Names("192.0.2.7")
    trio.socket.set_custom_hostname_resolver(names)
    check = await check_name(url, proxy, 10.0)
    assert (names.asked, check.verdict, check.found) == (asked, "ok", found)


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://api.example", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://api.example", "http://p:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "https://api.example", "http://p:3128"),
        ({"ALL_PROXY": "socks5://p"}, "https://api.example", "socks5://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.example"}, "https://api.example", None),
        ({"HTTP_PROXY": "http://p"}, "https://api.example", None),
        ({"HTTP_PROXY": "http://p"}, "http://127.0.0.1:1", None),
        ({"HTTP_PROXY": "http://127.0.0.1:2"}, "http://127.0.0.1:1", "http://127.0.0.1:2"),
    ],
)
def test_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], url: str, proxy: str | None
) -> None:
    """``proxy_for`` follows the proxy variables, but uses no remote proxy for loopback."""
    for name, value in environ.items():
        # Python prefers the lower-case names of these variables.
        monkeypatch.setenv(name.lower(), value)
    found = proxy_for(httpx.URL(url))
    assert found == (httpx.URL(proxy) if proxy is not None else None)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the tests' authority."""
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


def certified(*names: str, days: float = 100.0) -> ssl.SSLContext:
    """Return a server's TLS context, with a certificate for these names that ends after `days`."""
    now = datetime.datetime.now(tz=datetime.UTC)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(
        *names,
        not_before=now - datetime.timedelta(days=200),
        not_after=now + datetime.timedelta(days=days),
    ).configure_cert(context)
    return context


async def check_tls(context: ssl.SSLContext | None) -> Check:
    """Check a connection by https with a server on loopback."""
    async with open_peer(context=context) as peer:
        return await check_connection(httpx.URL(f"https://{peer.netloc}"), None, 30.0)


@pytest.mark.slow
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("names", "days", "verdict", "words"),
    [
        (["127.0.0.1"], 100.0, "ok", "TLS with 127.0.0.1 works; the certificate is valid until"),
        (["127.0.0.1"], 3.0, "warning", "days)"),
        (["127.0.0.1"], -3.0, "failed", "not trusted: certificate has expired"),
        (["other.example"], 100.0, "failed", "not trusted: IP address mismatch"),
    ],
)
async def test_the_certificate(names: list[str], days: float, verdict: str, words: str) -> None:
    """A certificate that expires soon is a warning; an expired or wrong one is a failure."""
    check = await check_tls(certified(*names, days=days))
    assert check.verdict == verdict
    assert words in check.found
    assert (check.advice is None) == (verdict == "ok")


@pytest.mark.slow
async def test_an_unknown_authority() -> None:
    """A certificate of an unknown authority fails the check; the advice names ``SSL_CERT_FILE``."""
    check = await check_tls(certified("127.0.0.1"))
    assert (check.verdict, check.exit_code) == ("failed", 4)
    assert "not trusted" in check.found
    assert "SSL_CERT_FILE" in (check.advice or "")


@pytest.mark.slow
async def test_a_server_without_tls() -> None:
    """If the server speaks neither TLS nor http, the check fails and reports the handshake."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example ready\r\n")

    async with listening(serve) as port:
        check = await check_connection(httpx.URL(f"https://127.0.0.1:{port}"), None, 30.0)
    assert check.verdict == "failed"
    assert "TLS failed" in check.found
    assert "TLS handshake" in (check.advice or "")


def test_a_server_that_speaks_http_on_another_machine() -> None:
    """The advice does not suggest http, which the session uses only on this machine."""
    advice = advice_for_http(URL)
    assert "speaks https" in advice
    assert "http://" not in advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "by_proxy", "advice"),
    [
        ("http", False, "No server listens there"),
        ("https", False, "No server listens there"),
        ("http", True, "HTTPS_PROXY"),
    ],
)
async def test_a_closed_port(scheme: str, by_proxy: bool, advice: str) -> None:
    """A closed port, of the host or of its proxy, is a failure that names host and port."""
    with closed_port() as port:
        url = httpx.URL(f"{scheme}://127.0.0.1:{port}")
        target, proxy = (URL, url) if by_proxy else (url, None)
        check = await check_connection(target, proxy, 30.0)
    assert f"127.0.0.1 port {port}: connection refused" in check.found
    assert (check.verdict, check.exit_code) == ("failed", 4)
    assert advice in (check.advice or "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "by_proxy", "verdict", "words"),
    [
        ("http", False, "ok", "plain http"),
        # Only the token request can show what is behind a proxy.
        ("http", True, "ok", "requests to api.example go through it"),
        # The handshake hangs.
        ("https", False, "failed", "no answer within 0.1 s"),
    ],
)
async def test_a_server_that_sends_nothing(
    scheme: str, by_proxy: bool, verdict: str, words: str
) -> None:
    """A server or proxy that accepts the connection and sends nothing passes, except for https."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = httpx.URL(f"{scheme}://127.0.0.1:{server.getsockname()[1]}")
        limit = 0.1 if scheme == "https" else 30.0
        target, proxy = (URL, url) if by_proxy else (url, None)
        check = await check_connection(target, proxy, limit)
    assert check.verdict == verdict
    assert words in check.found


@pytest.mark.parametrize(
    ("days", "verdict"), [(365, "ok"), (15, "ok"), (13, "warning"), (0.1, "warning")]
)
def test_a_certificate_that_expires_soon(days: float, verdict: str) -> None:
    """Two weeks before a certificate expires, the check warns."""
    now = 1_800_000_000.0
    ends = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(now + days * 86400))
    assert check_certificate({"notAfter": ends}, "api.example", now).verdict == verdict


@pytest.mark.parametrize(
    ("lifetime", "settings", "words"),
    [
        (3600.0, {}, None),
        (3600.0, {"refresh_jitter": 300.0}, None),
        # The session limits these buffers by itself.
        (300.0, {}, None),
        (100.0, {"stale_buffer": 40.0, "request_timeout": 5.0}, None),
        (1.5, {"stale_buffer": 0.5, "expired_buffer": 0.1}, "less than twice min_refresh_interval"),
        (3600.0, {"stale_buffer": 40.0}, "must finish within 10 s, but one attempt may take 30 s"),
        (3600.0, {"stale_buffer": 0.0}, "a refresh must finish within 0 s"),
        (3600.0, {"stale_buffer": 20.0}, "a refresh must finish within 0 s"),
    ],
)
def test_a_lifetime(lifetime: float, settings: dict[str, Any], words: str | None) -> None:
    """A lifetime that the buffers do not fit is a warning with the numbers."""
    check = check_lifetime(lifetime, make_config(**settings))
    assert check.verdict == ("ok" if words is None else "warning")
    assert (words or "") in check.found
    assert (check.advice is None) == (words is None)


_SECONDS = st.floats(0.001, 1e6)


@given(_SECONDS, _SECONDS, _SECONDS, _SECONDS, _SECONDS)
def test_every_lifetime(
    lifetime: float, stale: float, expired: float, gap: float, timeout: float
) -> None:
    """The check shows the session's own times, and reports a buffer as limited only if it is."""
    config = make_config(
        stale_buffer=stale,
        expired_buffer=expired,
        min_refresh_interval=gap,
        request_timeout=timeout,
    )
    check = check_lifetime(lifetime, config)
    token = TokenInfo.from_answer("t", lifetime, 0.0, config)
    assert f"stale after {token.stale_at:g} s" in check.found
    assert f"expired for the session after {token.expires_at:g} s" in check.found
    assert ("to half" in check.found) == (stale > lifetime / 2)
    assert ("to a quarter" in check.found) == (expired > lifetime / 4)
    assert ("min_refresh_interval" in check.found) == (lifetime < 2 * gap)
    # A limited buffer needs no change: lowering or raising it has no effect.
    assert "Set " not in (check.advice or "")
    assert not ("to half" in check.found and "stale_buffer" in (check.advice or ""))


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        (59.0, "ok", "agrees"),
        (-59.0, "ok", "agrees"),
        (7200.0, "warning", "7199 s ahead of"),
        (-7200.0, "warning", "7199 s behind"),
    ],
)
def test_a_clock(ahead: float, verdict: str, words: str) -> None:
    """A clock that is off by more than a minute is a warning."""
    now = 1_800_000_000.0
    check = check_clock(formatdate(now - ahead, usegmt=True), now, now + 1.0)
    assert check.verdict == verdict
    assert words in check.found


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 2026 25:61:00 GMT"])
def test_a_clock_that_cannot_be_compared(date: str | None) -> None:
    """Without a valid ``Date`` header, the check of the clock is skipped."""
    assert check_clock(date, 0.0, 1.0).verdict == "skipped"


def test_socks_needs_its_extra() -> None:
    """For a SOCKS proxy, the advice says how to install what httpx needs."""
    check = no_client(ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."))
    assert "pip install 'httpx[socks]'" in (check.advice or "")


def test_the_exit_code_is_the_first_failures() -> None:
    """Warnings leave the exit code at 0; of several failures, the first one sets it."""
    ok, warning = Check("a", "ok", ""), Check("b", "warning", "", exit_code=4)
    failed = [Check("c", "failed", "", exit_code=3), Check("d", "failed", "", exit_code=1)]
    assert exit_code_of_all([ok, warning]) == 0
    assert exit_code_of_all([ok, warning, *failed]) == 3


def test_no_secret_in_a_check() -> None:
    """``Check.scrubbed`` masks a secret in what was found."""
    check = Check("a", "failed", f"found {SECRET}", "remove it").scrubbed(Secrets(SECRET))
    assert (check.found, check.advice) == ("found ***", "remove it")
