"""Draws ``sharing.svg``: three processes that share a token, and what their store holds.

    python docs/pictures/sharing.py

Two fleets run in virtual time, over a `MemoryStore`, with the default buffers and a server that
takes two seconds to grant a token of an hour. The program looks at them every `STEP` seconds,
and draws what it saw.
"""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import attrs
import httpx
import trio
import trio.testing
from _drawing import MARGIN, WIDTH, bar, card, cross, dot, line, spoken, text, write

from trio_anon_session import AnonymousSession, Config, TokenInfo, TokenManager
from trio_anon_session.stores import MemoryStore, SharedTokenManager, StoreError
from trio_anon_session.stores._claimant import _REFRESH_SPREAD, LEASE
from trio_anon_session.stores._records import name_of
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

LIFETIME = 3600.0
LATENCY = 2.0
STEP = 0.05
"""Seconds from one look to the next."""
GUTTER, GAP, ROW = 68.0, 20.0, 24.0


@attrs.frozen
class Stretch:
    """A part of the time axis.

    Attributes:
        start: its first second.
        end: its last second.
        ticks: where it has a mark.
        share: of the whole width.
    """

    start: float
    end: float
    ticks: tuple[float, ...]
    share: float = 1.0

    def moments(self) -> Iterator[float]:
        """Return when to look."""
        steps = round((self.end - self.start) / STEP)
        return (self.start + STEP * n for n in range(steps + 1))


@attrs.frozen
class Scene:
    """What happens to a fleet.

    Attributes:
        heading: shown above it.
        asks_at: when each process first asks for a token.
        dies_at: when each process is killed.
        stretches: what is drawn of it.
    """

    heading: str
    asks_at: tuple[float, ...]
    dies_at: tuple[float, ...]
    stretches: tuple[Stretch, ...]


NEVER = math.inf
LIFE = TokenInfo.from_answer("t", LIFETIME, 0.0, Config(client_id="i", client_secret="s"))
LATEST = LIFE.stale_at + _REFRESH_SPREAD * (LIFE.expires_at - LIFE.stale_at)
"""When the last process that took the token from the store asks for the next one."""
SCENES = (
    Scene(
        f"One request for all, and again after {spoken(LIFE.stale_at)}",
        asks_at=(0.0, 1.0, LATENCY + 1.0),
        dies_at=(NEVER, NEVER, NEVER),
        stretches=(
            Stretch(0.0, LATENCY + 2.0, (0.0, LATENCY), 0.4),
            Stretch(LIFE.stale_at - 8.0, LATEST + 8.0, (LIFE.stale_at, LATEST), 0.6),
        ),
    ),
    Scene(
        "The process that requests the token is killed",
        asks_at=(0.0, 1.0, LEASE + 1.0),
        dies_at=(1.5, NEVER, NEVER),
        stretches=(Stretch(0.0, LEASE + LATENCY + 1.5, (0.0, 1.5, LEASE, LEASE + LATENCY)),),
    ),
)


class KilledStore(MemoryStore):
    """The store of a process that will be killed: it does not release the lease."""

    def __init__(self, shared: MemoryStore) -> None:
        super().__init__()
        # Both use the same records.
        vars(self).update(vars(shared))

    async def release(
        self,
        name: str,  # noqa: ARG002  # the signature of a store
        fence: int,  # noqa: ARG002  # the signature of a store
        failure: str | None = None,  # noqa: ARG002  # the signature of a store
        pause: float = 0.0,  # noqa: ARG002  # the signature of a store
    ) -> None:
        """Release nothing: a killed process cannot."""
        raise StoreError("killed")


@attrs.define
class Process:
    """One process of a fleet, and what it shows.

    Attributes:
        name: its letter.
        asks_at: when it first asks for a token.
        dies_at: when it is killed.
        session: its session.
        owner: its name in a lease.
    """

    name: str
    asks_at: float
    dies_at: float
    session: AnonymousSession | None = None
    owner: str | None = None

    async def live(self, server: TokenServer, store: MemoryStore) -> None:
        """Get a token, and keep the session open."""
        with trio.CancelScope(deadline=self.dies_at):
            async with _open_session(server, store) as (self.session, self.owner):
                await trio.sleep_until(self.asks_at)
                await self.session.get_access_token()
                await trio.sleep_forever()

    def look(self) -> tuple[str, float]:
        """Return what it is doing, and when the request for its token was sent."""
        now = trio.current_time()
        if self.session is None or not self.asks_at <= now < self.dies_at:
            return "", 0.0
        token = self.session.token_info
        return ("waits", 0.0) if token is None else (self.session.state.name, token.sent_at)


@asynccontextmanager
async def _open_session(
    server: TokenServer, store: MemoryStore
) -> AsyncIterator[tuple[AnonymousSession, str]]:
    config = server.config()
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
        SharedTokenManager(TokenManager(config, http_client=client), store) as manager,
        AnonymousSession(config, manager) as session,
    ):
        yield session, manager.owner


Seen = dict[str, tuple[str, float]]
"""What was seen in each row, and when the request for that token was sent."""


