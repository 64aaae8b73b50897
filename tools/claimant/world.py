"""`World`: processes with a claimant each, what their shells know, and the store between them."""

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
"""What a process hears where a store does not answer, or not in time."""
BEGAN = 100.0
"""Seconds on the store's clock when a world begins."""

mark_of_name = functools.lru_cache(maxsize=None)(mark_of)


class Call(NamedTuple):
    """A question to the store, or its answer on the way back.

    Attributes:
        kind: what is asked for.
        args: with what.
        asked: of a look: what it asks about.
        sent_at: when it was sent.
        is_done: whether the store has done it, or never will.
        reply: what the process will hear.
        shown: of a look: the names of the tokens that the store had as dropped, and that of its
            token, as the referee sees it; None once the store has lost that.
    """

    kind: str
    args: tuple[object, ...]
    asked: Asked | None
    sent_at: float
    is_done: bool = False
    reply: object = None
    shown: tuple[frozenset[str], str | None] | None = None


class Lane:
    """What one task of a process is about.

    Attributes:
        name: the task's.
        step: what it waits for; nothing where there is nothing to do.
        call: what it has asked the store.
        then: the step after drops were told.
        todo: the marks that are still to be told.
        expects: the names of dropped tokens that the store must show as dropped with the look
            that comes next: the referee's.
        given: the names of the tokens that the session had when the look was sent ...
        knew: ... and of those that the process knew as dropped: the referee's.
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
        """Have nothing to do."""
        self.step = self.then = ""
        self.call, self.todo = None, ()
        self.expects = self.given = self.knew = frozenset()


class Process:
    """One process: its claimant, and what its `SharedTokenManager` and `StoreLink` know.

    Attributes:
        claimant: what is explored.
        question: the session's, while it waits for a token.
        asking: the task of the question.
        watching: the task of the watch.
        telling: the task that tells drops at once, or gives a lease back.
        held: the token that the session has.
        looks: how many looks have begun since the question's last turn, up to 2.
        claim: the decision under which the lease was taken.
        fence: that lease's.
        renews: whether the lease is renewed.
        outcome: the token that the endpoint has given, if any, or its error.
        wait_until: when the question looks again without news.
        failed_at: since when the question has met a store that fails.
        teller: the name of the task that tells drops.
        queue: the names of the tasks that are about to.
        tell_at: when drops may be told again.
        trouble: what the store fails in: "read", "write" or nothing.
        trouble_at: since when.
        took: seconds that the last call took to fail.
        has_news: whether the watch is about to look.
        is_stopped: whether the process does nothing, as after SIGSTOP.
        sent_at: when it sent its last request: the referee's.
        seen_dead: names of tokens of which a look could tell that they are dropped: the referee's.
        knows: the tokens that it knows as dropped, each with how many looks have found since that
            the store does not: the referee's.
        told: when it has told the store of each drop: the referee's.
        given: the names of the tokens that its session got: the referee's.
        waited: seconds for which the question has waited: the referee's.
        idled: seconds of that for which nobody did anything about it: the referee's.
        failed_since: whether an attempt has failed since it was asked: the referee's.
        order: of the lease, among all leases: the referee's.
        claimed_at: when the lease was taken: the referee's.
        is_excused: whether its request may be one of two: the referee's.
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
        *("order", "outcome", "question", "queue", "renews", "seen_dead", "sent_at", "tell_at"),
        *(
            "teller",
            "telling",
            "told",
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
        self.asking, self.watching, self.telling = Lane("asking"), Lane("watching"), Lane("telling")
        self.held: TokenInfo | None = None
        self.looks = 0
        self.claim: Claim | None = None
        self.fence = 0
        self.renews = False
        self.outcome: TokenInfo | Exception | None = None
        self.wait_until = -math.inf
        self.failed_at = math.inf
        self.teller = ""
        self.queue: tuple[str, ...] = ()
        self.tell_at = -math.inf
        self.trouble = ""
        self.trouble_at = -math.inf
        self.took = 0.0
        self.has_news = False
        self.is_stopped = False
        self.sent_at = -math.inf
        self.seen_dead: frozenset[str] = frozenset()
        self.knows: dict[str, int] = {}
        self.told: dict[str, float] = {}
        self.given: frozenset[str] = frozenset()
        self.waited = self.idled = 0
        self.failed_since = False
        self.order = 0
        self.claimed_at = -math.inf
        self.is_excused = False

    @property
    def lanes(self) -> tuple[Lane, Lane, Lane]:
        """Its tasks."""
        return self.asking, self.watching, self.telling

    @property
    def is_open(self) -> bool:
        """Whether a session waits for a token."""
        return self.asking.step != ""


class World:
    """A fleet.

    Attributes:
        processes: they.
        entry: what the store has.
        copy: what it had once, and may have again ...
        copy_kept: ... and what the referee knew of it.
        now: Trio's clocks.
        skew: seconds by which the store's clock was set.
        booted_at: when the store's machine was started last, on Trio's clocks.
        tokens: how many tokens the server has granted.
        is_down: whether the store does not answer.
        faults, drops, cancels, failures, looks, asks: how many are left of each.
        referee: what happened.
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
        """Return the time as the processes get it."""
        return Moment(self.now, None)

    def store_time(self) -> StoreMoment:
        """Return the time as the store has it."""
        return StoreMoment(self.now + BEGAN + self.skew, self.now - self.booted_at)


def copy_of(entry: Entry) -> Entry:
    """Return what does not change with an entry."""
    return attrs.evolve(entry, dead=dict(entry.dead))
