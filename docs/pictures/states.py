"""Draws ``states.svg``: the states of a token, and where its boundaries are.

    python docs/pictures/states.py

The boundaries are those that `TokenInfo.from_answer` computes with the default buffers, and
the states are those that `state_at` returns between them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from _drawing import MARGIN, WIDTH, bar, card, line, spoken, text, write

from trio_anon_session import Config, TokenInfo, TokenState
from trio_anon_session._token import state_at

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600.0
LIVES = (HOUR, 1200.0, 300.0, 60.0)
"""Seconds: an hour, twice the stale buffer, and two that are shorter than that buffer."""
GETS = {
    TokenState.FRESH: ("gets the token", "no I/O"),
    TokenState.STALE: ("gets the token", "a refresh runs"),
    TokenState.EXPIRED: ("waits for", "a new token"),
}
LEFT, RIGHT = MARGIN + 2.0, WIDTH - MARGIN - 2.0


def draw() -> str:
    """Return the picture."""
    config = Config(client_id="i", client_secret="s")
    lives = [TokenInfo.from_answer("t", lifetime, 0.0, config) for lifetime in LIVES]
    body, y = [], 28.0
    body += [text(MARGIN, y, f"A token of {spoken(HOUR)}, and what a caller gets", "head")]
    body += _states(lives[0], y + 14)
    y += 226
    body += [text(MARGIN, y, "To scale: a short lifetime limits the buffers", "head")]
    y += 12
    for token in lives:
        body += _to_scale(token, y)
        y += 54
    told = "; ".join(f"of {spoken(token.lifetime)}: {_tell(token)}" for token in lives)
    return card("The states of a token", f"Tokens {told}.", y + 12, body)


def _stretches(token: TokenInfo) -> Iterator[tuple[TokenState, float, float]]:
    """Yield each state with its start and end; the last state ends with the lifetime."""
    end = token.sent_at + token.lifetime
    bounds = sorted({token.sent_at, token.stale_at, token.expires_at, end})
    for start, stop in pairwise(bounds):
        yield state_at(token, start), start, stop


def _names(token: TokenInfo) -> dict[float, str]:
    return {
        token.sent_at: "sent_at",
        token.stale_at: "stale_at",
        token.expires_at: "expires_at",
        token.sent_at + token.lifetime: "lifetime",
    }


def _states(token: TokenInfo, y: float) -> Iterator[str]:
    """Draw each state as wide as the others, with its boundaries, and what a caller gets."""
    stretches = list(_stretches(token))
    step = (RIGHT - LEFT) / len(stretches)
    places = {start: LEFT + step * n for n, (_, start, _) in enumerate(stretches)}
    places[stretches[-1][2]] = RIGHT
    for at, name in _names(token).items():
        anchor = {LEFT: "start", RIGHT: "end"}.get(places[at], "middle")
        yield text(places[at], y + 16, name, "name", anchor)
        yield text(places[at], y + 33, spoken(at), "faint", anchor)
        yield line("axis", places[at], y + 38, places[at], y + 74)
    for state, start, stop in stretches:
        left, right = places[start], places[stop]
        yield bar(state.name.lower(), left, right, y + 42, 28)
        yield text((left + right) / 2, y + 61, state.name, "on", "middle")
        for number, words in enumerate(GETS[state]):
            yield text((left + right) / 2, y + 92 + 18 * number, words, "", "middle")
    end = places[stretches[-1][2]]
    for number, (at, name) in enumerate(
        ((token.stale_at, "stale_buffer"), (token.expires_at, "expired_buffer"))
    ):
        below = y + 146 + 30 * number
        buffer = token.sent_at + token.lifetime - at
        yield line("axis", places[at], below, end, below)
        for x in (places[at], end):
            yield line("axis", x, below - 5, x, below + 5)
        yield text(end, below - 7, f"{name} {spoken(buffer)}", "name", "end")


def _to_scale(token: TokenInfo, y: float) -> Iterator[str]:
    scale = (RIGHT - LEFT) / token.lifetime
    yield text(LEFT, y + 16, spoken(token.lifetime))
    for state, start, stop in _stretches(token):
        left, right = LEFT + start * scale, LEFT + stop * scale
        yield bar(state.name.lower(), left, right, y + 22, 18)
        if right - left > 80:
            yield text((left + right) / 2, y + 36, state.name, "on", "middle")
        yield line("axis", right, y + 20, right, y + 42)
    yield text(RIGHT, y + 16, _tell(token), "faint", "end")


def _tell(token: TokenInfo) -> str:
    return f"STALE from {spoken(token.stale_at)}, EXPIRED from {spoken(token.expires_at)}"


if __name__ == "__main__":
    write(draw, __file__)
