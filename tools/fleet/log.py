"""The log of a fleet: what an observer outside of the sessions sees, in order."""

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
    """A process continues."""


@attrs.frozen
class Gone:
    """A process has ended.

    Attributes:
        in_order: whether it left normally, and was not killed.
    """

    in_order: bool


@attrs.frozen
class Asked:
    """A caller asked its session for a token."""

    getter: int


@attrs.frozen
class Got:
    """A caller got a token."""

    getter: int
    token: str = attrs.field(repr=False)


@attrs.frozen
class Failed:
    """A caller got an error."""

    getter: int
    error: Exception


@attrs.frozen
class GaveUp:
    """A caller was cancelled."""

    getter: int


@attrs.frozen
class Holds:
    """A session has another token, or no token."""

    token: str | None = attrs.field(repr=False)


@attrs.frozen
class Reported:
    """A program reports or revokes the token that its session has."""

    token: str = attrs.field(repr=False)


@attrs.frozen
class Sent:
    """A process sends a token request.

    Attributes:
        fence: the fence of its lease; None for a request without a lease.
    """

    fence: int | None


@attrs.frozen
class Came:
    """A token request has ended.

    Attributes:
        fence: as when it was sent.
        token: the token, or None.
        error: the error, if the request failed.
    """

    fence: int | None
    token: str | None = attrs.field(repr=False)
    error: BaseException | None = None


@attrs.frozen
class Claimed:
    """The store has given a lease.

    Attributes:
        fence: the fence of the lease.
        stored: the mark of the token that the store has at that time.
    """

    fence: int
    stored: str | None


@attrs.frozen
class Put:
    """A process has put a token into the store.

    Attributes:
        fence: the fence of the lease.
        mark: the mark of the token.
        is_kept: whether the store has accepted it.
    """

    fence: int
    mark: str
    is_kept: bool


@attrs.frozen
class Dropped:
    """A process has dropped a token in the store."""

    mark: str


@attrs.frozen
class Unanswered:
    """A call of the store has failed."""

    question: str


@attrs.frozen
class Flushed:
    """The store has lost all its data."""


@attrs.frozen
class Ended:
    """The run has ended."""


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
    """One event of the log.

    Attributes:
        at: the time in seconds.
        who: the number of the process; -1 for events of no process.
        what: the event.
    """

    at: float
    who: int
    what: Happening
