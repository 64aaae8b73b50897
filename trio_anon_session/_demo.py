"""The demonstration: a session under load, with trouble, live on the terminal."""

from __future__ import annotations

import io
import math
import random
import sys
from collections import deque
from typing import TYPE_CHECKING

import attrs
import httpx
import trio
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ._events import Granted, Invalidated, RefreshFailed, StateChanged
from ._session import AnonymousSession
from ._token import TokenState
from .testing import Fault, FaultPlan, TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._events import Event

BAR_WIDTH = 56
_COLOURS = {
    TokenState.EMPTY: "magenta",
    TokenState.FRESH: "green",
    TokenState.STALE: "yellow",
    TokenState.EXPIRED: "red",
}


def age_bar(session: AnonymousSession, now: float, width: int = BAR_WIDTH) -> str:
    """Return the age of the session's token as a bar, with its two boundaries."""
    token = session.token_info
    if token is None:
        return "·" * width

    def place(at: float) -> int:
        return min(width - 1, math.floor((at - token.sent_at) / token.lifetime * width))

    age = place(now) + 1
    cells = ["█" if n < age else "·" for n in range(width)]
    cells[place(token.stale_at)] = "S"
    cells[place(token.expires_at)] = "E"
    return "".join(cells)


@attrs.define
class _Scene:
    """What is shown: the session, the server's books, and what the workers met."""

    session: AnonymousSession
    server: TokenServer
    began_at: float
    say: Callable[[str], None]
    served: int = 0
    failed: int = 0
    refused: int = 0

    @property
    def refused_in_time(self) -> int:
        """Requests with a token that was dead without having been revoked."""
        return sum(self.server.verdicts[v] for v in ("expired", "unknown", "missing", "malformed"))

    def line(self) -> str:
        """Return the state of affairs in one line."""
        now = trio.current_time()
        seen = self.session.statistics()
        return (
            f"{now - self.began_at:5.1f} s  {seen.state.name:<7} "
            f"[{age_bar(self.session, now, 32)}]  served {self.served}, "
            f"held {seen.getters_held}, grants {seen.grants}, "
            f"failures survived {seen.failures}"
        )

    def panel(self, events: deque[str], seconds: float) -> Panel:
        """Return the state of affairs as a panel."""
        now = trio.current_time()
        seen = self.session.statistics()
        grid = Table.grid(padding=(0, 2))
        grid.add_row("state", Text(seen.state.name, style=f"bold {_COLOURS[seen.state]}"))
        bar = Text(age_bar(self.session, now), style=_COLOURS[seen.state])
        grid.add_row("token's age", bar)
        grid.add_row("", "S: stale, a refresh is due   E: no longer handed out")
        grid.add_row("requests", f"{self.served} served, {self.failed} failed")
        held = f"{seen.getters_held} held now, {seen.getters_held_total} in all"
        grid.add_row("getters", held)
        grants = f"{seen.grants} grants, {seen.failures} failures survived"
        grid.add_row("token endpoint", grants)
        title = f"trio_anon_session · {now - self.began_at:.1f} of {seconds:g} s"
        lines = [Text(event, no_wrap=True, overflow="ellipsis") for event in events]
        return Panel(Group(grid, Text(), *lines), title=title)


def _tell(event: Event) -> str | None:
    """Return an event in words, or None if it is no news."""
    match event:
        case Granted():
            return (
                f"+ token {event.fingerprint} after {event.latency:.2f} s, "
                f"good for {event.expires_in:.1f} s"
            )
        case RefreshFailed():
            return f"! attempt failed, next in {event.retry_in:.2f} s: {event.error}"
        case Invalidated():
            return f"- token {event.fingerprint} was reported dead, and dropped"
        case StateChanged(new=TokenState.EXPIRED):
            return "- the token has expired; getters are held"
    return None


