"""Exploration of every state of a session, breadth first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.exploring import search
from tools.lifecycle.bounds import Bounds, short_sleeps
from tools.lifecycle.events import EVENTS, possible_events
from tools.lifecycle.keys import key_of
from tools.lifecycle.looks import check_callers_are_served, check_looks
from tools.lifecycle.snapshots import COPIER
from tools.lifecycle.world import World

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tools.exploring.search import Event


class Session:
    """A session's machine as a model to explore; see `tools.exploring.search.Model`."""

    copier = COPIER
    has_looks = True

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def patched(self) -> AbstractContextManager[object]:
        return short_sleeps()

    def start(self) -> World:
        return World(self._bounds, self._bounds.config())

    def possible_events(self, world: World) -> list[Event]:
        return possible_events(world)

    def do(self, world: World, event: Event) -> str:
        return EVENTS[event[0]](world, *event[1:])  # type: ignore[index]

    def check(self, world: World) -> None:
        check_looks(world)
        check_callers_are_served(world)

    def key_of(self, world: World) -> bytes:
        return key_of(world)


class Search(search.Search):
    """A search of all states within bounds."""

    def __init__(self, bounds: Bounds, *, most_states: int | None = None) -> None:
        super().__init__(Session(bounds), most_states=most_states)
