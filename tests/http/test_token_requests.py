"""Tests of the requests that `TokenManager` sends, through its own client or a given one."""

from __future__ import annotations

import importlib
import itertools
import logging
import re
from contextlib import nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import httpx2
import pytest
import trio
from trio.testing import assert_checkpoints

from tests.helpers import traceback_with_locals
from tests.http.endpoint import (
    CALLS,
    CLIENT_ID,
    METHODS,
    SECRET,
    TOKEN,
    Endpoint,
    ask,
    config,
    form_of,
    open_manager,
    says,
    sent_by,
)
from tests.wire import answer, listening, open_peer, read_request
from trio_anon_session import (
    RevocationError,
    TokenManager,
    TokenRequestError,
    TokenRequestOptions,
    __version__,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import ModuleType

    from trio.testing import MockClock

IDENTITY = [("client_id", CLIENT_ID), ("client_secret", SECRET)]


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"scope": "a b"}, [("scope", "a b")]),
        (
            {"box_subject_type": "enterprise", "box_subject_id": "17"},
            [("box_subject_type", "enterprise"), ("box_subject_id", "17")],
        ),
        (
            {"extra_params": {"audience": "https://a.example/?x=1&y", "é": "ü +%"}},
            [("audience", "https://a.example/?x=1&y"), ("é", "ü +%")],
        ),
        (
            {"extra_params": {"resource": ["https://a.example", "https://b.example"]}},
            [("resource", "https://a.example"), ("resource", "https://b.example")],
        ),
        # RFC 6749 §3.2: an empty parameter counts as absent.
        (
            {"extra_params": {"audience": "", "resource": ["", "https://a.example"]}},
            [("resource", "https://a.example")],
        ),
        ({"extra_params": {"resource": []}}, []),
    ],
    ids=lambda value: ascii(value)[:60],
)
async def test_form_of_a_grant(settings: dict[str, Any], fields: list[tuple[str, str]]) -> None:
    """The form of a grant has each field that is set once, and no empty ones."""
    request = await sent_by(config(**settings))
    expected = [("grant_type", "client_credentials"), *fields, *IDENTITY]
    assert form_of(request) == expected


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (None, {}),
        (TokenRequestOptions(), {}),
        (
            TokenRequestOptions(ip="192.0.2.1, 2001:db8::1"),
            {"x-forwarded-for": "192.0.2.1, 2001:db8::1"},
        ),
    ],
    ids=["none", "empty", "ip"],
)
@pytest.mark.parametrize("call", CALLS)
async def test_headers_of_a_token_request(
    call: str, options: TokenRequestOptions | None, more: dict[str, str]
) -> None:
    """A token request has exactly these headers."""
    request = await sent_by(call=call, options=options)
    assert dict(request.headers) == {
        "host": "api.box.com",
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "close",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(request.content)),
        "user-agent": f"trio_anon_session/{__version__}",
        **more,
    }


async def test_request_of_a_revocation() -> None:
    """A revocation sends only the token and the credentials to the revocation endpoint."""
    settings = config(
        scope="a",
        box_subject_type="user",
        box_subject_id="1",
        extra_params={"audience": "x"},
        token_url="https://login.example/token",
        revoke_url="https://id.example/r?tenant=a",
    )
    request = await sent_by(settings, "revoke")
    assert str(request.url) == "https://id.example/r?tenant=a"
    assert form_of(request) == [("token", TOKEN), *IDENTITY]


async def test_any_text_can_be_revoked() -> None:
    """A token that UTF-8 cannot encode is sent as "?", which no server knows."""
    endpoint = Endpoint(says(200))
    async with open_manager(endpoint) as manager:
        await manager.revoke_tokens("\ud800")
    assert form_of(endpoint.requests[0])[0] == ("token", "?")


@pytest.mark.parametrize(
    ("root", "token_url", "issuer", "goes_out"),
    [
        ("https://api.box.com", "https://login.example/token", None, False),
        ("https://api.example", "https://api.example:8443/token", None, False),
        ("https://api.example", "https://api.example:443/token", None, True),
        ("https://api.example", "https://API.example/v2/token", None, True),
        # The issuer's metadata would list a revocation endpoint.
        ("https://api.example", "https://api.example/token", "https://api.example", False),
        ("https://api.example", None, "https://api.example", True),
    ],
)
async def test_the_secret_goes_only_to_its_own_server(
    root: str, token_url: str | None, issuer: str | None, goes_out: bool
) -> None:
    """If only token_url is set, no other server gets a revocation."""
    settings = config(api_root_url=root, token_url=token_url, issuer=issuer)
    if goes_out:
        request = await sent_by(settings, "revoke")
        assert str(request.url) == f"{root}/oauth2/revoke"
        return
    endpoint = Endpoint(says())
    async with httpx.AsyncClient(transport=endpoint) as client:
        manager = TokenManager(settings, http_client=client)
        with assert_checkpoints(), pytest.raises(RevocationError) as caught:
            await manager.revoke_tokens(TOKEN)
    assert endpoint.requests == []
    assert not caught.value.retryable
    assert str(caught.value).endswith(
        "If the server of token_url can revoke tokens, set revoke_url (BOX_REVOKE_URL)."
    )
    assert TOKEN not in "".join(traceback_with_locals(caught.value))


