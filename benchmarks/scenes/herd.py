"""Many callers without a token.

1,000 and 10,000 tasks ask a cache that has no token yet, all at the same time. The first table
counts the token requests that the endpoint gets. The second table has the time from the start of
the first task until the last task has its token. A token request takes 50 ms of Trio's clock,
which skips all waiting. So the time is only the program's own work, including the start and the
end of the tasks. Garbage is collected before each measurement.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import trio

from benchmarks import peers, timing, virtual_time
from benchmarks.by_hand import WITH_LOCK
from benchmarks.endpoint import OURS, Endpoint
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.peers import AsyncCache

SIZES = (1_000, 10_000)
TAKES = 0.05


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    caches, left_out = peers.load(peers.ON_TRIO)
    comparisons = []
    for size in effort.sizes(*SIZES):
        contenders: dict[Contender, Callable[[], tuple[int, float]]] = {
            Contender(OURS.name, is_ours=True, limit=Limit(1, "amount")): _called(OURS, size),
            Contender(WITH_LOCK.name, remark=peers.remark(left_out)): _called(WITH_LOCK, size),
        }
        for cache in caches:
            contenders[Contender(cache.name)] = _called(cache, size)
        with timing.heap_set_aside():
            measured = in_turns(contenders, effort.turns_of(5 if size == SIZES[0] else 3))
        grants = {who: [sent for sent, _ in values] for who, values in measured.items()}
        seconds = {
            # These contenders have no limit, because the limit is for the number of grants.
            Contender(who.subject, is_ours=who.is_ours): [took for _, took in values]
            for who, values in measured.items()
        }
        comparisons += [
            compare("token requests", "grants", grants, base=WITH_LOCK.name, size=size),
            compare(
                "time until the last task has its token",
                "s",
                seconds,
                base=WITH_LOCK.name,
                size=size,
            ),
        ]
    return comparisons


def _called(cache: AsyncCache, size: int) -> Callable[[], tuple[int, float]]:
    return lambda: virtual_time.run(call_at_once, cache, size)


async def call_at_once(cache: AsyncCache, size: int) -> tuple[int, float]:
    """Return the number of token requests for a crowd, and the seconds that it took."""
    endpoint = Endpoint(takes=TAKES)
    async with cache.open(endpoint) as get:
        gc.collect()
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(get)
        return endpoint.requests, time.perf_counter() - began
