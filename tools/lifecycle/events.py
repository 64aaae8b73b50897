"""The events of a world: which are possible, and the function of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.lifecycle import callers, ends, requests
from tools.lifecycle.answers import Event, possible_answers
from tools.lifecycle.bounds import EXPIRED_AGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.lifecycle.world import World


def possible_events(world: World) -> list[Event]:
    """Return every event that is possible now."""
    facts, bounds = world.facts, world.facts.bounds
    found: list[Event] = [("late report",)]
    if facts.request is not None:
        found += possible_answers(facts) if facts.is_sent else [("send",)]
    for place, seat in enumerate(facts.callers.values()):
        found.append(_CANCELS[place])
        if seat.looks:
            found.append(_LOOKS[place])
    if bounds.all_answers:
        found += [("revoked", name) for name in facts.under_way]
    if facts.usable() or len(facts.callers) < bounds.callers:
        found.append(("get",))
        # Callers that were woken take the lock of the gate, one after the other.
        if any(seat.looks for seat in facts.callers.values()) and facts.can_join():
            found.append(("get", "lock"))
    if facts.is_closed:
        return found
    found += (("nowait",), ("close",))
    if len(facts.gone) < bounds.drops:
        found += (("invalidate",), ("revoke",)) if facts.token else (("revoke",),)
    if world.task_can_run():
        found.append(("timer",))
    if not bounds.stalls and world.can_run():
        return found
    found.append(("tick",))
    if bounds.wall is not None:
        found += [("wall", step) for step in (1.0, -1.0) if _can_set_wall(world, step)]
    return found


def _can_set_wall(world: World, step: float) -> bool:
    """Return whether a step of the wall clock matters, and is within the bounds."""
    facts, limit = world.facts, world.facts.bounds.wall
    assert limit is not None
    wall = facts.wall - facts.now + step
    ahead = []
    # A token that has expired on Trio's clock stays expired.
    if facts.token is not None and facts.now - facts.born < EXPIRED_AGE:
        ahead.append(wall - (facts.born_by_wall - facts.born))
    if facts.request is not None and facts.is_sent:
        ahead.append(wall - (facts.sent_by_wall - facts.sent_at))
    return bool(ahead) and max(map(abs, ahead)) <= limit


def tick(world: World) -> str:
    """Let a second pass."""
    world.facts.now += 1.0
    world.facts.wall += 1.0
    return ""


def wall(world: World, step: float) -> str:
    """Set the wall clock, or suspend the machine. Trio's clock does not move."""
    world.facts.wall += step
    return "forward" if step > 0 else "back"


EVENTS: dict[str, Callable[..., str]] = {
    "tick": tick,
    "wall": wall,
    "timer": requests.timer,
    "send": requests.send,
    "answer": requests.answer,
    "get": callers.get,
    "nowait": callers.nowait,
    "look": callers.look,
    "cancel": callers.cancel,
    "late report": ends.late_report,
    "invalidate": ends.invalidate,
    "revoke": ends.revoke,
    "revoked": ends.revoked,
    "close": ends.close,
}
"""Each function returns its result in a few words, without times."""

_LOOKS: tuple[Event, ...] = tuple(("look", place) for place in range(4))
_CANCELS: tuple[Event, ...] = tuple(("cancel", place) for place in range(4))
