"""Cancels an operation at every point at which it can be cancelled, one run for each.

A test hands over a coroutine function that plays a scenario. It is played once
undisturbed, then again and again, cancelled one step later each time, until it has ended
before it could be cancelled. No test has to know how many points there are.

Steps are counted in two ways: those of the task that runs the operation, which are its
own checkpoints; and those of all tasks, which are all places where the others may have
got to when it is cancelled. A third way cancels by a deadline, in the moments in
which something happens, and half-way between them.
"""

from __future__ import annotations

import enum
import itertools
import math
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIFETIME = 120.0
"""Seconds; STALE from 60 on, EXPIRED from 90 on. Short, for the session looks up each minute."""


class Count(enum.Enum):
    """What is counted until it is time to cancel."""

    NOTHING = "nothing"
    OWN_STEPS = "its own steps"
    ALL_STEPS = "the steps of all tasks"
    MOMENTS = "moments"


ORDERS = {0: (Count.ALL_STEPS, Count.MOMENTS), 1: (Count.OWN_STEPS,)}
"""What is counted in each order in which Trio runs the tasks that are ready, by its seed.

The steps of all tasks include the operation's own, so each order counts one of the two.
"""


class Strike(trio.abc.Instrument):
    """Cancels one operation, after so many steps or at one moment.

    Attributes:
        count: what is counted.
        nth: after how many steps it cancels; 0 is before the operation has begun.
        moment: or when, in seconds from the beginning of the operation.
        fell_at: when it has cancelled; infinity while it has not.
        began_at: when the operation has begun.
        moments: when steps were run, in seconds from the beginning, each named once.
    """

    def __init__(self, count: Count = Count.NOTHING, nth: int = 0, moment: float = 0.0) -> None:
        self.count = count
        self.nth = nth
        self.moment = moment
        self.fell_at = math.inf
        self.began_at = math.nan
        self.moments: list[float] = []
        self._steps = 0
        self._task: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()

    def __str__(self) -> str:
        where = self.moment if self.count is Count.MOMENTS else self.nth
        return f"cancelled at {where} of {self.count.value}"

    @property
    def fell(self) -> bool:
        """Whether it has cancelled before the operation was over."""
        return self.fell_at < math.inf

    def begin(self, scope: trio.CancelScope) -> None:
        """Count from here on, in the task that runs the operation."""
        self._scope = scope
        self._task = trio.lowlevel.current_task()
        self.began_at = trio.current_time()
        trio.lowlevel.add_instrument(self)
        if self.count is Count.MOMENTS:
            scope.deadline = self.began_at + self.moment
        elif self.count is not Count.NOTHING and self.nth == 0:
            self._fall()

    def end(self) -> None:
        """Stop counting: the operation is over."""
        self._see_deadline()
        self._scope.deadline = math.inf
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a deadline has cancelled: before anybody takes a step in its moment."""
        self._see_deadline()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Cancel, if this was the step."""
        moment = trio.current_time() - self.began_at
        if not self.moments or self.moments[-1] != moment:
            self.moments.append(moment)
        if self.count is Count.ALL_STEPS or (self.count is Count.OWN_STEPS and task is self._task):
            self._steps += 1
            if self._steps == self.nth:
                self._fall()

    def _see_deadline(self) -> None:
        if self.count is Count.MOMENTS and not self.fell and self._scope.cancel_called:
            self.fell_at = self._scope.deadline

    def _fall(self) -> None:
        self.fell_at = trio.current_time()
        self._scope.cancel()


@attrs.define
class Operation:
    """The operation that is cancelled, and its outcome.

    Attributes:
        patience: seconds that it may take to end when it is cancelled.
        result: what it returned.
        raised: what came out of it.
        was_cancelled: whether it ended as one that is cancelled does.
        ended_at: when.
    """

    strike: Strike
    patience: float = 0.0
    result: object = None
    raised: type[BaseException] | None = None
    was_cancelled: bool = False
    ended_at: float = math.nan
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(
        self, async_fn: Callable[[], Awaitable[object]], *, begins_at_once: bool = True
    ) -> None:
        """Run the operation, and cancel it."""
        with self._scope:
            if begins_at_once:
                self.begin()
            try:
                self.result = await async_fn()
            except BaseException as error:
                self.raised = type(error)
                raise
            finally:
                self.strike.end()
        self.was_cancelled = self._scope.cancelled_caught
        self.ended_at = trio.current_time()
        # A cancel scope would also catch a group of cancellations.
        assert self.raised is (trio.Cancelled if self.was_cancelled else None)
        if self.was_cancelled:
            assert self.ended_at - self.strike.fell_at <= self.patience, "it left late"

    def begin(self) -> None:
        """Say, from within, that what was done so far was preparation."""
        self.strike.begin(self._scope)


@attrs.define
class Seen:
    """What an observer sees of a scenario, with times in seconds from its beginning.

    Attributes:
        operation: the operation that is cancelled.
        facts: all else: the same, cancelled or not.
    """

    operation: Operation
    facts: dict[str, object] = attrs.field(factory=dict)


_T = TypeVar("_T")


def run_seeded(seed: int, async_fn: Callable[..., Awaitable[_T]], *args: object) -> _T:
    """Run an async function under a clock that jumps, in an order that the seed decides."""
    trio._core._run._r.seed(seed)

    async def limited() -> _T:
        with trio.fail_after(10 * 86400.0):
            return await async_fn(*args)

    return trio.run(limited, clock=MockClock(autojump_threshold=0))


def cancel_everywhere(
    play: Callable[[Strike], Awaitable[Seen]],
    check: Callable[[Seen, Seen], None],
    *,
    at_least: int,
) -> None:
    """Cancel at each step and in each moment, and compare with the undisturbed run.

    Args:
        play: plays the scenario, and hands the operation to the strike.
        check: looks at what was seen, and at what is seen when nothing is cancelled.
        at_least: how many of its own checkpoints the operation has at the least.
    """
    for seed, counts in ORDERS.items():
        undisturbed = Strike()
        usual = run_seeded(seed, play, undisturbed)
        assert not usual.operation.was_cancelled

        def falls(strike: Strike, seed: int = seed, usual: Seen = usual) -> bool:
            try:
                seen = run_seeded(seed, play, strike)
                if not strike.fell:
                    assert seen.facts == usual.facts, "two runs were not alike"
                check(seen, usual)
            except BaseException as error:
                error.add_note(f"{strike}, seed {seed}")
                raise
            return strike.fell

        for count in counts:
            if count is Count.MOMENTS:
                moments = undisturbed.moments
                between = [sum(pair) / 2 for pair in itertools.pairwise(moments)]
                for moment in moments + between:
                    falls(Strike(count, moment=moment))
                continue
            points = next(nth for nth in itertools.count() if not falls(Strike(count, nth)))
            assert points >= at_least, f"no more than {points} points by {count.value}"


async def settle() -> None:
    """Wait until everybody else waits, in the same moment."""
    before = trio.current_time()
    await wait_all_tasks_blocked()
    assert trio.current_time() == before


def living_tasks() -> int:
    """Return how many tasks there are."""
    return trio.lowlevel.current_statistics().tasks_living
