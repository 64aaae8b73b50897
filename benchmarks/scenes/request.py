"""Requests of httpx with the token.

An ``httpx.AsyncClient`` on Trio sends requests to a transport in the same process that answers
immediately. Such a request costs as little as possible, so the share of the auth is as large as
possible. The differences are small compared with how much one request varies. So there are many
turns, and in each turn each contender makes a few requests.

The base sends a header that never changes. Authlib's client is an httpx2 client, whose requests
have another cost, so its row does not show only the work of Authlib.
"""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import trio

from benchmarks import peers, timing
from benchmarks.endpoint import Endpoint, Source
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns_async
from benchmarks.peers import RESOURCE, AsyncCache
from benchmarks.sources import CONFIG
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.peers import AsyncGetter


@asynccontextmanager
async def _client(**settings: Any) -> AsyncIterator[AsyncGetter]:
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport, **settings) as client:
        yield partial(client.get, RESOURCE)


@asynccontextmanager
async def _with_session(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async with (
        AnonymousSession(CONFIG, Source(endpoint, CONFIG)) as session,
        _client(auth=session.auth()) as request,
    ):
        yield request


STATIC = AsyncCache(
    "a static header", lambda _: _client(headers={"Authorization": "Bearer token-0"})
)
NO_AUTH = AsyncCache("no auth", lambda _: _client())
OURS = AsyncCache("SessionAuth", _with_session)


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return trio.run(_measure, effort)


async def _measure(effort: Effort) -> list[Comparison]:
    caches, left_out = peers.load(peers.REQUESTS)
    calls = max(effort.calls // 200, 5)
    async with AsyncExitStack() as stack:
        contenders = {}
        for who, way in {
            Contender(OURS.name, is_ours=True, limit=Limit(1.03)): OURS,
            Contender(STATIC.name, remark=peers.remark(left_out)): STATIC,
            Contender(NO_AUTH.name): NO_AUTH,
            **{Contender(cache.name, remark=cache.remark): cache for cache in caches},
        }.items():
            request = await stack.enter_async_context(way.open(Endpoint()))
            # The first request gets a token, and httpx imports some modules only then.
            await request()
            contenders[who] = partial(_time, request, calls)
        with timing.heap_set_aside():
            measured = await in_turns_async(contenders, 8 * effort.turns)
    return [compare("a request", "s", measured, base=STATIC.name)]


async def _time(request: AsyncGetter, calls: int) -> float:
    gc.collect()
    # Warm up, because the previous measurement has filled the processor's caches with other data.
    await timing.each_awaited(request, 5)
    return await timing.each_awaited(request, calls)