@virtual_time
async def _play(scene: Scene) -> list[tuple[float, Seen]]:
    """Return what was seen, and when."""
    server = TokenServer(FaultPlan(token_then=Fault(delay=LATENCY)), lifetime=LIFETIME)
    shared, name, seen = MemoryStore(), name_of(server.config()), []
    processes = [Process(*facts) for facts in zip("ABC", scene.asks_at, scene.dies_at, strict=True)]
    async with trio.open_nursery() as nursery:
        for process in processes:
            store = shared if process.dies_at == NEVER else KilledStore(shared)
            nursery.start_soon(process.live, server, store)
        for stretch in scene.stretches:
            for at in stretch.moments():
                await trio.sleep_until(at)
                await trio.testing.wait_all_tasks_blocked()
                look = await shared.look(name)
                rows: Seen = {process.name: process.look() for process in processes}
                sent_at = 0.0 if look.token is None else round(at - look.token.age, 1)
                rows["store"] = ("" if look.token is None else "FRESH", sent_at)
                holders = [each.name for each in processes if each.owner == look.owner]
                rows["lease"] = (f"of {holders[0]}" if look.owner else "", 0.0)
                seen.append((at, rows))
        nursery.cancel_scope.cancel()
    return seen


def draw() -> str:
    """Return the picture."""
    state = random.getstate()
    # Random pauses of the library would change the picture each time.
    random.seed(0)
    try:
        played = [_play(scene) for scene in SCENES]
    finally:
        random.setstate(state)
    body, y = [], 28.0
    for scene, seen in zip(SCENES, played, strict=True):
        body += [text(MARGIN, y, scene.heading, "head")]
        body += _panel(scene, seen, y + 12)
        y += 12 + ROW * 5 + 56
    y -= 12
    body += [
        dot(MARGIN + 5, y - 5),
        line("wait", MARGIN + 5, y - 5, MARGIN + 22, y - 5),
        text(MARGIN + 30, y, "waits", "faint"),
        bar("fresh", MARGIN + 90, MARGIN + 106, y - 11, 12),
        text(MARGIN + 112, y, "FRESH", "faint"),
        bar("stale", MARGIN + 180, MARGIN + 196, y - 11, 12),
        text(MARGIN + 202, y, "STALE", "faint"),
        cross(MARGIN + 274, y - 5),
        text(MARGIN + 284, y, "killed", "faint"),
    ]
    return card("A fleet", " ".join(map(_tell, SCENES, played)), y + 18, body)


def _panel(scene: Scene, seen: list[tuple[float, Seen]], y: float) -> Iterator[str]:
    left, width = GUTTER, WIDTH - MARGIN - GUTTER - GAP * (len(scene.stretches) - 1)
    bottom = y + ROW * 5
    for number, row in enumerate(seen[0][1]):
        yield text(MARGIN, y + ROW * number + 16, row)
    for stretch in scene.stretches:
        right = left + width * stretch.share
        scale = (right - left) / (stretch.end - stretch.start)
        for at in stretch.ticks:
            x = left + (at - stretch.start) * scale
            yield line("guide", x, y, x, bottom + 4)
            is_last = x > WIDTH - 3 * MARGIN
            yield text(
                right if is_last else x,
                bottom + 18,
                spoken(at),
                "faint",
                "end" if is_last else "middle",
            )
        for number, row in enumerate(seen[0][1]):
            for (what, sent_at), since, until in _stretches(seen, row, stretch):
                x1, x2 = (left + (at - stretch.start) * scale for at in (since, until))
                yield from _mark(what, _number(seen, sent_at), x1, x2, y + ROW * number)
        for number, at in enumerate(scene.dies_at):
            if at != NEVER:
                yield cross(left + (at - stretch.start) * scale, y + ROW * number + 12)
        left = right + GAP


def _stretches(
    seen: list[tuple[float, Seen]], row: str, stretch: Stretch
) -> Iterator[tuple[tuple[str, float], float, float]]:
    """Yield what was seen in a row, with its start and end."""
    there = [(at, rows[row]) for at, rows in seen if stretch.start <= at <= stretch.end]
    for what, group in groupby(there, lambda look: look[1]):
        times = [at for at, _ in group]
        yield what, times[0], min(times[-1] + STEP, stretch.end)


def _number(seen: list[tuple[float, Seen]], sent_at: float) -> int:
    """Return the number of the token whose request was sent at this time."""
    known = sorted({sent for _, rows in seen for what, sent in rows.values() if what.isupper()})
    return known.index(sent_at) + 1 if sent_at in known else 0


def _mark(what: str, number: int, left: float, right: float, y: float) -> Iterable[str]:
    if what == "waits":
        yield line("wait", left, y + 12, right, y + 12)
        yield dot(left, y + 12)
    elif what.startswith("of "):
        yield bar("gone", left + 0.5, right - 0.5, y + 3, ROW - 7)
        if right - left > 40:
            yield text((left + right) / 2, y + 16, what, "", "middle")
    elif what:
        yield bar(what.lower(), left + 0.5, right - 0.5, y + 2, ROW - 5)
        words = f"token {number}" if right - left > 60 else str(number)
        if right - left > 12:
            yield text((left + right) / 2, y + 16, words, "on", "middle")


def _tell(scene: Scene, seen: list[tuple[float, Seen]]) -> str:
    told = []
    for row in seen[0][1]:
        for stretch in scene.stretches:
            for (what, sent_at), since, _ in _stretches(seen, row, stretch):
                if what.isupper() and since > stretch.start:
                    told.append(f"{row} has token {_number(seen, sent_at)} at {spoken(since)}")
    return f"{scene.heading}: {'; '.join(told)}."


if __name__ == "__main__":
    write(draw, __file__)
