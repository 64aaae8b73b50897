"""What ``doctor`` looks at, check by check, without a terminal."""

from __future__ import annotations

import datetime
import re
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
from trio_anon_session import TokenInfo, TokenManager
from trio_anon_session._cli._checks import (
    Check,
    check_certificate,
    check_clock,
    check_configuration,
    check_connection,
    check_dead_token,
    check_grant,
    check_lifetime,
    check_name,
    check_origin,
    check_resource,
    check_revocation,
    examine,
    exit_code_of_all,
    no_client,
    proxy_for,
)
from trio_anon_session._cli._flags import Source
from trio_anon_session._secrets import Secrets
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

from .running import SECRET, Served

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

URL = httpx.URL("https://api.example/oauth2/token")
PROXY = httpx.URL("http://proxy.example:3128")
AUTHORITY = trustme.CA()


def source(**flags: Any) -> Source:
    """Return what a command line says that has nothing but these."""
    return Source(flags, (), None, None, {})


# Configuration


def test_a_configuration_that_is_right() -> None:
    """A config says where id and secret come from, whose token it will be, and where."""
    check, config = check_configuration(
        source(client_id="id", client_secret=SECRET, box_subject_type="user", box_subject_id="7")
    )
    assert config is not None
    assert check == Check(
        "configuration",
        "ok",
        "client 'id' (flag --client-id), secret (flag --client-secret-file), user 7, "
        "at https://api.box.com/oauth2/token",
    )


def test_a_configuration_that_lacks_much() -> None:
    """All that is missing is named at once, with what to do about it."""
    check, config = check_configuration(source())
    assert (config, check.verdict, check.exit_code) == (None, "failed", 2)
    assert "BOX_CLIENT_ID" in check.found
    assert "BOX_CLIENT_SECRET" in check.found
    assert "--show-config" in (check.advice or "")


@pytest.mark.parametrize("text", ["{} ", "\n{}", "'{}'", '"{}', "{}'"])
@pytest.mark.parametrize("name", ["client_id", "client_secret", "box_subject_id"])
def test_what_was_pasted_along(name: str, text: str) -> None:
    """White space or a quote around a value is a warning, which does not show the secret."""
    flags = {"client_id": "id", "client_secret": SECRET, "box_subject_type": "user"}
    flags |= {"box_subject_id": "7"}
    check, config = check_configuration(source(**flags | {name: text.format(flags[name])}))
    assert config is not None
    assert check.verdict == "warning"
    assert check.found.startswith(f"{name} (flag ")
    assert SECRET not in check.found


# Origin


@pytest.mark.parametrize(
    ("url", "settings", "verdict", "found"),
    [
        ("https://api.box.com/2.0/folders/0", {}, "ok", "sends the token to https://api.box.com"),
        ("https://UPLOAD.box.com:443", {}, "ok", "sends the token to https://upload.box.com"),
        (
            "https://me:hunter2@api.example:8443/hunter2?hunter2",
            {},
            "warning",
            "session.auth() sends no token to https://api.example:8443: it sends the token only to "
            "https://api.box.com and https://upload.box.com",
        ),
        ("https://api.box.com", {"api_root_url": "https://a.example"}, "warning", "sends no token"),
        ("http://127.0.0.1:8765/a", {}, "warning", "sends no token to http://127.0.0.1:8765"),
        ("http://[::1]:1/a", {"api_root_url": "http://[::1]:1"}, "ok", "http://[::1]:1"),
        ("http://api.box.com/hunter2", {}, "failed", "only over https"),
        ("ftp://api.box.com", {}, "failed", "only over https"),
        ("mailto:hunter2", {}, "failed", "only over https"),
        ("hunter2", {}, "failed", "only over https"),
        ("http://[", {}, "failed", "only over https"),
        ("https://xn--0.example/x", {}, "failed", "only over https"),
        ("", {}, "failed", "only over https"),
    ],
)
def test_the_origin_of_a_url(url: str, settings: dict[str, Any], verdict: str, found: str) -> None:
    """A URL whose origin gets no token from ``session.auth()`` is a warning, or a failure."""
    check = check_origin(url, make_config(**settings))
    assert (check.name, check.verdict) == ("origin", verdict)
    assert found in check.found
    assert "hunter2" not in f"{check.found} {check.advice}"
    assert (check.advice is None) == (verdict == "ok")
    if verdict == "warning":
        assert "--api-root-url" in (check.advice or "")
        assert "session.auth(origins=[...])" in (check.advice or "")


