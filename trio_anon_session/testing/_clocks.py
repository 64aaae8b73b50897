"""Time and order, under control: clocks that jump, and the order in which tasks run."""

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
"""Virtual seconds after which a run that waits for nothing is ended."""

# A wall clock of today tells no times apart that are closer than a quarter of a
# microsecond; one of January 1970 does.
_EPOCH = 2.0**20
_HURRY = 2.0**-22


def virtual_time(async_fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Make an async function one that is called without ``await``, and runs in virtual time.

    Each call is a ``trio.run`` with a ``MockClock`` of its own, which jumps whenever all
    tasks sleep. A decorator for property tests, whose examples must not share the clock of
    a fixture::

        @given(lifetime=lifetimes())
        @virtual_time
        async def test_my_program(lifetime): ...

    Whatever would wait for ever is ended after a hundred virtual years by
    ``trio.TooSlowError``.
    """

    @functools.wraps(async_fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        async def limited() -> T:
            with trio.fail_after(FOREVER):
                return await async_fn(*args, **kwargs)

        # Imported late: it brings pytest along.
        from trio.testing import MockClock

        return trio.run(limited, clock=MockClock(autojump_threshold=0))

    return run


class SuspendableClock(trio.abc.Clock):
    """Virtual time beside a wall clock: jumps whenever all tasks sleep, and can be suspended.

    Not a ``MockClock``, so that a session believes the wall clock too. Inside
    :meth:`installed`, ``time.time()`` is this clock's wall.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._apart = _EPOCH

    def start_clock(self) -> None:
        """Do nothing: time begins at 0."""

    def current_time(self) -> float:
        """Return Trio's time."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Be there at once: Trio asks only when there is nothing to do before."""
        if deadline == math.inf:
            return math.inf
        # What is late already takes a moment, as all things do. Else a task could wait for
        # the wall clock, which rounding may keep a trifle behind, for ever.
        self._now = deadline if deadline > self._now else self._now + _HURRY
        return 0.0

    def set_wall(self, by: float) -> None:
        """Move the wall clock alone, forwards as in a suspend, or back."""
        self._apart += by

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let ``time.time()`` be this clock's wall while the block lasts."""
        original = time.time
        time.time = lambda: self._now + self._apart
        try:
            yield
        finally:
            time.time = original


class _InOrder(random.Random):
    """Leaves tasks in the order of their starting."""

    def shuffle(self, x: Any) -> None:
        """Turn the list round: Trio takes the tasks from its end."""
        x.reverse()

    def random(self) -> float:
        """Return what leaves the order as it is, too."""
        return 1.0


@contextmanager
def seeded_schedule(seed: int) -> Iterator[None]:
    """Make the order in which Trio runs the tasks that are ready depend on the seed alone.

    With 0 they run in the order in which they were started. The global ``random`` is
    seeded, too. Both are as before when the block is left.

    Trio has no public way to this. It shuffles the ready tasks by a generator of its own
    where a test has asked for determinism, as its plugin for Hypothesis does.
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
