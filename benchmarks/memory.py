"""The memory of objects, and runs without garbage collection."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now, and not again until the end of the block.

    A collection among 100,000 tasks takes longer than most measured calls, and would count for
    the contender that happens to run.
    """
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def tracing() -> Iterator[None]:
    """Trace what Python allocates until the end of the block."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def traced() -> int:
    """Return the bytes that were allocated since the tracing began, and are not garbage.

    These are the requested sizes, without the overhead of the allocators.
    """
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
