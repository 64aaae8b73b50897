"""`TokenManager`: what it sends, what it makes of every answer, and what it never shows."""

from __future__ import annotations

import base64
import copy
import gc
import gzip
import itertools
import json
import logging
import math
import pickle
import ssl
import zlib
from email.utils import formatdate
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus

import attrs
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

from tests.helpers import run_virtually, traceback_with_locals
from tests.wire import listening, read_request
from trio_anon_session import (
    Config,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    TokenInfo,
    TokenManager,
    TokenRequestError,
    TokenRequestOptions,
    TokenUnavailableError,
    __version__,
)
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]

CLIENT_ID = "my app:é"
# What is escaped differently by forms, JSON, HTML and repr.
SECRET = "p@ss w/ö'rd\"+%41&<\\>!"
TOKEN = "tok/en+With~Odd%Chars==1234567890"
LIMIT = 2**20
# A good header, and then no block that there is.
CORRUPT = gzip.compress(b"")[:10] + b"\xff" * 20


def config(**changes: Any) -> Config:
    """Return a config with the odd credentials and these settings."""
    return Config(**({"client_id": CLIENT_ID, "client_secret": SECRET} | changes))


class Endpoint(httpx.AsyncBaseTransport):
    """A transport that keeps what was sent, and answers as the test decides.

    Attributes:
        requests: all requests, in order.
        closed: how often the transport was closed.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer with the next answer; the last one serves for all that follow."""
        await request.aread()
        self.requests.append(request)
        await trio.lowlevel.checkpoint()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await answer(request)

    async def aclose(self) -> None:
        """Note that the client was closed."""
        self.closed += 1
        await trio.lowlevel.checkpoint()

    def form(self) -> list[tuple[str, str]]:
        """Return the form fields of the only request, in alphabetical order."""
        (request,) = self.requests
        return form_of(request)


class Chunks(httpx.AsyncByteStream):
    """A body that comes in pieces, each after a while."""

    def __init__(self, pieces: Iterator[bytes], pause: float = 0.0) -> None:
        self._pieces = pieces
        self._pause = pause
        self.sent = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await trio.sleep(self._pause)
            self.sent += len(piece)
            yield piece

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


def form_of(request: httpx.Request) -> list[tuple[str, str]]:
    """Return a request's form fields in alphabetical order."""
    raw = request.content.decode("ascii")
    return sorted(parse_qsl(raw, keep_blank_values=True, strict_parsing=True, errors="strict"))


def says(
    status: int = 200, body: object = None, headers: Any = (), *, sort: str = "application/json"
) -> Answer:
    """Return an answer with this body: bytes as they are, anything else as JSON."""
    if body is None:
        body = {"access_token": TOKEN, "expires_in": 3600, "token_type": "bearer"}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [("Content-Type", sort)] if sort else []
    pairs += list(headers.items() if isinstance(headers, dict) else headers)

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=pairs, content=raw)

    return answer


def streams(stream: httpx.AsyncByteStream, **headers: str) -> Answer:
    """Return an answer whose body is this stream."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, stream=stream)

    return answer


def fails(error: BaseException) -> Answer:
    """Return an answer that is none: the transport raises."""

    async def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


async def hangs(request: httpx.Request) -> httpx.Response:
    """Never answer."""
    await trio.sleep_forever()
    raise AssertionError


async def grant(
    endpoint: httpx.AsyncBaseTransport,
    settings: Config | None = None,
    options: TokenRequestOptions | None = None,
) -> TokenInfo:
    """Get a token through this transport."""
    async with (
        httpx.AsyncClient(transport=endpoint) as client,
        TokenManager(settings or config(), http_client=client) as manager,
    ):
        return await manager.get_tokens_client_credentials_grant(options)


async def revoke(
    endpoint: httpx.AsyncBaseTransport,
    settings: Config | None = None,
    options: TokenRequestOptions | None = None,
) -> None:
    """Revoke the token through this transport."""
    async with (
        httpx.AsyncClient(transport=endpoint) as client,
        TokenManager(settings or config(), http_client=client) as manager,
    ):
        await manager.revoke_tokens(TOKEN, options)


async def grant_error(answer: Answer, settings: Config | None = None) -> TokenRequestError:
    """Return how a grant fails with this answer."""
    with pytest.raises(TokenRequestError) as caught:
        await grant(Endpoint(answer), settings)
    return caught.value


async def revoke_error(answer: Answer, settings: Config | None = None) -> RevocationError:
    """Return how a revocation fails with this answer."""
    with pytest.raises(RevocationError) as caught:
        await revoke(Endpoint(answer), settings)
    return caught.value


IDENTITY = [("client_id", CLIENT_ID), ("client_secret", SECRET)]


class TestGrantRequest:
    @pytest.mark.parametrize(
        ("settings", "fields"),
        [
            ({}, []),
            ({"scope": "a b"}, [("scope", "a b")]),
            (
                {"box_subject_type": "enterprise", "box_subject_id": "17"},
                [("box_subject_id", "17"), ("box_subject_type", "enterprise")],
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
    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    async def test_form(
        self, method: str, settings: dict[str, Any], fields: list[tuple[str, str]]
    ) -> None:
        """The form holds what is set, each field once, and credentials where they belong."""
        endpoint = Endpoint(says())

        await grant(endpoint, config(auth_method=method, **settings))

        identity = IDENTITY if method == "client_secret_post" else []
        expected = [("grant_type", "client_credentials"), *fields, *identity]
        assert endpoint.form() == sorted(expected)

    async def test_body_is_form_encoded(self) -> None:
        """The body is ASCII, and everything in it encoded."""
        endpoint = Endpoint(says())
        await grant(endpoint)
        raw = endpoint.requests[0].content
        assert raw.isascii()
        assert set(raw.decode()) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~%+&="
        )

    @pytest.mark.parametrize("options", [None, TokenRequestOptions()])
    async def test_headers(self, options: TokenRequestOptions | None) -> None:
        """These headers are sent, and no others."""
        endpoint = Endpoint(says())

        await grant(endpoint, options=options)

        (request,) = endpoint.requests
        assert request.method == "POST"
        assert dict(request.headers) == {
            "host": "api.box.com",
            "accept": "application/json",
            "accept-encoding": "identity",
            "connection": "close",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(request.content)),
            "user-agent": f"trio_anon_session/{__version__}",
        }

    async def test_basic(self) -> None:
        """With Basic, id and secret are in the header, form-encoded, and only there."""
        endpoint = Endpoint(says())

        await grant(endpoint, config(auth_method="client_secret_basic"))

        (request,) = endpoint.requests
        scheme, _, credentials = request.headers["Authorization"].partition(" ")
        first, _, second = base64.b64decode(credentials).decode("ascii").partition(":")
        assert scheme == "Basic"
        assert (first, second) == (quote(CLIENT_ID, safe=""), quote(SECRET, safe=""))
        assert [name for name, _ in form_of(request)] == ["grant_type"]

    async def test_ip(self) -> None:
        """The end user's address goes out as it was given."""
        endpoint = Endpoint(says())
        await grant(endpoint, options=TokenRequestOptions(ip="192.0.2.1, 2001:db8::1"))
        assert endpoint.requests[0].headers["X-Forwarded-For"] == "192.0.2.1, 2001:db8::1"

    @pytest.mark.parametrize(
        "url",
        [
            "https://api.box.com/oauth2/token",
            "https://id.example/t?tenant=a%20b&x=",
            "https://id.example:8443/t/",
            "http://127.0.0.1:8080/t",
            "http://[::1]:8080/t",
        ],
    )
    async def test_url(self, url: str) -> None:
        """The request goes to the very URL of the config, its query kept."""
        endpoint = Endpoint(says())
        await grant(endpoint, config(token_url=url))
        assert str(endpoint.requests[0].url) == url

    async def test_no_secret_in_url(self) -> None:
        """The credentials are never in the URL (RFC 6749 §2.3.1)."""
        endpoint = Endpoint(says())
        await grant(endpoint)
        assert endpoint.requests[0].url.query == b""


