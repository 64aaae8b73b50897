"""`Referee`: its own records of what happened in a fleet, and what the promises make of them.

Nothing here uses a decision of the machine. The promises:

1.  There is one token request for each life of the fleet's token, and one more for each fault,
    failure, cancelled question and drop at the most. No two are in flight at once, unless a fault
    or a drop made the second one necessary.
2.  No process hands out a token that it has dropped, or of whose drop a look could tell it.
    A look reports each dropped token that the session has.
3.  No drop is lost while a process lives that knows of it: once two of its looks have found that
    the store does not show it, or one that the store has the token again, it is told again before
    the next one. Looks count that are sent some time after it was told.
4.  No question waits without end, or ends with a STALE token that the session has. None waits
    longer than a lease and a look where nobody alive does anything about it.
5.  No token is handed out from the store after its life, whatever the store's clock was set to.
6.  No token of a later lease is overwritten under an earlier one.
7.  Who waits for a store that fails has a usable token meanwhile, and does not wait for long. A
    look changes nothing in the store.
8.  Who gets the error of another process's attempt has waited for that, or asks in the pause after
    it. Nobody requests a token in that pause.

What nobody can know is not promised: how old a token is after the store's machine was started
again with its clock set back; and that a token is dropped, where the store has lost that, and
nobody who knew it lives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tools.claimant.bounds import GAP, PACE
from tools.exploring.promises import BrokenPromiseError

if TYPE_CHECKING:
    from tools.claimant.world import Process, World
    from trio_anon_session import TokenInfo

MOST_NEEDS = 3
LAST_TURN = 6.0
"""Seconds for what begins when a question waits no longer: store and endpoint answer."""


class Fact(NamedTuple):
    """What the server and the users know of a token.

    Attributes:
        sent_at: when the last request that it answered was sent.
        stale_at, expires_at, ends_at: as the server said then.
        dropped_at: when it was dropped, unless it was granted again since.
    """

    sent_at: float
    stale_at: float
    expires_at: float
    ends_at: float
    dropped_at: float | None = None


Kept = tuple[str, int, float]


class Referee:
    """Records what happened.

    Attributes:
        facts: of each token, by its name.
        kept: the name of the token that counts for the fleet, the order of its lease, and when the
            fleet takes it as STALE: its life counts from when the lease was taken.
        orders: how many leases were taken.
        needs: how many requests are still necessary, at the most.
        pause_until: when the pause ends that a failed attempt has left.
        was_set: whether the store's clock was set, or its content replaced.
    """

    __slots__ = ("facts", "kept", "needs", "orders", "pause_until", "was_set")

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.kept: Kept | None = None
        self.orders = 0
        self.needs = 1
        self.pause_until = -math.inf
        self.was_set = False

    def need(self, count: int = 1) -> None:
        """Record that one more request may be necessary."""
        self.needs = min(self.needs + count, MOST_NEEDS)

    # Requests

    def requests(self, world: World, process: Process, *, directly: bool) -> None:
        """Receive that a process sends a request."""
        now = world.now
        if now < process.sent_at + GAP:
            raise BrokenPromiseError(1, f"{process.name} requests again too soon")
        process.sent_at = now
        process.is_excused |= directly
        for other in world.processes:
            if other is process or other.asking.step not in ("request", "direct"):
                continue
            if not (process.is_excused or other.is_excused or self.was_set):
                raise BrokenPromiseError(1, "two requests are in flight at once")
        if not directly and now < self.pause_until and not self.was_set:
            raise BrokenPromiseError(8, "a request is sent in the pause after a failure")
        # The server that grants the same token again is asked by all who have that.
        if world.is_down or world.bounds.same:
            return
        self.needs -= 1
        if self.needs < 0:
            raise BrokenPromiseError(1, "one more request than necessary is sent")

    def excuse(self, world: World) -> None:
        """Record that something happened that may make a second request necessary."""
        for process in world.processes:
            process.is_excused = True

    def granted(self, world: World, token: TokenInfo) -> None:
        """Receive that the server has granted a token, for the first time or again."""
        name = token.access_token
        self.facts = {
            known: fact for known, fact in self.facts.items() if fact.ends_at > world.now - 20.0
        }
        ends_at = token.sent_at + token.lifetime
        fact = Fact(token.sent_at, token.stale_at, token.expires_at, ends_at)
        before = self.facts.get(name)
        if before is not None and token.sent_at < (before.dropped_at or -math.inf):
            # It was asked for before it was dropped.
            self.facts[name] = fact._replace(dropped_at=before.dropped_at)
            return
        self.facts[name] = fact
        for process in world.processes:
            process.knows.pop(name, None)
            process.told.pop(name, None)
            process.seen_dead -= {name}
            for lane in process.lanes:
                lane.expects -= {name}

    # The store

    def keeps(self, world: World, process: Process, name: str) -> None:
        """Receive that the store has kept a token that a process has put."""
        if self.kept and self.kept[1] > process.order:
            raise BrokenPromiseError(6, f"{self.kept[0]} is overwritten under an earlier lease")
        fact = self.facts[name]
        stale_at = fact.stale_at - max(0.0, fact.sent_at - process.claimed_at)
        self.kept = name, process.order, stale_at
        self.pause_until = -math.inf
        if stale_at <= world.now:
            self.need()

    def has_fresh(self, now: float) -> bool:
        """Return whether the fleet needs no other token."""
        return self.kept is not None and now < self.kept[2]

    def drops(self, name: str) -> None:
        """Receive that the store was told of a drop."""
        if self.kept is not None and self.kept[0] == name:
            self.kept = None

    def forgets(self, world: World, name: str) -> None:
        """Receive that the store does not know a token as dropped any more."""
        for process in world.processes:
            if name in process.knows:
                process.knows[name] = 0
            for lane in process.lanes:
                lane.expects -= {name}

    def loses(self, world: World) -> None:
        """Receive that the store may have lost what it was told."""
        self.was_set = True
        for process in world.processes:
            process.knows = dict.fromkeys(process.knows, 0)
            process.seen_dead = frozenset()
            for lane in process.lanes:
                lane.expects = frozenset()
                if lane.call is not None:
                    lane.call = lane.call._replace(shown=None)

    # Time

    def passes(self, world: World) -> None:
        """Receive that a second has passed."""
        now = world.now
        if self.kept is not None and now - 1.0 < self.kept[2] <= now:
            self.need()
        for process in world.processes:
            held = process.held
            # Got without the store, as this token may be.
            if held and now - 1.0 < held.stale_at <= now and not self.has_fresh(now):
                self.needs = max(self.needs, 1)
            if not process.is_open or process.is_stopped:
                continue
            process.waited += 1
            if process.waited > world.bounds.turns * world.bounds.patience + LAST_TURN:
                raise BrokenPromiseError(4, f"{process.name} waits without end")
            if process.asking.step != "wait" or self._is_held_up(world, process):
                continue
            process.idled += 1
            if process.idled > world.bounds.lease + PACE:
                raise BrokenPromiseError(4, f"{process.name} waits for nobody")

    def _is_held_up(self, world: World, process: Process) -> bool:
        """Return whether somebody alive or the endpoint makes a process wait."""
        then = world.now - 1.0
        if world.is_down or then < self.pause_until or then < process.sent_at + 1.0:
            return True
        return any(
            not other.is_stopped
            and (
                other.asking.step in ("claim", "request", "put", "release", "let go")
                or other.telling.step in ("abandoned", "release")
            )
            for other in world.processes
            if other is not process
        )

    # What a session gets

    def takes(self, world: World, process: Process, token: TokenInfo, *, from_store: bool) -> None:
        """Receive that a session gets a token."""
        name, now = token.access_token, world.now
        fact = self.facts[name]
        if from_store and now >= fact.expires_at:
            raise BrokenPromiseError(5, f"{process.name} hands out {name}, which has expired")
        if from_store and token.expires_at > fact.expires_at:
            raise BrokenPromiseError(5, f"{process.name} takes {name} as younger than it is")
        # A session refuses what the endpoint has granted before the drop.
        if name in process.knows and token.sent_at < (fact.dropped_at or 0.0) and from_store:
            raise BrokenPromiseError(2, f"{process.name} hands out {name}, which it has dropped")
        if from_store and name in process.given and now >= fact.stale_at:
            raise BrokenPromiseError(4, f"{process.name} gets the STALE {name} again")
        if name in process.seen_dead and not process.has_news and from_store:
            raise BrokenPromiseError(2, f"{process.name} hands out {name}, which was dropped")

    def gets_error(self, world: World, process: Process) -> None:
        """Receive that a session gets the error of another process's attempt."""
        if not process.failed_since and self.pause_until - world.now <= PACE and not self.was_set:
            raise BrokenPromiseError(8, f"{process.name} gets the error of an earlier attempt")
