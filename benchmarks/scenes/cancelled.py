"""The first caller is cancelled half-way.

A task asks a cache that has no token, and a token request takes 1 s. After 0.25 s a second task
asks, and after another 0.25 s the first task is cancelled. The first table counts the token
requests that the endpoint gets. The second table has the time for which the second task waits, in
seconds of a virtual clock. If the first request continues, that is 0.75 s. Each contender runs
once.
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

    from benchmarks.peers import AsyncCache, AsyncGetter

TAKES = 1.0


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    caches, left_out = peers.load(peers.ON_TRIO)
    grants: dict[Contender, list[float]] = {}
    seconds: dict[Contender, list[float]] = {}
    for cache in (OURS, WITH_LOCK, *caches):
        sent, waited = virtual_time.run(cancel_first, cache)
        is_ours = cache is OURS
        limit = Limit(1, "amount") if is_ours else None
        remark = peers.remark(left_out) if cache is WITH_LOCK else ""
        grants[Contender(cache.name, is_ours, limit, remark)] = [sent]
        seconds[Contender(cache.name, is_ours)] = [waited]
    return [
        compare("token requests", "grants", grants, base=WITH_LOCK.name),
        compare("the second caller's wait", "s", seconds, base=WITH_LOCK.name),
    ]


async def cancel_first(cache: AsyncCache) -> tuple[int, float]:
    """Return the grants, and the virtual seconds for which the second caller waits."""
    endpoint = Endpoint(takes=TAKES)
    first = trio.CancelScope()
    waited = 0.0

    async def call_first(get: AsyncGetter) -> None:
        with first:
            await get()

    async def call_second(get: AsyncGetter) -> None:
        nonlocal waited
        began = trio.current_time()
        await get()
        waited = trio.current_time() - began

    async with cache.open(endpoint) as get:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_first, get)
            await trio.sleep(TAKES / 4)
            nursery.start_soon(call_second, get)
            await trio.sleep(TAKES / 4)
            first.cancel()
        assert first.cancelled_caught
        return endpoint.requests, waited
