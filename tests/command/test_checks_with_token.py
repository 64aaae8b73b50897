"""``doctor``'s checks with a token, each by itself, and all checks in their order."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trustme

from tests.ports import served_in_thread
from trio_anon_session import TokenManager
from trio_anon_session._cli._checks import Check, examine, exit_code_of_all
from trio_anon_session._cli._checks._resource import check_resource, check_revoked_token
from trio_anon_session._cli._checks._token import check_grant, check_revocation
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer

from .running import COMPLETE, SECRET, Served, invoke, source
from .test_checks import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from trio_anon_session import Config

RESOURCE = "http://localhost/2.0/files/1"


def in_process(server: TokenServer) -> tuple[httpx.AsyncClient, TokenManager, Config]:
    """Return a client and a token manager for a server in process, and their config."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(server))
    config = server.config(request_timeout=10.0)
    return client, TokenManager(config, http_client=client), config


async def test_a_grant(autojump_clock: MockClock) -> None:
    """The check shows the duration of the token request and the scope, and not the token."""
    server = TokenServer(FaultPlan(token_then=Fault(delay=2.0, fields={"scope": '"a b"'})))
    _, manager, config = in_process(server)
    check, token = await check_grant(manager, config)
    assert token is not None
    assert check.verdict == "ok"
    assert re.search(r" after 2\.0\d s, scope 'a b'$", check.found)
    assert token.access_token not in check.found


@pytest.mark.parametrize(
    ("fault", "code", "found", "advice"),
    [
        (Fault.refusal("invalid_client", "no"), 3, "rejected the client", "client_secret"),
        (Fault.refusal("unauthorized_client", "no"), 3, "rejected", "grant"),
        (Fault.refusal("invalid_scope", "no"), 4, "refused the request", "scope"),
        (Fault.rate_limited("7"), 4, "status 429", "Wait"),
        (Fault(status=404, body=b""), 4, "status 404", "no token endpoint at this URL"),
        (Fault(body=b"<html>"), 4, "valid token response", "web page"),
        (Fault(delay=60.0), 4, "did not answer within 10 s", "request_timeout"),
    ],
)
async def test_a_grant_that_fails(
    autojump_clock: MockClock,
    fault: Fault,
    code: int,
    found: str,
    advice: str,
) -> None:
    """The check shows the endpoint's answer, and separately what to do."""
    _, manager, config = in_process(TokenServer(FaultPlan(token_then=fault)))
    check, token = await check_grant(manager, config)
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
    autojump_clock: MockClock, fault: Fault, verdict: str, words: str
) -> None:
    """A missing revocation endpoint is a warning; another fault is a failure."""
    server = TokenServer(FaultPlan(revoke_then=fault))
    _, manager, config = in_process(server)
    token = (await manager.get_tokens_client_credentials_grant()).access_token
    check = await check_revocation(manager, config, token)
    assert check.verdict == verdict
    assert words in check.found
    assert token not in check.found


async def test_a_revocation_without_an_endpoint(autojump_clock: MockClock) -> None:
    """If the revocation endpoint is unknown, the check sends nothing and names ``--revoke-url``."""
    server = TokenServer()
    _, manager, _ = in_process(server)
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
        (Fault(status=403), "failed", "permissions"),
        (Fault(status=404), "warning", "The API found nothing"),
        (Fault.redirect("https://elsewhere.example"), "warning", "redirects"),
        (Fault(status=500), "failed", "later"),
        (Fault(status=400), "failed", "--url"),
        (Fault(delay=60.0), "failed", "--url"),
        (Fault(cut="before_headers"), "failed", "--url"),
    ],
)
async def test_a_resource(
    autojump_clock: MockClock, fault: Fault, verdict: str, advice: str | None
) -> None:
    """The check gives advice for each status or error, and does not show the query of the URL."""
    server = TokenServer(FaultPlan(resource_then=fault))
    client, manager, _ = in_process(server)
    token = (await manager.get_tokens_client_credentials_grant()).access_token
    check = await check_resource(client, f"{RESOURCE}?key=private", token, 10.0)
    assert check.verdict == verdict, check
    assert advice in (check.advice or "") if advice is not None else check.advice is None
    assert RESOURCE in check.found
    assert "private" not in check.found


@pytest.mark.parametrize(
    "url", ["http://api.example/x", "ftp://localhost", "http://[", "https://xn--0.example/x"]
)
async def test_no_token_is_sent_without_https(autojump_clock: MockClock, url: str) -> None:
    """The check sends no token to a remote URL without https, or to an invalid one."""
    server = TokenServer()
    client, _, _ = in_process(server)
    check = await check_resource(client, url, "token", 10.0)
    assert (check.verdict, len(server.presented)) == ("failed", 0)


