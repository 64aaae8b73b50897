"""`World`: one machine, the state of the session around it, and the referee's records."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tools.lifecycle.bounds import Doubling
from tools.lifecycle.facts import Facts
from trio_anon_session._lifecycle import Lifecycle, Moment

if TYPE_CHECKING:
    from tools.lifecycle.bounds import Bounds
    from trio_anon_session import Config


class World:
    """One session.

    Attributes:
        facts: the records of what happened.
        machine: the machine that is explored.
        sleeps_until: when the session's task wakes up, on Trio's clock.
        is_rung: whether something has woken the task.
    """

    __slots__ = ("facts", "is_rung", "machine", "sleeps_until")

    def __init__(self, bounds: Bounds, config: Config) -> None:
        self.facts = Facts(bounds)
        self.machine = Lifecycle(config, Doubling())
        self.sleeps_until = 0.0
        self.is_rung = True

    def at(self) -> Moment:
        """Return the time on the clocks of the machine."""
        facts = self.facts
        return Moment(facts.now, None if facts.bounds.wall is None else facts.wall)

    def finds_fresh(self) -> bool:
        """Return whether the cached path finds a token. It does not call the machine."""
        facts, machine = self.facts, self.machine
        # In virtual time the wall clock does not count.
        wall = sys.float_info.max if facts.bounds.wall is None else facts.wall
        return facts.now < machine.fresh_until and wall < machine.fresh_until_by_wall

    def ring_for(self, due_at: float) -> None:
        """Wake the session's task if it would sleep past the next request."""
        if due_at < self.sleeps_until:
            self.is_rung = True

    def task_can_run(self) -> bool:
        """Return whether the session's task is runnable."""
        return self.is_rung or self.facts.now >= self.sleeps_until

    def can_run(self) -> bool:
        """Return whether any task is runnable before time passes."""
        facts = self.facts
        return (
            self.task_can_run()
            or (facts.request is not None and not facts.is_sent)
            or any(seat.looks for seat in facts.callers.values())
        )
