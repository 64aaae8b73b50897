"""`World`: processes with one claimant each, the state of their managers, and the store."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import attrs

from tools.claimant.bounds import Rising, no_draw
from tools.claimant.referee import Kept, Referee
from trio_anon_session._lifecycle import Moment
from trio_anon_session.stores._claimant import Claimant
from trio_anon_session.stores._clock import Moment as StoreMoment
from trio_anon_session.stores._entry import Entry
from trio_anon_session.stores._records import mark_of

if TYPE_CHECKING:
    from tools.claimant.bounds import Bounds
    from trio_anon_session import Config, TokenInfo
    from trio_anon_session.stores._claimant import Claim, Question
    from trio_anon_session.stores._known import Asked

FAILED = "failed"
"""The reply to a process if the store does not answer in time."""
BEGAN = 100.0
"""Time on the store's clock at the start of a world, in seconds."""

mark_of_name = functools.lru_cache(maxsize=None)(mark_of)


class Call(NamedTuple):
    """A call of the store, or its answer that the process has not received yet.

    Attributes:
        kind: name of the method.
        args: its arguments.
        asked: for a look: the tokens that it asks about.
        sent_at: when the process sent the call.
        is_done: whether the store has executed the call, or never will.
        reply: the answer.
        shown: for a look: the names of the dropped tokens and of the stored token, according to
            the referee; None after the store has lost them.
    """

    kind: str
    args: tuple[object, ...]
    asked: Asked | None
    sent_at: float
    is_done: bool = False
    reply: object = None
    shown: tuple[frozenset[str], str | None] | None = None


class Lane:
    """The state of one task of a process.

    The attributes `expects`, `given` and `knew` are records of the referee.

    Attributes:
        name: name of the task.
        step: what the task waits for; empty if it has nothing to do.
        call: its call of the store.
        then: the step after the report of drops.
        todo: marks of the drops to report.
        expects: names of the dropped tokens that the next look must show as dropped.
        given: names of the tokens that the session had when the look began.
        knew: names of the tokens that the process knew as dropped when the look began.
    """

    __slots__ = ("call", "expects", "given", "knew", "name", "step", "then", "todo")

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = ""
        self.call: Call | None = None
        self.then = ""
        self.todo: tuple[str, ...] = ()
        self.expects: frozenset[str] = frozenset()
        self.given: frozenset[str] = frozenset()
        self.knew: frozenset[str] = frozenset()

    def rest(self) -> None:
        """End the work of the task."""
        self.step = self.then = ""
        self.call, self.todo = None, ()
        self.expects = self.given = self.knew = frozenset()


