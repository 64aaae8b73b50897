"""How the client authenticates: what goes over the wire for it, and what never does.

What a `TokenManager` makes of a given client's settings is in `tests.test_manager` too.
"""

from __future__ import annotations

import base64
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import attrs
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers import run_virtually
from tests.wire import TOKEN_ANSWER, answer, open_peer
from trio_anon_session import (
    Config,
    CredentialsRejectedError,
    TokenManager,
    TokenRequestError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from trio_anon_session.testing._server import Receive, Scope, Send

METHODS = ["client_secret_post", "client_secret_basic"]
CALLS = ["grant", "revoke"]
ROOT = "https://api.example"
TOKEN = "token-0"

# What forms, percent-encoding and Basic treat differently, and anything else.
texts = st.text(
    st.sampled_from("ab41 +%/&=?#:;@'\"\\~*-._é密😀\n\x00")
    | st.characters(exclude_categories=["Cs"]),
    min_size=1,
    max_size=20,
)


@attrs.frozen
class Seen:
    """Is a request as an ASGI app gets it."""

    method: str
    host: str
    path: bytes
    query: bytes
    headers: list[tuple[str, str]]
    body: bytes

    def all_of(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for given_name, value in self.headers if given_name == name]

    def fields(self) -> list[tuple[str, str]]:
        """Return the form's fields, read by hand, in order."""
        pairs = (pair.partition("=") for pair in self.body.decode("ascii").split("&"))
        return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


class Wire:
    """An ASGI app that keeps what it was sent, and answers each request alike."""

    def __init__(self, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.headers = headers
        self.body = TOKEN_ANSWER
        self.seen: list[Seen] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        [host] = [value for name, value in headers if name == "host"]
        self.seen.append(
            Seen(scope["method"], host, scope["raw_path"], scope["query_string"], headers, body)
        )
        encoded = [(name.encode(), value.encode()) for name, value in self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        await send({"type": "http.response.body", "body": self.body})


def make_config(**settings: Any) -> Config:
    """Return a config for the app."""
    return Config(
        **({"client_id": "id", "client_secret": "secret", "api_root_url": ROOT} | settings)
    )


async def ask(manager: TokenManager, call: str) -> None:
    """Grant or revoke."""
    if call == "grant":
        await manager.get_tokens_client_credentials_grant()
    else:
        await manager.revoke_tokens(TOKEN)


async def sent_by(config: Config, call: str) -> Seen:
    """Return what goes out for a grant or a revocation."""
    wire = Wire()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(wire)) as client:
        await ask(TokenManager(config, http_client=client), call)
    [seen] = wire.seen
    return seen


def spelt(secret: str) -> set[str]:
    """Return a secret in the spellings in which it may go out."""
    return {secret, quote(secret, safe=""), quote_plus(secret)}


def no_trace(secret: str, *places: str) -> bool:
    """Return whether a secret, long enough not to be there by chance, is in none of the places."""
    return not any(spelling in place for spelling in spelt(secret) for place in places)


@given(client_id=texts, client_secret=texts, call=st.sampled_from(CALLS))
@example(client_id="id", client_secret=" ", call="grant")
def test_the_form_carries_the_credentials_once(
    client_id: str, client_secret: str, call: str
) -> None:
    """With client_secret_post id and secret are fields of the form, once, and nowhere else."""
    marked = f"9z{client_secret}§7"
    seen = run_virtually(sent_by, make_config(client_id=client_id, client_secret=marked), call)

    assert seen.fields() == [
        ("grant_type", "client_credentials") if call == "grant" else ("token", TOKEN),
        ("client_id", client_id),
        ("client_secret", marked),
    ]
    assert seen.all_of("authorization") == []
    head = [seen.path.decode(), seen.query.decode(), *(value for _, value in seen.headers)]
    assert no_trace(marked, *head)


@given(client_id=texts, client_secret=texts, call=st.sampled_from(CALLS))
@example(client_id="a:b", client_secret="c:d", call="grant")
@example(client_id="a b", client_secret="c+d%20", call="revoke")
def test_the_basic_header_carries_the_credentials_in_place_of_the_form(
    client_id: str, client_secret: str, call: str
) -> None:
    """With client_secret_basic each is percent-encoded before they are joined, and not in the form.

    A server that decodes forms and one that decodes percent-encoding alone read the same.
    """
    marked = f"9z{client_secret}§7"
    config = make_config(
        client_id=client_id, client_secret=marked, auth_method="client_secret_basic"
    )
    seen = run_virtually(sent_by, config, call)

    [header] = seen.all_of("authorization")
    assert header.startswith("Basic ")
    pair = base64.b64decode(header.removeprefix("Basic "), validate=True).decode("ascii")
    assert re.fullmatch(r"((?:[\w.~-]|%[0-9A-F]{2})+):((?:[\w.~-]|%[0-9A-F]{2})+)", pair, re.ASCII)
    for decode in (unquote, unquote_plus):
        assert [decode(part) for part in pair.split(":")] == [client_id, marked]
    assert (" " in client_id) <= ("%20" in pair)
    assert seen.fields() == [
        ("grant_type", "client_credentials") if call == "grant" else ("token", TOKEN)
    ]
    others = [value for name, value in seen.headers if name != "authorization"]
    assert no_trace(marked, seen.path.decode(), seen.query.decode(), *others)


@given(
    client_id=texts,
    client_secret=texts,
    method=st.sampled_from(METHODS),
    call=st.sampled_from(CALLS),
    path=st.sampled_from(["/t", "/t/", "/t?tenant=a%20b", "/t?x=&y=1+2"]),
)
def test_no_credentials_change_the_url(
    client_id: str, client_secret: str, method: str, call: str, path: str
) -> None:
    """Whatever the credentials, the request goes to the very URL of the config, by POST."""
    config = make_config(
        client_id=client_id,
        client_secret=client_secret,
        auth_method=method,
        token_url=ROOT + path,
        revoke_url=ROOT + path,
    )
    seen = run_virtually(sent_by, config, call)

    before, _, after = path.partition("?")
    assert (seen.method, seen.path.decode(), seen.query.decode()) == ("POST", before, after)
    assert seen.host == "api.example"


@given(
    field=st.sampled_from(["client_id", "client_secret", "client_assertion", "grant_type"]),
    method=st.sampled_from(METHODS),
)
def test_no_second_way(field: str, method: str) -> None:
    """Further form fields cannot bring a second way of authentication in (RFC 6749 §2.3)."""
    with pytest.raises(ValueError, match=field):
        make_config(auth_method=method, extra_params={field: "x"})


# A client that is given


@asynccontextmanager
async def open_given(wire: Wire, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of the user's that follows redirects, and would send a cookie."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(wire), follow_redirects=True, **settings
    ) as client:
        yield client


@pytest.mark.parametrize("location", [f"{ROOT}/elsewhere", "/elsewhere", "https://evil.example/t"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("call", CALLS)
async def test_promise_21_no_redirect_of_a_token_request_is_followed(
    autojump_clock: MockClock, call: str, method: str, status: int, location: str
) -> None:
    """No redirect is followed, to the same origin or another, by a client that would do so."""
    wire = Wire(status, (("Location", location),))
    async with open_given(wire) as client:
        manager = TokenManager(make_config(auth_method=method), http_client=client)
        with pytest.raises(TokenRequestError) as caught:
            await ask(manager, call)

    assert [seen.host for seen in wire.seen] == ["api.example"]
    assert (caught.value.status_code, caught.value.retryable) == (status, False)


COOKIES = {
    "session": "sid=theirs",
    "whole origin": "sid=theirs; Path=/; Max-Age=3600",
    "gone": "sid=; Path=/; Max-Age=0",
    "wider": "sid=theirs; Domain=.api.example; Path=/",
    "other": "visitor=1; Path=/; Secure; HttpOnly",
}


@pytest.mark.parametrize("cookie", COOKIES)
@pytest.mark.parametrize("call", CALLS)
async def test_promise_21_no_cookie_of_a_token_request_is_kept(
    autojump_clock: MockClock, call: str, cookie: str
) -> None:
    """No cookie is sent or kept, and the user's own stay, also if the server would replace them."""
    wire = Wire(headers=(("Set-Cookie", COOKIES[cookie]), ("Set-Cookie", "bv=2")))
    async with open_given(wire) as client:
        client.cookies.set("sid", "of-the-user", domain="api.example")
        client.cookies.set("sid", "of-the-user", domain="other.example")
        manager = TokenManager(make_config(), http_client=client)
        for _ in range(2):
            await ask(manager, call)
        assert sorted((kept.domain, kept.name, kept.value) for kept in client.cookies.jar) == [
            ("api.example", "sid", "of-the-user"),
            ("other.example", "sid", "of-the-user"),
        ]
        assert [seen.all_of("cookie") for seen in wire.seen] == [[], []]
        wire.headers = ()
        await client.get(f"{ROOT}/2.0/files/1")
    assert wire.seen[-1].all_of("cookie") == ["sid=of-the-user"]


async def test_event_hooks(autojump_clock: MockClock) -> None:
    """A given client's hooks are called: they see the request, and so the secret."""
    seen: list[str] = []

    async def on_request(request: httpx.Request) -> None:
        seen.append(request.content.decode())

    async def on_response(response: httpx.Response) -> None:
        seen.append(str(response.status_code))

    hooks = {"request": [on_request], "response": [on_response]}
    async with open_given(Wire(), event_hooks=hooks) as client:
        await ask(TokenManager(make_config(), http_client=client), "grant")

    assert seen == ["grant_type=client_credentials&client_id=id&client_secret=secret", "200"]


@pytest.mark.parametrize("call", CALLS)
async def test_event_hook_that_raises(autojump_clock: MockClock, call: str) -> None:
    """A hook that raises takes the answer away, whatever it was: the attempt has failed."""

    async def on_response(response: httpx.Response) -> None:
        response.raise_for_status()

    async with open_given(Wire(400), event_hooks={"response": [on_response]}) as client:
        manager = TokenManager(make_config(), http_client=client)
        with pytest.raises(TokenRequestError, match="HTTPStatusError") as caught:
            await ask(manager, call)

    assert caught.value.retryable
    assert caught.value.status_code is None


@pytest.mark.parametrize("refused_by", ["hook", "httpx"])
async def test_cookies_of_an_answer_that_the_client_refuses(
    autojump_clock: MockClock, refused_by: str
) -> None:
    """An answer that a hook or httpx does not like leaves a given client's cookies as they were."""

    async def on_response(response: httpx.Response) -> None:
        if refused_by == "hook":
            response.raise_for_status()

    headers = [("Set-Cookie", "one=theirs; Path=/"), ("Set-Cookie", "two=theirs; Path=/")]
    headers.append(("Location", "https://x:no-port/"))
    answer = httpx.Response(302, headers=headers)
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: answer),
        event_hooks={"response": [on_response]},
    ) as client:
        client.cookies.set("one", "mine", domain="api.box.com", path="/")
        client.cookies.set("elsewhere", "mine", domain="other.example", path="/")
        manager = TokenManager(make_config(), http_client=client)
        with pytest.raises(TokenRequestError):
            await manager.get_tokens_client_credentials_grant()
        kept = sorted((cookie.name, cookie.value) for cookie in client.cookies.jar)
    assert kept == [("elsewhere", "mine"), ("one", "mine")]


async def test_base_url_is_not_added(autojump_clock: MockClock) -> None:
    """A given client's base URL and query are for its user's requests alone."""
    wire = Wire()
    settings = {"base_url": "https://elsewhere.example/base", "params": {"key": "1"}}
    async with open_given(wire, **settings) as client:
        await ask(TokenManager(make_config(), http_client=client), "grant")
    [seen] = wire.seen
    assert (seen.host, seen.path, seen.query) == ("api.example", b"/oauth2/token", b"")


# Our own client, on real sockets


@pytest.fixture
def _netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text(
        "machine 127.0.0.1 login of-netrc password of-netrc\ndefault login d password d\n"
    )
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(path.read_bytes())
    (tmp_path / ".netrc").chmod(0o600)


@pytest.mark.slow
@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("is_given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("call", CALLS)
async def test_a_netrc_file_adds_no_credentials(call: str, method: str, is_given: bool) -> None:
    """A netrc file that knows the host adds nothing: one way of authentication, never two."""
    async with open_peer() as peer, httpx.AsyncClient() as client:
        config = make_config(api_root_url=f"http://{peer.netloc}", auth_method=method)
        async with TokenManager(config, http_client=client if is_given else None) as manager:
            await ask(manager, call)
        [request] = peer.requests

    pair = base64.b64encode(b"id:secret").decode()
    expected = f"Basic {pair}" if method == "client_secret_basic" else None
    assert request.headers.get("authorization") == expected
    assert (b"client_secret=secret" in request.body) is (method == "client_secret_post")
    assert b"of-netrc" not in request.raw


@pytest.mark.slow
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS)
async def test_promise_21_our_own_client_follows_no_redirect(call: str, status: int) -> None:
    """Our own client follows no redirect either: the other origin is not even connected to."""
    async with open_peer() as other, open_peer() as peer:
        peer.answers.append(answer(status, b"", location=f"http://{other.netloc}/oauth2/token"))
        async with TokenManager(make_config(api_root_url=f"http://{peer.netloc}")) as manager:
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager, call)
        assert caught.value.status_code == status
        assert len(peer.requests) == 1
        assert other.requests == []


@pytest.mark.slow
async def test_promise_21_our_own_client_keeps_no_cookie() -> None:
    """Our own client sends back no cookie that it was given."""
    async with open_peer() as peer:
        peer.answers += [answer(set_cookie="sid=1; Path=/"), answer(set_cookie="sid=2; Path=/")]
        async with TokenManager(make_config(api_root_url=f"http://{peer.netloc}")) as manager:
            for _ in range(3):
                await ask(manager, "grant")
        assert len(peer.requests) == 3
        assert b"ookie" not in b"".join(request.raw for request in peer.requests)


@pytest.mark.slow
async def test_rejection_on_a_socket() -> None:
    """A challenge for Basic credentials is a rejection: nothing is tried a second time."""
    async with open_peer(answer(401, b"", www_authenticate='Basic realm="x"')) as peer:
        async with TokenManager(make_config(api_root_url=f"http://{peer.netloc}")) as manager:
            with pytest.raises(CredentialsRejectedError):
                await ask(manager, "grant")
        assert len(peer.requests) == 1
