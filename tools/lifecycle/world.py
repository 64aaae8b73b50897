"""`World`: one machine, what the session around it knows, and the referee's records."""

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
        facts: what happened.
        machine: the machine that is explored.
        sleeps_until: until when the session's task sleeps, on Trio's clock.
        is_rung: whether something woke the task.
    """

    __slots__ = ("facts", "is_rung", "machine", "sleeps_until")

    def __init__(self, bounds: Bounds, config: Config) -> None:
        self.facts = Facts(bounds)
        self.machine = Lifecycle(config, Doubling())
        self.sleeps_until = 0.0
        self.is_rung = True

    def at(self) -> Moment:
        """Return the time as the machine gets it."""
        facts = self.facts
        return Moment(facts.now, None if facts.bounds.wall is None else facts.wall)

    def finds_fresh(self) -> bool:
        """Return whether a caller gets the token on the cached path, which calls nothing."""
        facts, machine = self.facts, self.machine
        # In virtual time the wall clock can show any time.
        wall = sys.float_info.max if facts.bounds.wall is None else facts.wall
        return facts.now < machine.fresh_until and wall < machine.fresh_until_by_wall

    def ring_for(self, due_at: float) -> None:
        """Wake the session's task if it would sleep past the next request."""
        if due_at < self.sleeps_until:
            self.is_rung = True

    def task_can_run(self) -> bool:
        """Return whether the session's task can look at the facts."""
        return self.is_rung or self.facts.now >= self.sleeps_until

    def can_run(self) -> bool:
        """Return whether any task can do something before time passes."""
        facts = self.facts
        return (
            self.task_can_run()
            or (facts.request is not None and not facts.is_sent)
            or any(seat.looks for seat in facts.callers.values())
        )