class TestGivenClient:
    def client(self, endpoint: Endpoint) -> httpx.AsyncClient:
        """Return a client that would add all that a client can add."""
        return httpx.AsyncClient(
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
            follow_redirects=True,
            timeout=0.001,
        )

    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    @pytest.mark.parametrize("call", ["grant", "revoke"])
    async def test_nothing_is_added(self, call: str, method: str) -> None:
        """A request through a given client is the same as through a bare one."""
        plain, given_one = Endpoint(says()), Endpoint(says())
        settings = config(auth_method=method)
        for endpoint, client in (
            (plain, httpx.AsyncClient(transport=plain)),
            (given_one, self.client(given_one)),
        ):
            async with client, TokenManager(settings, http_client=client) as manager:
                if call == "grant":
                    await manager.get_tokens_client_credentials_grant()
                else:
                    await manager.revoke_tokens(TOKEN)
            assert len(endpoint.requests) == 1

        expected, seen = plain.requests[0], given_one.requests[0]
        assert (seen.method, seen.url) == (expected.method, expected.url)
        assert seen.headers.raw == expected.headers.raw
        assert seen.content == expected.content
        # What watches the connection is another one for each request.
        assert seen.extensions.keys() == expected.extensions.keys() == {"timeout", "trace"}
        assert seen.extensions["timeout"] == expected.extensions["timeout"]

    async def test_no_timeout_of_httpx(self) -> None:
        """The client's own timeouts are lifted: the config's limit holds alone."""
        endpoint = Endpoint(says())
        async with self.client(endpoint) as client:
            await TokenManager(config(), http_client=client).get_tokens_client_credentials_grant()
        assert endpoint.requests[0].extensions["timeout"] == dict.fromkeys(
            ("connect", "read", "write", "pool")
        )

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, status: int) -> None:
        """A redirect would carry the secret elsewhere: it is an error, and names the setting."""
        endpoint = Endpoint(says(status, b"", {"Location": "https://evil.example/"}), says())
        async with self.client(endpoint) as client:
            manager = TokenManager(config(), http_client=client)
            with pytest.raises(TokenRequestError, match="token_url") as caught:
                await manager.get_tokens_client_credentials_grant()
        assert len(endpoint.requests) == 1
        assert type(caught.value) is TokenRequestError
        assert (caught.value.retryable, caught.value.status_code) == (False, status)

    @pytest.mark.parametrize("status", [200, 400, 302, 503])
    @pytest.mark.parametrize("call", ["grant", "revoke"])
    async def test_cookies_are_not_kept(self, call: str, status: int) -> None:
        """Cookies of the answer are dropped; those of the client's user stay."""
        cookies = [
            ("Set-Cookie", "box_visitor_id=1; Path=/; Domain=.box.com; Secure; HttpOnly"),
            ("Set-Cookie", "bv=2; Max-Age=3600"),
            ("Set-Cookie", "cn=3; Path=/oauth2"),
            ("Set-Cookie", "site_preference=desktop; Path=/; Domain=box.com"),
        ]
        endpoint = Endpoint(says(status, None, cookies))
        async with httpx.AsyncClient(transport=endpoint) as client:
            client.cookies.set("sid", "of-the-user", domain="api.box.com")
            client.cookies.set("own", "of-the-user", domain="api.box.com", path="/oauth2")
            manager = TokenManager(config(), http_client=client)
            for _ in range(2):
                try:
                    if call == "grant":
                        await manager.get_tokens_client_credentials_grant()
                    else:
                        await manager.revoke_tokens(TOKEN)
                except TokenRequestError:
                    assert status != 200
            assert [(cookie.name, cookie.value) for cookie in client.cookies.jar] == [
                ("sid", "of-the-user"),
                ("own", "of-the-user"),
            ]
        assert all("Cookie" not in request.headers for request in endpoint.requests)

    @pytest.mark.parametrize("how", ["raises", "crashes", "hangs", "is refused"])
    @pytest.mark.parametrize("call", ["grant", "revoke"])
    async def test_cookies_of_a_failed_attempt_are_not_kept(
        self, call: str, how: str, autojump_clock: trio.testing.MockClock
    ) -> None:
        """Cookies are dropped as well where a hook of the client's ends the attempt."""

        class CrashError(BaseException):
            pass

        async def hook(response: httpx.Response) -> None:
            await trio.lowlevel.checkpoint()
            if how == "raises":
                raise OSError
            if how == "crashes":
                raise CrashError
            if how == "is refused":
                response.raise_for_status()
            await trio.sleep_forever()

        endpoint = Endpoint(says(500, None, {"Set-Cookie": "bv=2; Max-Age=3600"}))
        async with httpx.AsyncClient(
            transport=endpoint, event_hooks={"response": [hook]}
        ) as client:
            client.cookies.set("bv", "of-the-user", domain="api.box.com")
            client.cookies.set("sid", "of-the-user", domain="example.com")
            manager = TokenManager(config(), http_client=client)
            with pytest.raises((TokenRequestError, CrashError)):
                if call == "grant":
                    await manager.get_tokens_client_credentials_grant()
                else:
                    await manager.revoke_tokens(TOKEN)
            assert {(cookie.name, cookie.value) for cookie in client.cookies.jar} == {
                ("bv", "of-the-user"),
                ("sid", "of-the-user"),
            }

    async def test_a_client_that_takes_no_cookies(self) -> None:
        """An answer's cookies that the client has refused by itself are no problem."""
        refusing = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        endpoint = Endpoint(says(200, None, {"Set-Cookie": "bv=2; Max-Age=3600"}))
        async with httpx.AsyncClient(transport=endpoint, cookies=refusing) as client:
            manager = TokenManager(config(), http_client=client)
            assert await manager.get_tokens_client_credentials_grant()


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["manager", "user"])
async def test_an_answer_that_was_not_asked_for(owner: str) -> None:
    """What a server sends after an answer, in the same packet, is no answer to the next request."""
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

    async with listening(serve) as port, httpx.AsyncClient() as client:
        settings = config(api_root_url=f"http://127.0.0.1:{port}")
        async with TokenManager(
            settings, http_client=client if owner == "user" else None
        ) as manager:
            for number in (1, 2, 3):
                token = await manager.get_tokens_client_credentials_grant()
                assert token.access_token == f"token-{number}"


