"""Virtual clocks, and a deterministic task order."""

from __future__ import annotations

import functools
import math
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

FOREVER = 100 * 365 * 86400.0
"""Virtual seconds after which a run counts as hanging."""

# Floats near today's time have a resolution of a quarter of a microsecond, which is too
# coarse. Floats near January 1970 are precise enough.
_EPOCH = 2.0**20
_TICK = 2.0**-22


def virtual_time(async_fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Return a function that runs an async function in virtual time; call it without ``await``.

    Each call is a ``trio.run`` with its own ``MockClock``, which jumps forward when all
    tasks sleep. Use it for property tests, whose examples must not share the clock of a
    fixture::

        @given(lifetime=lifetimes())
        @virtual_time
        async def test_my_program(lifetime): ...

    Raises:
        trio.TooSlowError: The function did not return within a hundred virtual years.
    """

    @functools.wraps(async_fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def limited() -> T:
            with trio.fail_after(FOREVER):
                return await async_fn(*args, **kwargs)

        # Imported here because it imports pytest.
        from trio.testing import MockClock

        return trio.run(limited, clock=MockClock(autojump_threshold=0))

    return run


class SuspendableClock(trio.abc.Clock):
    """A virtual clock with a wall clock; it jumps when all tasks sleep, and can be suspended.

    It is not a ``MockClock``, because a session ignores the wall clock under one. Inside
    :meth:`installed`, ``time.time()`` returns this clock's wall time.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._apart = _EPOCH

    def start_clock(self) -> None:
        """Do nothing: time begins at 0."""

    def current_time(self) -> float:
        """Return the current time on Trio's clock."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to the deadline; Trio calls this only when all tasks wait."""
        if deadline == math.inf:
            return math.inf
        # Time must advance even if the deadline has passed. Otherwise a task could wait
        # indefinitely for the wall clock, which rounding may leave slightly behind.
        self._now = deadline if deadline > self._now else self._now + _TICK
        return 0.0

    def set_wall(self, by: float) -> None:
        """Move only the wall clock: forward, as in a suspend, or back."""
        self._apart += by

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Make ``time.time()`` return this clock's wall time while the block lasts."""
        original = time.time
        time.time = lambda: self._now + self._apart
        try:
            yield
        finally:
            time.time = original


class _InOrder(random.Random):
    """A generator that keeps tasks in the order in which they started."""

    def shuffle(self, x: Any) -> None:
        """Reverse the list, because Trio takes the tasks from its end."""
        x.reverse()

    def random(self) -> float:
        """Return a value that keeps the order."""
        return 1.0


@contextmanager
def seeded_schedule(seed: int) -> Iterator[None]:
    """Make the order in which Trio runs ready tasks depend only on the seed.

    With seed 0, tasks run in the order in which they started. The global ``random`` is
    seeded as well. Leaving the block restores both.

    Trio has no public API for this. It shuffles ready tasks with a private generator, which
    its Hypothesis plugin also seeds.
    """
    run: Any = trio._core._run
    before = run._r, run._ALLOW_DETERMINISTIC_SCHEDULING
    state = random.getstate()
    run._r = _InOrder() if seed == 0 else random.Random(seed)
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    random.seed(seed)
    try:
        yield
    finally:
        run._r, run._ALLOW_DETERMINISTIC_SCHEDULING = before
        random.setstate(state)
