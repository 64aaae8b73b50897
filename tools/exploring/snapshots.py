"""`Copier`: copies the state of objects with given slots or attributes."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Snapshot = list[tuple[Any, Any]]
"""Each mutable object with its state: the values of its slots, or the content of a container."""

CONTAINERS = (dict, set, list)
PLAIN = (float, int, bool, str, type(None), tuple, frozenset)
"""Immutable types. The items of a tuple are not visited."""


class Copier:
    """A copier, which takes snapshots of a world and restores them.

    Args:
        copied: the mutable types, each with the names of two or more attributes that are its
            state.
        shared: the immutable types. A snapshot holds the object itself.
        opaque: names of types without state, which exist only in the exploration.
    """

    def __init__(
        self,
        copied: Mapping[type, tuple[str, ...]],
        shared: Collection[type],
        opaque: Collection[str] = (),
    ) -> None:
        self.shared = {*PLAIN, *shared}
        self._opaque = {*opaque}
        self._get: dict[type, Callable[[Any], tuple[Any, ...]]] = {
            kind: attrgetter(*names) for kind, names in copied.items()
        }
        self._set = {kind: _setter(names) for kind, names in copied.items()}

    def take(self, root: object) -> Snapshot:
        """Return the state of an object, and of every object that it references.

        Raises:
            TypeError: an attribute holds an object of an unknown type.
        """
        snapshot: Snapshot = []
        shared, get = self.shared, self._get
        seen = {id(root)}
        todo: list[Any] = [root]
        for found in todo:
            kind = type(found)
            if kind is dict:
                snapshot.append((found, found.copy()))
                values: Any = (*found, *found.values())
            elif kind in get:
                values = get[kind](found)
                snapshot.append((found, values))
            elif kind in CONTAINERS:
                snapshot.append((found, found.copy()))
                values = found
            elif kind.__name__ in self._opaque:
                continue
            else:
                raise TypeError(f"type must be in copied, shared or opaque, got {kind.__name__}")
            for value in values:
                if type(value) not in shared and id(value) not in seen:
                    seen.add(id(value))
                    todo.append(value)
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the state of every object in a snapshot."""
        setters = self._set
        for found, state in snapshot:
            set_all = setters.get(type(found))
            if set_all is not None:
                set_all(found, state)
            elif type(found) is list:
                found[:] = state
            elif found or state:
                # Restore also an equal container, because its order and its objects count.
                found.clear()
                found.update(state)


def _setter(slots: tuple[str, ...]) -> Callable[[Any, tuple[Any, ...]], None]:
    """Return a function that sets all slots of an object in one assignment, the fastest way."""
    names: dict[str, Any] = {}
    targets = ", ".join(f"found.{slot}" for slot in slots)
    exec(f"def set_slots(found, state):\n    {targets}, = state", names)
    return cast("Callable[[Any, tuple[Any, ...]], None]", names["set_slots"])