@pytest.mark.slow
async def test_the_origin_comes_before_the_token(served: Served) -> None:
    """Whether a URL gets the token is said first; a warning does not keep the call from it."""
    said: list[Check] = []
    asked: list[int] = []

    def say(check: Check) -> None:
        said.append(check)
        asked.append(served.server.grants)

    flags = {"client_id": "id", "client_secret": SECRET, "token_url": f"{served.url}/oauth2/token"}
    await examine(source(**flags), f"{served.url}/2.0/files/1", say)
    by_name = {check.name: check.verdict for check in said}
    assert (by_name["origin"], by_name["grant"], by_name["resource"]) == ("warning", "ok", "ok")
    assert asked[[check.name for check in said].index("origin")] == 0


@pytest.mark.slow
async def test_a_url_that_cannot_get_a_token(served: Served) -> None:
    """All the rest is checked without the URL, and the exit code is that of a wrong setting."""
    said: list[Check] = []
    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url}
    await examine(source(**flags), "http://api.example/a", said.append)
    by_name = {check.name: check.verdict for check in said}
    assert (by_name["origin"], by_name["grant"], by_name["revocation"]) == ("failed", "ok", "ok")
    assert (by_name["resource"], by_name["dead token"]) == ("skipped", "skipped")
    assert len(said) == len(by_name)
    assert exit_code_of_all(said) == 2
    assert not served.server.presented


# Name


class Names(trio.abc.HostnameResolver):
    """Looks names up as a test decides: an address, an error, or never."""

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
        ("192.0.2.1", "ok", "api.example is 192.0.2.1", None),
        (socket.gaierror(-2, "Name not known"), "failed", "api.example: Name not known", "name"),
        (UnicodeError("label too long"), "failed", "api.example: no name of a host", "name"),
        (None, "failed", "api.example: no answer of the name servers within 10 s", "network"),
    ],
)
async def test_the_name(
    autojump_clock: MockClock,
    answer: str | Exception | None,
    verdict: str,
    found: str,
    advice: str | None,
) -> None:
    """A name leads to addresses, to an error, or nowhere within the limit."""
    trio.socket.set_custom_hostname_resolver(Names(answer))
    check = await check_name(URL, None, 10.0)
    assert (check.verdict, check.found) == (verdict, found)
    assert advice in (check.advice or "") if advice is not None else check.advice is None
    assert check.exit_code == (4 if verdict == "failed" else 1)
    assert trio.current_time() == (10.0 if answer is None else 0.0)


async def test_the_name_behind_a_proxy(autojump_clock: MockClock) -> None:
    """Behind a proxy its name is looked up, and not the host's."""
    names = Names("192.0.2.7")
    trio.socket.set_custom_hostname_resolver(names)
    check = await check_name(URL, PROXY, 10.0)
    assert names.asked == [b"proxy.example"]
    assert check.verdict == "ok"
    assert check.found == ("the proxy proxy.example is 192.0.2.7; the proxy looks api.example up")


async def test_an_address_is_no_name(autojump_clock: MockClock) -> None:
    """An address needs no looking up."""
    check = await check_name(httpx.URL("http://127.0.0.1:8765"), None, 10.0)
    assert (check.verdict, check.found) == ("ok", "127.0.0.1 is an address")


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
    """The proxy variables hold as for the session's own client."""
    for name, value in environ.items():
        # Python reads these in lower case first.
        monkeypatch.setenv(name.lower(), value)
    found = proxy_for(httpx.URL(url))
    assert found == (httpx.URL(proxy) if proxy is not None else None)


# Connection


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the tests' authority, as somebody with an authority of their own does."""
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


def certified(*names: str, days: float = 100.0) -> ssl.SSLContext:
    """Return a server's context, with a certificate for these names and so many days."""
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
        (["127.0.0.1"], 100.0, "ok", "TLS with 127.0.0.1 is sound; its certificate is good until"),
        (["127.0.0.1"], 3.0, "warning", "days)"),
        (["127.0.0.1"], -3.0, "failed", "not to be trusted: certificate has expired"),
        (["other.example"], 100.0, "failed", "not to be trusted: IP address mismatch"),
    ],
)
async def test_the_certificate(names: list[str], days: float, verdict: str, words: str) -> None:
    """A certificate that ends soon is a warning; one that is not good now is a failure."""
    check = await check_tls(certified(*names, days=days))
    assert check.verdict == verdict
    assert words in check.found
    assert (check.advice is None) == (verdict == "ok")