class Process:
    """One process: its claimant, and the state of its `SharedTokenManager` and `StoreLink`.

    The attributes from `sent_at` on are records of the referee.

    Attributes:
        claimant: the machine that is explored.
        question: the question of the session, while it waits for a token.
        asking: the task of the question.
        watching: the task of the watch.
        reporting: the task that reports a drop immediately, or releases a lease.
        held: the token of the session.
        looks: number of looks since the question's last turn, up to 2.
        claim: the decision to take the lease.
        fence: fence of the lease.
        renews: whether the lease is renewed.
        outcome: the token or the error from the token endpoint.
        wait_until: when the question looks again without a notification.
        failed_at: when the question first met a failed store.
        reporter: name of the task that reports drops now.
        queue: names of the tasks that wait to report drops.
        report_at: when drops may be reported again.
        trouble: what fails at the store: "read", "write", or empty.
        trouble_at: when the store began to fail.
        took: seconds until the last failed call failed.
        has_news: whether the watch will look soon.
        is_stopped: whether the process is stopped, as by SIGSTOP.
        sent_at: when the process sent its last token request.
        seen_dead: names of the tokens that a look could show as dropped.
        knows: the tokens that the process knows as dropped, each with the number of looks since
            then that did not show the drop.
        reported_at: when the process reported each drop to the store.
        given: names of the tokens that the session has received.
        waited: seconds that the question has waited.
        idled: seconds of this time in which no process worked on it.
        failed_since: whether an attempt has failed since the question began.
        order: number of the lease, in the order of all leases.
        claimed_at: when the lease was taken.
        is_excused: whether its request may be in flight together with another one.
    """

    __slots__ = (
        *("asking", "claim", "claimant", "claimed_at", "failed_at", "failed_since", "fence"),
        *(
            "given",
            "has_news",
            "held",
            "idled",
            "is_excused",
            "is_stopped",
            "knows",
            "looks",
            "name",
        ),
        *("order", "outcome", "question", "queue", "renews", "seen_dead", "sent_at", "report_at"),
        *(
            "reporter",
            "reporting",
            "reported_at",
            "took",
            "trouble",
            "trouble_at",
            "wait_until",
            "waited",
            "watching",
        ),
    )

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.claimant = Claimant(config, Rising(), no_draw)
        self.question: Question | None = None
        self.asking, self.watching, self.reporting = (
            Lane("asking"),
            Lane("watching"),
            Lane("reporting"),
        )
        self.held: TokenInfo | None = None
        self.looks = 0
        self.claim: Claim | None = None
        self.fence = 0
        self.renews = False
        self.outcome: TokenInfo | Exception | None = None
        self.wait_until = -math.inf
        self.failed_at = math.inf
        self.reporter = ""
        self.queue: tuple[str, ...] = ()
        self.report_at = -math.inf
        self.trouble = ""
        self.trouble_at = -math.inf
        self.took = 0.0
        self.has_news = False
        self.is_stopped = False
        self.sent_at = -math.inf
        self.seen_dead: frozenset[str] = frozenset()
        self.knows: dict[str, int] = {}
        self.reported_at: dict[str, float] = {}
        self.given: frozenset[str] = frozenset()
        self.waited = self.idled = 0
        self.failed_since = False
        self.order = 0
        self.claimed_at = -math.inf
        self.is_excused = False

    @property
    def lanes(self) -> tuple[Lane, Lane, Lane]:
        """The tasks of the process."""
        return self.asking, self.watching, self.reporting

    @property
    def is_open(self) -> bool:
        """Whether a session waits for a token."""
        return self.asking.step != ""


class World:
    """A fleet.

    Attributes:
        processes: the processes.
        entry: the data of the store.
        copy: a copy of earlier data, which a fault can restore.
        copy_kept: the referee's record for that copy.
        now: the time on Trio's clocks.
        skew: seconds by which the store's clock was set.
        booted_at: when the store's machine was started last, on Trio's clocks.
        tokens: number of tokens that the server has issued.
        is_down: whether all calls of the store fail.
        faults, drops, cancels, failures, looks, asks: how many of each are left.
        referee: the records of what happened.
    """

    __slots__ = (
        *(
            "asks",
            "booted_at",
            "bounds",
            "cancels",
            "config",
            "copy",
            "copy_kept",
            "drops",
            "entry",
        ),
        *("failures", "faults", "is_down", "looks", "now", "processes", "referee", "skew"),
        "tokens",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.config = bounds.config()
        self.now = 0.0
        self.skew = 0.0
        self.booted_at = -BEGAN
        self.entry = Entry.new(StoreMoment(BEGAN - 1.0, BEGAN - 1.0))
        self.copy: Entry | None = None
        self.copy_kept: Kept | None = None
        self.tokens = 0
        self.is_down = False
        self.faults = bounds.faults
        self.drops = bounds.drops
        self.cancels = bounds.cancels
        self.failures = bounds.failures
        self.looks = bounds.watch
        self.asks = bounds.asks
        self.processes = [Process("PQR"[n], self.config) for n in range(bounds.processes)]
        self.referee = Referee()

    def at(self) -> Moment:
        """Return the time on the clocks of the processes."""
        return Moment(self.now, None)

    def store_time(self) -> StoreMoment:
        """Return the time on the clocks of the store."""
        return StoreMoment(self.now + BEGAN + self.skew, self.now - self.booted_at)


def copy_of(entry: Entry) -> Entry:
    """Return an independent copy of an entry."""
    return attrs.evolve(entry, dead=dict(entry.dead))
