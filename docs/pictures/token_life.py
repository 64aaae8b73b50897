"""Draws ``token_life.svg``: the lifetime of a token, and what callers get during it.

    python docs/pictures/token_life.py

Two sessions run in virtual time, with the default buffers and a server that grants tokens
of an hour. The picture shows what happened in these runs.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, cast

import attrs
from _drawing import MARGIN, WIDTH, bar, card, cross, dot, line, spoken, text, write

from trio_anon_session import Config, TokenInfo
from trio_anon_session._token import state_at
from trio_anon_session.testing.strategies import Answer, Get, Timeline, run_timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_anon_session.testing._timelines.record import (
        Attempt,
        GetterLine,
        Story,
        TokenLife,
    )

LIFETIME = 3600.0
LATENCY = 2.0
GUTTER = 84.0
GAPS = (22.0, 84.0, 64.0, 66.0, 26.0, 42.0, 18.0, 58.0)
"""Between the moments that matter: to scale, an answer would be invisible next to an hour."""
ROW = 24.0


@attrs.frozen
class Axis:
    """The time axis: a place for each moment that matters; it is linear between them."""

    moments: Sequence[float]

    def x(self, at: float) -> float:
        """Return the place of a moment; what comes later is at the right edge."""
        places = list(accumulate(GAPS, initial=GUTTER))
        for (start, end), (left, right) in zip(
            pairwise(self.moments), pairwise(places), strict=True
        ):
            if at <= end:
                return left + (right - left) * (at - start) / (end - start)
        return places[-1]


def draw() -> str:
    """Return the picture."""
    config = Config(client_id="i", client_secret="s")
    life = TokenInfo.from_answer("t", LIFETIME, 0.0, config)
    late = life.expires_at + (LIFETIME - life.expires_at) / 3
    ends_at = LIFETIME + 300.0
    well, down = Answer(latency=LATENCY), Answer(kind="unavailable")
    first, fresh, stale, expired = (
        Get(at=at) for at in (0.0, life.stale_at / 2, life.stale_at + LATENCY, late)
    )
    eager = Timeline(
        lifetime=LIFETIME,
        answers=(well, down, down),
        then=well,
        actions=(first, fresh, stale, expired),
        leaves_at=ends_at,
        stale_buffer=config.stale_buffer,
        expired_buffer=config.expired_buffer,
    )
    unasked = attrs.evolve(
        eager, refresh="on_request", answers=(well,), actions=(first, fresh, expired)
    )
    stories = [run_timeline(eager).story, run_timeline(unasked).story]
    came = [story.tokens[1].came_at or ends_at for story in stories]
    until_stale = (0.0, LATENCY, life.stale_at)
    axis = Axis((*until_stale, came[0], life.expires_at, late, came[1], LIFETIME, ends_at))
    headings = (
        "Default: the session refreshes a STALE token",
        'refresh="on_request", and no caller asks in time',
    )
    heading = f"A token of {spoken(LIFETIME)}, with the default buffers"
    body = [text(MARGIN, 28, heading, "head")]
    y = 54.0
    for name, at in (
        ("sent_at", 0.0),
        ("stale_at", life.stale_at),
        ("expires_at", life.expires_at),
        ("lifetime", LIFETIME),
    ):
        body += [text(axis.x(at), y, name, "name", "middle")]
        body += [text(axis.x(at), y + 17, spoken(at), "faint", "middle")]
    y += 36
    for heading, story in zip(headings, stories, strict=True):
        body += [text(MARGIN, y + 14, heading, "head")]
        y += 26
        bottom = y + ROW * (len(story.tokens) + 1 + len(story.getters))
        for at in (0.0, life.stale_at, life.expires_at, LIFETIME):
            body += [line("guide", axis.x(at), y - 4, axis.x(at), bottom)]
        for token in story.tokens:
            body += [text(MARGIN, y + 16, f"token {token.name}"), *_life(token, axis, y)]
            y += ROW
        body += [text(MARGIN, y + 16, "requests"), *_requests(story.attempts, axis, y)]
        y += ROW
        body += [text(MARGIN, y + 16, "callers")]
        for getter in story.getters:
            body += _getter(getter, axis, y)
            y += ROW
        y += 14
    y += 12
    body += [
        dot(MARGIN + 5, y - 5),
        text(MARGIN + 16, y, "call, or answer", "faint"),
        line("wait", MARGIN + 182, y - 5, MARGIN + 198, y - 5),
        text(MARGIN + 204, y, "waits", "faint"),
        cross(MARGIN + 266, y - 5),
        text(MARGIN + 276, y, "fails", "faint"),
        text(WIDTH - MARGIN, y, "not to scale", "faint", "end"),
    ]
    return card("The lifetime of a token", " ".join(map(_tell, headings, stories)), y + 18, body)


def _life(token: TokenLife, axis: Axis, y: float) -> Iterator[str]:
    came_at, replaced_at = token.came_at or 0.0, token.replaced_at or axis.moments[-1]
    bounds = sorted({came_at, token.stale_at, token.expires_at, token.ends_at, replaced_at})
    for start, end in pairwise(bounds):
        left, right = axis.x(start), axis.x(end)
        if start < came_at or left == right:
            continue
        if start >= replaced_at:
            yield bar("gone", left, right, y + 3, ROW - 7)
            continue
        # `state_at` reads only the two boundaries, which a `TokenLife` has too.
        state = state_at(cast("TokenInfo", token), start).name
        yield bar(state.lower(), left, right, y + 2, ROW - 5)
        yield text((left + right) / 2, y + 16, state, "on", "middle")


def _requests(attempts: Sequence[Attempt], axis: Axis, y: float) -> Iterator[str]:
    y += ROW / 2
    for attempt in attempts:
        left, right = axis.x(attempt.sent_at), axis.x(attempt.ended_at or attempt.sent_at)
        if attempt.succeeded:
            yield line("wait", left, y, right, y)
            yield dot(right, y)
        else:
            yield cross(left, y)


def _getter(getter: GetterLine, axis: Axis, y: float) -> Iterator[str]:
    ended_at = getter.ended_at or getter.asked_at
    left, right = axis.x(getter.asked_at), axis.x(ended_at)
    yield line("wait", left, y + ROW / 2, right, y + ROW / 2)
    yield dot(left, y + ROW / 2)
    if right > left:
        yield dot(right, y + ROW / 2)
    words = _outcome(getter)
    if right < WIDTH * 0.7:
        yield text(right + 11, y + 16, words)
    else:
        yield text(left - 11, y + 16, words, anchor="end")


def _outcome(getter: GetterLine) -> str:
    held = getter.asked_at != getter.ended_at
    return f"waits, then {getter.outcome}" if held else f"{getter.outcome}, immediately"


def _tell(heading: str, story: Story) -> str:
    getters = (f"at {spoken(g.asked_at)}: {_outcome(g)}" for g in story.getters)
    failed = sum(not attempt.succeeded for attempt in story.attempts)
    return (
        f"{heading}: {len(story.attempts)} requests, of which {failed} fail. "
        f"Callers get: {'; '.join(getters)}."
    )


if __name__ == "__main__":
    write(draw, __file__)
