"""The encoding of times, versions and tokens in a key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tools.claimant.world import mark_of_name
from tools.lifecycle.bounds import LIFETIME

if TYPE_CHECKING:
    from tools.claimant.world import World
    from trio_anon_session.stores._clock import Span

LEASED = ("claim", "request", "put", "release", "release after put", "abandoned")
"""Steps at which a process can hold a fence."""
NEVER, ALWAYS, NONE = 0, 255, 254
NOW = 128
FAR = 12.0
"""Seconds. No decision depends on a time that is further away."""

_codes: dict[str, int] = {}


def code(text: str) -> int:
    """Return the number of a text, which never changes."""
    return _codes.setdefault(text, len(_codes))


def since(time: float, now: float, past: float = FAR) -> int:
    seconds = time - now
    if seconds == math.inf:
        return ALWAYS
    return NOW + round(4 * max(-past, min(seconds, FAR)))


class Key:
    """A key under construction."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = world.now
        self.parts: list[int] = []
        self.names: dict[str, int] = {}
        self.versions: list[tuple[int, int]] = []
        self.orders: list[tuple[int, int]] = []
        self.has_drops = world.bounds.drops > 0
        self.may_wait = world.bounds.lifetime > LIFETIME
        self.may_restart = "restart" in world.bounds.kinds
        self.is_leased = any(
            process.asking.step in LEASED or process.reporting.step in LEASED
            for process in world.processes
        )
        self.marks = {mark_of_name(name): name for name in world.referee.facts}

    def time(self, time: float, past: float = FAR) -> None:
        self.parts.append(since(time, self.now, past))

    def version(self, version: int | None) -> None:
        if version is None:
            self.parts.append(NONE)
            return
        self.versions.append((version, len(self.parts)))
        self.parts.append(0)

    def order(self, order: int) -> None:
        self.orders.append((order, len(self.parts)))
        self.parts.append(0)

    def name(self, name: str | None) -> None:
        """Add a token. The first time, also add the facts of the referee about it."""
        if name is None:
            self.parts.append(NONE)
            return
        number = self.names.get(name)
        if number is not None:
            self.parts.append(number)
            return
        number = self.names[name] = len(self.names) + 1
        self.parts.append(number)
        fact = self.world.referee.facts.get(name)
        if fact is None:
            return
        self.time(fact.sent_at, self.world.bounds.lifetime)
        if self.world.bounds.same:
            self.time(fact.ends_at)
        if fact.dropped_at is not None:
            self.time(fact.dropped_at)

    def mark(self, mark: str) -> None:
        self.name(self.marks.get(mark, mark))

    def span(self, span: Span) -> None:
        time = self.world.store_time()
        # Both clocks continue from now, so both ages count.
        self.parts.append(NOW + round(4 * max(-FAR, min(time.wall - span.began.wall, FAR))))
        self.parts.append(
            NOW + round(4 * max(-FAR, min(time.since_boot - span.began.since_boot, FAR)))
        )
        self.parts.append(round(4 * min(span.seconds, 30.0)))

    def finish(self) -> bytes:
        for found in (self.versions, self.orders):
            rank = 0
            last: int | None = None
            for value, place in sorted(found):
                if last is not None and value != last:
                    rank += 1 if value == last + 1 else 2
                self.parts[place] = rank
                last = value
        return bytes(self.parts)
