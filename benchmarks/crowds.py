"""Crowds of tasks that wait for one thing, and what it takes to let them go.

Times are those of this thread on a processor. Nothing here waits for anything outside, so that
on an idle machine they are the time that passes; on a busy one, no other program's are among
them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
import trio.testing

from benchmarks.memory import no_collection, traced, tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@attrs.frozen
class Gate:
    """A gate, shut.

    Attributes:
        wait: what each of the crowd awaits.
        open: lets them all go.
    """

    wait: Callable[[], Awaitable[object]]
    open: Callable[[], Awaitable[None]]


Gates = Callable[[], AbstractAsyncContextManager[Gate]]
"""Makes a gate for one measurement."""


async def total(gates: Gates, count: int) -> float:
    """Return the seconds from the opening until the last of the tasks has ended."""
    with no_collection():
        async with gates() as gate:
            async with trio.open_nursery() as nursery:
                await gather(nursery, gate, count)
                began = time.thread_time()
                await gate.open()
            return time.thread_time() - began


async def stall(gates: Gates, count: int) -> float:
    """Return the longest time for which another task has no turn meanwhile."""
    with no_collection():
        watch = _Watch()
        async with gates() as gate, trio.open_nursery() as watching:
            async with trio.open_nursery() as nursery:
                await gather(nursery, gate, count)
                await watching.start(watch.run)
                await gate.open()
            watch.is_over = True
        return watch.longest


async def weight(gates: Gates, count: int) -> float:
    """Return the bytes for each of those that wait."""
    with no_collection():
        async with gates() as gate, trio.open_nursery() as nursery:
            with tracing():
                await gather(nursery, gate, count)
                each = traced() / count
            await gate.open()
        return each


async def gather(nursery: trio.Nursery, gate: Gate, count: int) -> None:
    """Start a crowd, and return when all of it waits."""
    for _ in range(count):
        nursery.start_soon(gate.wait)
    await trio.testing.wait_all_tasks_blocked()


@attrs.define
class _Watch:
    """Notes how long a task waits for its turn."""

    longest: float = 0.0
    is_over: bool = False

    async def run(  # noqa: ASYNC114  # that list is for names that others start, too
        self, task_status: trio.TaskStatus[None]
    ) -> None:
        task_status.started()
        had_turn_at = time.thread_time()
        while not self.is_over:
            await trio.lowlevel.checkpoint()
            now = time.thread_time()
            self.longest = max(self.longest, now - had_turn_at)
            had_turn_at = now


# Bare gates, to stand beside a session's


@asynccontextmanager
async def event() -> AsyncIterator[Gate]:
    """A bare event, which wakes all at once."""
    there = trio.Event()

    async def open_it() -> None:  # noqa: ASYNC124  # others' gates wait
        there.set()

    yield Gate(there.wait, open_it)


@asynccontextmanager
async def condition() -> AsyncIterator[Gate]:
    """A condition as one would write it, which notifies all."""
    there = trio.Condition()
    is_open = False

    async def wait() -> None:
        async with there:
            while not is_open:
                await there.wait()

    async def open_it() -> None:
        nonlocal is_open
        is_open = True
        async with there:
            there.notify_all()

    yield Gate(wait, open_it)


@asynccontextmanager
async def parking_lot() -> AsyncIterator[Gate]:
    """What Trio's own primitives park their tasks in."""
    lot = trio.lowlevel.ParkingLot()

    async def open_it() -> None:  # noqa: ASYNC124  # others' gates wait
        lot.unpark_all()

    yield Gate(lot.park, open_it)