@pytest.mark.slow
async def test_an_authority_that_nobody_knows() -> None:
    """An unknown authority is a failure, and the way to trust it is named."""
    check = await check_tls(certified("127.0.0.1"))
    assert (check.verdict, check.exit_code) == ("failed", 4)
    assert "not to be trusted" in check.found
    assert "SSL_CERT_FILE" in (check.advice or "")


@pytest.mark.slow
async def test_what_speaks_no_tls() -> None:
    """A server without TLS behind an https URL is a failure that says so."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(serve) as port:
        check = await check_connection(httpx.URL(f"https://127.0.0.1:{port}"), None, 30.0)
    assert check.verdict == "failed"
    assert "no TLS" in check.found
    assert "speaks no TLS" in (check.advice or "")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nobody_listens(scheme: str) -> None:
    """A closed port is a failure that names host and port, and what to check."""
    with closed_port() as port:
        check = await check_connection(httpx.URL(f"{scheme}://127.0.0.1:{port}"), None, 30.0)
    assert check.found == f"127.0.0.1 port {port}: connection refused"
    assert (check.verdict, check.exit_code) == ("failed", 4)
    assert "Nothing listens there" in (check.advice or "")


@pytest.mark.slow
async def test_a_proxy_that_is_not_there() -> None:
    """Behind a proxy it is the proxy that has to be there."""
    with closed_port() as port:
        proxy = httpx.URL(f"http://127.0.0.1:{port}")
        check = await check_connection(URL, proxy, 30.0)
    assert "connection refused" in check.found
    assert "HTTPS_PROXY" in (check.advice or "")


@pytest.mark.slow
async def test_a_proxy_that_is_there() -> None:
    """What lies behind a proxy, the grant has to show."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = httpx.URL(f"http://127.0.0.1:{server.getsockname()[1]}")
        check = await check_connection(URL, proxy, 30.0)
    assert check.verdict == "ok"
    assert "api.example is reached through it" in check.found


@pytest.mark.slow
async def test_plain_http_on_this_machine() -> None:
    """Without TLS there is no certificate to look at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = httpx.URL(f"http://127.0.0.1:{server.getsockname()[1]}")
        check = await check_connection(url, None, 30.0)
    assert check.verdict == "ok"
    assert "plain http" in check.found


@pytest.mark.slow
async def test_a_handshake_that_hangs() -> None:
    """A server that takes the connection and says nothing is a failure, within the limit."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = await check_connection(httpx.URL(f"https://127.0.0.1:{port}"), None, 0.1)
    assert (check.verdict, check.found) == (
        "failed",
        f"127.0.0.1 port {port}: no answer within 0.1 s",
    )


@pytest.mark.parametrize(
    ("days", "verdict"), [(365, "ok"), (15, "ok"), (13, "warning"), (0.1, "warning")]
)
def test_how_long_a_certificate_is_good(days: float, verdict: str) -> None:
    """Two weeks before its end there is a warning."""
    now = 1_800_000_000.0
    ends = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(now + days * 86400))
    assert check_certificate({"notAfter": ends}, "api.example", now).verdict == verdict


# Grant, revocation, resource


@pytest.fixture
def manager_of() -> Any:
    """Make a token manager for a server in process."""

    def make(server: TokenServer) -> tuple[httpx.AsyncClient, TokenManager, Any]:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(server))
        config = server.config(request_timeout=10.0)
        return client, TokenManager(config, http_client=client), config

    return make


async def test_a_grant(autojump_clock: MockClock, manager_of: Any) -> None:
    """A token is told by its fingerprint and how long it took."""
    server = TokenServer(FaultPlan(token_then=Fault(delay=2.0, fields={"scope": '"a b"'})))
    _, manager, _ = manager_of(server)
    check, token = await check_grant(manager)
    assert token is not None
    assert check.verdict == "ok"
    assert re.search(r" after 2\.0\d s, scope 'a b'$", check.found)
    assert token.access_token not in check.found


