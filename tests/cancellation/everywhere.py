"""Cancels an operation at every point at which it can be cancelled, in one run for each point.

A test passes an async function that runs a scenario. `cancel_everywhere` runs it once
without cancellation. Then it runs it repeatedly and cancels one step later each time, until the
operation ends before the cancellation. So a test need not know the number of points.

Steps are counted in two ways. The steps of the task that runs the operation are its own
checkpoints. The steps of all tasks are all states that the other tasks can have at the
cancellation. A third way cancels by a deadline, at the moments at which something happens, and
half-way between them.
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
"""Seconds: STALE from 60 on, EXPIRED from 90 on.

Short, because the session checks its clocks every minute.
"""


class Count(enum.Enum):
    """What is counted until the cancellation."""

    NOTHING = "nothing"
    OWN_STEPS = "its own steps"
    ALL_STEPS = "the steps of all tasks"
    MOMENTS = "moments"


ORDERS = {0: (Count.ALL_STEPS, Count.MOMENTS), 1: (Count.OWN_STEPS,)}
"""What is counted for each seed, which sets the order in which Trio runs ready tasks.

The steps of all tasks include those of the operation, so each seed uses one of the two.
"""


class Strike(trio.abc.Instrument):
    """Cancels one operation, after a number of steps or at one moment.

    Attributes:
        count: what is counted.
        nth: the number of steps before the cancellation; 0 is before the operation begins.
        moment: the time of the cancellation, in seconds from the start of the operation.
        cancelled_at: the time of the cancellation, or infinity.
        began_at: the time at which the operation began.
        moments: the times of all steps, in seconds from the start, without duplicates.
    """

    def __init__(self, count: Count = Count.NOTHING, nth: int = 0, moment: float = 0.0) -> None:
        self.count = count
        self.nth = nth
        self.moment = moment
        self.cancelled_at = math.inf
        self.began_at = math.nan
        self.moments: list[float] = []
        self._steps = 0
        self._task: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()

    def __str__(self) -> str:
        where = self.moment if self.count is Count.MOMENTS else self.nth
        return f"cancelled at {where} of {self.count.value}"

    @property
    def has_cancelled(self) -> bool:
        """Whether it cancelled before the end of the operation."""
        return self.cancelled_at < math.inf

    def begin(self, scope: trio.CancelScope) -> None:
        """Start counting; call this in the task that runs the operation."""
        self._scope = scope
        self._task = trio.lowlevel.current_task()
        self.began_at = trio.current_time()
        trio.lowlevel.add_instrument(self)
        if self.count is Count.MOMENTS:
            scope.deadline = self.began_at + self.moment
        elif self.count is not Count.NOTHING and self.nth == 0:
            self._cancel()

    def end(self) -> None:
        """Stop counting, at the end of the operation."""
        self._see_deadline()
        self._scope.deadline = math.inf
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record the time of a deadline that has cancelled, before any step at that time."""
        self._see_deadline()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Cancel if this was the last step to count."""
        moment = trio.current_time() - self.began_at
        if not self.moments or self.moments[-1] != moment:
            self.moments.append(moment)
        if self.count is Count.ALL_STEPS or (self.count is Count.OWN_STEPS and task is self._task):
            self._steps += 1
            if self._steps == self.nth:
                self._cancel()

    def _see_deadline(self) -> None:
        if self.count is Count.MOMENTS and not self.has_cancelled and self._scope.cancel_called:
            self.cancelled_at = self._scope.deadline

    def _cancel(self) -> None:
        self.cancelled_at = trio.current_time()
        self._scope.cancel()


@attrs.define
class Operation:
    """The operation that is cancelled, and its outcome.

    Attributes:
        patience: seconds within which it must end after the cancellation.
        result: the value that it returned.
        raised: the type of the exception that it raised.
        was_cancelled: whether its cancel scope caught the cancellation.
        ended_at: the time of its end.
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
        """Run the operation, which the strike cancels."""
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
            assert self.ended_at - self.strike.cancelled_at <= self.patience, (
                "the operation ended too late after the cancellation"
            )

    def begin(self) -> None:
        """Start the count inside the operation, after its preparation."""
        self.strike.begin(self._scope)


@attrs.define
class Seen:
    """The outcome of a scenario, with times in seconds from its start.

    Attributes:
        operation: the operation that is cancelled.
        facts: all other facts, which a test compares with those of the run without cancellation.
    """

    operation: Operation
    facts: dict[str, object] = attrs.field(factory=dict)


_T = TypeVar("_T")


def run_seeded(seed: int, async_fn: Callable[..., Awaitable[_T]], *args: object) -> _T:
    """Run an async function in virtual time, with the order of tasks that the seed sets."""
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
    """Cancel at each step and each moment, and compare with the run without cancellation.

    Args:
        play: runs the scenario with an operation that the strike cancels.
        check: compares the outcome with that of the run without cancellation.
        at_least: the minimal number of points at which the operation can be cancelled.
    """
    for seed, counts in ORDERS.items():
        undisturbed = Strike()
        usual = run_seeded(seed, play, undisturbed)
        assert not usual.operation.was_cancelled

        def cancels(strike: Strike, seed: int = seed, usual: Seen = usual) -> bool:
            try:
                seen = run_seeded(seed, play, strike)
                if not strike.has_cancelled:
                    assert seen.facts == usual.facts, "two runs without cancellation differ"
                check(seen, usual)
            except BaseException as error:
                error.add_note(f"{strike}, seed {seed}")
                raise
            return strike.has_cancelled

        for count in counts:
            if count is Count.MOMENTS:
                moments = undisturbed.moments
                between = [sum(pair) / 2 for pair in itertools.pairwise(moments)]
                for moment in moments + between:
                    cancels(Strike(count, moment=moment))
                continue
            points = next(nth for nth in itertools.count() if not cancels(Strike(count, nth)))
            assert points >= at_least, f"only {points} points by {count.value}"


async def settle() -> None:
    """Wait until all other tasks are blocked, and assert that no time has passed."""
    before = trio.current_time()
    await wait_all_tasks_blocked()
    assert trio.current_time() == before


def living_tasks() -> int:
    """Return the number of tasks of this Trio run."""
    return trio.lowlevel.current_statistics().tasks_living
