"""Many callers while the endpoint is down.

1,000 tasks ask a cache that has no token, and each token request fails after 50 ms. The first
table counts the token requests that the endpoint gets. The second table has the time until the
last task has its error, in seconds of a virtual clock, without the computing time of the caches.
Each contender runs once.

By default, this library makes a round of attempts with pauses, for all callers together, before it
raises the error. With ``max_retries=0`` it makes one attempt; most of the other caches make one
for each caller.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from benchmarks import peers, virtual_time
from benchmarks.by_hand import WITH_LOCK
from benchmarks.endpoint import OURS, Endpoint, EndpointDownError, open_session
from benchmarks.logs import without_logs
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare
from benchmarks.peers import AsyncCache
from benchmarks.sources import CONFIG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers import AsyncGetter

SIZE = 1_000
TAKES = 0.05

OURS_AT_ONCE = AsyncCache(
    f"{OURS.name}, max_retries=0", partial(open_session, config=CONFIG.replace(max_retries=0))
)


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    caches, left_out = peers.load(peers.ON_TRIO)
    requests: dict[Contender, list[float]] = {}
    seconds: dict[Contender, list[float]] = {}
    limits = {
        OURS.name: Limit(1 + CONFIG.max_retries, "amount"),
        OURS_AT_ONCE.name: Limit(1, "amount"),
    }
    remarks = {WITH_LOCK.name: peers.remark(left_out)}
    with without_logs():
        for cache in (OURS, OURS_AT_ONCE, WITH_LOCK, *caches):
            sent, took = virtual_time.run(call_at_once, cache, SIZE)
            limit = limits.get(cache.name)
            is_ours = limit is not None
            remark = remarks.get(cache.name, "")
            requests[Contender(cache.name, is_ours, limit, remark)] = [sent]
            seconds[Contender(cache.name, is_ours)] = [took]
    return [
        compare("token requests", "requests", requests, base=WITH_LOCK.name, size=SIZE),
        compare(
            "time until the last task has its error", "s", seconds, base=WITH_LOCK.name, size=SIZE
        ),
    ]


async def call_at_once(cache: AsyncCache, size: int) -> tuple[int, float]:
    """Return the requests for a crowd, and the virtual seconds until all have the result."""
    endpoint = Endpoint(takes=TAKES, is_down=True)
    told = 0

    async def call(get: AsyncGetter) -> None:
        nonlocal told
        try:
            await get()
        except Exception as error:
            if not _is_of_endpoint(error):
                raise
            told += 1

    async with cache.open(endpoint) as get:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(call, get)
        assert told == size
        return endpoint.requests, trio.current_time() - began


def _is_of_endpoint(error: BaseException | None) -> bool:
    """Return whether the endpoint that is down has caused this error."""
    while error is not None and not isinstance(error, EndpointDownError):
        error = error.__cause__ or error.__context__
    return error is not None