@pytest.mark.parametrize(
    ("fault", "code", "found", "advice"),
    [
        (Fault.refusal("invalid_client", "no"), 3, "rejected the client", "client_secret"),
        (Fault.refusal("unauthorized_client", "no"), 3, "rejected", "grant"),
        (Fault.refusal("invalid_scope", "no"), 4, "refused the grant", "scope"),
        (Fault.rate_limited("7"), 4, "status 429", "Wait"),
        (Fault(status=404, body=b""), 4, "status 404", "no token endpoint is there"),
        (Fault(body=b"<html>"), 4, "no token answer", "web page"),
        (Fault(delay=60.0), 4, "did not answer within 10 s", "request_timeout"),
    ],
)
async def test_a_grant_that_fails(
    autojump_clock: MockClock,
    manager_of: Any,
    fault: Fault,
    code: int,
    found: str,
    advice: str,
) -> None:
    """What the endpoint answered is told, and once what to do about it."""
    _, manager, _ = manager_of(TokenServer(FaultPlan(token_then=fault)))
    check, token = await check_grant(manager)
    assert (token, check.verdict, check.exit_code) == (None, "failed", code)
    assert found in check.found
    assert check.advice is not None
    assert advice in check.advice
    assert check.advice not in check.found


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        (Fault(), "ok", "was revoked"),
        (Fault(status=404, body=b""), "warning", "no revocation endpoint"),
        (Fault.server_error(503), "failed", "status 503"),
    ],
)
async def test_a_revocation(
    autojump_clock: MockClock, manager_of: Any, fault: Fault, verdict: str, words: str
) -> None:
    """A server may have no revocation endpoint: that is a warning, other faults are failures."""
    server = TokenServer(FaultPlan(revoke_then=fault))
    _, manager, config = manager_of(server)
    token = (await manager.get_tokens_client_credentials_grant()).access_token
    check = await check_revocation(manager, config, token)
    assert check.verdict == verdict
    assert words in check.found
    assert token not in check.found


async def test_a_revocation_that_nobody_is_named_for(
    autojump_clock: MockClock, manager_of: Any
) -> None:
    """The secret of one server goes to no other: without a revoke_url, nothing is revoked."""
    server = TokenServer()
    _, manager, _ = manager_of(server)
    elsewhere = server.config(token_url="https://login.example/token")
    check = await check_revocation(manager, elsewhere, "token")
    assert check.verdict == "warning"
    assert not server.requests
    assert check.advice is not None
    assert "--revoke-url" in check.advice


@pytest.mark.parametrize(
    ("fault", "verdict", "advice"),
    [
        (Fault(), "ok", None),
        (
            Fault(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}),
            "failed",
            "audience",
        ),
        (
            Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="invalid_token"'}),
            "failed",
            "permissions",
        ),
        (Fault(status=401), "failed", "permissions"),
        (Fault(status=403), "failed", "permissions"),
        (Fault(status=404), "warning", "Nothing is there"),
        (Fault.redirect("https://elsewhere.example"), "warning", "redirects"),
        (Fault(status=500), "failed", "later"),
        (Fault(status=400), "failed", "--url"),
        (Fault(delay=60.0), "failed", "--url"),
        (Fault(cut="before_headers"), "failed", "--url"),
    ],
)
async def test_a_resource(
    autojump_clock: MockClock, manager_of: Any, fault: Fault, verdict: str, advice: str | None
) -> None:
    """What an answer means is told for each status."""
    server = TokenServer(FaultPlan(resource_then=fault))
    client, manager, _ = manager_of(server)
    token = (await manager.get_tokens_client_credentials_grant()).access_token
    url = "http://localhost/2.0/files/1?key=private"
    check = await check_resource(client, url, token, 10.0)
    assert check.verdict == verdict, check
    assert advice in (check.advice or "") if advice is not None else check.advice is None
    assert "http://localhost/2.0/files/1" in check.found
    assert "private" not in check.found


@pytest.mark.parametrize(
    "url",
    ["http://api.example/x", "ftp://localhost", "nonsense", "http://[", "https://xn--0.example/x"],
)
async def test_a_token_goes_to_no_url_in_clear(
    autojump_clock: MockClock, manager_of: Any, url: str
) -> None:
    """A token is sent by https alone, or to this machine."""
    server = TokenServer()
    client, _, _ = manager_of(server)
    check = await check_resource(client, url, "token", 10.0)
    assert (check.verdict, len(server.presented)) == ("failed", 0)


