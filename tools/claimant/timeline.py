"""Timelines: a path through the states as text, one line for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.claimant.bounds import small_constants
from tools.claimant.events import LANES, act
from tools.claimant.world import World, mark_of_name
from tools.exploring.promises import as_broken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.claimant.bounds import Bounds
    from tools.claimant.world import Process
    from tools.exploring.search import Event

WIDTH = 34


def draw(bounds: Bounds, path: Iterable[Event]) -> str:
    """Return a timeline: the time of each event, its result, and the state after it.

    If the last event breaks a promise, its line contains the broken promise.
    """
    lines = [f"{'time':>4}  {'event':<{WIDTH}} {'result':<24} state after it"]
    with small_constants(bounds):
        world = World(bounds)
        for event in path:
            words = _words(world, event)
            try:
                result = act(world, event)
            except Exception as error:
                result = f"BROKEN {as_broken(error)}"
            line = f"{world.now:>4g}  {words:<{WIDTH}} {result:<24} {_state(world)}"
            lines.append(line.rstrip())
    return "\n".join(lines)


def _words(world: World, event: Event) -> str:
    name, *rest = event
    if rest and isinstance(rest[0], int):
        process = world.processes[rest[0]]
        if len(rest) == 2 and isinstance(rest[1], int):
            lane = process.lanes[rest[1]]
            kind = "nothing" if lane.call is None else lane.call.kind
            return f"{process.name}: {name} {kind} ({LANES[rest[1]]})"
        return " ".join([f"{process.name}: {name}", *map(str, rest[1:])])
    return " ".join(map(str, event))


def _state(world: World) -> str:
    entry, now = world.entry, world.store_time()
    seen = entry.look(now, ())
    parts = [f"v{entry.version % 1000}"]
    if seen.token is not None:
        parts.append(f"{_name(world, seen.token.mark)} of {seen.token.age:g} s")
    if seen.leased_for:
        parts.append(f"leased to {seen.owner} for {seen.leased_for:g} s")
    if seen.failure is not None:
        parts.append(f"failure, pause {seen.failure.pause:g} s")
    dead = [_name(world, mark) for mark, span in entry.dead.items() if span.left(now)]
    if dead:
        parts.append(f"dropped: {', '.join(dead)}")
    if world.is_down:
        parts.append("down")
    parts += [_process(process) for process in world.processes]
    return "; ".join(parts)


def _name(world: World, mark: str) -> str:
    return next((name for name in world.referee.facts if mark_of_name(name) == mark), "?")


def _process(process: Process) -> str:
    words = [process.name]
    if process.is_stopped:
        words.append("stopped")
    if process.held is not None:
        words.append(f"has {process.held.access_token}")
    words += [f"{lane.name}: {lane.step}" for lane in process.lanes if lane.step]
    return " ".join(words)
