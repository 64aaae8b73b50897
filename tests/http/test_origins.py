"""Tests of promise 22 with drawn URLs and redirects: only allowed origins get the token.

Two oracles that use neither httpx nor this library decide where the token may go. urllib parses
the URL as it was given, and the table `ORIGINS` has the target of each allowed origin. The
transport records the targets of the real requests.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import httpx2
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, run_virtually
from tests.http.kit import auth_of, libraries
from trio_anon_session import AnonymousSession, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from trio.testing import MockClock

TOKEN = "token-"
Target = tuple[str, str, int]
PORTS = {"https": 443, "http": 80}

# No http origin has port 80, because httpx keeps the token in a redirect to https. See
# test_promise_22_a_loopback_redirect_to_https_keeps_the_token.
ORIGINS: dict[str, Target] = {
    "https://api.box.com": ("https", "api.box.com", 443),
    "HTTPS://Upload.Box.COM:443/": ("https", "upload.box.com", 443),
    "https://files.example:8443": ("https", "files.example", 8443),
    "https://dotted.example.": ("https", "dotted.example.", 443),
    "https://münchen.example": ("https", "xn--mnchen-3ya.example", 443),
    "https://192.0.2.7": ("https", "192.0.2.7", 443),
    "https://[2001:DB8:0:0::1]": ("https", "[20010db8000000000000000000000001]", 443),
    "http://127.0.0.1:8080": ("http", "127.0.0.1", 8080),
    "http://[::1]:9000": ("http", "[00000000000000000000000000000001]", 9000),
    "http://localhost:8080": ("http", "localhost", 8080),
}


def by_hand(scheme: str, host: str, port: int | None) -> Target:
    """Return a target in one normal form."""
    # urllib does not change the case after a percent sign, because the text may be a zone.
    host = host.lower()
    if ":" in host:
        with contextlib.suppress(OSError):
            host = f"[{socket.inet_pton(socket.AF_INET6, host).hex()}]"
    return scheme, host, port or PORTS.get(scheme, 0)


def as_urllib_reads(url: str) -> Target | None:
    """Return the target of a URL according to urllib; None if urllib cannot parse it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # Newer versions of Python refuse a bracket before an @.
        return None
    return by_hand(parts.scheme, parts.hostname or "", parts.port)


class Web(httpx.AsyncBaseTransport):
    """A transport that answers for every host: with the given answers, then with 200."""

    def __init__(self, http: ModuleType, *answers: Any) -> None:
        self.http = http
        self.answers = list(answers)
        self.sent: list[tuple[Target, httpx.Request]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Record the target of a request, from the fields that httpx' own transport uses."""
        url = request.url
        target = by_hand(url.raw_scheme.decode(), url.raw_host.decode(), url.port)
        self.sent.append((target, request))
        answer: httpx.Response = self.answers.pop(0) if self.answers else self.http.Response(200)
        return answer

    @property
    def had_token(self) -> list[bool]:
        """Whether each request had the token anywhere in its URL or headers."""
        return [TOKEN in f"{request.url} {request.headers.raw!r}" for _target, request in self.sent]


async def send(
    web: Web,
    origins: Iterable[str] | None,
    url: str,
    *,
    method: str = "GET",
    root: str = "https://api.box.com",
    **settings: Any,
) -> Any:
    """Send a request with the auth of a session."""
    config = make_config(api_root_url=root)
    async with (
        AnonymousSession(config, FakeTokenManager(config)) as session,
        web.http.AsyncClient(
            transport=web, auth=auth_of(web.http, session, origins), **settings
        ) as client,
    ):
        return await client.request(method, url)


# URLs of allowed origins, or similar ones

HOSTS = [
    *(urlsplit(origin).netloc.rpartition("@")[2] for origin in ORIGINS),
    "api.box.com",
    "api.box.com.",
    "upload.box.com",
    "files.example",
    "dotted.example",
    "xn--mnchen-3ya.example",
    "box.com",
    "api-box.com",
    "apiXbox.com",
    "evil-api.box.com",
    "api.box.com.evil.example",
    "api.box.com%00.evil.example",
    "api%2ebox.com",
    "*.box.com",
    "evil.example",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "localhost",
    "localhost.",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::1%25lo]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[2001:db8::1]",
    "[2001:0DB8::0001]",
    "[2001:db8::2]",
]
USERS = ["", "user@", "user:password@", "api.box.com@", "api.box.com:443@", "evil.example\\@"]
TAILS = [
    "",
    "/",
    "/2.0/files/1",
    "?a=https://api.box.com",
    "#@api.box.com",
    "?@api.box.com/",
    "/@api.box.com",
    "\\@api.box.com",
    "@api.box.com/",
    "%2f@api.box.com/",
]


