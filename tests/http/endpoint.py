"""A fake token endpoint: a transport that records the requests of a `TokenManager`.

It serves clients of httpx and of httpx2, whose requests and answers have the same attributes.
"""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import httpx2
import pytest
import trio

from trio_anon_session import Config, TokenInfo, TokenManager, TokenRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from types import ModuleType

    from trio_anon_session import TokenRequestOptions

    Answer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]

CLIENT_ID = "my app:é"
# Forms, JSON, HTML and repr escape these characters differently.
SECRET = "p@ss w/ö'rd\"+%41&<\\>!"
TOKEN = "tok/en+With~Odd%Chars==1234567890"
CALLS = ["grant", "revoke"]
METHODS = ["client_secret_post", "client_secret_basic"]


def config(**changes: Any) -> Config:
    """Return a config with the odd credentials and these settings."""
    return Config(**({"client_id": CLIENT_ID, "client_secret": SECRET} | changes))


class Endpoint(httpx.AsyncBaseTransport):
    """A transport that records the requests, and gives the answers of the test.

    Attributes:
        requests: all requests, in order.
        closed: how often the transport was closed.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the next answer; the last one serves for all requests that follow."""
        assert isinstance(request.stream, http_of(request).AsyncByteStream)
        # A real transport sends the stream, not the content.
        assert b"".join([piece async for piece in request.stream]) == request.content
        self.requests.append(request)
        await trio.lowlevel.checkpoint()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await answer(request)

    async def aclose(self) -> None:
        """Count that the client was closed."""
        self.closed += 1
        await trio.lowlevel.checkpoint()


class Chunks(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A body in several pieces, with a pause before each."""

    def __init__(self, pieces: Iterator[bytes], pause: float = 0.0) -> None:
        self._pieces = pieces
        self._pause = pause
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await trio.sleep(self._pause)
            yield piece

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


def http_of(request: httpx.Request) -> ModuleType:
    """Return the library of a request."""
    return sys.modules[type(request).__module__]


def form_of(request: httpx.Request) -> list[tuple[str, str]]:
    """Return a request's form fields, in order."""
    raw = request.content.decode("ascii")
    return parse_qsl(raw, keep_blank_values=True, strict_parsing=True, errors="strict")


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
        response: httpx.Response = http_of(request).Response(status, headers=pairs, content=raw)
        return response

    return answer


def streams(stream: httpx.AsyncByteStream, **headers: str) -> Answer:
    """Return an answer whose body is this stream."""

    async def answer(request: httpx.Request) -> httpx.Response:
        response: httpx.Response = http_of(request).Response(200, headers=headers, stream=stream)
        return response

    return answer


def fails(error: BaseException) -> Answer:
    """Return an answer that raises this error from the transport."""

    async def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


async def hangs(request: httpx.Request) -> httpx.Response:
    """Never answer."""
    await trio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def open_manager(
    endpoint: httpx.AsyncBaseTransport,
    settings: Config | None = None,
    http: ModuleType = httpx,
) -> AsyncIterator[TokenManager]:
    """Open a manager that sends its requests through this transport."""
    async with (
        http.AsyncClient(transport=endpoint) as client,
        TokenManager(settings or config(), http_client=client) as manager,
    ):
        yield manager


async def ask(
    manager: TokenManager, call: str = "grant", options: TokenRequestOptions | None = None
) -> TokenInfo | None:
    """Request a token, or revoke one."""
    if call == "grant":
        return await manager.get_tokens_client_credentials_grant(options)
    await manager.revoke_tokens(TOKEN, options)
    return None


async def grant(
    endpoint: httpx.AsyncBaseTransport,
    settings: Config | None = None,
    http: ModuleType = httpx,
) -> TokenInfo:
    """Request a token through this transport."""
    async with open_manager(endpoint, settings, http) as manager:
        return await manager.get_tokens_client_credentials_grant()


async def sent_by(
    settings: Config | None = None,
    call: str = "grant",
    options: TokenRequestOptions | None = None,
) -> httpx.Request:
    """Return the request that the manager sends for a grant or a revocation."""
    endpoint = Endpoint(says())
    async with open_manager(endpoint, settings) as manager:
        await ask(manager, call, options)
    [request] = endpoint.requests
    return request


async def error_of(
    answer: Answer,
    call: str = "grant",
    settings: Config | None = None,
    http: ModuleType = httpx,
) -> TokenRequestError:
    """Return the error of a grant or a revocation for this answer."""
    async with open_manager(Endpoint(answer), settings, http) as manager:
        with pytest.raises(TokenRequestError) as caught:
            await ask(manager, call)
    return caught.value
