"""Seconds that calls take."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def each(function: Callable[[], object], calls: int) -> float:
    """Return the seconds that one call takes, over many."""
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


async def each_awaited(function: Callable[[], Awaitable[object]], calls: int) -> float:
    """Return the seconds that one call takes to be awaited, over many."""
    began = time.perf_counter()
    for _ in range(calls):
        await function()
    return (time.perf_counter() - began) / calls


@contextmanager
def heap_set_aside() -> Iterator[None]:
    """Collect no garbage among what is there now.

    A collection looks at all that has been imported; so a figure, and each ``gc.collect()``
    before one, would depend on how many peers are installed.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