# Custom clients


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("call", CALLS)
async def test_a_given_client_adds_nothing(http: ModuleType, call: str, method: str) -> None:
    """Headers, cookies, parameters, auth, base URL and timeout of a given client are not used."""
    settings = config(auth_method=method)
    endpoint = Endpoint(says())
    async with http.AsyncClient(
        transport=endpoint,
        headers={
            "Authorization": "Bearer of-the-user",
            "User-Agent": "of the user",
            "X-Forwarded-For": "192.0.2.9",
            "X-Extra": "1",
            "Accept": "text/html",
        },
        cookies={"sid": "of-the-user"},
        params={"extra": "1"},
        auth=("user", "password"),
        base_url="https://elsewhere.example/base",
        timeout=0.001,
    ) as client:
        await ask(TokenManager(settings, http_client=client), call)

    [seen] = endpoint.requests
    expected = await sent_by(settings, call)
    assert (seen.method, str(seen.url)) == (expected.method, str(expected.url))
    assert seen.headers.raw == expected.headers.raw
    assert seen.content == expected.content
    # Each request has its own trace function, so compare only the keys.
    assert seen.extensions.keys() == {"timeout", "trace"}
    assert seen.extensions["timeout"] == dict.fromkeys(("connect", "read", "write", "pool"))


@pytest.mark.parametrize("location", ["/elsewhere", "https://evil.example/t"])
@pytest.mark.parametrize("status", [301, 303, 308])
@pytest.mark.parametrize("call", CALLS)
async def test_promise_21_no_redirect_of_a_token_request_is_followed(
    http: ModuleType, call: str, status: int, location: str
) -> None:
    """Even a client that follows redirects does not follow ours; the error names the setting."""
    endpoint = Endpoint(says(status, b"", {"Location": location}), says())
    setting = "token_url" if call == "grant" else "revoke_url"
    async with http.AsyncClient(transport=endpoint, follow_redirects=True) as client:
        manager = TokenManager(config(), http_client=client)
        with pytest.raises(TokenRequestError, match=setting) as caught:
            await ask(manager, call)

    assert len(endpoint.requests) == 1
    assert type(caught.value) is (TokenRequestError if call == "grant" else RevocationError)
    assert (caught.value.status_code, caught.value.retryable) == (status, False)


@pytest.mark.parametrize(
    "cookie",
    [
        "sid=theirs",
        "sid=theirs; Path=/; Max-Age=3600",
        "sid=; Path=/; Max-Age=0",
        "sid=theirs; Domain=.box.com; Path=/",
        "visitor=1; Path=/; Secure; HttpOnly",
    ],
    ids=["session", "whole origin", "gone", "wider", "other"],
)
@pytest.mark.parametrize("call", CALLS)
async def test_promise_21_no_cookie_of_a_token_request_is_kept(
    http: ModuleType, call: str, cookie: str
) -> None:
    """Token requests neither send nor keep cookies, and the client's own cookies stay."""
    set_cookies = [("Set-Cookie", cookie), ("Set-Cookie", "bv=2")]
    endpoint = Endpoint(says(headers=set_cookies), says(headers=set_cookies), says())
    async with http.AsyncClient(transport=endpoint) as client:
        client.cookies.set("sid", "of-the-user", domain="api.box.com")
        client.cookies.set("sid", "of-the-user", domain="other.example")
        manager = TokenManager(config(), http_client=client)
        for _ in range(2):
            await ask(manager, call)
        assert sorted((kept.domain, kept.name, kept.value) for kept in client.cookies.jar) == [
            ("api.box.com", "sid", "of-the-user"),
            ("other.example", "sid", "of-the-user"),
        ]
        await client.get("https://api.box.com/2.0/files/1")
    cookies = [request.headers.get("Cookie") for request in endpoint.requests]
    assert cookies == [None, None, "sid=of-the-user"]


