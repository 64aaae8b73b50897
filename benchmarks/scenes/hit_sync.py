"""Calls that do not wait, with a cached token.

The cache has a FRESH token, and one task calls each function many times, all in one run. This
library's ``get_access_token_nowait`` is compared with token caches whose functions are called from
threads. One more cache is awaited, but never waits. The lower bounds are a single clock, and
reading a clock and comparing, which is the least that a cache must do.

The second table compares this library with the fastest cache that checks whether its token has
expired.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks import peers, timing
from benchmarks.endpoint import Endpoint
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns_async
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

FLOOR = "trio.lowlevel.checkpoint"


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return trio.run(_measure, effort)


async def _measure(effort: Effort) -> list[Comparison]:
    caches, left_out = peers.load(peers.SYNC)
    awaited, left_out_too = peers.load(peers.AWAITS_NOTHING)
    checking = {cache.name for cache in caches if cache.checks_expiry}
    checking |= {cache.name for cache in awaited}
    contenders: dict[Contender, Callable[[], Awaitable[float]]] = {}

    def add(who: Contender, call: Callable[[], object]) -> None:
        contenders[who] = _timed(call, effort.calls)

    def add_awaited(who: Contender, call: Callable[[], Awaitable[object]]) -> None:
        contenders[who] = lambda: timing.each_awaited(call, effort.calls)

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(AnonymousSession(CONFIG, Grants()))
        await session.get_access_token()
        ours = Contender("get_access_token_nowait", is_ours=True, limit=Limit(0.07))
        add(ours, session.get_access_token_nowait)
        for cache in caches:
            get = stack.enter_context(cache.open(Endpoint()))
            get()
            add(Contender(cache.name, remark=cache.remark), get)
        for one in awaited:
            get_awaited = await stack.enter_async_context(one.open(Endpoint()))
            add_awaited(Contender(one.name, remark=one.remark), get_awaited)
        add(Contender("a clock read and a comparison, inline"), _look_at_clock())
        add(Contender("trio.current_time"), trio.current_time)
        add(Contender("time.time"), time.time)
        floor = Contender(FLOOR, remark=peers.remark([*left_out, *left_out_too]))
        add_awaited(floor, trio.lowlevel.checkpoint)
        with timing.heap_set_aside():
            measured = await in_turns_async(contenders, effort.turns)
    comparisons = [compare("a call", "s", measured, base=FLOOR)]
    rivals = {who: measured[who] for who in measured if who.subject in checking}
    if rivals:
        fastest = min(rivals, key=lambda who: median(rivals[who]))
        beside = {attrs.evolve(ours, limit=Limit(1.0)): measured[ours], fastest: measured[fastest]}
        figure = "a call, and one of the fastest peer that checks expiry"
        comparisons.append(compare(figure, "s", beside, base=fastest.subject))
    return comparisons


def _look_at_clock() -> Callable[[], str | None]:
    read = trio.lowlevel.current_clock().current_time
    expires_at = read() + 3600.0

    def look() -> str | None:
        return "token" if read() < expires_at else None

    return look


def _timed(call: Callable[[], object], calls: int) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        await trio.lowlevel.checkpoint()
        return timing.each(call, calls)

    return measure
