"""The time of calls in seconds."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def each(function: Callable[[], object], calls: int) -> float:
    """Return the mean time of a call in seconds."""
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


async def each_awaited(function: Callable[[], Awaitable[object]], calls: int) -> float:
    """Return the mean time of an async call in seconds."""
    began = time.perf_counter()
    for _ in range(calls):
        await function()
    return (time.perf_counter() - began) / calls


@contextmanager
def heap_set_aside() -> Iterator[None]:
    """Exclude all existing objects from garbage collection.

    A collection visits all imported objects. So a figure, and each ``gc.collect()`` before one,
    would depend on the number of installed peers.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
