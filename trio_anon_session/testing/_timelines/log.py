"""The log of a timeline: what was seen from outside the session, in the order of seeing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from ..._events import SessionStatistics
    from ..._token import TokenInfo
    from .timeline import Answer, AnswerKind, Ask


@attrs.frozen
class Asked:
    """A getter called the session."""

    getter: int
    ask: Ask


@attrs.frozen
class Decided:
    """A getter looked at the session: what the session held at that moment counts."""

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
class Blocked:
    """A getter that does not wait was told that it would have to."""

    getter: int


@attrs.frozen
class Cancelling:
    """A getter is cancelled."""

    getter: int


@attrs.frozen
class GaveUp:
    """A getter returned cancelled."""

    getter: int


@attrs.frozen
class Presented:
    """A getter showed its token to the protected resource."""

    getter: int
    token: str = attrs.field(repr=False)
    verdict: str


@attrs.frozen
class Sent:
    """A token request was sent."""

    number: int
    kind: AnswerKind


@attrs.frozen
class Came:
    """A token request ended.

    Attributes:
        number: the request's.
        token: what came, if a token did.
        lifetime: seconds that the server said, rounded as a client must.
        ends_at: when the server stops to take the token, on Trio's clock.
        error: what was raised, if anything was.
    """

    number: int
    token: TokenInfo | None = None
    lifetime: float = 0.0
    ends_at: float = 0.0
    error: BaseException | None = None


@attrs.frozen
class CutOff:
    """A token request was cancelled."""

    number: int


@attrs.frozen
class Reported:
    """A task reported a token as dead; what the session held before and after."""

    token: str = attrs.field(repr=False)
    before: str | None = attrs.field(repr=False)
    after: str | None = attrs.field(repr=False)


@attrs.frozen
class Revoking:
    """A task called ``revoke_tokens``; what the session held before."""

    call: int
    before: str | None = attrs.field(repr=False)


@attrs.frozen
class RevokeCancelling:
    """A call of ``revoke_tokens`` is cancelled."""

    call: int


@attrs.frozen
class RevokeEnded:
    """A call of ``revoke_tokens`` ended: well, with an error, or cancelled."""

    call: int
    outcome: Exception | Literal["well", "cancelled"]


@attrs.frozen
class RevocationSent:
    """A revocation was sent."""

    number: int
    token: str = attrs.field(repr=False)


@attrs.frozen
class RevocationCame:
    """A revocation ended.

    Attributes:
        number: the revocation's.
        token: what was to be revoked.
        answer: what it met; None if it was cancelled before it came to the server.
        succeeded: whether the token is gone.
    """

    number: int
    token: str = attrs.field(repr=False)
    answer: Answer | None
    succeeded: bool


@attrs.frozen
class Killed:
    """The server ended the life of all its tokens."""


@attrs.frozen
class WallSet:
    """The wall clock moved apart from Trio's.

    Attributes:
        by: seconds.
        is_real: whether time went by, as in a suspend.
    """

    by: float
    is_real: bool


@attrs.frozen
class Leaving:
    """The block is about to be left; what the session says of itself."""

    how: str
    statistics: SessionStatistics


@attrs.frozen
class Left:
    """The block was left.

    Attributes:
        error: what came out of it, but for cancellation.
        expected: what should have.
        was_swallowed: whether it was cancelled, and no cancellation came out.
    """

    error: BaseException | None
    expected: BaseException | None
    was_swallowed: bool = False


@attrs.frozen
class Stopped:
    """The run was stopped from outside, since it would not have ended."""

    why: str


Happening = (
    Asked
    | Decided
    | Got
    | Failed
    | Blocked
    | Cancelling
    | GaveUp
    | Presented
    | Sent
    | Came
    | CutOff
    | Reported
    | Revoking
    | RevokeCancelling
    | RevokeEnded
    | RevocationSent
    | RevocationCame
    | Killed
    | WallSet
    | Leaving
    | Left
    | Stopped
)


@attrs.frozen
class Entry:
    """Is one line of the log.

    Attributes:
        at: Trio's time.
        what: what was seen.
    """

    at: float
    what: Happening
