"""Measure the cost of a peer: the longest step of a task, and the peak of memory.

A single call of a C function can block the event loop, so counting Python's instructions is not
enough. The measure is the processor time of the thread, without other programs. It is compared
with a fixed piece of work in the same process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 2.5
"""Limit of a step in pieces of work. A piece takes 10 to 20 ms, so this is about 50 ms."""


def piece_of_work() -> float:
    """Return the longest processor time of a fixed piece of work in seconds."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        sum(number * number % 7 for number in range(150_000))
        took.append(time.thread_time() - began)
    return max(took)


class Steps(trio.abc.Instrument):
    """An instrument that measures the steps of all tasks of a run.

    Attributes:
        longest: processor time of the longest step in seconds.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note the time."""
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note the time that the step took."""
        self.longest = max(self.longest, time.thread_time() - self._began)


def longest_step(live: Callable[[Steps], object]) -> float:
    """Return the pieces of work that the longest step of a run takes.

    If the step seems too long, it repeats the run: other work of the machine only adds time.
    """
    least = float("inf")
    for _ in range(4):
        steps = Steps()
        live(steps)
        least = min(least, steps.longest / piece_of_work())
        if least <= MOST:
            break
    return least