@pytest.mark.parametrize("error", [UnicodeError("label too long"), httpx.ConnectError("no")])
async def test_an_error_of_the_request_fails_the_check(error: Exception) -> None:
    """An error of the request fails the check, and does not propagate."""

    async def fail(request: httpx.Request) -> httpx.Response:
        raise error

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        check = await check_resource(client, "https://api.example/x", "token", 10.0)
    assert check.verdict == "failed"
    assert check.found == f"GET https://api.example/x failed: {type(error).__name__}"


async def test_a_call_with_a_revoked_token(autojump_clock: MockClock) -> None:
    """An API that rejects the revoked token is ok; one that accepts it is a warning."""
    server = TokenServer()
    client, manager, config = in_process(server)
    token = (await manager.get_tokens_client_credentials_grant()).access_token
    assert (await check_revoked_token(client, RESOURCE, token, 10.0)).verdict == "warning"
    await check_revocation(manager, config, token)
    assert (await check_revoked_token(client, RESOURCE, token, 10.0)).verdict == "ok"
    server.faults = FaultPlan(resource_then=Fault(cut="before_headers"))
    assert (await check_revoked_token(client, RESOURCE, token, 10.0)).verdict == "failed"


async def test_no_cookies_are_sent() -> None:
    """The checks do not send a cookie of an earlier response."""
    seen: list[httpx.Headers] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, headers={"Set-Cookie": "session=1; Path=/"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        await check_resource(client, "https://api.example/x", "token", 10.0)
        await check_revoked_token(client, "https://api.example/x", "token", 10.0)
    assert [headers["Authorization"] for headers in seen] == ["Bearer token"] * 2
    assert not any("Cookie" in headers for headers in seen)


async def examine_all(served: Served, url: str | None = None, **flags: Any) -> list[Check]:
    """Run all checks with a server on loopback, and return what they found."""
    said: list[Check] = []
    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url} | flags
    await examine(source(**flags), url, said.append)
    return said


def verdicts(said: list[Check]) -> dict[str, str]:
    """Return the verdicts by the names of the checks."""
    assert len({check.name for check in said}) == len(said)
    return {check.name: check.verdict for check in said}


@pytest.mark.slow
async def test_the_origin_comes_before_the_token(served: Served) -> None:
    """The check of the origin runs before the token request; its warning does not stop the call."""
    # The two settings name different origins for one server.
    flags = {"api_root_url": "https://api.example", "token_url": f"{served.url}/oauth2/token"}
    said = await examine_all(served, f"{served.url}/2.0/files/1", **flags)
    found = verdicts(said)
    assert (found["origin"], found["grant"], found["resource"]) == ("warning", "ok", "ok")
    assert list(found).index("origin") < list(found).index("name") < list(found).index("grant")


@pytest.mark.slow
async def test_a_url_that_cannot_get_a_token(served: Served) -> None:
    """If no token can be sent to ``--url``, the checks end before any request."""
    for url in ("http://api.example/a", "ftp://x"):
        said = await examine_all(served, url)
        assert verdicts(said) == {
            **dict.fromkeys(["configuration", "credentials"], "ok"),
            "origin": "failed",
            **dict.fromkeys(["name", "connection", "grant", "lifetime", "clock"], "skipped"),
            **dict.fromkeys(["resource", "revocation", "revoked token"], "skipped"),
        }
        assert exit_code_of_all(said) == 2
        assert not served.server.requests


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault(status=404), Fault.redirect("https://elsewhere.example")])
async def test_an_answer_that_is_not_about_the_token(fault: Fault, served: Served) -> None:
    """After a 404 or a redirect, the API is not called with the revoked token."""
    served.server.faults = FaultPlan(resource_then=fault)
    found = verdicts(await examine_all(served, f"{served.url}/2.0/files/1"))
    assert (found["resource"], found["revoked token"]) == ("warning", "skipped")


@pytest.mark.slow
async def test_a_server_that_echoes_the_token(served: Served) -> None:
    """A token that the server also sends as the scope is not shown."""
    token = "token-0123456789"
    fields = {"access_token": f'"{token}"', "scope": f'"{token}"'}
    served.server.faults = FaultPlan(token_then=Fault(fields=fields))
    said = await examine_all(served)
    (grant,) = [check for check in said if check.name == "grant"]
    assert grant.found.endswith("scope ***")
    assert token not in str(said)


