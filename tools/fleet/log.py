"""The log of a fleet: what was seen from outside of the sessions, in the order of seeing."""

from __future__ import annotations

import attrs


@attrs.frozen
class Joined:
    """A process has opened its session."""


@attrs.frozen
class Stopped:
    """A process is stopped."""


@attrs.frozen
class Resumed:
    """A process goes on."""


@attrs.frozen
class Gone:
    """A process is no more.

    Attributes:
        in_order: whether it left, and was not killed.
    """

    in_order: bool


@attrs.frozen
class Asked:
    """A getter called its session."""

    getter: int


@attrs.frozen
class Got:
    """A getter returned with a token."""

    getter: int
    token: str = attrs.field(repr=False)


@attrs.frozen
class Failed:
    """A getter returned with an error."""

    getter: int
    error: Exception


@attrs.frozen
class GaveUp:
    """A getter returned cancelled."""

    getter: int


@attrs.frozen
class Holds:
    """A session has another token in its hands, or none."""

    token: str | None = attrs.field(repr=False)


@attrs.frozen
class Reported:
    """A program reports or revokes the token that its session has."""

    token: str = attrs.field(repr=False)


@attrs.frozen
class Sent:
    """A process sends a token request.

    Attributes:
        fence: of the lease under which it does; None for one without a lease.
    """

    fence: int | None


@attrs.frozen
class Came:
    """A token request has ended.

    Attributes:
        fence: as of its sending.
        token: what came; None for none.
        error: what came in its place.
    """

    fence: int | None
    token: str | None = attrs.field(repr=False)
    error: BaseException | None = None


@attrs.frozen
class Claimed:
    """The store has given a lease.

    Attributes:
        fence: its.
        beside: the mark of the token that the store has meanwhile.
    """

    fence: int
    beside: str | None


@attrs.frozen
class Put:
    """A process has brought a token to the store.

    Attributes:
        fence: of the lease.
        mark: the token's.
        is_kept: whether the store has taken it.
    """

    fence: int
    mark: str
    is_kept: bool


@attrs.frozen
class Dropped:
    """The store was told that a token is dead."""

    mark: str


@attrs.frozen
class Unanswered:
    """The store has failed a process."""

    question: str


@attrs.frozen
class Flushed:
    """The store has lost all that it had."""


@attrs.frozen
class Ended:
    """All is over."""


Happening = (
    Joined
    | Stopped
    | Resumed
    | Gone
    | Asked
    | Got
    | Failed
    | GaveUp
    | Holds
    | Reported
    | Sent
    | Came
    | Claimed
    | Put
    | Dropped
    | Unanswered
    | Flushed
    | Ended
)


@attrs.frozen
class Entry:
    """Is something that happened.

    Attributes:
        at: when, in seconds.
        who: the process's number; -1 for what is nobody's.
        what: what.
    """

    at: float
    who: int
    what: Happening
