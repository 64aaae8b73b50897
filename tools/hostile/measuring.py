"""What a peer costs, seen from outside: the longest step of a task, and the peak of memory.

The work of a step cannot be counted in instructions of Python: what blocked the loop was one
call of a function in C. So the processor time of the thread counts, which other programs do not
add to, and it is compared with a fixed piece of work that is measured in the same process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 2.5
"""Pieces of work that a step takes at the most. One takes 10 to 20 ms, so these are some 50 ms."""


def piece_of_work() -> float:
    """Return the seconds of processor time that a fixed piece of work takes at the most."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        sum(number * number % 7 for number in range(150_000))
        took.append(time.thread_time() - began)
    return max(took)


class Steps(trio.abc.Instrument):
    """Measures the steps of all tasks of a run.

    Attributes:
        longest: seconds of processor time.
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

    Measured again where it seems to be too long: what else the machine does only adds to it.
    """
    least = float("inf")
    for _ in range(4):
        steps = Steps()
        live(steps)
        least = min(least, steps.longest / piece_of_work())
        if least <= MOST:
            break
    return least
