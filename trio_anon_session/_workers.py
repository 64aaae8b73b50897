"""Worker threads for calls that block."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


async def in_worker(
    function: Callable[[*Ts], T], *args: *Ts, limiter: trio.CapacityLimiter | None = None
) -> T:
    """Call a function that blocks, in a worker thread of Trio.

    If the process can start no thread, this calls the function in the current thread, which it
    blocks. On Python 3.12, this happens after the main thread has ended, and on all versions if
    the system allows no more threads. A token that is late is better than none.

    Args:
        function: the function.
        *args: its arguments.
        limiter: limits the threads; None: Trio's own limiter.

    Cancellation: the thread is left to itself, and its result is dropped.
    """
    has_begun = False

    def work() -> T:
        nonlocal has_begun
        has_begun = True
        return function(*args)

    try:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
    except RuntimeError:
        if has_begun:
            raise
    return function(*args)
