"""The events of a timeline as plain data, from which pictures are drawn."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class TokenLife:
    """The life of one token, in seconds since the session was opened.

    Attributes:
        name: letter for the token in pictures and messages.
        sent_at: when its token request was sent.
        came_at: when it arrived; None if it never arrived.
        stale_at: when it becomes STALE for the session.
        expires_at: when it becomes EXPIRED for the session.
        ends_at: when the server stops accepting it.
        dropped_at: when it was invalidated or revoked; None if it was not.
        replaced_at: when the next token arrived, or the session was closed.
    """

    name: str
    sent_at: float
    came_at: float | None
    stale_at: float
    expires_at: float
    ends_at: float
    dropped_at: float | None = None
    replaced_at: float | None = None


@attrs.frozen(kw_only=True)
class Attempt:
    """One token request.

    Attributes:
        number: number of the request, starting at 1.
        sent_at: when it was sent.
        ended_at: when it ended; None if it did not end.
        outcome: name of the token, or the failure, such as ``"unavailable"`` or ``"rejected"``.
        succeeded: whether it returned a token that the session could use.
    """

    number: int
    sent_at: float
    ended_at: float | None
    outcome: str
    succeeded: bool


@attrs.frozen(kw_only=True)
class GetterLine:
    """One getter: its call and its result.

    Attributes:
        number: number of the call, starting at 1, in the order of the calls.
        ask: the method that it called.
        asked_at: when it called.
        ended_at: when the call ended; None if it did not end.
        kind: kind of the result.
        outcome: name of the token or of the error, or a word for the kind.
    """

    number: int
    ask: Literal["get", "nowait", "exchange", "use"]
    asked_at: float
    ended_at: float | None
    kind: Literal["token", "error", "cancelled", "would block", "closed", "held"]
    outcome: str


@attrs.frozen(kw_only=True)
class Mark:
    """Another event at one moment, such as ``"invalidate A"``."""

    at: float
    text: str


@attrs.frozen(kw_only=True)
class Breach:
    """The moment at which a promise was broken.

    Attributes:
        promise: number of the promise in the table of promises; None if the program failed.
        at: when the promise was broken.
        text: what happened, and what should have happened.
        getter: number of the getter concerned, or None.
        attempt: number of the token request concerned, or None.
        token: name of the token concerned, or None.
    """

    promise: int | None
    at: float
    text: str
    getter: int | None = None
    attempt: int | None = None
    token: str | None = None


@attrs.frozen(kw_only=True)
class Story:
    """The contents of a picture of a timeline.

    Attributes:
        tokens: tokens, in the order of arrival.
        attempts: token requests, in the order of sending.
        getters: getters, in the order of their calls.
        marks: other events, in their order.
        ends_at: when the session's block had ended.
        breach: the broken promise, or None.
    """

    tokens: tuple[TokenLife, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    getters: tuple[GetterLine, ...] = ()
    marks: tuple[Mark, ...] = ()
    ends_at: float = 0.0
    breach: Breach | None = None
