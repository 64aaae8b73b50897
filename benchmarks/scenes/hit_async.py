"""Awaited calls with a cached token, by one task and by many.

The cache has a FRESH token, and 1, 100 or 1,000 tasks call it at the same time, each many times.
Each measurement is a run of its own: it opens a cache, gets a token and starts the tasks, which
wait for a signal. The figure is the time from the signal until the last task has ended, divided by
the number of all calls. It includes waking each task once, which at 1,000 tasks is once per 40
calls.

The base is the same number of tasks that only make checkpoints. The goal is that a call costs no
more than one checkpoint. A call that is not a checkpoint is cheaper. But a task that makes only
such calls cannot be cancelled, and no other task runs until it is done.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from benchmarks import peers, timing
from benchmarks.by_hand import WITH_CONDITION, WITH_LOCK
from benchmarks.endpoint import Endpoint, open_session
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns
from benchmarks.peers import AsyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from benchmarks.peers import AsyncGetter

SIZES = (1, 100, 1_000)
THREAD_HOP = 10
"""The divisor of the number of calls if each call takes a thread."""


@asynccontextmanager
async def _open_floor(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    yield trio.lowlevel.checkpoint


FLOOR = AsyncCache("trio.lowlevel.checkpoint", _open_floor)
OURS = AsyncCache("get_access_token", open_session)


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return [_compare(size, effort) for size in effort.sizes(*SIZES)]


def _compare(size: int, effort: Effort) -> Comparison:
    caches, left_out = peers.load(peers.ON_TRIO)
    limit = Limit(1.15 if size == 1 else 1.3)
    each = max(effort.calls // size, effort.calls // 500, 1)
    contenders: dict[Contender, Callable[[], float]] = {
        Contender(OURS.name, is_ours=True, limit=limit): _measured(OURS, size, each),
        Contender(FLOOR.name, remark=peers.remark(left_out)): _measured(FLOOR, size, each),
    }
    for cache in (*caches, WITH_LOCK, WITH_CONDITION):
        contenders[Contender(cache.name, remark=cache.remark)] = _measured(cache, size, each)
    if size == 1:
        for cache in peers.load(peers.ON_ASYNCIO)[0]:
            contenders[Contender(cache.name, remark=cache.remark)] = _measured_on_asyncio(
                cache, max(each // THREAD_HOP, 1)
            )
    turns = effort.turns if size == 1 else effort.turns_of(7)
    with timing.heap_set_aside():
        measured = in_turns(contenders, turns)
    return compare("a call", "s", measured, base=FLOOR.name, size=size)


def _measured(cache: AsyncCache, size: int, each: int) -> Callable[[], float]:
    return lambda: trio.run(_time_crowd, cache, size, each)


def _measured_on_asyncio(cache: AsyncCache, calls: int) -> Callable[[], float]:
    return lambda: asyncio.run(_time_alone(cache, calls))


async def _time_crowd(cache: AsyncCache, size: int, each: int) -> float:
    """Return the seconds for each call in a crowd."""
    release = trio.Event()

    async def call(get: AsyncGetter) -> None:
        await release.wait()
        for _ in range(each):
            await get()

    async with cache.open(Endpoint()) as get:
        await get()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(call, get)
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            began = time.perf_counter()
            release.set()
        return (time.perf_counter() - began) / (size * each)


async def _time_alone(cache: AsyncCache, calls: int) -> float:
    async with cache.open(Endpoint()) as get:
        await get()
        return await timing.each_awaited(get, calls)