@pytest.mark.parametrize("error", [UnicodeError("label too long"), httpx.ConnectError("no")])
async def test_whatever_fails_is_said(error: Exception) -> None:
    """Whatever keeps an answer from coming fails that check alone, for a revocation is to come."""

    async def fail(request: httpx.Request) -> httpx.Response:
        raise error

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        check = await check_resource(client, "https://api.example/x", "token", 10.0)
    assert check.verdict == "failed"
    assert check.found == f"GET https://api.example/x failed: {type(error).__name__}"


async def test_a_dead_token(autojump_clock: MockClock, manager_of: Any) -> None:
    """A revoked token should be refused; where it is not, that is a warning."""
    server = TokenServer()
    client, manager, config = manager_of(server)
    token = (await manager.get_tokens_client_credentials_grant()).access_token
    url = "http://localhost/2.0/files/1"
    assert (await check_dead_token(client, url, token, 10.0)).verdict == "warning"
    await check_revocation(manager, config, token)
    assert (await check_dead_token(client, url, token, 10.0)).verdict == "ok"
    server.faults = FaultPlan(resource_then=Fault(cut="before_headers"))
    assert (await check_dead_token(client, url, token, 10.0)).verdict == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault(status=404), Fault.redirect("https://elsewhere.example")])
async def test_what_looks_at_no_token_says_nothing_of_a_dead_one(
    fault: Fault, served: Served
) -> None:
    """An answer that may not be about the token is not compared with that to a revoked one."""
    served.server.faults = FaultPlan(resource_then=fault)
    said: list[Check] = []
    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url}
    await examine(source(**flags), f"{served.url}/2.0/files/1", said.append)
    verdicts = {check.name: check.verdict for check in said}
    assert (verdicts["resource"], verdicts["dead token"]) == ("warning", "skipped")


