"""What happened in a timeline, as plain data: the stuff that pictures are drawn from."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class TokenLife:
    """Is one token's life, in seconds since the session was opened.

    Attributes:
        name: a letter that stands for the token in pictures and messages.
        sent_at: when its grant was sent.
        came_at: when it arrived; None if it never did.
        stale_at: the boundary of its states, as the session was told.
        expires_at: likewise.
        ends_at: when the server stops to take it, by its lifetime.
        dropped_at: when it was reported dead, or revoked; None if it was not.
        replaced_at: when its successor arrived, or the session was left.
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
    """Is one token request.

    Attributes:
        number: counted from 1.
        sent_at: when it was sent.
        ended_at: when it ended; None if it never did.
        outcome: the token's name, or what went wrong: ``"503"``, ``"rejected"``, …
        succeeded: whether it brought a token that the session could use.
    """

    number: int
    sent_at: float
    ended_at: float | None
    outcome: str
    succeeded: bool


@attrs.frozen(kw_only=True)
class GetterLine:
    """Is one getter: when it asked, and what became of it.

    Attributes:
        number: counted from 1, in the order in which they asked.
        ask: how it asked.
        asked_at: when.
        ended_at: when it came back; None if it never did.
        kind: what it came back with.
        outcome: the token's name, the error's name, or a word for the kind.
    """

    number: int
    ask: Literal["get", "nowait", "exchange", "use"]
    asked_at: float
    ended_at: float | None
    kind: Literal["token", "error", "cancelled", "would block", "closed", "held"]
    outcome: str


@attrs.frozen(kw_only=True)
class Mark:
    """Is something else that happened at one moment, such as ``"invalidate A"``."""

    at: float
    text: str


@attrs.frozen(kw_only=True)
class Breach:
    """Is the moment in which a promise was seen broken.

    Attributes:
        promise: its number, as in the table of promises; None for what a program did.
        at: when.
        text: what should have been, and what was.
        getter: the number of the getter that it is about, if it is about one.
        attempt: the number of the token request, likewise.
        token: the name of the token, likewise.
    """

    promise: int | None
    at: float
    text: str
    getter: int | None = None
    attempt: int | None = None
    token: str | None = None


@attrs.frozen(kw_only=True)
class Story:
    """Is everything that a picture of a timeline shows.

    Attributes:
        tokens: in the order in which they were granted.
        attempts: in the order in which they were sent.
        getters: in the order in which they asked.
        marks: in the order in which they happened.
        ends_at: when the session's block had been left.
        breach: what was broken, if anything was.
    """

    tokens: tuple[TokenLife, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    getters: tuple[GetterLine, ...] = ()
    marks: tuple[Mark, ...] = ()
    ends_at: float = 0.0
    breach: Breach | None = None