class CrashError(BaseException):
    """An error that is not an `Exception`."""


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("api.box.com", "api.box.com"),
        # The jar adds ".local" to a host without a dot.
        ("intranet", "intranet.local"),
    ],
)
@pytest.mark.parametrize("how", ["raises", "crashes", "hangs", "library refuses"])
async def test_cookies_of_a_failed_attempt_are_not_kept(
    http: ModuleType, how: str, host: str, domain: str, autojump_clock: MockClock
) -> None:
    """Cookies of an answer are dropped even if a hook, or the library, ends the attempt."""

    async def hook(response: httpx.Response) -> None:
        await trio.lowlevel.checkpoint()
        if how == "raises":
            raise OSError
        if how == "crashes":
            raise CrashError
        if how == "hangs":
            await trio.sleep_forever()

    headers = [("Set-Cookie", "bv=theirs; Max-Age=3600"), ("Set-Cookie", "one=theirs; Path=/")]
    if how == "library refuses":
        headers.append(("Location", "https://x:no-port/"))
    endpoint = Endpoint(says(302, None, headers))
    async with http.AsyncClient(transport=endpoint, event_hooks={"response": [hook]}) as client:
        client.cookies.set("bv", "of-the-user", domain=domain)
        client.cookies.set("one", "of-the-user", domain=domain, path="/")
        client.cookies.set("sid", "of-the-user", domain="example.com")
        manager = TokenManager(config(api_root_url=f"https://{host}"), http_client=client)
        with pytest.raises((TokenRequestError, CrashError)):
            await manager.get_tokens_client_credentials_grant()
        kept = sorted((cookie.name, cookie.value) for cookie in client.cookies.jar)
    assert kept == [("bv", "of-the-user"), ("one", "of-the-user"), ("sid", "of-the-user")]


@pytest.mark.parametrize("is_failure", [False, True])
async def test_other_cookies_that_change_during_an_attempt(
    http: ModuleType, *, is_failure: bool
) -> None:
    """Cookies that the program sets, replaces and deletes during an attempt keep that change."""

    async def respond(request: httpx.Request) -> httpx.Response:
        client.cookies.set("new", "1", domain="example.com")
        client.cookies.set("replaced", "2", domain="example.com")
        client.cookies.delete("deleted", domain="example.com")
        if is_failure:
            raise OSError
        return await says(headers={"Set-Cookie": "bv=theirs"})(request)

    async with http.AsyncClient(transport=Endpoint(respond)) as client:
        client.cookies.set("replaced", "1", domain="example.com")
        client.cookies.set("deleted", "1", domain="example.com")
        manager = TokenManager(config(), http_client=client)
        with pytest.raises(TokenRequestError) if is_failure else nullcontext():
            await ask(manager)
        kept = sorted((cookie.name, cookie.value) for cookie in client.cookies.jar)
    assert kept == [("new", "1"), ("replaced", "2")]


