"""`Referee`: independent records of what happened in a fleet, and checks of the promises.

The referee uses no decision of the machine. The promises:

1.  There is one token request for each lifetime of the fleet's token. There is at most one more for
    each fault, failure, cancelled question and drop. Two requests are in flight at the same time
    only if a fault or a drop made the second one necessary.
2.  A process hands out no token that it has dropped, or whose drop one of its looks could show.
    A look reports each dropped token that the session has.
3.  No drop is lost while a process that knows it is alive. The process reports the drop again after
    two looks did not show it, or after one look showed the token in the store again. Only looks
    that begin some time after the last report count.
4.  No question waits indefinitely, or ends with the STALE token that the session already has. If no
    running process works on it, a question waits at most for a lease and a look.
5.  No token from the store is handed out after its lifetime, even if the store's clock was set.
6.  No token of a later lease is overwritten by a token of an earlier lease.
7.  A process waits for a failed store only while it has a usable token, and only for a short time.
    A look does not change the store.
8.  A process gets the error of another process only if it waited for that attempt, or asks in the
    pause after it. No process requests a token in that pause.

Two facts cannot be known, so there is no promise about them. The first is the age of a token after
the store's machine was restarted with its clock set back. The second is a drop that the store has
lost, if no process that knew it is alive.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tools.claimant.bounds import GAP, POLL_INTERVAL
from tools.exploring.promises import BrokenPromiseError

if TYPE_CHECKING:
    from tools.claimant.world import Process, World
    from trio_anon_session import TokenInfo

MOST_NEEDS = 3
LAST_TURN = 6.0
"""Seconds for the last steps of a question that stops waiting: store and endpoint must answer."""


class Fact(NamedTuple):
    """The facts about a token, as the server and the users know them.

    Attributes:
        sent_at: when the last request for which the server issued it was sent.
        stale_at, expires_at, ends_at: the boundaries, from that answer.
        dropped_at: when the token was dropped; None if it was issued again since then.
    """

    sent_at: float
    stale_at: float
    expires_at: float
    ends_at: float
    dropped_at: float | None = None


Kept = tuple[str, int, float]


class Referee:
    """Records of what happened in a fleet.

    Attributes:
        facts: the facts about each token, by its name.
        kept: the name of the fleet's token, the order of its lease, and when it becomes STALE for
            the fleet. Its lifetime counts from when the lease was taken.
        orders: number of leases that were taken.
        needs: maximum number of requests that are still necessary.
        pause_until: end of the pause after a failed attempt.
        was_set: whether the store's clock was set, or its data replaced.
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
        """Record that a process sends a token request."""
        now = world.now
        if now < process.sent_at + GAP:
            raise BrokenPromiseError(1, f"{process.name} requests again too soon")
        process.sent_at = now
        process.is_excused |= directly
        for other in world.processes:
            if other is process or other.asking.step not in ("request", "direct"):
                continue
            if not (process.is_excused or other.is_excused or self.was_set):
                raise BrokenPromiseError(1, "two requests are in flight at the same time")
        if not directly and now < self.pause_until and not self.was_set:
            raise BrokenPromiseError(8, "a request is sent in the pause after a failure")
        # If the server issues the same token again, each process that has it sends a request.
        if world.is_down or world.bounds.same:
            return
        self.needs -= 1
        if self.needs < 0:
            raise BrokenPromiseError(1, "one more request than necessary is sent")

    def excuse(self, world: World) -> None:
        """Record an event that may make a second request necessary."""
        for process in world.processes:
            process.is_excused = True

    def granted(self, world: World, token: TokenInfo) -> None:
        """Record that the server has issued a token, for the first time or again."""
        name = token.access_token
        self.facts = {
            known: fact for known, fact in self.facts.items() if fact.ends_at > world.now - 20.0
        }
        ends_at = token.sent_at + token.lifetime
        fact = Fact(token.sent_at, token.stale_at, token.expires_at, ends_at)
        before = self.facts.get(name)
        if before is not None and token.sent_at < (before.dropped_at or -math.inf):
            # The request was sent before the drop, so the token stays dropped.
            self.facts[name] = fact._replace(dropped_at=before.dropped_at)
            return
        self.facts[name] = fact
        for process in world.processes:
            process.knows.pop(name, None)
            process.reported_at.pop(name, None)
            process.seen_dead -= {name}
            for lane in process.lanes:
                lane.expects -= {name}

    # The store

    def keeps(self, world: World, process: Process, name: str) -> None:
        """Record that the store has stored the token of a process."""
        if self.kept and self.kept[1] > process.order:
            raise BrokenPromiseError(6, f"the token of an earlier lease overwrites {self.kept[0]}")
        fact = self.facts[name]
        stale_at = fact.stale_at - max(0.0, fact.sent_at - process.claimed_at)
        self.kept = name, process.order, stale_at
        self.pause_until = -math.inf
        if stale_at <= world.now:
            self.need()

    def has_fresh(self, now: float) -> bool:
        """Return whether the fleet's token is FRESH."""
        return self.kept is not None and now < self.kept[2]

    def drops(self, name: str) -> None:
        """Record that a drop was reported to the store."""
        if self.kept is not None and self.kept[0] == name:
            self.kept = None

    def forgets(self, world: World, name: str) -> None:
        """Record that the store no longer shows a token as dropped."""
        for process in world.processes:
            if name in process.knows:
                process.knows[name] = 0
            for lane in process.lanes:
                lane.expects -= {name}

    def loses(self, world: World) -> None:
        """Record that the store may have lost drops."""
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
        """Record that a second has passed."""
        now = world.now
        if self.kept is not None and now - 1.0 < self.kept[2] <= now:
            self.need()
        for process in world.processes:
            held = process.held
            # The process may have requested this token without the store.
            if held and now - 1.0 < held.stale_at <= now and not self.has_fresh(now):
                self.needs = max(self.needs, 1)
            if not process.is_open or process.is_stopped:
                continue
            process.waited += 1
            if process.waited > world.bounds.turns * world.bounds.patience + LAST_TURN:
                raise BrokenPromiseError(4, f"{process.name} waits indefinitely")
            if process.asking.step != "wait" or self._is_held_up(world, process):
                continue
            process.idled += 1
            if process.idled > world.bounds.lease + POLL_INTERVAL:
                raise BrokenPromiseError(4, f"{process.name} waits although no process works on it")

    def _is_held_up(self, world: World, process: Process) -> bool:
        """Return whether a running process, the endpoint or a pause makes a process wait."""
        then = world.now - 1.0
        if world.is_down or then < self.pause_until or then < process.sent_at + 1.0:
            return True
        return any(
            not other.is_stopped
            and (
                other.asking.step in ("claim", "request", "put", "release", "release after put")
                or other.reporting.step in ("abandoned", "release")
            )
            for other in world.processes
            if other is not process
        )

    # Answers to sessions

    def takes(self, world: World, process: Process, token: TokenInfo, *, from_store: bool) -> None:
        """Record that a session gets a token."""
        name, now = token.access_token, world.now
        fact = self.facts[name]
        if from_store and now >= fact.expires_at:
            raise BrokenPromiseError(5, f"{process.name} hands out {name}, which has expired")
        if from_store and token.expires_at > fact.expires_at:
            raise BrokenPromiseError(5, f"{process.name} takes {name} for younger than it is")
        # A session itself rejects a token from its own request before the drop.
        if name in process.knows and token.sent_at < (fact.dropped_at or 0.0) and from_store:
            raise BrokenPromiseError(2, f"{process.name} hands out {name}, which it has dropped")
        if from_store and name in process.given and now >= fact.stale_at:
            raise BrokenPromiseError(4, f"{process.name} gets the STALE {name} again")
        if name in process.seen_dead and not process.has_news and from_store:
            raise BrokenPromiseError(2, f"{process.name} hands out {name}, which was dropped")

    def gets_error(self, world: World, process: Process) -> None:
        """Record that a session gets the error of another process's attempt."""
        if (
            not process.failed_since
            and self.pause_until - world.now <= POLL_INTERVAL
            and not self.was_set
        ):
            raise BrokenPromiseError(8, f"{process.name} gets the error of an earlier attempt")
