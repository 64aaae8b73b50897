"""`Fleet`: all events of some processes and their store, as plain data."""

from __future__ import annotations

from typing import Literal

import attrs

from trio_anon_session.testing._timelines.timeline import (
    Answer,
    BriefRepr,
    Get,
    Invalidate,
    Kill,
    Moment,
    Revoke,
)

Who = int | Literal["holder", "all"]


@attrs.frozen(kw_only=True, repr=False)
class Stop(Moment):
    """A process is stopped (SIGSTOP), and continues later.

    Attributes:
        seconds: how long its tasks do not run.
    """

    seconds: float = 10.0


@attrs.frozen(kw_only=True, repr=False)
class Crash(Moment):
    """A process is killed (SIGKILL): it stops without releasing anything."""


@attrs.frozen(kw_only=True, repr=False)
class Leave(Moment):
    """A process leaves its blocks normally."""


Deed = Get | Invalidate | Revoke | Stop | Crash | Leave | Kill


@attrs.frozen(kw_only=True, repr=False)
class Act(BriefRepr):
    """An event of one process.

    Attributes:
        what: the event; ``Kill`` comes from the server.
        who: the number of the process; ``"holder"`` for the one that requests the token at that
            time, if any; ``"all"`` for all processes.
    """

    what: Deed
    who: Who = 0


@attrs.frozen(kw_only=True, repr=False)
class EndpointTrouble(BriefRepr):
    """A time in which the endpoint has a fault.

    Attributes:
        at: seconds since the beginning.
        seconds: duration.
        answer: the answer to each token request in this time.
    """

    at: float
    seconds: float
    answer: Answer


@attrs.frozen(kw_only=True, repr=False)
class StoreTrouble(BriefRepr):
    """A time in which the store fails for some processes, or for all.

    Attributes:
        at: seconds since the beginning.
        seconds: duration.
        kind: ``"down"``: the store refuses immediately, and connections break. ``"hangs"``: it
            accepts calls, and never answers. ``"slow"``: it takes longer, and carries out calls
            even after their caller has given up. ``"read-only"``: it refuses changes.
        latency: additional seconds of a slow store.
        who: the numbers of the processes; empty for all.
    """

    at: float
    seconds: float
    kind: Literal["down", "hangs", "slow", "read-only"] = "down"
    latency: float = 0.0
    who: tuple[int, ...] = ()

    @property
    def ends_at(self) -> float:
        """The time at which it ends."""
        return self.at + self.seconds

    def befalls(self, process: int) -> bool:
        """Return whether it affects a process."""
        return not self.who or process in self.who


@attrs.frozen(kw_only=True, repr=False)
class Flush(Moment):
    """The store loses all its data."""


@attrs.frozen(kw_only=True, repr=False)
class Fleet(BriefRepr):
    """All events of a fleet in one run, and its settings.

    It is plain data: equal fleets run in the same way, including the order of tasks.

    Attributes:
        joins: when each process begins; its place in the list is its number.
        every: seconds between two calls in each process; None for no calls.
        acts: the events of the processes.
        endpoint: the faults of the endpoint.
        store: the faults of the store.
        has_store: whether the processes share a store; otherwise each has its own token.
        latency: seconds until the endpoint answers.
        store_latency: seconds until the store answers.
        ends_at: when the run ends.
        seed: the seed of the order of tasks, and of all random numbers.
        lifetime: lifetime of tokens in seconds.
        stale_buffer: as in :class:`~trio_anon_session.Config`, like the following ones.
        expired_buffer: as in the config.
        refresh_jitter: as in the config.
        request_timeout: as in the config.
    """

    joins: tuple[float, ...] = (0.0, 0.0)
    every: float | None = None
    acts: tuple[Act, ...] = ()
    endpoint: tuple[EndpointTrouble, ...] = ()
    store: tuple[StoreTrouble | Flush, ...] = ()
    has_store: bool = True
    latency: float = 0.0
    store_latency: float = 0.0
    ends_at: float = 4 * 3600.0
    seed: int = 0
    lifetime: float = 3600.0
    stale_buffer: float = 600.0
    expired_buffer: float = 30.0
    refresh_jitter: float = 0.0
    request_timeout: float = 30.0

    @property
    def until_stale(self) -> float:
        """Seconds for which a token is FRESH, without jitter."""
        return self.lifetime - min(self.stale_buffer, self.lifetime / 2)

    @property
    def until_expired(self) -> float:
        """Seconds for which callers get a token."""
        return self.lifetime - min(self.expired_buffer, self.lifetime / 4)

    def troubles_of(self, process: int) -> list[StoreTrouble]:
        """Return the faults of the store for a process."""
        troubles = [trouble for trouble in self.store if isinstance(trouble, StoreTrouble)]
        return [trouble for trouble in troubles if trouble.befalls(process)]
