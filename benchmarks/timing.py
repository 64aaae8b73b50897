"""Seconds that calls take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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
