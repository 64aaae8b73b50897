"""What things weigh, and a garbage collector that keeps still."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now, and not again until the block is left.

    A collection among 100,000 tasks takes longer than most of what is measured here, and
    would be charged to whoever happens to be running.
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
    """Count what Python allocates from now on, until the block is left."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def traced() -> int:
    """Return the bytes that were allocated since the tracing began, and are not garbage.

    They are what was asked for: what the allocators add is not among them.
    """
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
