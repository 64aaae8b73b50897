"""Tests of `Config.discover`: its requests, and its errors."""

from __future__ import annotations

import itertools
import signal
import socket
from errno import ECONNREFUSED
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.helpers import run_virtually, traceback_with_locals
from tests.http.endpoint import Chunks, Endpoint, fails, hangs, says, streams
from tests.wire import answer, listening, open_peer, read_request
from trio_anon_session import (
    Config,
    ConfigError,
    RevocationError,
    SecretFile,
    TokenManager,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

ISSUER = "https://id.example/tenant"
FIRST = "https://id.example/.well-known/oauth-authorization-server/tenant"
SECOND = "https://id.example/tenant/.well-known/openid-configuration"
DOCUMENT = {
    "issuer": ISSUER,
    "token_endpoint": "https://id.example/t",
    "revocation_endpoint": "https://id.example/r",
}
SECRET = "Sec-ret/of the client+42"


async def discover(*answers: Any, **settings: Any) -> tuple[Config, Endpoint]:
    """Return the config, and the endpoint that gave these answers."""
    endpoint = Endpoint(*answers)
    settings = {"client_id": "id", "client_secret": SECRET} | settings
    async with httpx.AsyncClient(transport=endpoint) as client:
        issuer = settings.pop("issuer", ISSUER)
        return await Config.discover(issuer, http_client=client, **settings), endpoint


async def refusal(endpoint: Endpoint, kind: type[Exception], **settings: Any) -> Any:
    """Return the error for the answers of an endpoint, after checking that the secret is hidden."""
    async with httpx.AsyncClient(transport=endpoint) as client:
        with pytest.raises(kind) as caught:
            await Config.discover(
                ISSUER,
                client_id="id",
                http_client=client,
                **{"client_secret": SECRET} | settings,
            )
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = "".join([*traceback_with_locals(error), repr(vars(error))])
    assert "ret/of" not in shown
    return error


async def test_config(autojump_clock: MockClock) -> None:
    """The config has the endpoints and the issuer of the document, and all settings."""
    config, endpoint = await discover(
        says(body=DOCUMENT), scope="a", api_root_url="https://api.example", max_retries=1
    )
    assert config == Config(
        client_id="id",
        client_secret=SECRET,
        issuer=ISSUER,
        token_url="https://id.example/t",
        revoke_url="https://id.example/r",
        scope="a",
        api_root_url="https://api.example",
        max_retries=1,
    )
    assert [str(request.url) for request in endpoint.requests] == [FIRST]


async def test_request(autojump_clock: MockClock) -> None:
    """The request has no credentials, and nothing of the user's client; redirects are ignored."""
    endpoint = Endpoint(
        says(302, b"", {"Location": "https://evil.example/", "Set-Cookie": "a=b"}),
        says(body=DOCUMENT),
    )
    async with httpx.AsyncClient(
        transport=endpoint,
        auth=("user", "password"),
        cookies={"session": "1"},
        headers={"Authorization": "Bearer x", "X-Own": "1"},
        params={"q": "1"},
        follow_redirects=True,
    ) as client:
        await Config.discover(ISSUER, client_id="id", client_secret=SECRET, http_client=client)
        assert dict(client.cookies) == {"session": "1"}
    assert [str(request.url) for request in endpoint.requests] == [FIRST, SECOND]
    for request in endpoint.requests:
        assert (request.method, request.content) == ("GET", b"")
        assert {"authorization", "cookie", "x-own", "content-type"}.isdisjoint(request.headers)
        assert request.headers["Accept"] == "application/json"


NO_DOCUMENT = "status 200 without an issuer in a JSON object"
WITHOUT_DOCUMENT = {
    "not found": (says(404, b"", sort=""), "status 404"),
    "bad request": (says(400, DOCUMENT), "status 400"),
    "unauthorized": (says(401, {"error": "invalid_client"}), "status 401"),
    "forbidden": (says(403, b"<html>", sort="text/html"), "status 403"),
    "redirect": (says(301, b"", {"Location": SECOND}), "status 301"),
    "no content": (says(204, b""), "status 204"),
    "page": (says(200, b"<html>", sort="text/html"), NO_DOCUMENT),
    "empty": (says(200, b""), NO_DOCUMENT),
    "array": (says(200, [DOCUMENT]), NO_DOCUMENT),
    "no issuer": (says(200, {"error": "not_found"}), NO_DOCUMENT),
    "deep": (says(200, b"[" * 100_000), NO_DOCUMENT),
    "deep issuer": (says(200, b'{"issuer": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"), NO_DOCUMENT),
    "large number": (says(200, b'{"issuer": ' + b"9" * 100_000 + b"}"), NO_DOCUMENT),
    "many values": (says(200, b'{"issuer": [' + b"0," * 100_000 + b"0]}"), NO_DOCUMENT),
}


@pytest.mark.parametrize("case", WITHOUT_DOCUMENT)
async def test_second_url(case: str, autojump_clock: MockClock) -> None:
    """If the first URL has no document, the second is tried; the error shows both answers."""
    first, said = WITHOUT_DOCUMENT[case]
    config, endpoint = await discover(first, says(body=DOCUMENT))
    assert config.token_url == "https://id.example/t"
    assert [str(request.url) for request in endpoint.requests] == [FIRST, SECOND]

    error = await refusal(Endpoint(first, says(404, b"")), ConfigError)
    assert error.field == "issuer"
    assert f"{FIRST} answered {said}" in str(error)
    assert f" and {SECOND} answered status 404; check the issuer" in str(error)


async def test_wrong_document(autojump_clock: MockClock) -> None:
    """A document of another issuer is refused without another request."""
    endpoint = Endpoint(says(body=DOCUMENT | {"issuer": f"{ISSUER}/"}))
    error = await refusal(endpoint, ConfigError)
    assert error.field == "issuer"
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_temporary_status(status: int, autojump_clock: MockClock) -> None:
    """A temporary error ends discovery, because a request to the second URL may not help."""
    endpoint = Endpoint(says(status, {"error": SECRET}, {"Retry-After": "7"}))
    error = await refusal(endpoint, TokenUnavailableError)
    assert (error.status_code, error.retry_after, error.retryable) == (status, 7.0, True)
    assert error.next_step == "Try again later: this may be temporary."
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("cause", "failure"),
    [
        (socket.gaierror(-2, "no such name"), "name"),
        (ConnectionRefusedError(ECONNREFUSED, "refused"), "refused"),
    ],
)
@pytest.mark.parametrize("attempt", [1, 2])
async def test_no_answer(
    cause: Exception, failure: str, attempt: int, autojump_clock: MockClock
) -> None:
    """Without an answer, the error is like that of a token request, but names issuer."""
    problem = httpx.ConnectError(f"failed with {SECRET}")
    problem.__cause__ = cause
    before = [says(404, b"")] * (attempt - 1)
    error = await refusal(Endpoint(*before, fails(problem)), TokenUnavailableError)
    assert error.network_failure == failure
    assert "no metadata of the authorization server: the request to " in str(error)
    assert "in issuer" in error.next_step
    assert "token_url" not in error.next_step


@pytest.mark.parametrize("limit", [30.0, 5.0])
async def test_time_limit(limit: float, autojump_clock: MockClock) -> None:
    """request_timeout is the limit of both requests together."""
    settings = {} if limit == 30.0 else {"request_timeout": limit}

    async def slow(request: httpx.Request) -> httpx.Response:
        await trio.sleep(limit * 0.75)
        return httpx.Response(404)

    started_at = trio.current_time()
    error = await refusal(Endpoint(slow, hangs), TokenUnavailableError, **settings)
    assert trio.current_time() - started_at == pytest.approx(limit)
    assert error.network_failure == "timeout"
    assert f"did not answer within {limit:g} s" in str(error)


async def test_size_limit(autojump_clock: MockClock) -> None:
    """A document of 50 MB is read only to little more than 1 MiB."""
    read = itertools.count()

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            next(read)
            yield b" " * 10**6

    body = Chunks(pieces())
    error = await refusal(Endpoint(streams(body)), TokenUnavailableError)
    assert "sent more than 1048576 bytes" in str(error)
    assert next(read) <= 3
    assert body.closed


async def test_cancellation(autojump_clock: MockClock) -> None:
    """A cancellation closes the response."""
    body = Chunks(iter([b"{"] * 100), pause=1.0)
    with trio.move_on_after(5.0) as scope:
        await discover(streams(body))
    assert scope.cancelled_caught
    assert body.closed


def test_interrupt_shows_no_locals() -> None:
    """Ctrl-C during a request propagates without the frames that have the secret."""

    async def interrupt(request: httpx.Request) -> httpx.Response:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(1.0)
        return httpx.Response(404)

    with pytest.raises(KeyboardInterrupt) as caught:
        run_virtually(discover, interrupt)
    assert "ret/of" not in "".join(traceback_with_locals(caught.value))


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"issuer": "id.example"}, ConfigError, "issuer must be an absolute URL"),
        ({"issuer": "http://id.example"}, ConfigError, "issuer must be an https URL"),
        ({"issuer": "https://id.example?a=b"}, ConfigError, "issuer must be a URL without a query"),
        ({"issuer": "https://id.example#a"}, ConfigError, "issuer must be a URL without a frag"),
        ({"issuer": "https://me:pw@id.example"}, ConfigError, "issuer must be a URL without user"),
        ({"issuer": None}, ConfigError, "issuer must be a URL as a str, got NoneType"),
        ({"client_id": ""}, ConfigError, "client_id must be a non-empty str"),
        ({"client_secret": None}, ConfigError, "client_secret must be"),
        ({"max_retries": -1}, ConfigError, "max_retries must be"),
        ({"token_url": "https://id.example/t"}, ConfigError, "token_url must not be set: discover"),
        ({"token_url": None}, ConfigError, "token_url must not be set: discover"),
        ({"no_such": 1}, TypeError, "unexpected keyword argument 'no_such'"),
    ],
)
async def test_wrong_settings(
    settings: dict[str, Any], kind: type[Exception], said: str, autojump_clock: MockClock
) -> None:
    """A wrong setting raises an error before any request."""

    async def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError

    with pytest.raises(kind, match=said) as caught:
        await discover(refuse, **settings)
    assert "ret/of" not in "".join(traceback_with_locals(caught.value))


