"""Token requests with each way to authenticate.

A ``TokenManager`` sends one token request after another, with an ``httpx.AsyncClient`` whose
transport answers immediately in the same process. The time is the CPU time of the process for the
credentials, the request and the answer, without a network. The base is the same request with
``AsyncClient.post`` and a fixed secret in the form, which decodes the JSON of the answer.

RS256 uses a key of 2,048 bits. The file with the assertion has 1,000 bytes, and a worker thread
reads it for each request. Signing needs the extra ``jwt``.
"""

from __future__ import annotations

import gc
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import trio

from benchmarks import timing
from benchmarks.measure import Comparison, Contender, Effort, compare, in_turns_async
from benchmarks.scenes import LeftOutError
from trio_anon_session import AssertionFile, Config, PrivateKeyJWT, TokenManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

URL = "https://login.example/oauth2/token"
SECRET = "a-secret-with-at-least-32-characters"
FORM = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET}
BASE = "AsyncClient.post"


def answer(request: httpx.Request) -> httpx.Response:
    """Grant a token."""
    token = {"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600}
    return httpx.Response(200, json=token)


def ways(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the settings of each way to authenticate, with files in the folder."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from jwt import PyJWT  # noqa: F401  # only to see whether it is installed
    except ModuleNotFoundError:
        raise LeftOutError("needs the extra jwt") from None
    assertion = folder / "assertion"
    assertion.write_text("a" * 1_000)
    rs256 = _pem(rsa.generate_private_key(65537, 2048))
    es256 = _pem(ec.generate_private_key(ec.SECP256R1()))
    return {
        "client_secret_post": {"client_secret": SECRET},
        "client_secret_basic": {"client_secret": SECRET, "auth_method": "client_secret_basic"},
        "client_secret_jwt, HS256": {"client_secret": SECRET, "auth_method": "client_secret_jwt"},
        "PrivateKeyJWT, RS256": {"auth_method": PrivateKeyJWT(rs256)},
        "PrivateKeyJWT, ES256": {"auth_method": PrivateKeyJWT(es256, algorithm="ES256")},
        "AssertionFile": {"auth_method": AssertionFile(assertion)},
    }


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ways(Path(folder))
        return trio.run(_measure, effort, settings)


async def _measure(effort: Effort, settings: Mapping[str, Mapping[str, Any]]) -> list[Comparison]:
    calls = max(effort.calls // 200, 5)
    async with AsyncExitStack() as stack:
        transport = httpx.MockTransport(answer)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
        requests: dict[Contender, Callable[[], Awaitable[object]]] = {}
        requests[Contender(BASE)] = partial(post, client)
        for name, chosen in settings.items():
            config = Config(client_id="app", token_url=URL, **chosen)
            manager = await stack.enter_async_context(TokenManager(config, http_client=client))
            requests[Contender(name, is_ours=True)] = manager.get_tokens_client_credentials_grant
        contenders = {who: partial(_time, request, calls) for who, request in requests.items()}
        with timing.heap_set_aside():
            measured = await in_turns_async(contenders, 2 * effort.turns)
    return [compare("a token request", "s", measured, base=BASE)]


async def post(client: httpx.AsyncClient) -> str:
    """Request a token without this library."""
    response = await client.post(URL, data=FORM)
    token: str = response.raise_for_status().json()["access_token"]
    return token


async def _time(request: Callable[[], Awaitable[object]], calls: int) -> float:
    gc.collect()
    # Warm up, because the previous measurement has filled the processor's caches with other data.
    await timing.each_awaited(request, 5)
    began = time.process_time()
    for _ in range(calls):
        await request()
    return (time.process_time() - began) / calls