@st.composite
def urls(draw: st.DrawFn) -> str:
    """Draw a URL that is similar to an allowed one, in any mix of cases."""
    host = draw(st.sampled_from(HOSTS))
    has_port = host.rpartition("]")[2].count(":") == 1
    port = "" if has_port else draw(st.sampled_from(["", ":443", ":0443", ":", ":80", ":8443"]))
    host = draw(st.sampled_from([host, host.upper(), host.swapcase()]))
    scheme = draw(st.sampled_from(["https", "https", "https", "http", "HTTPS", "Http"]))
    return f"{scheme}://{draw(st.sampled_from(USERS))}{host}{port}{draw(st.sampled_from(TAILS))}"


origin_sets = st.sets(st.sampled_from(sorted(ORIGINS)))


@given(http=libraries, url=urls(), origins=origin_sets)
@example(http=httpx, url="https://upload.box.com/", origins={"HTTPS://Upload.Box.COM:443/"})
@example(http=httpx2, url="https://upload.box.com/", origins={"HTTPS://Upload.Box.COM:443/"})
@example(http=httpx, url="HTTP://localhost:80/", origins={"http://localhost"})
@example(http=httpx2, url="HTTP://localhost:80/", origins={"http://localhost"})
@example(http=httpx, url="https://[2001:db8::1]/", origins={"https://[2001:DB8:0:0::1]"})
@example(http=httpx2, url="https://[2001:db8::1]/", origins={"https://[2001:DB8:0:0::1]"})
def test_promise_22_the_token_goes_to_allowed_origins_however_spelt(
    http: ModuleType, url: str, origins: set[str]
) -> None:
    """A request has the token exactly if its target is an allowed origin, however it is spelt."""
    web = Web(http)
    try:
        run_virtually(send, web, origins, url)
    except http.InvalidURL:
        # httpx sends no request.
        assert web.sent == []
        return
    [(target, request)] = web.sent
    if url.isascii():
        assert as_urllib_reads(url) in (target, None)
    assert as_urllib_reads(str(request.url)) in (target, None)
    allowed = {ORIGINS.get(origin, ("http", "localhost", 80)) for origin in origins}
    assert web.had_token == [target in allowed]


def near(origin: str) -> st.SearchStrategy[str]:
    """Draw an origin, or a URL that is similar to one."""
    return st.one_of(st.just(origin), urls())


@given(
    http=libraries,
    chain=st.lists(st.sampled_from(sorted(ORIGINS)).flatmap(near), min_size=2, max_size=6),
    statuses=st.lists(st.sampled_from([301, 302, 303, 307, 308]), min_size=5, max_size=5),
    origins=origin_sets,
    method=st.sampled_from(["GET", "POST"]),
    ends_dead=st.booleans(),
    path=st.sampled_from(["", "/elsewhere"]),
)
def test_promise_22_no_redirect_takes_the_token_elsewhere(
    http: ModuleType,
    chain: list[str],
    statuses: list[int],
    origins: set[str],
    method: str,
    ends_dead: bool,
    path: str,
) -> None:
    """Whatever redirects follow each other, no other origin ever gets the token."""
    answers = [
        http.Response(status, headers=[(b"Location", (url + path).encode())])
        for url, status in zip(chain[1:], statuses, strict=False)
    ]
    if ends_dead:
        answers.append(http.Response(401))
    web = Web(http, *answers)
    # A URL may be impossible, or httpx may be unable to compare it with another one.
    with contextlib.suppress(http.InvalidURL, http.RequestError, UnicodeError):
        follow = functools.partial(send, method=method, follow_redirects=True)
        run_virtually(follow, web, origins, chain[0])
    assume(web.sent)
    allowed = {ORIGINS[origin] for origin in origins}
    for (target, _), had_token in zip(web.sent, web.had_token, strict=True):
        assert target in allowed or not had_token
    # A redirect within one allowed origin keeps the token.
    home = web.sent[0][0]
    targets = [target for target, _ in web.sent[: len(chain)]]
    if home in allowed and set(targets) == {home}:
        assert all(web.had_token)