@pytest.mark.parametrize("call", CALLS)
async def test_the_log_of_a_given_client(
    http: ModuleType, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Log records of a token request show no text of the server; other requests log as usual."""
    caplog.set_level(logging.INFO)

    async def respond(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            logging.getLogger(http.__name__).info("%d", "a record that cannot be formatted")
        response: httpx.Response = http.Response(
            200,
            json={"access_token": TOKEN},
            extensions={"reason_phrase": f"Take {TOKEN}".encode()},
        )
        return response

    async with http.AsyncClient(transport=Endpoint(respond)) as client:
        await ask(TokenManager(config(), http_client=client), call)
        await client.get("https://api.box.com/2.0/files/1")
    path = "token" if call == "grant" else "revoke"
    assert [record.getMessage() for record in caplog.records if record.name == http.__name__] == [
        "***",
        f'HTTP Request: POST https://api.box.com/oauth2/{path} "HTTP/1.1 200 ***',
        f'HTTP Request: GET https://api.box.com/2.0/files/1 "HTTP/1.1 200 Take {TOKEN}"',
    ]


def loggers_in(package: str) -> set[str]:
    """Return the names of the loggers that the source of a package creates."""
    (folder,) = cast("list[str]", importlib.import_module(package).__path__)
    names = set()
    for file in Path(folder).rglob("*.py"):
        module = ".".join(file.relative_to(Path(folder).parent).with_suffix("").parts)
        for name in re.findall(r"getLogger\((.+?)\)", file.read_text()):
            names.add(module if name == "__name__" else name.strip("\"'"))
    return names


async def test_each_logger_of_the_http_libraries(
    http: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    """During a token request, no logger of an HTTP library shows a secret or token."""
    caplog.set_level(logging.DEBUG)
    packages = ("httpx", "httpcore", "httpx2", "httpcore2", "hpack")
    names = sorted(name for package in packages for name in loggers_in(package))

    async def respond(request: httpx.Request) -> httpx.Response:
        for name in names:
            logging.getLogger(name).debug("sent %s, return_value=%s", SECRET, TOKEN)
        return await says()(request)

    async with http.AsyncClient(transport=Endpoint(respond)) as client:
        await ask(TokenManager(config(), http_client=client))
    shown = {record.name: record.getMessage() for record in caplog.records}
    assert shown.keys() >= {*names, "httpcore.socks", "httpcore2.http11"}
    for text in shown.values():
        assert SECRET not in text
        assert TOKEN not in text


async def test_a_client_that_refuses_cookies(http: ModuleType) -> None:
    """A client whose cookie jar refuses the answer's cookies still gets a token."""
    refusing = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    endpoint = Endpoint(says(200, None, {"Set-Cookie": "bv=2; Max-Age=3600"}))
    async with http.AsyncClient(transport=endpoint, cookies=refusing) as client:
        assert await ask(TokenManager(config(), http_client=client))


async def test_hooks_of_a_given_client_are_called(http: ModuleType) -> None:
    """The hooks of a given client are called, and see the request with the secret."""
    seen: list[object] = []

    async def on_request(request: httpx.Request) -> None:
        seen.append(dict(form_of(request))["client_secret"])

    async def on_response(response: httpx.Response) -> None:
        seen.append(response.status_code)

    hooks: dict[str, list[Any]] = {"request": [on_request], "response": [on_response]}
    async with http.AsyncClient(transport=Endpoint(says()), event_hooks=hooks) as client:
        await ask(TokenManager(config(), http_client=client))

    assert seen == [SECRET, 200]


async def test_a_hook_of_a_given_client_that_raises(http: ModuleType) -> None:
    """If a hook raises, the attempt fails as without an answer, and is retryable."""

    async def on_response(response: httpx.Response) -> None:
        response.raise_for_status()

    hooks = {"response": [on_response]}
    async with http.AsyncClient(transport=Endpoint(says(400)), event_hooks=hooks) as client:
        with pytest.raises(TokenRequestError, match="HTTPStatusError") as caught:
            await ask(TokenManager(config(), http_client=client))

    assert caught.value.retryable
    assert caught.value.status_code is None


# Our own client, on real sockets


@pytest.mark.slow
@pytest.mark.parametrize("status", [303, 307])
async def test_promise_21_our_own_client_follows_no_redirect(status: int) -> None:
    """The manager's own client does not follow a redirect or connect to the other origin."""
    async with open_peer() as other, open_peer() as peer:
        peer.answers.append(answer(status, b"", location=f"http://{other.netloc}/oauth2/token"))
        async with TokenManager(config(api_root_url=f"http://{peer.netloc}")) as manager:
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager)
        assert caught.value.status_code == status
        assert len(peer.requests) == 1
        assert other.requests == []


@pytest.mark.slow
async def test_promise_21_our_own_client_keeps_no_cookie() -> None:
    """The manager's own client does not send back cookies."""
    async with open_peer() as peer:
        peer.answers += [answer(set_cookie="sid=1; Path=/"), answer(set_cookie="sid=2; Path=/")]
        async with TokenManager(config(api_root_url=f"http://{peer.netloc}")) as manager:
            for _ in range(3):
                await ask(manager)
        assert len(peer.requests) == 3
        assert b"ookie" not in b"".join(request.raw for request in peer.requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    "open_client",
    [nullcontext, httpx.AsyncClient, httpx2.AsyncClient],
    ids=["manager", "httpx", "httpx2"],
)
async def test_a_second_answer_in_the_same_packet(
    open_client: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    """A second answer in the same packet is not used for the next request."""
    granted = itertools.count(1)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while await read_request(stream) is not None:
                good = b'{"access_token": "token-%d"}' % next(granted)
                planted = b'{"access_token": "planted"}'
                await stream.send_all(
                    b"".join(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                        for body in (good, planted)
                    )
                )

    async with listening(serve) as port, open_client() as client:
        settings = config(api_root_url=f"http://127.0.0.1:{port}")
        async with TokenManager(settings, http_client=client) as manager:
            for number in (1, 2, 3):
                token = await manager.get_tokens_client_credentials_grant()
                assert token.access_token == f"token-{number}"
