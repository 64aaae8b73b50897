"""The story of a timeline: its log, converted to the data of a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..._errors import SessionClosedError, TokenRequestError
from .log import (
    Asked,
    Blocked,
    Came,
    CutOff,
    Failed,
    GaveUp,
    Got,
    Killed,
    Leaving,
    Left,
    Reported,
    RevocationSent,
    RevokeEnded,
    Revoking,
    Sent,
    Stopped,
    WallSet,
)
from .names import token_names
from .record import Attempt, GetterLine, Mark, Story, TokenLife

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._server import TokenServer
    from .log import Entry, Happening
    from .record import Breach
    from .timeline import Timeline


def make_story(
    timeline: Timeline,
    log: Sequence[Entry],
    server: TokenServer,
    breach: Breach | None,
    *,
    program: bool,
) -> Story:
    """Return the story of a log, with the server's recorded requests if a program ran."""
    names = token_names(log)
    ends_at = max((entry.at for entry in log if isinstance(entry.what, Left)), default=math.nan)
    if math.isnan(ends_at):
        ends_at = max((entry.at for entry in log), default=0.0)
    return Story(
        tokens=tuple(_lives(log, names, ends_at)),
        attempts=tuple(_attempts(timeline, log, names)),
        getters=tuple(_presented(server, names) if program else _getters(log, names)),
        marks=tuple(_marks(log, names)),
        ends_at=ends_at,
        breach=breach,
    )


def _lives(log: Sequence[Entry], names: dict[str, str], ends_at: float) -> list[TokenLife]:
    lives: dict[str, dict[str, Any]] = {}
    current: str | None = None
    for entry in log:
        match entry.what:
            case Came(token=token) as came if token is not None:
                text = token.access_token
                if current is not None and current != text:
                    lives[current].setdefault("replaced_at", entry.at)
                current = text
                # A reused token continues in the same row.
                lives[text] = {
                    "name": names[text],
                    "sent_at": lives.get(text, {}).get("sent_at", token.sent_at),
                    "came_at": lives.get(text, {}).get("came_at", entry.at),
                    "stale_at": token.stale_at,
                    "expires_at": token.expires_at,
                    "ends_at": max(came.ends_at, token.expires_at),
                }
            case Reported(before=str(before), after=None) | Revoking(before=str(before)):
                if before in lives:
                    lives[before].setdefault("dropped_at", entry.at)
                current = None
            case Killed():
                for life in lives.values():
                    life["ends_at"] = max(life["sent_at"], min(life["ends_at"], entry.at))
    if current is not None:
        lives[current].setdefault("replaced_at", ends_at)
    return [TokenLife(**life) for life in lives.values()]


def _attempts(timeline: Timeline, log: Sequence[Entry], names: dict[str, str]) -> list[Attempt]:
    attempts: dict[int, dict[str, Any]] = {}
    for entry in log:
        match entry.what:
            case Sent(number):
                attempts[number] = {
                    "number": number,
                    "sent_at": entry.at,
                    "ended_at": None,
                    "outcome": "in progress",
                    "succeeded": False,
                }
            case Came(number, token) if token is not None:
                outcome = names[token.access_token]
                is_late = entry.at >= token.expires_at
                attempts[number] |= {
                    "ended_at": entry.at,
                    "outcome": f"{outcome}, too late" if is_late else outcome,
                    "succeeded": not is_late,
                }
            case Came(number):
                outcome = timeline.answer(number - 1).kind
                if outcome == "token":
                    outcome = "timeout"
                attempts[number] |= {"ended_at": entry.at, "outcome": outcome}
            case CutOff(number):
                attempts[number] |= {"ended_at": entry.at, "outcome": "cancelled"}
    return [Attempt(**attempt) for attempt in attempts.values()]


def _getters(log: Sequence[Entry], names: dict[str, str]) -> list[GetterLine]:
    getters: dict[int, dict[str, Any]] = {}
    for entry in log:
        match entry.what:
            case Asked(getter, ask):
                getters[getter] = {
                    "number": getter,
                    "ask": ask,
                    "asked_at": entry.at,
                    "ended_at": None,
                    "kind": "held",
                    "outcome": "still waits",
                }
            case Got(getter) | Failed(getter) | Blocked(getter) | GaveUp(getter):
                kind, outcome = _end_of(entry.what, names)
                getters[getter] |= {"ended_at": entry.at, "kind": kind, "outcome": outcome}
    return [GetterLine(**getter) for getter in getters.values()]


def _end_of(what: Happening, names: dict[str, str]) -> tuple[str, str]:
    match what:
        case Got(token=text):
            return "token", names.get(text, "?")
        case Failed(error=SessionClosedError()):
            return "closed", "closed"
        case Failed(error=TokenRequestError() as error):
            return "error", f"{type(error).__name__} after {error.attempts}"
        case Failed(error=error):
            return "error", type(error).__name__
        case Blocked():
            return "would block", "would block"
        case _:
            return "cancelled", "cancelled"


def _presented(server: TokenServer, names: dict[str, str]) -> list[GetterLine]:
    """Return the requests of the program to the protected resource."""
    return [
        GetterLine(
            number=number,
            ask="use",
            asked_at=presented.at,
            ended_at=presented.at,
            kind="token" if presented.verdict == "good" else "error",
            outcome=(
                f"{names.get(presented.access_token or '', '?')}"
                f"{'' if presented.verdict == 'good' else f': {presented.verdict}'}"
            ),
        )
        for number, presented in enumerate(server.presented, 1)
    ]


def _marks(log: Sequence[Entry], names: dict[str, str]) -> list[Mark]:
    marks = []
    for entry in log:
        text = _mark(entry.what, names)
        if text:
            marks.append(Mark(at=entry.at, text=text))
    return marks


def _mark(what: Happening, names: dict[str, str]) -> str | None:
    match what:
        case Reported(token=text):
            return f"invalidate {names.get(text, 'another token')}"
        case Revoking(before=None):
            return "revoke"
        case Revoking(before=str(text)):
            return f"revoke {names.get(text, 'another token')}"
        case RevokeEnded(outcome=Exception() as error):
            return f"revoke: {type(error).__name__}"
        case RevocationSent(token=text):
            return f"revocation of {names.get(text, '?')} sent"
        case Killed():
            return "the server ends all tokens"
        case WallSet(by, True):
            return f"suspended for {by:g} s"
        case WallSet(by, False):
            return f"wall clock set by {by:+g} s"
        case Leaving(how):
            return "the block is left" if how == "return" else f"the block is left by {how}"
        case Left(error=error) if error is not None:
            return f"the block raises {type(error).__name__}"
        case Stopped(why):
            return why
        case _:
            return None