async def test_a_name_that_cannot_be_resolved(autojump_clock: MockClock) -> None:
    """If the host name cannot be resolved, all later checks are skipped."""
    trio.socket.set_custom_hostname_resolver(Names(socket.gaierror(-2, "Name not known")))
    said: list[Check] = []
    await examine(source(client_id="id", client_secret=SECRET), "https://x.example", said.append)
    assert verdicts(said) == {
        **dict.fromkeys(["configuration", "credentials"], "ok"),
        "origin": "warning",
        "name": "failed",
        **dict.fromkeys(["connection", "grant", "lifetime", "clock", "resource"], "skipped"),
        **dict.fromkeys(["revocation", "revoked token"], "skipped"),
    }


@pytest.mark.parametrize(
    ("variable", "value", "kind", "advice"),
    [
        ("https_proxy", "http://user:{}@proxy:port", "InvalidURL", "proxy variables"),
        ("https_proxy", "socks4://user:{}@proxy", "ValueError", "proxy variables"),
        ("SSL_CERT_FILE", "/no/such/{}", "FileNotFoundError", "SSL_CERT_FILE"),
    ],
)
async def test_a_client_that_cannot_be_created(
    variable: str, value: str, kind: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the HTTP client cannot be created, the advice names the variables to check."""
    monkeypatch.setenv(variable, value.format("hush-hush"))
    said: list[Check] = []
    await examine(source(client_id="id", client_secret=SECRET), None, said.append)
    _, _, check, *others = said
    assert (check.name, check.verdict, check.exit_code) == ("connection", "failed", 4)
    assert check.found == f"the HTTP client cannot be created: {kind}"
    assert advice in (check.advice or "")
    assert "hush-hush" not in str(said)
    assert {check.verdict for check in others} == {"skipped"}
    assert len(others) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "end", "fault", "revocations"),
    [
        ("grant", KeyboardInterrupt, None, 1),
        ("resource", BrokenPipeError, None, 1),
        # A refused revocation causes no delay.
        ("grant", KeyboardInterrupt, Fault.server_error(503), 0),
    ],
)
def test_an_early_end_leaves_no_token(
    name: str,
    end: type[BaseException],
    fault: Fault | None,
    revocations: int,
    served: Served,
) -> None:
    """Ctrl-C or a closed output ends the checks after one attempt to revoke the token."""
    served.server.faults = FaultPlan(revoke_then=fault or Fault())

    def say(check: Check) -> None:
        if check.name == name:
            raise end

    flags = {"client_id": "id", "client_secret": SECRET, "api_root_url": served.url}
    with pytest.raises(end):
        trio.run(examine, source(**flags), f"{served.url}/2.0/files/1", say)
    assert (served.server.grants, served.server.revocations) == (1, revocations)


@contextmanager
def serving_tls() -> Iterator[str]:
    """Serve https with an unknown certificate, and return host and port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with served_in_thread(TokenServer(clients=[Client("id", SECRET)]), context) as url:
        yield url.partition("://")[2]


def test_a_url_that_says_http_for_a_server_that_speaks_https() -> None:
    """``doctor`` says to write https, and not to look for a web page or a proxy."""
    with serving_tls() as place:
        result = invoke("doctor", "--api-root-url", f"http://{place}", environ=COMPLETE)
    assert "the URL says http, but the server speaks https" in result.stdout
    assert "Write https:// instead of http:// in token_url" in result.stdout
    assert result.exit_code == 4


def test_a_url_that_says_https_for_a_server_that_speaks_http(served: Served) -> None:
    """``doctor`` says to write http, if the server is on this machine."""
    url = served.url.replace("http:", "https:")
    result = invoke("doctor", "--api-root-url", url, environ=COMPLETE)
    assert "the URL says https, but the server speaks http" in result.stdout
    assert "Write http:// instead of https:// in token_url" in result.stdout
    assert result.exit_code == 4


@pytest.mark.parametrize("environ", [{"BOX_CLIENT_ID": "other"}, {}])
def test_a_url_with_the_right_scheme(served: Served, environ: dict[str, str]) -> None:
    """With the right scheme, ``doctor`` says nothing about it, also if the grant fails."""
    served.server.faults = FaultPlan(token_then=Fault.server_error(503))
    result = invoke("doctor", environ=served.environ | environ)
    assert "the URL says" not in result.stdout
    assert result.exit_code != 0