class TestGrantAnswer:
    async def test_token(self, autojump_clock: trio.testing.MockClock) -> None:
        """The token's life counts from the moment before the request was sent."""

        async def slowly(request: httpx.Request) -> httpx.Response:
            await trio.sleep(20.0)
            return await says()(request)

        await trio.sleep(100.0)
        one = await grant(Endpoint(slowly))

        assert trio.current_time() == 120.0
        assert one == TokenInfo(TOKEN, 3600.0, 100.0, 3100.0, 3670.0)

    @pytest.mark.parametrize("status", [200, 201, 202])
    async def test_any_success(self, status: int) -> None:
        """A token is a token, with whatever 2xx it comes."""
        assert (await grant(Endpoint(says(status)))).access_token == TOKEN

    @pytest.mark.parametrize("sort", ["text/plain", "text/html; charset=utf-8", ""])
    async def test_content_type_does_not_matter(self, sort: str) -> None:
        """An answer is judged by its content."""
        assert (await grant(Endpoint(says(sort=sort)))).access_token == TOKEN

    async def test_byte_order_mark(self) -> None:
        """A byte order mark does no harm."""
        raw = json.dumps({"access_token": TOKEN}).encode("utf-8-sig")
        assert (await grant(Endpoint(says(200, raw)))).lifetime == 3600.0

    async def test_packed(self) -> None:
        """A server that packs unasked is understood."""
        raw = gzip.compress(json.dumps({"access_token": TOKEN}).encode())
        one = await grant(Endpoint(says(200, raw, {"Content-Encoding": "gzip"})))
        assert one.access_token == TOKEN

    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("gzip", gzip.compress),
            ("x-gzip", gzip.compress),
            (" GZIP ", gzip.compress),
            ("deflate", zlib.compress),
            ("identity", bytes),
        ],
    )
    async def test_packed_on_the_wire(self, name: str, pack: Callable[[bytes], bytes]) -> None:
        """Each packing of RFC 9110 that zlib knows is understood, by all of its names."""
        raw = pack(json.dumps({"access_token": TOKEN}).encode())
        pieces = Chunks(iter([raw[:10], raw[10:]]))
        one = await grant(Endpoint(streams(pieces, **{"Content-Encoding": name})))
        assert one.access_token == TOKEN

    async def test_error_beside_a_token(self) -> None:
        """An `error` beside a token is just another field."""
        one = await grant(Endpoint(says(200, {"access_token": TOKEN, "error": "none"})))
        assert one.extra == {"error": "none"}

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (400, "invalid_request", TokenRequestError),
            (400, "invalid_client", CredentialsRejectedError),
            (401, "invalid_client", CredentialsRejectedError),
            (400, "unauthorized_client", CredentialsRejectedError),
            (400, "invalid_grant", CredentialsRejectedError),
            (400, "invalid_resource", TokenRequestError),
            (400, "invalid_scope", TokenRequestError),
            (400, "unsupported_grant_type", TokenRequestError),
            (400, "invalid_token", TokenRequestError),
            (400, "account_deactivated", TokenRequestError),
            (400, "password_reset_required", TokenRequestError),
            (400, "terms_of_service_required", TokenRequestError),
            (400, "unauthorized_device", TokenRequestError),
            (403, "access_denied", CredentialsRejectedError),
            (403, "service_blocked", CredentialsRejectedError),
            (403, "access_from_location_blocked", CredentialsRejectedError),
            (403, "error_access_from_ip_not_allowed", CredentialsRejectedError),
            (429, "rate_limit_exceeded", TokenUnavailableError),
            (429, "temporarily_unavailable", TokenUnavailableError),
            (400, "temporarily_unavailable", TokenUnavailableError),
            (400, "server_error", TokenUnavailableError),
            (400, "rate_limit_exceeded", TokenUnavailableError),
            (408, "request_timeout", TokenUnavailableError),
            (425, "too_early", TokenUnavailableError),
            (500, "internal_server_error", TokenUnavailableError),
            (500, "server_error", TokenUnavailableError),
            (502, "bad_gateway", TokenUnavailableError),
            (503, "unavailable", TokenUnavailableError),
            (504, "gateway_timeout", TokenUnavailableError),
            # A fault by its status stays one, whatever code comes with it.
            (500, "invalid_client", TokenUnavailableError),
            (503, "invalid_grant", TokenUnavailableError),
            (429, "invalid_client", TokenUnavailableError),
            # GitHub says no with a 200.
            (200, "invalid_client", CredentialsRejectedError),
            (200, "incorrect_client_credentials", TokenRequestError),
            (200, "temporarily_unavailable", TokenUnavailableError),
        ],
    )
    async def test_error_code(self, status: int, code: str, kind: type[TokenRequestError]) -> None:
        """Code and status decide what an OAuth error means; the text never does."""
        body = {"error": code, "error_description": "invalid_client, try again later"}

        error = await grant_error(says(status, body))

        assert type(error) is kind
        assert error.retryable is (kind is TokenUnavailableError)
        assert (error.status_code, error.error) == (status, code)
        assert error.error_description == "invalid_client, try again later"
        assert (error.retry_after, error.attempts, error.request_id) == (None, 1, None)
        assert str(status) in str(error)
        assert code in str(error)
        assert "try again later" in str(error)

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (429, "rate_limit_exceeded", TokenUnavailableError),
            (500, "internal_server_error", TokenUnavailableError),
            (503, "unavailable", TokenUnavailableError),
            (400, "unauthorized_client", CredentialsRejectedError),
            (401, "unauthorized", CredentialsRejectedError),
            (403, "forbidden", CredentialsRejectedError),
            (404, "not_found", TokenRequestError),
        ],
    )
    async def test_error_of_the_api(
        self, status: int, code: str, kind: type[TokenRequestError]
    ) -> None:
        """Box's other shape of error, of its API, is read alike."""
        body = {
            "type": "error",
            "status": status,
            "code": code,
            "help_url": "",
            "message": "The words",
            "request_id": "abcdef123456",
        }

        error = await grant_error(says(status, body, {"BOX-REQUEST-ID": "of the header"}))

        assert type(error) is kind
        assert error.retryable is (kind is TokenUnavailableError)
        assert (error.status_code, error.error, error.error_description) == (
            status,
            code,
            "The words",
        )
        assert error.request_id == "abcdef123456"

    async def test_code_alone(self) -> None:
        """A code without a description ends what the message says of the answer."""
        error = await grant_error(says(400, {"error": "invalid_scope"}))
        assert str(error).endswith(f"status 400, invalid_scope. {error.next_step}")

    async def test_both_shapes(self) -> None:
        """Where both shapes meet, OAuth's own fields count."""
        body = {"error": "invalid_scope", "code": "x", "error_description": "a", "message": "b"}
        error = await grant_error(says(400, body))
        assert (error.error, error.error_description) == ("invalid_scope", "a")

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (300, TokenRequestError),
            (304, TokenRequestError),
            (400, TokenRequestError),
            (401, CredentialsRejectedError),
            (403, CredentialsRejectedError),
            (404, TokenRequestError),
            (405, TokenRequestError),
            (408, TokenUnavailableError),
            (409, TokenRequestError),
            (410, TokenRequestError),
            (413, TokenRequestError),
            (415, TokenRequestError),
            (422, TokenRequestError),
            (425, TokenUnavailableError),
            (429, TokenUnavailableError),
            (451, TokenRequestError),
            *((status, TokenUnavailableError) for status in (500, 501, 502, 503, 504, 507, 599)),
        ],
    )
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html><h1>Oops</h1></html>",
            b"[]",
            b"null",
            b'{"error": ',
            b'{"error": {"code": 1}}',
            b'{"error": null, "code": 7}',
            b'{"access_token": "not to be used", "expires_in": 3600}',
        ],
        ids=ascii,
    )
    async def test_status_alone(
        self, body: bytes, status: int, kind: type[TokenRequestError]
    ) -> None:
        """Where no code is to be had, the status decides, and the body is not quoted."""
        error = await grant_error(says(status, body, sort="text/html"))

        assert type(error) is kind
        assert error.retryable is (kind is TokenUnavailableError)
        assert (error.status_code, error.error, error.error_description) == (status, None, None)
        assert "text/html" in str(error)
        assert ("redirects" in str(error)) is (300 <= status < 400)
        assert "Oops" not in str(error)
        assert "not to be used" not in str(error)

    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"<html>Please log in</html>",
            b'{"access_token": "tok',
            b"access_token=abc&expires_in=3600",
            b'{"token": "tok"}',
            b'{"error": {"message": "tok"}}',
            b'{"code": "tok"}',
            b'{"access_token": ""}',
            b'{"access_token": null, "error": "tok"}',
            b'{"access_token": "tok\\u0000"}',
            b'{"access_token": "tok\\u00e9"}',
            b'{"access_token": ["tok"]}',
            b'{"access_token": "tok", "token_type": "mac"}',
            b'{"access_token": "tok", "token_type": "DPoP"}',
            b'{"access_token": "tok", "expires_in": 0}',
            b'{"access_token": "tok", "expires_in": -1}',
            b'{"access_token": "tok", "expires_in": NaN}',
            b'{"access_token": "tok", "expires_in": 1e400}',
            b'{"access_token": "tok", "expires_in": true}',
            b'{"access_token": "tok", "expires_in": "soon"}',
        ],
        ids=ascii,
    )
    async def test_malformed(self, body: bytes, status: int) -> None:
        """A success without a usable token is malformed, may pass, and is not quoted."""
        headers = {"BOX-REQUEST-ID": "abc", "Retry-After": "7"}

        error = await grant_error(says(status, body, headers))

        assert type(error) is MalformedTokenResponseError
        assert error.retryable
        assert (error.status_code, error.error, error.error_description) == (status, None, None)
        assert (error.request_id, error.retry_after) == ("abc", 7.0)
        assert '"tok' not in str(error)
        assert error.__context__ is None

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"<html>Please log in</html>", "it is no JSON object"),
            (b"{}", "access_token is missing"),
            (b'{"access_token": "tok", "expires_in": 0}', "expires_in is not a positive"),
        ],
        ids=ascii,
    )
    async def test_what_is_malformed_is_said(self, body: bytes, problem: str) -> None:
        """The message tells what is wrong with the answer, without its words."""
        assert problem in str(await grant_error(says(200, body)))

    @given(st.binary(max_size=60), st.integers(200, 599))
    def test_any_answer(self, body: bytes, status: int) -> None:
        """Whatever comes back, the outcome is an error of ours."""

        error = run_virtually(grant_error, says(status, body))
        assert error.status_code == status

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"Retry-After": "17"}, 17.0),
            ({"Retry-After": "0"}, 0.0),
            ({"Retry-After": "9" * 400}, math.inf),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-1"}, None),
            ({"Retry-After": ""}, None),
            (
                {
                    "Retry-After": "Sun, 01 Mar 2026 12:02:00 GMT",
                    "Date": "Sun, 01 Mar 2026 12:00:00 GMT",
                },
                120.0,
            ),
            (
                {
                    "Retry-After": "Sun, 01 Mar 2026 12:02:00 GMT",
                    "Date": "Sun, 01 Mar 2026 12:02:01 GMT",
                },
                0.0,
            ),
            ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ],
        ids=lambda value: ascii(value)[:50],
    )
    @pytest.mark.parametrize("status", [429, 503, 400])
    async def test_retry_after(
        self, status: int, headers: dict[str, str], seconds: float | None
    ) -> None:
        """What the server asks for is passed on, against its own clock."""
        error = await grant_error(says(status, {"error": "x"}, headers))
        assert error.retry_after == seconds

    async def test_retry_after_without_date(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a Date a date is measured against the wall clock, looked up at each use."""
        answer = says(503, b"", {"Retry-After": formatdate(1_000_120.0, usegmt=True)})
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda: 1_000_000.0)
            error = await grant_error(answer)
        assert error.retry_after == 120.0

    @pytest.mark.parametrize(
        ("headers", "body", "request_id"),
        [
            ({}, {"error": "x"}, None),
            ({"BOX-REQUEST-ID": "abc"}, {"error": "x"}, "abc"),
            ({"box-request-id": "abc"}, b"<html>", "abc"),
            ({"BOX-REQUEST-ID": "abc"}, {"error": "x", "request_id": "def"}, "def"),
            ({"BOX-REQUEST-ID": "abc"}, {"error": "x", "request_id": 17}, "abc"),
            ({}, {"error": "x", "request_id": "a\r\nb"}, "***"),
        ],
        ids=ascii,
    )
    async def test_request_id(
        self, headers: dict[str, str], body: object, request_id: str | None
    ) -> None:
        """The server's name of the request is kept, from the body or the header."""
        error = await grant_error(says(503, body, headers))
        assert error.request_id == request_id

    async def test_controls_and_length(self) -> None:
        """The server's words cannot forge log lines, nor flood them."""
        body = {"error": "a\r\nb", "error_description": "c\x1b[31m\r\n" + "d " * 100_000}

        error = await grant_error(says(400, body))

        assert error.error == "***"
        assert error.error_description is not None
        assert len(error.error_description) == 300
        assert str(error).isprintable()
        assert len(str(error)) < 700


class TestDeadline:
    @pytest.mark.parametrize("limit", [0.5, 30.0, 3600.0])
    async def test_hang_before_headers(
        self, autojump_clock: trio.testing.MockClock, limit: float
    ) -> None:
        """An endpoint that never answers is given up at the limit, to the moment."""
        error = await grant_error(hangs, config(request_timeout=limit))

        assert trio.current_time() == limit
        assert type(error) is TokenUnavailableError
        assert error.retryable
        assert error.status_code is None
        assert f"https://api.box.com did not answer within {limit:g} s" in str(error)

    async def test_stall_in_the_body(self, autojump_clock: trio.testing.MockClock) -> None:
        """A body that stalls is given up at the limit, and the connection closed."""
        stream = Chunks(iter([b'{"access_token": "tok', b'en"}']), pause=20.0)

        error = await grant_error(streams(stream))

        assert trio.current_time() == 30.0
        assert type(error) is TokenUnavailableError
        assert error.status_code is None
        assert stream.closed

    async def test_drip(self, autojump_clock: trio.testing.MockClock) -> None:
        """A body that never ends, a byte at a time, is given up at the same limit."""
        stream = Chunks(iter(lambda: b" ", b""), pause=0.7)
        error = await grant_error(streams(stream))
        assert trio.current_time() == 30.0
        assert type(error) is TokenUnavailableError
        assert stream.closed

    async def test_just_in_time(self, autojump_clock: trio.testing.MockClock) -> None:
        """An answer shortly before the limit is good."""
        stream = Chunks(iter([b'{"access_token": ', b'"tok"}']), pause=14.5)
        one = await grant(Endpoint(streams(stream)))
        assert trio.current_time() == 29.0
        assert (one.access_token, one.sent_at) == ("tok", 0.0)
        assert stream.closed

    async def test_revocation(self, autojump_clock: trio.testing.MockClock) -> None:
        """The same limit holds for a revocation."""
        error = await revoke_error(hangs, config(request_timeout=7.0))
        assert trio.current_time() == 7.0
        assert (error.retryable, error.status_code) == (True, None)

    async def test_cancelled(self, autojump_clock: trio.testing.MockClock) -> None:
        """A caller's own limit ends the attempt at once, and closes the connection."""
        stream = Chunks(iter(lambda: b" ", b""), pause=1.0)
        with trio.move_on_after(3.5) as scope:
            await grant(Endpoint(streams(stream)))
        assert scope.cancelled_caught
        assert trio.current_time() == 3.5
        assert stream.closed

    async def test_cancelled_while_the_form_is_sent(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        """Nothing of the request is left to the garbage collector, of which Trio would warn."""

        class Stuck(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                assert isinstance(request.stream, httpx.AsyncByteStream)
                async for piece in request.stream:
                    sent.append(piece)
                    await trio.sleep_forever()
                raise AssertionError

        sent: list[bytes] = []
        async with httpx.AsyncClient(transport=Stuck()) as client:
            manager = TokenManager(config(), http_client=client)
            with trio.move_on_after(3.5) as scope:
                await manager.get_tokens_client_credentials_grant()
        assert scope.cancelled_caught
        assert [dict(parse_qsl(piece.decode()))["client_secret"] for piece in sent] == [SECRET]
        gc.collect()


class TestBody:
    async def test_largest(self) -> None:
        """A body of exactly 1 MiB is read."""
        raw = json.dumps({"access_token": "tok"}).encode().ljust(LIMIT)
        assert len(raw) == LIMIT
        assert (await grant(Endpoint(says(200, raw)))).access_token == "tok"

    @pytest.mark.parametrize("status", [200, 400, 503])
    @pytest.mark.parametrize("call", [grant_error, revoke_error])
    async def test_too_large(self, call: Any, status: int) -> None:
        """A body of one byte more is given up, whatever it says."""
        if call is revoke_error and status == 200:
            status = 201
        raw = json.dumps({"access_token": "tok"}).encode().ljust(LIMIT + 1)
        error = await call(says(status, raw))
        assert type(error) is (TokenUnavailableError if call is grant_error else RevocationError)
        assert error.retryable
        assert "more than 1048576 bytes" in str(error)

    async def test_endless(self) -> None:
        """A body without an end is read hardly further than the limit, and closed."""
        stream = Chunks(iter(lambda: b"x" * 65536, b""))

        error = await grant_error(streams(stream))

        assert type(error) is TokenUnavailableError
        assert LIMIT < stream.sent <= LIMIT + 2 * 65536
        assert stream.closed

    async def test_largest_packed(self) -> None:
        """A body that unfolds to exactly 1 MiB is read to its last byte."""
        raw = json.dumps({"access_token": "tok", "state": ""}).encode()
        raw = raw.replace(b'""', b'"' + b"x" * (LIMIT - len(raw)) + b'"')
        assert len(raw) == LIMIT
        endpoint = Endpoint(says(200, gzip.compress(raw), {"Content-Encoding": "gzip"}))
        assert (await grant(endpoint)).access_token == "tok"
        packed = streams(Chunks(iter([gzip.compress(raw)])), **{"Content-Encoding": "gzip"})
        assert (await grant(Endpoint(packed))).access_token == "tok"

    async def test_pieces_that_are_there_already(self) -> None:
        """What comes at once with the piece that was too much is not looked at, and closed."""

        class AtOnce(Chunks):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                for piece in self._pieces:
                    yield piece

        bomb = gzip.compress(b" " * (20 * LIMIT))
        stream = AtOnce(iter([bomb[:5000], b"\xff" * 100, b"\xff" * 100]))

        error = await grant_error(streams(stream, **{"Content-Encoding": "gzip"}))

        assert "more than 1048576 bytes" in str(error)
        assert stream.closed
        # Trio would warn of a body that was left half read.
        gc.collect()

    async def test_bomb(self) -> None:
        """The limit counts what a packed body unfolds to."""
        raw = gzip.compress(b" " * (20 * LIMIT))
        assert len(raw) < LIMIT
        error = await grant_error(says(200, raw, {"Content-Encoding": "gzip"}))
        assert "more than 1048576 bytes" in str(error)

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_corrupt_packing(self, encoding: str) -> None:
        """A body that cannot be unpacked is a passing fault."""
        stream = Chunks(iter([CORRUPT, b"more"]))

        error = await grant_error(streams(stream, **{"Content-Encoding": encoding}))

        assert type(error) is TokenUnavailableError
        assert error.retryable
        assert f"sent a body that is not {encoding}" in str(error)
        assert error.__context__ is None
        assert stream.closed


class OddError(Exception):
    """An exception that nobody expects."""


class Stop(BaseException):
    """What is no `Exception`."""


class TestTransport:
    @pytest.mark.parametrize(
        "problem",
        [
            httpx.ConnectError("refused"),
            httpx.ConnectTimeout("late"),
            httpx.ReadError("reset"),
            httpx.WriteError("reset"),
            httpx.PoolTimeout("none free"),
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            httpx.ProxyError("407"),
            httpx.UnsupportedProtocol("none"),
            ssl.SSLCertVerificationError("expired"),
            OSError(111, "refused"),
            trio.BrokenResourceError("broken"),
            trio.ClosedResourceError(),
            ValueError("what?"),
            KeyError("key"),
            RuntimeError("no way"),
            AssertionError(),
            StopAsyncIteration(),
            MemoryError(),
            OddError("odd"),
            ExceptionGroup("several", [OSError("one"), OddError("two")]),
            TokenUnavailableError("somebody else's"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("call", [grant_error, revoke_error])
    async def test_anything_raised(self, call: Any, problem: Exception) -> None:
        """Whatever the transport raises, there is no answer, and that may pass."""
        error = await call(fails(problem))

        assert type(error) is (TokenUnavailableError if call is grant_error else RevocationError)
        assert error.retryable
        assert (error.status_code, error.error, error.retry_after) == (None, None, None)
        assert error is not problem
        assert "https://api.box.com" in str(error)
        # Not chained: an error of httpx holds the request, and with it the form.
        assert error.__cause__ is None
        assert error.__context__ is None

    async def test_says_what_went_wrong(self) -> None:
        """The message tells the kind of the problem and its words."""
        error = await grant_error(fails(httpx.ConnectError("All connection attempts failed")))
        assert "ConnectError: All connection attempts failed" in str(error)

    @pytest.mark.parametrize("chain", ["cause", "context"])
    async def test_says_what_a_cause_said(self, chain: str) -> None:
        """Where a problem is mute, as those of httpcore on Trio are, its cause speaks for it."""
        told, mute, problem = (
            ssl.SSLCertVerificationError(1, "self-signed certificate"),
            trio.BrokenResourceError(),
            httpx.ConnectError(""),
        )
        setattr(mute, f"__{chain}__", told)
        problem.__cause__ = mute
        error = await grant_error(fails(problem))
        assert str(error).endswith(f"ConnectError: self-signed certificate. {error.next_step}")

    async def test_mute_without_end(self) -> None:
        """A chain of mute causes that bites its tail says nothing."""
        problem, mute = httpx.ConnectError(""), trio.BrokenResourceError()
        problem.__cause__, mute.__cause__ = mute, problem
        assert str(await grant_error(fails(problem))).endswith("ConnectError")

    async def test_has_no_words_to_say(self) -> None:
        """The kind of a problem without words ends the message."""
        assert str(await grant_error(fails(AssertionError()))).endswith(": AssertionError")

    @pytest.mark.parametrize("depth", [1, 3])
    async def test_says_why_tls_failed(self, depth: int) -> None:
        """Errors of TLS come wrapped in others without words: the message has OpenSSL's."""
        problem: Exception = ssl.SSLCertVerificationError(1, "certificate verify failed: expired")
        for _ in range(depth):
            wrapped = httpx.ConnectError("")
            wrapped.__cause__ = problem
            problem = wrapped
        error = await grant_error(fails(problem))
        assert f"ConnectError: certificate verify failed: expired. {error.next_step}" in str(error)

    async def test_is_its_own_cause(self) -> None:
        """An error without words whose chain never ends is a passing fault, too."""
        problem = httpx.ConnectError("")
        problem.__cause__ = problem
        assert str(await grant_error(fails(problem))).endswith(": ConnectError")

    @pytest.mark.parametrize("call", [grant, revoke])
    async def test_no_exception(self, call: Any) -> None:
        """What is no `Exception` goes through as itself."""
        problem = Stop()
        with pytest.raises(Stop) as caught:
            await call(Endpoint(fails(problem)))
        assert caught.value is problem

    async def test_cut_in_the_body(self) -> None:
        """A connection cut in the body is a passing fault, not half a token."""

        def pieces() -> Iterator[bytes]:
            yield b'{"access_token": "tok"}'
            raise httpx.RemoteProtocolError("peer closed connection")

        stream = Chunks(pieces())
        error = await grant_error(streams(stream))
        assert type(error) is TokenUnavailableError
        assert "RemoteProtocolError" in str(error)
        assert stream.closed

    async def test_closed_client(self) -> None:
        """A given client that its user has closed is a passing fault too."""
        client = httpx.AsyncClient(transport=Endpoint(says()))
        await client.aclose()
        with pytest.raises(TokenUnavailableError):
            await TokenManager(config(), http_client=client).get_tokens_client_credentials_grant()

    async def test_one_attempt(self) -> None:
        """A call makes one attempt, whatever comes of it: retrying is the session's."""
        endpoint = Endpoint(says(503, b"", {"Retry-After": "0"}), says())
        with pytest.raises(TokenUnavailableError):
            await grant(endpoint)
        assert len(endpoint.requests) == 1

    async def test_next_attempt_is_good(self) -> None:
        """A failed attempt leaves nothing behind that would harm the next one."""
        endpoint = Endpoint(
            fails(httpx.ReadError("reset")), says(503, b""), says(200, b"x" * (LIMIT + 1)), says()
        )
        async with httpx.AsyncClient(transport=endpoint) as client:
            manager = TokenManager(config(), http_client=client)
            for _ in range(3):
                with pytest.raises(TokenUnavailableError):
                    await manager.get_tokens_client_credentials_grant()
            one = await manager.get_tokens_client_credentials_grant()
        assert one.access_token == TOKEN

    async def test_checkpoints(self) -> None:
        """Both calls are checkpoints, even over a transport that answers at once."""

        async def at_once(request: httpx.Request) -> httpx.Response:
            return await says()(request)

        async with httpx.AsyncClient(transport=httpx.MockTransport(at_once)) as client:
            manager = TokenManager(config(), http_client=client)
            with assert_checkpoints():
                await manager.get_tokens_client_credentials_grant()
            with assert_checkpoints():
                await manager.revoke_tokens(TOKEN)


class TestRevocation:
    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    async def test_request(self, method: str) -> None:
        """The token and the credentials go to the revocation endpoint, and nothing else."""
        endpoint = Endpoint(says(200, b""))
        settings = config(
            auth_method=method,
            scope="a",
            box_subject_type="user",
            box_subject_id="1",
            extra_params={"audience": "x"},
            revoke_url="https://id.example/r?tenant=a",
        )

        await revoke(endpoint, settings, TokenRequestOptions(ip="192.0.2.1"))

        (request,) = endpoint.requests
        assert request.method == "POST"
        assert str(request.url) == "https://id.example/r?tenant=a"
        identity = IDENTITY if method == "client_secret_post" else []
        assert endpoint.form() == sorted([("token", TOKEN), *identity])
        assert ("Authorization" in request.headers) == (method == "client_secret_basic")
        assert request.headers["X-Forwarded-For"] == "192.0.2.1"
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"

    async def test_revocation_endpoint_that_is_named(self) -> None:
        """A revoke_url is asked, wherever it and the token endpoint are."""
        endpoint = Endpoint(says(200, b""))
        named = "https://login.example/revoke"
        await revoke(endpoint, config(token_url="https://login.example/token", revoke_url=named))
        (request,) = endpoint.requests
        assert str(request.url) == named

    @pytest.mark.parametrize(
        ("root", "token_url", "goes_out"),
        [
            ("https://api.box.com", "https://login.example/token", False),
            ("https://api.example", "https://api.example:8443/token", False),
            ("https://api.example", "https://api.example:443/token", True),
            ("https://api.example", "https://API.example/v2/token", True),
        ],
    )
    async def test_secret_goes_to_its_own_server_alone(
        self, root: str, token_url: str, goes_out: bool
    ) -> None:
        """Where only the token endpoint is named, no other server is asked to revoke."""
        endpoint = Endpoint(says(200, b""))
        settings = config(api_root_url=root, token_url=token_url)
        if goes_out:
            await revoke(endpoint, settings)
            (request,) = endpoint.requests
            assert str(request.url) == f"{root}/oauth2/revoke"
            return
        with assert_checkpoints(), pytest.raises(RevocationError) as caught:
            await revoke(endpoint, settings)
        assert endpoint.requests == []
        assert not caught.value.retryable
        assert str(caught.value).endswith(
            "Set revoke_url (BOX_REVOKE_URL), if that server revokes tokens."
        )
        assert TOKEN not in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b"<html>Oops</html>"),
            (200, b'{"error": "invalid_client"}'),
            (204, b""),
            (400, b'{"error": "invalid_token"}'),
            (401, b'{"error": "invalid_token"}'),
            (400, b'{"type": "error", "code": "invalid_token", "message": "x"}'),
        ],
        ids=ascii,
    )
    async def test_gone(self, status: int, body: bytes) -> None:
        """A 200 and `invalid_token` both mean that the token is gone."""
        await revoke(Endpoint(says(status, body)))

    @pytest.mark.parametrize(
        ("status", "code", "retryable"),
        [
            (300, None, False),
            (302, None, False),
            (400, None, False),
            (400, "invalid_request", False),
            (400, "invalid_client", False),
            (400, "unsupported_token_type", False),
            (401, "invalid_client", False),
            (403, None, False),
            (404, None, False),
            (408, None, True),
            (425, None, True),
            (429, "rate_limit_exceeded", True),
            (400, "temporarily_unavailable", True),
            (500, None, True),
            (502, None, True),
            # RFC 7009 §2.2.1: assume that the token still lives.
            (503, None, True),
            (500, "invalid_token", True),
            (503, "invalid_token", True),
        ],
    )
    async def test_not_gone(self, status: int, code: str | None, *, retryable: bool) -> None:
        """Any other answer means that the token may live on."""
        body = {"error": code, "error_description": "words"} if code else b"<html>"
        headers = {"Retry-After": "9", "BOX-REQUEST-ID": "abc"}

        error = await revoke_error(says(status, body, headers))

        assert type(error) is RevocationError
        assert error.retryable is retryable
        assert (error.status_code, error.error) == (status, code)
        assert error.error_description == ("words" if code else None)
        assert (error.retry_after, error.request_id, error.attempts) == (9.0, "abc", 1)
        assert f"status {status}" in str(error)


class TestValidity:
    async def test_raw_lifetime(self, autojump_clock: trio.testing.MockClock) -> None:
        """A token is valid until its raw lifetime ends, whatever the config's buffers are."""
        manager = TokenManager(config())
        one = TokenInfo(TOKEN, 100.0, 10.0, 20.0, 30.0)
        seen = {}
        for now in (0.0, 10.0, 30.0, 109.5, 110.0, 111.0):
            await trio.sleep(now - trio.current_time())
            seen[now] = manager.is_access_token_valid(one)
        assert [now for now, is_valid in seen.items() if is_valid] == [0.0, 10.0, 30.0, 109.5]

    async def test_buffer(self, autojump_clock: trio.testing.MockClock) -> None:
        """A buffer asks for more than so many seconds to come."""
        manager = TokenManager(config())
        one = TokenInfo(TOKEN, 100.0, 0.0, 50.0, 75.0)
        await trio.sleep(40.0)
        assert manager.is_access_token_valid(one, 59.5)
        assert not manager.is_access_token_valid(one, 60.0)
        assert not manager.is_access_token_valid(one, buffer=61.0)


class OwnClients:
    """Makes clients over a fake endpoint in place of httpx's own, and keeps them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.made: list[httpx.AsyncClient] = []
        self._make = httpx.AsyncClient

    def __call__(self, **settings: Any) -> httpx.AsyncClient:
        client = self._make(transport=self.endpoint, **settings)
        self.made.append(client)
        return client


class TestLifeCycle:
    @pytest.fixture
    def own(self, monkeypatch: pytest.MonkeyPatch) -> OwnClients:
        """Return what makes the clients that managers make for themselves."""
        clients = OwnClients(Endpoint(says()))
        monkeypatch.setattr(httpx, "AsyncClient", clients)
        return clients

    async def test_own_client_is_closed(self, own: OwnClients) -> None:
        """A manager makes one client for all of its requests, and closes it."""
        async with TokenManager(config()) as manager:
            await manager.get_tokens_client_credentials_grant()
            await manager.revoke_tokens(TOKEN)
            (client,) = own.made
            assert not client.is_closed
            # It honours the proxy variables.
            assert client.trust_env
        assert client.is_closed
        assert own.endpoint.closed == 1

    async def test_own_client_is_closed_when_cancelled(self, own: OwnClients) -> None:
        """A cancelled close closes the client all the same."""
        manager = TokenManager(config())
        await manager.get_tokens_client_credentials_grant()
        with trio.CancelScope() as scope:
            scope.cancel()
            await manager.aclose()
        assert scope.cancelled_caught
        assert own.made[0].is_closed

    async def test_given_client_is_not_closed(self) -> None:
        """A given client stays open: it is its user's."""
        endpoint = Endpoint(says())
        async with httpx.AsyncClient(transport=endpoint) as client:
            async with TokenManager(config(), http_client=client) as manager:
                await manager.get_tokens_client_credentials_grant()
            await manager.aclose()
            assert not client.is_closed
            assert endpoint.closed == 0

    async def test_block(self) -> None:
        """The block's target is the manager, and entering, leaving and closing checkpoint."""
        manager = TokenManager(config())
        with assert_checkpoints():
            assert await manager.__aenter__() is manager
        with assert_checkpoints():
            await manager.__aexit__(None, None, None)
        with assert_checkpoints():
            await manager.aclose()

    async def test_exception_of_the_block(self) -> None:
        """An exception of the block comes out as itself."""
        problem = OddError()
        with pytest.raises(OddError) as caught:
            async with TokenManager(config()):
                raise problem
        assert caught.value is problem

    @pytest.mark.parametrize("given", [True, False])
    async def test_use_after_close(self, own: OwnClients, *, given: bool) -> None:
        """A closed manager sends nothing more."""
        client = own() if given else None
        async with TokenManager(config(), http_client=client) as manager:
            await manager.get_tokens_client_credentials_grant()
        closed = r"manager is closed; use it.* inside its"
        with pytest.raises(TokenRequestError, match=closed) as granting:
            await manager.get_tokens_client_credentials_grant()
        with pytest.raises(RevocationError, match=closed) as revoking:
            await manager.revoke_tokens(TOKEN)
        # It will not be open again, and nobody is to wait for that.
        assert not granting.value.retryable
        assert not revoking.value.retryable
        assert len(own.endpoint.requests) == 1
        assert len(own.made) == 1
        if client is not None:
            await client.aclose()

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_no_pickle(self, protocol: int) -> None:
        """A manager refuses to be pickled, and says why."""
        with pytest.raises(TypeError, match="TokenManager cannot be pickled: it would write"):
            pickle.dumps(TokenManager(config()), protocol)
        with pytest.raises(TypeError):
            copy.copy(TokenManager(config()))

    def test_repr(self) -> None:
        """A manager shows whom it stands for and where it asks, and no secret."""
        text = repr(TokenManager(config()))
        assert text == (f"<TokenManager for {CLIENT_ID!r} at https://api.box.com/oauth2/token>")


def quoting(kind: type[Exception], form: Callable[[httpx.Request], str]) -> Answer:
    """Return an answer that fails with an error that quotes the request."""

    async def answer(request: httpx.Request) -> httpx.Response:
        raise kind(form(request))

    return answer


class TestSecrets:
    @pytest.mark.parametrize(
        "form",
        [
            lambda request: request.content.decode(),
            lambda request: repr(form_of(request)),
            lambda request: f"{request.content!r} {request.headers.raw}",
        ],
        ids=["raw", "repr", "bytes"],
    )
    @pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.LocalProtocolError, OddError])
    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    async def test_what_a_transport_quotes_is_not_shown(
        self,
        method: str,
        kind: type[Exception],
        form: Callable[[httpx.Request], str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A transport's error that quotes all that was sent brings no secret into ours."""
        caplog.set_level(logging.DEBUG)
        settings = config(auth_method=method)
        answer = quoting(kind, form)
        basic = base64.b64encode(f"{quote(CLIENT_ID)}:{quote(SECRET, safe='')}".encode()).decode()
        for error in (await grant_error(answer, settings), await revoke_error(answer, settings)):
            shown = "".join([*traceback_with_locals(error), repr(vars(error)), caplog.text])
            for secret in (SECRET, quote(SECRET, safe=""), quote_plus(SECRET), basic, TOKEN):
                assert secret not in shown
                assert repr(secret)[1:-1] not in shown

    @pytest.mark.parametrize(
        "proxy",
        [
            "ftp://user:hunter2@proxy.example:8080",
            "http://user:hunter2@proxy.example:port",
            "http://user:hunter2/x@proxy.example:8080",
            "http://user:hunter2@",
            "socks9://user:hunter2 x@proxy.example",
        ],
    )
    async def test_proxy(self, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
        """A proxy variable that httpx does not understand shows no credentials."""
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with TokenManager(config()) as manager:
            with pytest.raises(TokenUnavailableError) as caught:
                await manager.get_tokens_client_credentials_grant()
        assert "hunter2" not in str(caught.value)

    async def test_proxy_is_blamed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no client can be made, the kind of the problem is told, and where to look."""
        monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example:8080")
        async with TokenManager(config()) as manager:
            with pytest.raises(TokenUnavailableError, match="ValueError; look at the proxy"):
                await manager.get_tokens_client_credentials_grant()


def is_set(attribute: attrs.Attribute[Any], value: object) -> bool:
    """Return whether this field of a fault has another value than its default."""
    return value not in ((), {}, None, b"", 0.0)


class TestAgainstServer:
    """The manager and the embedded server, in process."""

    async def test_grant_and_revoke(self, autojump_clock: trio.testing.MockClock) -> None:
        """A token that was granted lives until it is revoked."""
        server = TokenServer(lifetime=1800.0)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client:
            async with TokenManager(server.config(), http_client=client) as manager:
                one = await manager.get_tokens_client_credentials_grant()
                assert [token.access_token for token in server.live_tokens()] == [one.access_token]
                await manager.revoke_tokens(one.access_token)
            assert list(client.cookies.jar) == []
        assert server.live_tokens() == []
        assert (server.grants, server.revocations, one.lifetime) == (1, 1, 1800.0)
        assert one.extra == {"restricted_to": []}

    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    async def test_odd_credentials(self, method: str) -> None:
        """OddError credentials arrive unharmed in the body and in the header."""
        server = TokenServer(
            clients=[Client(CLIENT_ID, SECRET)],
            auth_methods=["client_secret_post", "client_secret_basic"],
        )
        await grant(httpx.ASGITransport(server), server.config(auth_method=method))
        assert server.grants == 1

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"client_secret": "wrong"}, "invalid_client"),
            ({"client_id": "unknown"}, "invalid_client"),
            ({"auth_method": "client_secret_basic"}, "invalid_client"),
            ({"box_subject_type": "user", "box_subject_id": "1"}, "unauthorized_client"),
            ({"box_subject_type": "enterprise", "box_subject_id": "1"}, "invalid_grant"),
        ],
        ids=ascii,
    )
    async def test_rejected(self, changes: dict[str, str], error: str) -> None:
        """Each way to be rejected by Box is a CredentialsRejectedError."""
        client = Client(subject_types=frozenset({"enterprise"}), subject_ids=frozenset({"2"}))
        server = TokenServer(clients=[client])
        with pytest.raises(CredentialsRejectedError) as caught:
            await grant(httpx.ASGITransport(server), server.config(**changes))
        assert (caught.value.status_code, caught.value.error) == (400, error)
        assert not caught.value.retryable

    @pytest.mark.parametrize("revoke_unknown", [200, 400])
    async def test_revoke_unknown(self, revoke_unknown: Any) -> None:
        """A token that the server does not know counts as revoked, whatever it answers."""
        server = TokenServer(revoke_unknown=revoke_unknown)
        await revoke(httpx.ASGITransport(server), server.config())
        assert len(server.revoke_requests()) == 1

    @pytest.mark.parametrize(
        ("fault", "kind", "after"),
        [
            (Fault.hang(), TokenUnavailableError, 30.0),
            (Fault(stall=math.inf), TokenUnavailableError, 30.0),
            (Fault(cut="before_headers"), TokenUnavailableError, 0.0),
            (Fault(cut="after_headers"), TokenUnavailableError, 0.0),
            (Fault(keep=20), MalformedTokenResponseError, 0.0),
            (Fault(body=b""), MalformedTokenResponseError, 0.0),
            (Fault(fields={"expires_in": "NaN"}), MalformedTokenResponseError, 0.0),
            (Fault(fields={"access_token": None}), MalformedTokenResponseError, 0.0),
            (Fault.rate_limited("5", shape="A"), TokenUnavailableError, 0.0),
            (Fault.rate_limited("5", shape="B"), TokenUnavailableError, 0.0),
            (Fault.server_error(502), TokenUnavailableError, 0.0),
            (Fault.redirect("http://localhost/oauth2/token"), TokenRequestError, 0.0),
            (Fault.refusal("invalid_scope"), TokenRequestError, 0.0),
        ],
        ids=lambda value: (
            repr(attrs.asdict(value, filter=is_set)) if attrs.has(type(value)) else None
        ),
    )
    async def test_fault(
        self,
        autojump_clock: trio.testing.MockClock,
        fault: Fault,
        kind: type[TokenRequestError],
        after: float,
    ) -> None:
        """Each fault of the server is an error of its kind, at its time, for one request."""
        server = TokenServer(FaultPlan(token=[fault]))
        transport = httpx.ASGITransport(server)

        with pytest.raises(TokenRequestError) as caught:
            await grant(transport, server.config())

        assert type(caught.value) is kind
        assert trio.current_time() == after
        assert (await grant(transport, server.config())).access_token in server.tokens
        assert len(server.token_requests()) == 2

    async def test_byte_order_mark(self) -> None:
        """A server that begins with a byte order mark is understood."""
        server = TokenServer(FaultPlan(token_then=Fault(prefix=b"\xef\xbb\xbf")))
        one = await grant(httpx.ASGITransport(server), server.config())
        assert one.access_token in server.tokens
