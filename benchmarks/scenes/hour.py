"""An hour of tokens with a short lifetime.

Tokens live 300 s, and a task asks ten times a second for an hour of a virtual clock. A token
request takes 50 ms. The table counts the token requests that the endpoint gets. Some caches stop
using a token some time before it expires. If that time is longer than the lifetime, the cache
requests a new token for each call. Each contender runs once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from benchmarks import peers, virtual_time
from benchmarks.by_hand import WITH_LOCK
from benchmarks.endpoint import OURS, Endpoint
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers import AsyncCache

LIFETIME = 300.0
TAKES = 0.05
INTERVAL = 0.1
AN_HOUR = 36_000
"""Calls in an hour."""


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it; a brief effort makes fewer calls, for which there is no limit."""
    calls = min(AN_HOUR, 12 * effort.calls)
    limit = Limit(25, "amount") if calls == AN_HOUR else None
    caches, left_out = peers.load(peers.ON_TRIO)
    contenders = {
        Contender(OURS.name, is_ours=True, limit=limit): OURS,
        Contender(WITH_LOCK.name, remark=peers.remark(left_out)): WITH_LOCK,
        **{Contender(cache.name): cache for cache in caches},
    }
    measured = {
        who: [virtual_time.run(call_steadily, cache, calls)] for who, cache in contenders.items()
    }
    minutes = calls * INTERVAL / 60
    return [compare(f"token requests in {minutes:g} min", "grants", measured, base=WITH_LOCK.name)]


async def call_steadily(cache: AsyncCache, calls: int) -> int:
    """Return the number of token requests for these calls."""
    endpoint = Endpoint(lifetime=LIFETIME, takes=TAKES)
    async with cache.open(endpoint) as get:
        began = trio.current_time()
        for number in range(calls):
            await trio.sleep_until(began + number * INTERVAL)
            await get()
    return endpoint.requests
