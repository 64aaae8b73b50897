"""Explores every state of a world, breadth first."""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from tests.lifecycle.bounds import short_sleeps
from tests.lifecycle.events import EVENTS, possible_events
from tests.lifecycle.facts import BrokenPromiseError, as_broken
from tests.lifecycle.keys import key_of
from tests.lifecycle.looks import check_callers_are_served, check_looks
from tests.lifecycle.snapshots import Snapshot, restore, take_snapshot
from tests.lifecycle.world import World

if TYPE_CHECKING:
    from tests.lifecycle.answers import Event
    from tests.lifecycle.bounds import Bounds


@attrs.frozen
class Exploration:
    """What was explored.

    Attributes:
        states: how many states were found.
        transitions: how many events were tried in them.
        depth: the most events that a state is away from the start.
        seconds: the CPU time.
        results: how often each event had each result.
        is_exhausted: whether every event was tried in every state.
    """

    states: int
    transitions: int
    depth: int
    seconds: float
    results: Counter[tuple[str, str]]
    is_exhausted: bool


class Search:
    """Searches the states within some bounds.

    Attributes:
        keys: the states, in the order in which they were found.
    """

    def __init__(self, bounds: Bounds, *, most_states: int | None = None) -> None:
        self.bounds = bounds
        self.most_states = most_states
        self.keys: dict[bytes, int] = {}
        self.parents: list[tuple[int, Event]] = []

    def run(self) -> Exploration:
        """Explore every state.

        Raises:
            BrokenPromiseError: with the shortest path to the broken promise.
        """
        # The garbage collector would look at all snapshots again and again.
        gc.disable()
        try:
            with short_sleeps():
                return self._run()
        finally:
            gc.enable()

    def _run(self) -> Exploration:
        began = time.process_time()
        world = World(self.bounds, self.bounds.config())
        keys, parents = self.keys, self.parents
        results: Counter[tuple[str, str]] = Counter()
        keys[key_of(world)] = 0
        parents.append((0, ()))
        level = [(0, take_snapshot(world))]
        depth = transitions = 0
        is_exhausted = True
        while level and is_exhausted:
            deeper: list[tuple[int, Snapshot]] = []
            for number, snapshot in level:
                if self.most_states is not None and len(keys) > self.most_states:
                    is_exhausted = False
                    break
                restore(snapshot)
                event: Event = ()
                try:
                    check_looks(world)
                    check_callers_are_served(world)
                    events = possible_events(world)
                    if take_snapshot(world) != snapshot:
                        raise BrokenPromiseError(0, "a look changed something")
                    for event in events:
                        result = EVENTS[event[0]](world, *event[1:])  # type: ignore[index]
                        results[event[0], result] += 1  # type: ignore[index]
                        key = key_of(world)
                        if key not in keys:
                            keys[key] = len(keys)
                            parents.append((number, event))
                            deeper.append((len(parents) - 1, take_snapshot(world)))
                        restore(snapshot)
                except Exception as error:
                    broken = as_broken(error)
                    broken.path = self.path_to(number, event)
                    broken.states = len(keys)
                    raise broken from error
                transitions += len(events)
            depth += bool(deeper)
            level = deeper
        seconds = time.process_time() - began
        return Exploration(len(keys), transitions, depth, seconds, results, is_exhausted)

    def path_to(self, number: int, last: Event = ()) -> tuple[Event, ...]:
        """Return the events that lead to a state, and one more."""
        path = [last] if last else []
        while number:
            number, event = self.parents[number]
            path.append(event)
        return tuple(reversed(path))
