"""Tests of token requests that end without an answer: time limits, size limits and errors."""

from __future__ import annotations

import base64
import gc
import gzip
import itertools
import logging
import ssl
from traceback import walk_tb
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import httpx
import httpx2
import pytest
import trio

from tests.helpers import traceback_with_locals
from tests.http.endpoint import (
    CALLS,
    CLIENT_ID,
    METHODS,
    SECRET,
    TOKEN,
    Chunks,
    Endpoint,
    ask,
    config,
    error_of,
    fails,
    form_of,
    grant,
    hangs,
    http_of,
    open_manager,
    says,
    streams,
)
from trio_anon_session import RevocationError, TokenManager, TokenUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from trio.testing import MockClock

    from tests.http.endpoint import Answer


@pytest.mark.parametrize("limit", [0.5, 3600.0])
@pytest.mark.parametrize("call", CALLS)
async def test_hang_before_headers(
    http: ModuleType, autojump_clock: MockClock, call: str, limit: float
) -> None:
    """A request to an endpoint that never answers ends exactly at the limit."""
    error = await error_of(hangs, call, config(request_timeout=limit), http)

    assert trio.current_time() == limit
    assert type(error) is (TokenUnavailableError if call == "grant" else RevocationError)
    assert error.retryable
    assert error.status_code is None
    assert f"https://api.box.com did not answer within {limit:g} s" in str(error)
    assert "or raise request_timeout." in str(error)


async def test_cancelled_in_the_body(http: ModuleType, autojump_clock: MockClock) -> None:
    """A caller's own limit ends the attempt immediately, and closes the body."""
    stream = Chunks(iter(lambda: b" ", b""), pause=1.0)
    with trio.move_on_after(3.5) as scope:
        await grant(Endpoint(streams(stream)), http=http)
    assert scope.cancelled_caught
    assert trio.current_time() == 3.5
    assert stream.closed