@given(http=libraries, first=urls(), second=urls(), origins=origin_sets)
def test_promise_22_a_redirect_that_the_program_follows(
    http: ModuleType, first: str, second: str, origins: set[str]
) -> None:
    """If a program sends ``next_request`` itself, only allowed origins get the token."""
    web = Web(http, http.Response(307, headers=[(b"Location", second.encode())]))

    async def main() -> None:
        config = make_config()
        async with (
            AnonymousSession(config, FakeTokenManager(config)) as session,
            http.AsyncClient(transport=web, auth=auth_of(http, session, origins)) as client,
        ):
            response = await client.get(first)
            assert response.next_request is not None
            await client.send(response.next_request)

    with contextlib.suppress(http.InvalidURL, http.RequestError, UnicodeError):
        run_virtually(main)
    allowed = {ORIGINS[origin] for origin in origins}
    assert web.had_token == [target in allowed for target, _ in web.sent]


async def test_promise_22_a_request_that_is_sent_again_elsewhere(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A request that is sent again with another origin's URL has no token."""
    sent: list[str | None] = []

    def answer(request: Any) -> Any:
        sent.append(request.headers.get("Authorization"))
        return http.Response(200)

    config = make_config()
    async with (
        AnonymousSession(config, FakeTokenManager(config)) as session,
        http.AsyncClient(
            transport=http.MockTransport(answer), auth=auth_of(http, session)
        ) as client,
    ):
        request = client.build_request("GET", "https://api.box.com/a")
        await client.send(request)
        request.url = http.URL("https://evil.example/a")
        await client.send(request)
        assert "token-1" not in repr(request.extensions)
        request.headers["Authorization"] = "Basic mine"
        await client.send(request)
        request.url = http.URL("https://api.box.com/b")
        await client.send(request)
    assert sent == ["Bearer token-1", None, "Basic mine", "Bearer token-1"]


BOX = "https://api.box.com"


@pytest.mark.parametrize(
    ("root", "url", "goes"),
    [
        (BOX, "https://api.box.com/2.0/files/1?fields=name#top", True),
        (BOX, "HTTPS://user:password@API.Box.COM:443/", True),
        (BOX, "https://upload.box.com:443/", True),
        (BOX, "http://api.box.com/", False),
        (BOX, "http://api.box.com:443/", False),
        (BOX, "https://api.box.com:8443/", False),
        (BOX, "https://api.box.com./", False),
        (BOX, "https://evil-api.box.com/", False),
        (BOX, "https://api.box.com.evil.example/", False),
        (BOX, "https://evil.example/?https://api.box.com", False),
        (BOX, "https://api.box.com:443@evil.example/", False),
        (BOX, "https://api.box.com%00.evil.example/", False),
        (BOX, "http://localhost/", False),
        ("http://localhost", "http://localhost:80/2.0/files/1", True),
        ("http://localhost", "https://localhost/", False),
        ("http://localhost:8080", "http://localhost:8080/", True),
        ("http://localhost:8080", "http://localhost/", False),
        ("http://[::1]:8080", "http://[0:0::0:1]:8080/", True),
        ("https://proxy.example/box", "https://proxy.example/other", True),
        ("https://proxy.example/box", "https://upload.box.com/", False),
        ("https://box.com.evil.example", "https://upload.box.com/", False),
        ("https://notbox.com", "https://upload.box.com/", False),
        ("https://box.com", "https://upload.box.com/", True),
        ("https://API.eu.BOX.com/", "https://upload.box.com/", True),
        ("https://proxy.example/box", "https://api.box.com/", False),
    ],
)
async def test_the_default_origins(
    http: ModuleType, autojump_clock: MockClock, root: str, url: str, goes: bool
) -> None:
    """By default, the origin of the API root gets the token, and for Box also its upload host."""
    web = Web(http)
    await send(web, None, url, root=root)
    assert web.had_token == [goes]


@pytest.mark.parametrize(
    ("root", "token_url", "fits"),
    [
        (BOX, "https://login.example/token", False),
        (BOX, "https://api.box.com.evil.example/token", False),
        ("https://upload.box.com", "http://localhost:8080/token", False),
        (BOX, "https://account.BOX.com/oauth2/token", True),
        ("https://api.example", "https://login.example/token", True),
        ("https://api.example", "https://api.box.com/oauth2/token", True),
    ],
)
async def test_the_token_of_another_server_never_goes_to_box_by_default(
    http: ModuleType, autojump_clock: MockClock, root: str, token_url: str, fits: bool
) -> None:
    """With Box's API root and another server's token_url, the auth requires origins."""
    config = make_config(api_root_url=root, token_url=token_url)
    async with AnonymousSession(config, FakeTokenManager(config)) as session:
        if fits:
            auth_of(http, session)
            return
        with pytest.raises(ConfigError, match="origins must be set, or api_root_url") as caught:
            auth_of(http, session)
        assert caught.value.field == "origins"
        auth_of(http, session, ["https://api.box.com"])


# Redirects of httpx


@pytest.mark.parametrize(
    ("first", "second", "keeps"),
    [
        ("http://localhost/a", "https://localhost/b", True),
        ("http://localhost:80/a", "https://localhost:443/b", True),
        ("http://127.0.0.1/a", "https://127.0.0.1/b", True),
        ("http://[::1]/a", "https://[::1]/b", True),
        ("http://localhost/a", "https://localhost:8443/b", False),
        ("http://localhost:8080/a", "https://localhost/b", False),
        ("http://localhost/a", "https://127.0.0.1/b", False),
        ("http://localhost/a", "https://localhost./b", False),
        ("http://localhost/a", "http://localhost:8080/b", False),
        ("https://api.box.com/a", "http://api.box.com/b", False),
    ],
)
async def test_promise_22_a_loopback_redirect_to_https_keeps_the_token(
    http: ModuleType, autojump_clock: MockClock, first: str, second: str, keeps: bool
) -> None:
    """In a redirect from http to https on a loopback host, httpx keeps the token at default ports.

    This is no problem: the token stays on this machine.
    """
    web = Web(http, http.Response(302, headers={"Location": second}))
    plain = ["http://localhost", "http://localhost:8080", "http://127.0.0.1", "http://[::1]"]
    await send(web, ["https://api.box.com", *plain], first, follow_redirects=True)
    assert web.had_token == [True, keeps]


async def test_between_allowed_origins(http: ModuleType, autojump_clock: MockClock) -> None:
    """A redirect from one allowed origin to another, and back, loses the token."""
    api, upload = "https://api.box.com/a", "https://upload.box.com/b"
    web = Web(http, *(http.Response(307, headers={"Location": to}) for to in (upload, api)))
    await send(web, None, api, follow_redirects=True)
    assert [target[1] for target, _ in web.sent] == ["api.box.com", "upload.box.com", "api.box.com"]
    assert web.had_token == [True, False, False]


# Host names in other alphabets


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://münchen.example/", "xn--mnchen-3ya.example"),
        ("https://MÜNCHEN.example/", "xn--mnchen-3ya.example"),
        ("https://xn--mnchen-3ya.example/", "xn--mnchen-3ya.example"),
        ("https://XN--MNCHEN-3YA.example/", "xn--mnchen-3ya.example"),
        ("https://mu\u0308nchen.example/", None),
        ("https://munchen.example/", "munchen.example"),
        # Full stops of other scripts count as full stops.
        ("https://api。box。com/", "api.box.com"),
        ("https://api．box．com/", "api.box.com"),
        ("https://api.bоx.com/", "xn--api.bx-…"),
        ("https://аpi.box.com/", "xn--pi-…"),
        ("https://ａpi.box.com/", None),
        ("https://api.box.com\u200b/", None),
        ("https://api.box.c\u043em/", "xn--c-…"),
    ],
    ids=ascii,
)
async def test_alphabets(
    http: ModuleType, autojump_clock: MockClock, url: str, host: str | None
) -> None:
    """The ASCII form of a host name decides, so a name that only looks similar gets no token."""
    allowed = {"xn--mnchen-3ya.example", "api.box.com"}
    web = Web(http)
    if host is None:
        with pytest.raises(http.InvalidURL):
            await send(web, [f"https://{name}" for name in allowed], url)
        assert web.sent == []
        return
    await send(web, [f"https://{name}" for name in allowed], url)
    [((_, seen, _), _)] = web.sent
    assert seen == host or (host.endswith("…") and "xn--" in seen)
    assert web.had_token == [seen in allowed]


