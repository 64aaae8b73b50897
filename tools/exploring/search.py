"""Explores every state of a world, breadth first."""

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
    """What is explored."""

    @property
    def copier(self) -> Copier:
        """What copies a world."""
        ...

    @property
    def has_looks(self) -> bool:
        """Whether `check` calls the machine, and must change nothing."""
        ...

    def patched(self) -> AbstractContextManager[object]:
        """Return a context in which the machine has the constants that are explored."""
        ...

    def start(self) -> Any:
        """Return the world as it is in the beginning."""
        ...

    def possible_events(self, world: Any) -> list[Event]:
        """Return every event that can come now."""
        ...

    def do(self, world: Any, event: Event) -> str:
        """Let an event happen, and return what came of it, in a few words.

        Raises:
            BrokenPromiseError: it breaks a promise.
        """
        ...

    def check(self, world: Any) -> None:
        """Check what has to be true in every state, and change nothing.

        Raises:
            BrokenPromiseError: it is not.
        """
        ...

    def key_of(self, world: Any) -> bytes:
        """Return what a state is known by; two states with one key behave alike from now on."""
        ...


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
    """Searches the states of a model.

    Attributes:
        keys: the states, in the order in which they were found.
    """

    def __init__(self, model: Model, *, most_states: int | None = None) -> None:
        self.model = model
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
        """Receive a state, before the events in it are tried."""
        self.model.check(world)

    def note(self, number: int, event: Event, result: int) -> None:
        """Receive a transition from one state to another."""

    def path_to(self, number: int, last: Event = ()) -> tuple[Event, ...]:
        """Return the events that lead to a state, and one more."""
        path = [last] if last else []
        while number:
            number, event = self.parents[number]
            path.append(event)
        return tuple(reversed(path))
