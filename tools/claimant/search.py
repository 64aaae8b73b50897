"""Exploration of every state of a fleet, breadth first, and check that each question can end."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from tools.claimant.bounds import Bounds, small_constants
from tools.claimant.events import act, possible_events
from tools.claimant.keys import key_of
from tools.claimant.snapshots import COPIER
from tools.claimant.world import World
from tools.exploring import search
from tools.exploring.promises import BrokenPromiseError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tools.exploring.search import Event, Exploration


class Fleet:
    """A fleet as a model to explore; see `tools.exploring.search.Model`."""

    copier = COPIER
    has_looks = False

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def patched(self) -> AbstractContextManager[object]:
        return small_constants(self._bounds)

    def start(self) -> World:
        return World(self._bounds)

    def possible_events(self, world: World) -> list[Event]:
        return possible_events(world)

    def do(self, world: World, event: Event) -> str:
        return act(world, event)

    def check(self, world: World) -> None:
        """Do nothing, because the referee checks each event."""

    def key_of(self, world: World) -> bytes:
        return key_of(world)


class Search(search.Search):
    """A search of all states within bounds."""

    def __init__(self, bounds: Bounds, *, most_states: int | None = None) -> None:
        super().__init__(Fleet(bounds), most_states=most_states)
        # Begin and end of each transition that neither a user nor a fault causes.
        self._begins, self._ends = array("l"), array("l")
        # The states in which no question waits.
        self._quiet: list[int] = []

    def run(self) -> Exploration:
        """Explore every state, and check that each question can end.

        Raises:
            BrokenPromiseError: a promise is broken. The error has the shortest path to that.
        """
        found = super().run()
        if found.is_exhausted:
            self._check_ends(found.states)
        return found

    def visit(self, number: int, world: World) -> None:
        if not any(process.is_open for process in world.processes):
            self._quiet.append(number)

    def note(self, number: int, event: Event, result: int) -> None:
        if event[0] in GOES_ON:
            self._begins.append(number)
            self._ends.append(result)

    def _check_ends(self, states: int) -> None:
        """Check that all questions can end from each state, without users or more faults."""
        ways: list[list[int]] = [[] for _ in range(states)]
        for begin, end in zip(self._begins, self._ends, strict=True):
            ways[end].append(begin)
        can_end = bytearray(states)
        todo = self._quiet
        for number in todo:
            can_end[number] = True
        for number in todo:
            for before in ways[number]:
                if not can_end[before]:
                    can_end[before] = True
                    todo.append(before)
        if (first := can_end.find(0)) >= 0:
            broken = BrokenPromiseError(4, "a question can never end")
            broken.path, broken.states = self.path_to(first), states
            raise broken


GOES_ON = ("tick", "do", "receive", "grant", "wake", "watch again", "continue", "outage ends")
"""Events that neither a user nor a fault causes."""