# The argument `origins`


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "api.box.com",
        "//api.box.com",
        "https:api.box.com",
        "https:///2.0",
        "https://api.box.com/2.0",
        "https://api.box.com?a=b",
        "https://api.box.com#top",
        "https://user@api.box.com",
        "https://a:hunter2@evil.example",
        "https://api.box.com\\@evil.example",
        "https://api.box.com:port",
        "https://api.box.com:443:443",
        "https://api.box.com:0",
        "https://api.box.com:65536",
        "https://[::1",
        "https://*.box.com",
        "https://api.box.com ",
        "https://api.box.com,https://upload.box.com",
        "https://api%2ebox.com",
        "https://.box.com",
        "https://api..box.com",
        "https://xn--a",
        "https://ａpi.box.com",
        "https://\ud800.example",
        "http://api.box.com",
        "http://localhost.",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.1",
        "http://0x7f.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://[::ffff:192.0.2.1]",
        "http://[fe80::1%25eth0]",
        "http://localhostile",
        "ftp://api.box.com",
        7,
        None,
        b"https://api.box.com",
    ],
    ids=ascii,
)
def test_promise_22_an_invalid_origin_is_refused(http: ModuleType, origin: Any) -> None:
    """A value that is not an https or loopback origin is refused; the error has only its number."""
    session = AnonymousSession(make_config())
    with pytest.raises(ConfigError, match=r"origins must .*; origins\[1\] (is|does) not") as caught:
        auth_of(http, session, ["https://api.box.com", origin])
    assert caught.value.field == "origins"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "origin",
    [
        "http://[::ffff:127.0.0.1]:8080",
        "http://[0:0:0:0:0:0:0:1]",
        "http://LOCALHOST",
        "http://127.255.255.254",
        "https://under_score.example",
        "https://localhost",
        "https://intranet",
        "https://api.box.com:",
        "https://api.box.com:1",
        "https://api.box.com:65535",
        "https://[fe80::1%25eth0]",
    ],
)
def test_accepted_origins(http: ModuleType, origin: str) -> None:
    """Every host name is allowed with https, and every loopback address also with http."""
    assert auth_of(http, AnonymousSession(make_config()), [origin])


@pytest.mark.parametrize("origins", ["https://api.box.com", 7, True, object()])
def test_origins_that_are_no_list(http: ModuleType, origins: Any) -> None:
    """One origin, or another value that is not a list, is refused."""
    wants = f"origins must be a list of origins, not {type(origins).__name__}$"
    with pytest.raises(ConfigError, match=wants):
        auth_of(http, AnonymousSession(make_config()), origins)


async def test_auth_without_parentheses(http: ModuleType, autojump_clock: MockClock) -> None:
    """With ``auth=session.auth``, a request raises an error that says how to call it."""
    manager = FakeTokenManager(make_config())
    async with (
        AnonymousSession(manager.config, manager) as session,
        http.AsyncClient(auth=session.auth) as client,
    ):
        with pytest.raises(TypeError, match=r"^pass auth=session\.auth\(\) to the client"):
            await client.get("https://api.box.com/")
