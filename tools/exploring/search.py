"""Exploration of every state of a world, breadth first."""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from tools.exploring.promises import BrokenPromiseError, as_broken

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tools.exploring.snapshots import Copier, Snapshot

Event = tuple[object, ...]
"""The name of an event, and the arguments of its function."""


class Model(Protocol):
    """Interface of a model to explore."""

    @property
    def copier(self) -> Copier:
        """The copier of worlds."""
        ...

    @property
    def has_looks(self) -> bool:
        """Whether `check` calls the machine. It must change nothing then."""
        ...

    def patched(self) -> AbstractContextManager[object]:
        """Return a context manager that sets the constants of the exploration."""
        ...

    def start(self) -> Any:
        """Return the initial world."""
        ...

    def possible_events(self, world: Any) -> list[Event]:
        """Return every event that is possible now."""
        ...

    def do(self, world: Any, event: Event) -> str:
        """Execute an event, and return its result in a few words.

        Raises:
            BrokenPromiseError: the event breaks a promise.
        """
        ...

    def check(self, world: Any) -> None:
        """Check what must be true in every state, without changing anything.

        Raises:
            BrokenPromiseError: something is not true.
        """
        ...

    def key_of(self, world: Any) -> bytes:
        """Return the key of a state. Two states with the same key behave alike from now on."""
        ...


@attrs.frozen
class Exploration:
    """Result of an exploration.

    Attributes:
        states: number of states found.
        transitions: number of events tried in all states.
        depth: largest distance of a state from the start, in events.
        seconds: CPU time.
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
    """A search of all states of a model.

    Attributes:
        keys: number of each state by its key, in the order in which they were found.
    """

    def __init__(self, model: Model, *, most_states: int | None = None) -> None:
        self.model = model
        self.most_states = most_states
        self.keys: dict[bytes, int] = {}
        self.parents: list[tuple[int, Event]] = []

    def run(self) -> Exploration:
        """Explore every state.

        Raises:
            BrokenPromiseError: a promise is broken. The error has the shortest path to that.
        """
        # The garbage collector would traverse all snapshots again and again.
        gc.disable()
        try:
            with self.model.patched():
                return self._run()
        finally:
            gc.enable()

    def _run(self) -> Exploration:
        began = time.process_time()
        model = self.model
        do, key_of, visit, note = model.do, model.key_of, self.visit, self.note
        take, restore = model.copier.take, model.copier.restore
        has_looks = model.has_looks
        world = model.start()
        keys, parents = self.keys, self.parents
        results: Counter[tuple[str, str]] = Counter()
        keys[key_of(world)] = 0
        parents.append((0, ()))
        level = [(0, take(world))]
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
                    visit(number, world)
                    events = model.possible_events(world)
                    if has_looks and take(world) != snapshot:
                        raise BrokenPromiseError(0, "a look changed something")
                    for event in events:
                        result = do(world, event)
                        results[event[0], result] += 1  # type: ignore[index]
                        key = key_of(world)
                        if key not in keys:
                            keys[key] = len(keys)
                            parents.append((number, event))
                            deeper.append((len(parents) - 1, take(world)))
                        note(number, event, keys[key])
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

    def visit(self, number: int, world: Any) -> None:
        """Check a state, before the events in it are tried."""
        self.model.check(world)

    def note(self, number: int, event: Event, result: int) -> None:
        """Record a transition from one state to another. Do nothing by default."""

    def path_to(self, number: int, last: Event = ()) -> tuple[Event, ...]:
        """Return the events that lead to a state, followed by `last` if there is one."""
        path = [last] if last else []
        while number:
            number, event = self.parents[number]
            path.append(event)
        return tuple(reversed(path))