async def test_no_cookie_stands_in_for_the_token() -> None:
    """A cookie of an answer does not go along with the next call."""
    seen: list[httpx.Headers] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, headers={"Set-Cookie": "session=1; Path=/"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        await check_resource(client, "https://api.example/x", "token", 10.0)
        await check_dead_token(client, "https://api.example/x", "token", 10.0)
    assert [headers["Authorization"] for headers in seen] == ["Bearer token"] * 2
    assert not any("Cookie" in headers for headers in seen)


# Lifetime, clock


@pytest.mark.parametrize(
    ("lifetime", "settings", "words"),
    [
        (3600.0, {}, None),
        (3600.0, {"refresh_jitter": 300.0}, None),
        (300.0, {}, "stale_buffer (600 s) is cut to half"),
        (100.0, {"stale_buffer": 40.0, "request_timeout": 5.0}, "expired_buffer (30 s) is cut"),
        (1.5, {"stale_buffer": 0.5, "expired_buffer": 0.1}, "less than two min_refresh_interval"),
        (3600.0, {"stale_buffer": 40.0}, "a refresh has 10 s, and one attempt may take 30 s"),
        (3600.0, {"stale_buffer": 0.0}, "a refresh has 0 s"),
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
    """The numbers are those of the session, and what is not cut is not said to be."""
    config = make_config(
        stale_buffer=stale,
        expired_buffer=expired,
        min_refresh_interval=gap,
        request_timeout=timeout,
    )
    check = check_lifetime(lifetime, config)
    token = TokenInfo.from_answer("t", lifetime, 0.0, config)
    assert f"stale after {token.stale_at:g} s" in check.found
    assert f"handed out after {token.expires_at:g} s" in check.found
    assert ("to half" in check.found) == (stale > lifetime / 2)
    assert ("to a quarter" in check.found) == (expired > lifetime / 4)
    assert ("min_refresh_interval" in check.found) == (lifetime < 2 * gap)
    # What is cut gains nothing by being raised.
    assert not ("to half" in check.found and "Raise stale_buffer" in (check.advice or ""))


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        (0.0, "ok", "agrees"),
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
    """Without a date there is nothing to compare."""
    assert check_clock(date, 0.0, 1.0).verdict == "skipped"


# All of them


async def test_a_name_that_leads_nowhere(autojump_clock: MockClock) -> None:
    """Where the name leads nowhere, nothing else is tried."""
    trio.socket.set_custom_hostname_resolver(Names(socket.gaierror(-2, "Name not known")))
    said: list[Check] = []
    await examine(source(client_id="id", client_secret=SECRET), "https://x.example", said.append)
    assert {check.name: check.verdict for check in said} == {
        "configuration": "ok",
        "origin": "warning",
        "name": "failed",
        **dict.fromkeys(["connection", "grant", "lifetime", "clock", "resource"], "skipped"),
        **dict.fromkeys(["revocation", "dead token"], "skipped"),
    }


@pytest.mark.parametrize(
    ("variable", "value", "kind", "advice"),
    [
        ("https_proxy", "http://user:{}@proxy:port", "InvalidURL", "proxy variables"),
        ("https_proxy", "socks4://user:{}@proxy", "ValueError", "proxy variables"),
        ("SSL_CERT_FILE", "/no/such/{}", "FileNotFoundError", "SSL_CERT_FILE"),
    ],
)
async def test_there_is_no_client(
    variable: str, value: str, kind: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no client can be made, that is what is said, with the kind of variable to look at."""
    monkeypatch.setenv(variable, value.format("hush-hush"))
    said: list[Check] = []
    await examine(source(client_id="id", client_secret=SECRET), None, said.append)
    _, check, *others = said
    assert (check.name, check.verdict, check.exit_code) == ("connection", "failed", 4)
    assert check.found == f"no HTTP client can be made: {kind}"
    assert advice in (check.advice or "")
    assert "hush-hush" not in str(said)
    assert {check.verdict for check in others} == {"skipped"}
    assert len(others) == 5


def test_socks_needs_its_extra() -> None:
    """A proxy by SOCKS, for which httpx needs more, is told how to get that."""
    check = no_client(ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."))
    assert "pip install 'httpx[socks]'" in (check.advice or "")


@pytest.mark.slow
@pytest.mark.parametrize("end", [KeyboardInterrupt, BrokenPipeError])
@pytest.mark.parametrize("name", ["grant", "resource"])
def test_who_breaks_off_leaves_no_token(
    name: str, end: type[BaseException], served: Served
) -> None:
    """Ctrl-C, or a reader that has gone, ends it with the token revoked."""

    def say(check: Check) -> None:
        if check.name == name:
            raise end

    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url}
    with pytest.raises(end):
        trio.run(examine, source(**flags), f"{served.url}/2.0/files/1", say)
    assert (served.server.grants, served.server.revocations) == (1, 1)


@pytest.mark.slow
async def test_a_server_that_echoes_the_token(served: Served) -> None:
    """A token that comes back as something else, the scope say, is not shown."""
    token = "token-0123456789"
    fields = {"access_token": f'"{token}"', "scope": f'"{token}"'}
    served.server.faults = FaultPlan(token_then=Fault(fields=fields))
    said: list[Check] = []
    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url}
    await examine(source(**flags), None, said.append)
    (grant,) = [check for check in said if check.name == "grant"]
    assert grant.found.endswith("scope ***")
    assert token not in str(said)


@pytest.mark.slow
def test_who_breaks_off_does_not_wait_long(served: Served) -> None:
    """Who wants to leave is not kept by a revocation that is refused."""
    served.server.faults = FaultPlan(revoke_then=Fault.server_error(503))

    def say(check: Check) -> None:
        if check.name == "grant":
            raise KeyboardInterrupt

    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url}
    with pytest.raises(KeyboardInterrupt):
        trio.run(examine, source(**flags), None, say)


def test_the_exit_code_is_the_first_failures() -> None:
    """A warning is no failure; of two failures the first one counts."""
    ok, warning = Check("a", "ok", ""), Check("b", "warning", "", exit_code=4)
    failed = [Check("c", "failed", "", exit_code=3), Check("d", "failed", "", exit_code=1)]
    assert exit_code_of_all([ok, warning]) == 0
    assert exit_code_of_all([ok, warning, *failed]) == 3


def test_no_secret_in_a_check() -> None:
    """Whatever a check has found, no secret is in what is said of it."""
    check = Check("a", "failed", f"found {SECRET}", f"drop {SECRET}").scrubbed(Secrets(SECRET))
    assert (check.found, check.advice) == ("found ***", "drop ***")
