"""`Fleet`: everything that happens to some processes and their store, as plain data."""

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
    """A process is stopped (SIGSTOP), and goes on later.

    Attributes:
        seconds: for which none of its tasks takes a step.
    """

    seconds: float = 10.0


@attrs.frozen(kw_only=True, repr=False)
class Crash(Moment):
    """A process is killed (SIGKILL): it takes no step more, and gives nothing back."""


@attrs.frozen(kw_only=True, repr=False)
class Leave(Moment):
    """A process leaves its blocks, in order."""


Deed = Get | Invalidate | Revoke | Stop | Crash | Leave | Kill


@attrs.frozen(kw_only=True, repr=False)
class Act(BriefRepr):
    """Is what one process does, or what befalls it.

    Attributes:
        what: what; ``Kill`` is the server's doing.
        who: the process's number; ``"holder"`` for the one that is asking the endpoint for
            all, if there is one at that time; ``"all"`` for all that are there.
    """

    what: Deed
    who: Who = 0


@attrs.frozen(kw_only=True, repr=False)
class EndpointTrouble(BriefRepr):
    """Is a time in which the endpoint answers in another way.

    Attributes:
        at: seconds since the beginning.
        seconds: how long.
        answer: what each token request meets that comes in this time.
    """

    at: float
    seconds: float
    answer: Answer


@attrs.frozen(kw_only=True, repr=False)
class StoreTrouble(BriefRepr):
    """Is a time in which the store fails some processes, or all.

    Attributes:
        at: seconds since the beginning.
        seconds: how long.
        kind: ``"down"``: it refuses at once, and connections break. ``"hangs"``: it takes
            questions, and never answers. ``"slow"``: it takes so much longer, and does what
            it was asked also where nobody waits for the answer any more. ``"read-only"``: it
            refuses what would change it.
        latency: seconds, of a slow one.
        who: the numbers of the processes; none for all.
    """

    at: float
    seconds: float
    kind: Literal["down", "hangs", "slow", "read-only"] = "down"
    latency: float = 0.0
    who: tuple[int, ...] = ()

    @property
    def ends_at(self) -> float:
        """When it is over."""
        return self.at + self.seconds

    def befalls(self, process: int) -> bool:
        """Tell whether a process is one of them."""
        return not self.who or process in self.who


@attrs.frozen(kw_only=True, repr=False)
class Flush(Moment):
    """The store loses all that it had."""


@attrs.frozen(kw_only=True, repr=False)
class Fleet(BriefRepr):
    """Is everything that happens to a fleet in one run, and its settings.

    Plain data: two that are equal run alike, to the order in which tasks take turns.

    Attributes:
        joins: when each process begins; its place in the list is its number.
        every: seconds between two gets of each process, from its beginning on; None for none.
        acts: what the processes do, and what befalls them.
        endpoint: when the endpoint is not well.
        store: when the store is not well.
        has_store: whether there is one; else each process has a token of its own.
        latency: seconds that the endpoint takes.
        store_latency: seconds that the store takes.
        ends_at: when all is over.
        seed: as of a timeline: of the order of tasks, and of all that is drawn by chance.
        lifetime: seconds that tokens live.
        stale_buffer: as in :class:`~trio_anon_session.Config`, like all that follow.
        expired_buffer: likewise.
        refresh_jitter: likewise.
        request_timeout: likewise.
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
        """Seconds for which a token is handed out."""
        return self.lifetime - min(self.expired_buffer, self.lifetime / 4)

    def troubles_of(self, process: int) -> list[StoreTrouble]:
        """Return when the store fails a process."""
        troubles = [trouble for trouble in self.store if isinstance(trouble, StoreTrouble)]
        return [trouble for trouble in troubles if trouble.befalls(process)]
