"""The log of a timeline: what was observed from outside the session, in order."""

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
    """A getter read the state of the session, which decides its result."""

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
    """``get_access_token_nowait()`` raised ``trio.WouldBlock``."""

    getter: int


@attrs.frozen
class Cancelling:
    """A getter is cancelled."""

    getter: int


@attrs.frozen
class GaveUp:
    """A getter ended because it was cancelled."""

    getter: int


@attrs.frozen
class Presented:
    """A getter presented its token to the protected resource."""

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
        number: number of the request.
        token: the received token, if there is one.
        lifetime: lifetime in seconds that the server stated, rounded like a client does.
        ends_at: end of the token's life at the server, on Trio's clock.
        error: the exception, if one was raised.
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
    """A task invalidated a token; the session's token before and after."""

    token: str = attrs.field(repr=False)
    before: str | None = attrs.field(repr=False)
    after: str | None = attrs.field(repr=False)


@attrs.frozen
class Revoking:
    """A task called ``revoke_tokens()``; the session's token before."""

    call: int
    before: str | None = attrs.field(repr=False)


@attrs.frozen
class RevokeCancelling:
    """A call of ``revoke_tokens()`` is cancelled."""

    call: int


@attrs.frozen
class RevokeEnded:
    """A call of ``revoke_tokens()`` ended: it returned, raised, or was cancelled."""

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
        number: number of the revocation.
        token: the token to be revoked.
        answer: the answer; None if the revocation was cancelled before it reached the server.
        succeeded: whether the token is revoked.
    """

    number: int
    token: str = attrs.field(repr=False)
    answer: Answer | None
    succeeded: bool


@attrs.frozen
class Killed:
    """The server revoked all its tokens."""


@attrs.frozen
class WallSet:
    """The wall clock moved, but Trio's clock did not.

    Attributes:
        by: seconds.
        is_real: whether time passed, as in a suspend.
    """

    by: float
    is_real: bool


@attrs.frozen
class Leaving:
    """The session's block is about to end; its statistics at that moment."""

    how: str
    statistics: SessionStatistics


@attrs.frozen
class Left:
    """The session's block ended.

    Attributes:
        error: the exception that the block raised, except cancellation.
        expected: the exception that it should have raised.
        was_swallowed: whether the block was cancelled but did not raise the cancellation.
    """

    error: BaseException | None
    expected: BaseException | None
    was_swallowed: bool = False


@attrs.frozen
class Stopped:
    """The run was stopped because it would not have ended."""

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
    """An entry of the log.

    Attributes:
        at: time on Trio's clock.
        what: what happened.
    """

    at: float
    what: Happening
