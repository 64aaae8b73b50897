"""Many sessions in one process.

One task opens a number of sessions, each inside the one before, waits until all their tasks sleep,
and closes the sessions again, the last one first. They have one config and no token yet, and
either one token manager for all or one each. For comparison, the task opens the same number of bare
nurseries, each with one task that sleeps for an hour.

The start and the close are CPU time for each session. The memory is what Python has allocated
(tracemalloc) for each session while all are open, in another pass. For more than one session it is
measured only once, because it does not vary. Each session has a nursery too; the memory of a
session without its nursery is the difference.

Garbage is collected before each measurement, but not during it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio
import trio.testing

from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns_async
from benchmarks.memory import no_collection, traced, tracing
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession, TokenManager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

BASE = "a bare nursery"
SIZES = (1, 1_000, 100_000)
TURNS = {1: 15, 1_000: 15, 100_000: 2}
"""Maximum number of turns: 100,000 sessions take seconds, and vary little."""
ON_TOP_LIMIT = Limit(1_500, "amount")

Make = Callable[[], AbstractAsyncContextManager[object]]
"""A function that makes a session or a nursery."""


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return trio.run(_measure, effort)


async def _measure(effort: Effort) -> list[Comparison]:
    comparisons = []
    manager = Grants()
    shared = Contender("a session, one token manager for all", is_ours=True)
    own = Contender("a session, a token manager each", is_ours=True)
    contenders: dict[Contender, Make] = {
        Contender(BASE): Nursery,
        shared: lambda: AnonymousSession(CONFIG, manager),
        own: lambda: AnonymousSession(CONFIG, TokenManager(CONFIG)),
    }
    for size in effort.sizes(*SIZES):
        if size == SIZES[-1]:
            # This takes 1.5 times as long as all other measurements, and shows nothing new.
            del contenders[own]
        turns = effort.turns_of(TURNS[size])
        costs = await in_turns_async(
            {who: partial(timed, make, size) for who, make in contenders.items()}, turns
        )
        starts = {who: [cost.start for cost in each] for who, each in costs.items()}
        closes = {who: [cost.close for cost in each] for who, each in costs.items()}
        weights = await in_turns_async(
            {who: partial(weight, make, size) for who, make in contenders.items()},
            turns if size == 1 else 1,
        )
        comparisons += [
            compare("the start of each", "s", starts, base=BASE, size=size),
            compare("the close of each", "s", closes, base=BASE, size=size),
            compare("the memory of each", "B", weights | _on_top(weights), base=BASE, size=size),
        ]
    return comparisons


def _on_top(weights: Mapping[Contender, Sequence[float]]) -> dict[Contender, list[float]]:
    """Return the memory of a session minus that of a nursery."""
    bare = next(each for who, each in weights.items() if who.subject == BASE)
    (shared,) = (each for who, each in weights.items() if "one token manager" in who.subject)
    on_top = Contender("that session without its nursery", is_ours=True, limit=ON_TOP_LIMIT)
    return {on_top: [ours - floor for ours, floor in zip(shared, bare, strict=True)]}


@attrs.frozen
class Cost:
    """CPU seconds for each session or nursery.

    Attributes:
        start: from the first opening until all tasks sleep.
        close: from there until all are closed.
    """

    start: float
    close: float


async def timed(make: Make, count: int) -> Cost:
    """Open and close this number of sessions or nurseries."""
    with no_collection():
        began = time.thread_time()
        opened = await _open(make, count)
        opened_at = time.thread_time()
        await _close(opened)
        return Cost((opened_at - began) / count, (time.thread_time() - opened_at) / count)


async def weight(make: Make, count: int) -> float:
    """Return the bytes for each of this number."""
    with no_collection():
        with tracing():
            opened = await _open(make, count)
            each = traced() / count
        await _close(opened)
        return each


async def _open(make: Make, count: int) -> list[AbstractAsyncContextManager[object]]:
    opened = []
    for _ in range(count):
        manager = make()
        await manager.__aenter__()
        opened.append(manager)
    await trio.testing.wait_all_tasks_blocked()
    return opened


async def _close(opened: list[AbstractAsyncContextManager[object]]) -> None:
    while opened:
        await opened.pop().__aexit__(None, None, None)


class Nursery:
    """A nursery with one task that sleeps for an hour."""

    __slots__ = ("_manager", "_nursery")

    async def __aenter__(self) -> None:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(trio.sleep, 3600.0)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102  # it is cancelled