async def run_demo(seconds: float, workers: int, lifetime: float) -> bool:
    """Run the demonstration, and return whether every promise was kept.

    Args:
        seconds: how long.
        workers: how many tasks call the protected resource.
        lifetime: seconds that each token lives.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where the bar's blocks cannot be printed, question marks stand for them.
        sys.stdout.reconfigure(errors="replace")
    console = Console()
    events: deque[str] = deque(maxlen=10)
    began_at = trio.current_time()

    def say(line: str) -> None:
        text = f"{trio.current_time() - began_at:5.1f} s  {line}"
        events.append(text)
        if not console.is_terminal:
            print(text, flush=True)

    def observe(event: Event) -> None:
        told = _tell(event)
        if told is not None:
            say(told)

    server = TokenServer(lifetime=lifetime, resource_latency=0.01, keep=1000)
    async with open_loopback(server) as url:
        config = server.config(
            url,
            stale_buffer=lifetime / 2,
            expired_buffer=lifetime / 8,
            min_refresh_interval=0.1,
            retry_interval=0.2,
            max_retry_interval=1.0,
            # However long the failing spell is, the getters are to outlast it.
            max_retries=10_000,
        )
        async with AnonymousSession(config, observers=[observe]) as session:
            scene = _Scene(session, server, began_at, say)
            say(f"{workers} workers, tokens of {lifetime:g} s, server at {url}")
            limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
            async with (
                httpx.AsyncClient(base_url=url, auth=session.auth(), limits=limits) as client,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_cause_trouble, scene, seconds)
                for number in range(workers):
                    nursery.start_soon(_work, scene, client, number)
                if console.is_terminal:
                    await _draw(scene, console, events, seconds)
                else:
                    await _print_lines(scene, seconds)
                nursery.cancel_scope.cancel()
            return _sum_up(scene)


async def _draw(scene: _Scene, console: Console, events: deque[str], seconds: float) -> None:
    # Refreshed from here, and not by rich's own thread, where Trio's clock cannot be read.
    with Live(console=console, auto_refresh=False) as live:
        while (left := scene.began_at + seconds - trio.current_time()) > 0:
            live.update(scene.panel(events, seconds), refresh=True)
            await trio.sleep(min(0.1, left))


async def _print_lines(scene: _Scene, seconds: float) -> None:
    while (left := scene.began_at + seconds - trio.current_time()) > 0:
        print(scene.line(), flush=True)
        await trio.sleep(min(1.0, left))


async def _work(scene: _Scene, client: httpx.AsyncClient, number: int) -> None:
    while True:
        try:
            response = await client.get(f"/2.0/files/{number}")
        except httpx.HTTPError as error:
            scene.failed += 1
            scene.say(f"! a request failed: {type(error).__name__}: {error}")
        else:
            if response.status_code == 200:
                scene.served += 1
            else:
                scene.refused += 1
        await trio.sleep(random.uniform(0.05, 0.15))


async def _cause_trouble(scene: _Scene, seconds: float) -> None:
    server = scene.server
    await trio.sleep(seconds * 0.25)
    scene.say("~ the token endpoint becomes slow")
    server.faults = FaultPlan(token_then=Fault(delay=0.5))
    await trio.sleep(seconds * 0.2)
    scene.say("~ the token endpoint is down")
    server.faults = FaultPlan(
        token=[Fault.server_error(503), Fault.rate_limited("1"), Fault(cut="after_headers")],
        token_then=Fault.server_error(502),
    )
    await trio.sleep(seconds * 0.2)
    scene.say("~ the token endpoint is back")
    server.faults = FaultPlan()
    await trio.sleep(seconds * 0.1)
    scene.say("~ an administrator revokes the token")
    server.revoke_all()


def _sum_up(scene: _Scene) -> bool:
    seen = scene.session.statistics()
    met = scene.server.verdicts["revoked"]
    refused = scene.refused + scene.refused_in_time
    rows = {
        "requests served": f"{scene.served}",
        "refreshes": f"{max(0, seen.grants - 1)}",
        "faults survived": f"{seen.failures}",
        "getters held": f"{seen.getters_held_total}",
        "met the revocation": f"{met}, each sent again with a new token",
        "refused": f"{refused}",
        "failed": f"{scene.failed}",
    }
    print()
    for name, figure in rows.items():
        print(f"{name:<20}{figure}")
    is_good = scene.served > 0 and refused == 0 and scene.failed == 0
    print("every promise was kept" if is_good else "a promise was broken")
    sys.stdout.flush()
    return is_good
