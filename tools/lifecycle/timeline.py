"""Timelines: a path through the states as text, one line for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.exploring.promises import as_broken
from tools.lifecycle.bounds import short_sleeps
from tools.lifecycle.events import EVENTS
from tools.lifecycle.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.lifecycle.answers import Event
    from tools.lifecycle.bounds import Bounds

WIDTH = 34


def draw(bounds: Bounds, path: Iterable[Event]) -> str:
    """Return a timeline: the time of each event, its result, and the state after it.

    If the last event breaks a promise, its line contains the broken promise.
    """
    lines = [f"{'time':>4} {'wall':>4}  {'event':<{WIDTH}} {'result':<30} state after it"]
    with short_sleeps():
        world = World(bounds, bounds.config())
        for event in path:
            try:
                result = EVENTS[str(event[0])](world, *event[1:])
            except Exception as error:
                result = f"BROKEN {as_broken(error)}"
            facts = world.facts
            wall = "-" if bounds.wall is None else f"{facts.wall:g}"
            words = f"{_words(event):<{WIDTH}} {result:<30}"
            lines.append(f"{facts.now:>4g} {wall:>4}  {words} {_state(world)}".rstrip())
    return "\n".join(lines)


def _words(event: Event) -> str:
    name, *rest = event
    match name, rest:
        case "wall", [step]:
            return f"the wall clock is set by {step:+g}"
        case "answer", [kind, token, sent_at]:
            return f"answer: {kind} {token}, requested: {sent_at}"
        case "get", ["lock"]:
            return "get, while the gate's lock is taken"
        case (("look" | "cancel"), [place]):
            return f"{name} of waiting caller {place}"
        case _:
            return " ".join(map(str, event))


def _state(world: World) -> str:
    facts, machine = world.facts, world.machine
    token = machine.token
    parts = [machine.state(world.at()).name]
    if token is not None:
        parts.append(f"{token.access_token} of {token.sent_at:g}")
    if machine.request is not None:
        discarded = ", discarded" if machine.request.is_discarded else ""
        parts.append(f"request {'sent' if facts.is_sent else 'begun'}{discarded}")
    if facts.callers:
        seats = ", ".join("looks" if seat.looks else "waits" for seat in facts.callers.values())
        parts.append(f"callers: {seats}")
    rounds = machine.rounds
    if rounds.consecutive_failures:
        over = ", round over" if rounds.is_over else ""
        parts.append(f"failed {rounds.consecutive_failures}, retry at {rounds.retry_at:g}{over}")
    if facts.gone:
        parts.append(f"gone: {', '.join(sorted(facts.gone))}")
    if machine.is_closed:
        parts.append("closed")
    elif world.is_rung:
        parts.append("task is awake")
    else:
        parts.append(f"sleeps until {world.sleeps_until:g}")
    return "; ".join(parts)