async def test_cancelled_while_the_form_is_sent(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A request that is cancelled while it is sent leaves no generator, so Trio does not warn."""

    class Stuck(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, http.AsyncByteStream)
            async for piece in request.stream:
                assert piece == request.content
                await trio.sleep_forever()
            raise AssertionError

    with trio.move_on_after(3.5) as scope:
        await grant(Stuck(), http=http)
    assert scope.cancelled_caught
    gc.collect()


async def test_pieces_after_the_limit() -> None:
    """Pieces that arrive together with the one beyond the limit are not unpacked."""

    class AtOnce(Chunks):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self._pieces:
                yield piece

    bomb = gzip.compress(b" " * (2**20 + 1))
    stream = AtOnce(iter([bomb, *[b"\xff" * 100] * 100]))

    error = await error_of(streams(stream, **{"Content-Encoding": "gzip"}))

    assert "more than 1048576 bytes" in str(error)
    assert stream.closed
    # Trio would warn about a body that was left half read.
    gc.collect()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_corrupt_packing(encoding: str) -> None:
    """A body that cannot be unpacked is a retryable error."""
    # The gzip header is valid, but the type of the first block does not exist.
    stream = Chunks(iter([gzip.compress(b"")[:10] + b"\xff" * 20, b"more"]))

    error = await error_of(streams(stream, **{"Content-Encoding": encoding}))

    assert type(error) is TokenUnavailableError
    assert error.retryable
    assert f"sent a body that is not valid {encoding}" in str(error)
    assert error.__context__ is None
    assert stream.closed


class OddError(Exception):
    """An exception of an unknown class."""


class Stop(BaseException):
    """An error that is not an `Exception`."""


@pytest.mark.parametrize(
    "problem",
    [
        httpx.ConnectError("refused"),
        httpx2.ConnectError("refused"),
        httpx.PoolTimeout("none free"),
        ssl.SSLCertVerificationError("expired"),
        OSError(111, "refused"),
        trio.ClosedResourceError(),
        StopAsyncIteration(),
        MemoryError(),
        OddError("odd"),
        ExceptionGroup("several", [OSError("one"), OddError("two")]),
        TokenUnavailableError("somebody else's"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
@pytest.mark.parametrize("call", CALLS)
async def test_anything_that_a_transport_raises(
    http: ModuleType, call: str, problem: Exception
) -> None:
    """Any exception of a transport becomes a retryable error without status or cause."""
    error = await error_of(fails(problem), call, http=http)

    assert type(error) is (TokenUnavailableError if call == "grant" else RevocationError)
    assert error.retryable
    assert (error.status_code, error.error, error.retry_after) == (None, None, None)
    assert error is not problem
    assert "https://api.box.com" in str(error)
    # The error has no cause, because an error of httpx refers to the request with the form.
    assert error.__cause__ is None
    assert error.__context__ is None


def chain(*errors: Exception, by: str = "__cause__") -> Exception:
    """Return the first error, after linking each one to the next by its cause or context."""
    for error, cause in itertools.pairwise(errors):
        setattr(error, by, cause)
    return errors[0]


CERTIFICATE = ssl.SSLCertVerificationError(1, "verify failed: self-signed certificate")


def loop(http: ModuleType) -> Exception:
    """Return an error that is the cause of its own cause."""
    error: Exception = http.ConnectError("")
    return chain(error, trio.BrokenResourceError(), error)


@pytest.mark.parametrize(
    ("problem", "said", "advice"),
    [
        (lambda http: http.ReadError("connection reset"), "ReadError: connection reset", ""),
        (lambda http: AssertionError(), "AssertionError", ""),
        # The end of these messages quotes the proxy or the server.
        (
            lambda http: http.ProxyError("407 for user:hunter2"),
            "ProxyError: 407",
            ". Check the proxy variables",
        ),
        (
            lambda http: http.RemoteProtocolError("illegal line: 'hunter2'"),
            "RemoteProtocolError: illegal line",
            "",
        ),
        # The errors of httpcore on Trio have no message, so the message comes from the cause.
        (
            lambda http: chain(http.ConnectError(""), trio.BrokenResourceError(), CERTIFICATE),
            "ConnectError: verify failed: self-signed certificate",
            ". Check the host name and the server's certificate",
        ),
        (
            lambda http: chain(http.ConnectError(""), OSError(), CERTIFICATE, by="__context__"),
            "ConnectError: verify failed: self-signed certificate",
            ". Check the host name and the server's certificate",
        ),
        (lambda http: chain(http.ConnectError(""), OSError(), OSError()), "ConnectError", ""),
        (loop, "ConnectError", ""),
    ],
    ids=["words", "none", "proxy", "protocol", "cause", "context", "mute", "loop"],
)
async def test_an_error_says_what_went_wrong(
    http: ModuleType, problem: Callable[[ModuleType], Exception], said: str, advice: str
) -> None:
    """The message has the class of the error, and its text or that of its first cause with one."""
    error = await error_of(fails(problem(http)), http=http)
    _, found, after = str(error).partition(f" the request to https://api.box.com failed: {said}")
    assert found
    assert after.startswith(advice) if advice else not after


async def test_an_interrupt_of_a_transport_propagates(http: ModuleType) -> None:
    """An interrupt propagates unwrapped, without the frames that contain the form."""
    problem = Stop()

    async def quote_form(request: httpx.Request) -> httpx.Response:
        try:
            raise OddError(request.content)
        except OddError:
            raise problem  # noqa: B904  # so that it has a context

    with pytest.raises(Stop) as caught:
        await grant(Endpoint(quote_form), http=http)
    assert caught.value is problem
    assert problem.__context__ is None
    modules = [frame.f_globals["__name__"] for frame, _ in walk_tb(problem.__traceback__)]
    assert not [name for name in modules if name.startswith("httpx")]


async def test_closed_client() -> None:
    """A given client that its owner has closed causes the error of an unavailable endpoint."""
    client = httpx.AsyncClient(transport=Endpoint(says()))
    await client.aclose()
    with pytest.raises(TokenUnavailableError):
        await TokenManager(config(), http_client=client).get_tokens_client_credentials_grant()


async def test_a_failed_attempt_does_not_affect_the_next() -> None:
    """Each call makes one attempt, and the next succeeds after failures."""
    endpoint = Endpoint(
        fails(httpx.ReadError("reset")), says(503, b"", {"Retry-After": "0"}), says()
    )
    async with open_manager(endpoint) as manager:
        for attempts in (1, 2):
            with pytest.raises(TokenUnavailableError):
                await ask(manager)
            assert len(endpoint.requests) == attempts
        assert await ask(manager)


def quoting(kind: str, form: Callable[[httpx.Request], str]) -> Answer:
    """Return an answer that raises an error with the text of the request."""

    async def answer(request: httpx.Request) -> httpx.Response:
        raise getattr(http_of(request), kind, OddError)(form(request))

    return answer


@pytest.mark.parametrize(
    "form",
    [
        lambda request: request.content.decode(),
        lambda request: repr(form_of(request)),
        lambda request: f"{request.content!r} {request.headers.raw}",
    ],
    ids=["raw", "repr", "bytes"],
)
@pytest.mark.parametrize("kind", ["ConnectError", "LocalProtocolError", "OddError"])
@pytest.mark.parametrize("method", METHODS)
async def test_an_error_that_quotes_the_request_shows_no_secret(
    http: ModuleType,
    method: str,
    kind: str,
    form: Callable[[httpx.Request], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a transport's error quotes the whole request, our error and log still show no secret."""
    caplog.set_level(logging.DEBUG)
    basic = base64.b64encode(f"{quote(CLIENT_ID)}:{quote(SECRET, safe='')}".encode()).decode()
    for call in CALLS:
        error = await error_of(quoting(kind, form), call, config(auth_method=method), http)
        shown = "".join([*traceback_with_locals(error), repr(vars(error)), caplog.text])
        for secret in (SECRET, quote(SECRET, safe=""), quote_plus(SECRET), basic, TOKEN):
            assert secret not in shown
            assert repr(secret)[1:-1] not in shown


@pytest.mark.parametrize(
    ("variable", "proxy", "problem"),
    [
        ("HTTPS_PROXY", "ftp://user:hunter2@proxy.example:8080", "created: ValueError"),
        ("HTTPS_PROXY", "http://user:hunter2@proxy.example:port", "created: InvalidURL"),
        ("HTTPS_PROXY", "http://user:hunter2/x@proxy.example:8080", "created: InvalidURL"),
        ("HTTPS_PROXY", "socks9://user:hunter2 x@proxy.example", "created: ValueError"),
        ("ALL_PROXY", "user:hunter2@[::1", "created: InvalidURL"),
        ("HTTP_PROXY", "user:hunter2@proxy.example:port", "created: InvalidURL"),
        ("HTTPS_PROXY", "http://user:hunter2@", " failed"),
    ],
)
async def test_a_proxy_variable_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    proxy: str,
    problem: str,
) -> None:
    """If a proxy variable is invalid, the error has the kind of the problem, and no credentials."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(variable, proxy)
    async with TokenManager(config()) as manager:
        with pytest.raises(TokenUnavailableError) as caught:
            await manager.get_tokens_client_credentials_grant()
    assert problem in str(caught.value)
    assert ("; check the proxy variables" in str(caught.value)) is ("created" in problem)
    shown = "".join([*traceback_with_locals(caught.value), repr(vars(caught.value)), caplog.text])
    assert "hunter2" not in shown
