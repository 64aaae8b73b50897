"""Crowds of tasks that wait for one event, and the cost of waking them.

Times are the processor time of this thread. The tasks wait for nothing outside, so that on an
idle machine this is the real time. On a busy machine it does not include other programs.
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
    """A closed gate.

    Attributes:
        wait: the function that each task of the crowd awaits.
        open: wakes all tasks.
    """

    wait: Callable[[], Awaitable[object]]
    open: Callable[[], Awaitable[None]]


Gates = Callable[[], AbstractAsyncContextManager[Gate]]
"""A function that makes a gate for one measurement."""


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
    """Return the longest time in which another task gets no turn."""
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
    """Return the bytes for each waiting task."""
    with no_collection():
        async with gates() as gate, trio.open_nursery() as nursery:
            with tracing():
                await gather(nursery, gate, count)
                each = traced() / count
            await gate.open()
        return each


async def gather(nursery: trio.Nursery, gate: Gate, count: int) -> None:
    """Start a crowd, and return when all tasks wait."""
    for _ in range(count):
        nursery.start_soon(gate.wait)
    await trio.testing.wait_all_tasks_blocked()


@attrs.define
class _Watch:
    """Record how long a task waits for its turn."""

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


# Gates without a session, to compare with


@asynccontextmanager
async def event() -> AsyncIterator[Gate]:
    """An event, which wakes all tasks in one step."""
    there = trio.Event()

    async def open_it() -> None:  # noqa: ASYNC124  # others' gates wait
        there.set()

    yield Gate(there.wait, open_it)


@asynccontextmanager
async def condition() -> AsyncIterator[Gate]:
    """A condition that notifies all tasks."""
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
    """The parking lot that Trio's primitives use."""
    lot = trio.lowlevel.ParkingLot()

    async def open_it() -> None:  # noqa: ASYNC124  # others' gates wait
        lot.unpark_all()

    yield Gate(lot.park, open_it)