async def test_issuer_with_a_path_at_box(autojump_clock: MockClock) -> None:
    """An issuer may have a path at Box, where api_root_url must not have one."""
    issuer = "https://api.box.com/tenant"
    config, _ = await discover(says(body=DOCUMENT | {"issuer": issuer}), issuer=issuer)
    assert config.issuer == issuer


async def test_own_revoke_url(autojump_clock: MockClock) -> None:
    """The caller's revoke_url has priority over the document's."""
    config, _ = await discover(says(body=DOCUMENT), revoke_url="https://own.example/r")
    assert config.revoke_url == "https://own.example/r"


async def test_no_revocation(autojump_clock: MockClock) -> None:
    """If the document lists no revocation endpoint, nothing is sent to revoke a token."""
    document = {name: DOCUMENT[name] for name in ("issuer", "token_endpoint")}
    config, endpoint = await discover(says(body=document), api_root_url="https://id.example")
    async with (
        httpx.AsyncClient(transport=endpoint) as client,
        TokenManager(config, http_client=client) as manager,
    ):
        with pytest.raises(RevocationError, match="revoke_url is not set"):
            await manager.revoke_tokens("token")
    assert len(endpoint.requests) == 1


async def test_secret_is_not_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Discovery needs no credentials: a file or callable with the secret is not read."""

    def provider() -> str:
        raise AssertionError

    secrets: list[SecretFile | Callable[[], str]] = [SecretFile(tmp_path / "no such"), provider]
    for secret in secrets:
        config, _ = await discover(says(body=DOCUMENT), client_secret=secret)
        assert config.client_secret == secret


async def test_own_client() -> None:
    """Without a client, discovery requests both URLs through its own client over a socket."""
    document = b'{"issuer": "http://%b", "token_endpoint": "http://%b/t"}'
    async with open_peer(answer(404, b"")) as peer:
        netloc = peer.netloc.encode()
        peer.answers.append(answer(200, document % (netloc, netloc)))
        issuer = f"http://{peer.netloc}"
        config = await Config.discover(issuer, client_id="id", client_secret=SECRET)
        assert (config.token_url, config.issuer) == (f"{issuer}/t", issuer)
        assert [(request.method, request.target) for request in peer.requests] == [
            ("GET", "/.well-known/oauth-authorization-server"),
            ("GET", "/.well-known/openid-configuration"),
        ]
        assert b"ret%2Fof" not in b"".join(request.raw for request in peer.requests)


@pytest.mark.slow
async def test_cancellation_of_its_own_client() -> None:
    """A cancellation closes the socket of discovery's own client."""
    ended = trio.Event()

    async def hang(stream: trio.SocketStream) -> None:
        await read_request(stream)
        scope.cancel()
        assert await stream.receive_some() == b""
        ended.set()

    async with listening(hang) as port:
        with trio.CancelScope() as scope:
            await Config.discover(f"http://127.0.0.1:{port}", client_id="id", client_secret=SECRET)
        assert scope.cancelled_caught
        with trio.fail_after(60.0):
            await ended.wait()
