"""Copies of the state of objects with `__slots__`, generic over the slots."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from tests.lifecycle.bounds import Bounds
from tests.lifecycle.facts import Facts, Gone, Seat
from tests.lifecycle.world import World
from trio_anon_session import Config, TokenInfo, TokenRequestOptions
from trio_anon_session._dropped import Drop, DroppedTokens
from trio_anon_session._lifecycle import Caller, Lifecycle, Request
from trio_anon_session._rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable

Snapshot = list[tuple[Any, Any]]
"""Each object that can change, and its state: values of slots, or the content of a container."""

COPIED = (World, Facts, Lifecycle, Rounds, DroppedTokens, Request, Caller)
SHARED = {
    # These never change, so a copy of the state can hold the object itself.
    *(float, int, bool, str, type(None), tuple),
    *(Bounds, Config, Drop, Gone, Seat, TokenInfo, TokenRequestOptions),
}

SLOTS: dict[type, tuple[str, ...]] = {kind: tuple(kind.__slots__) for kind in COPIED}
_GET: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*slots) for kind, slots in SLOTS.items()
}


def _setter(slots: tuple[str, ...]) -> Callable[[Any, tuple[Any, ...]], None]:
    """Return a function that sets all slots of an object: one assignment is the fastest way."""
    names: dict[str, Any] = {}
    targets = ", ".join(f"found.{slot}" for slot in slots)
    exec(f"def set_slots(found, state):\n    {targets}, = state", names)
    return cast("Callable[[Any, tuple[Any, ...]], None]", names["set_slots"])


_SET = {kind: _setter(slots) for kind, slots in SLOTS.items()}


def take_snapshot(root: World) -> Snapshot:
    """Return the state of a world, and of every object that can be reached from it.

    Raises:
        TypeError: a slot holds an object of a type that this module does not know.
    """
    snapshot: Snapshot = []
    seen = {id(root)}
    todo: list[Any] = [root]
    for found in todo:
        kind = type(found)
        if kind is dict:
            snapshot.append((found, found.copy()))
            values: Any = (*found, *found.values())
        elif kind is set:
            snapshot.append((found, found.copy()))
            values = found
        elif kind in _GET:
            values = _GET[kind](found)
            snapshot.append((found, values))
        elif kind.__name__ in _OPAQUE:
            continue
        else:
            raise TypeError(f"tests/lifecycle/snapshots.py cannot copy a {kind.__name__}")
        for value in values:
            if type(value) not in SHARED and id(value) not in seen:
                seen.add(id(value))
                todo.append(value)
    return snapshot


_OPAQUE = {"Doubling"}
"""Objects of the tests without state."""


def restore(snapshot: Snapshot) -> None:
    """Put every object of a snapshot back into its state."""
    for found, state in snapshot:
        set_slots = _SET.get(type(found))
        if set_slots is not None:
            set_slots(found, state)
        elif found != state:
            found.clear()
            found.update(state)
