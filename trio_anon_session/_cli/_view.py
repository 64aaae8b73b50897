"""A session on the terminal: a live panel, or plain lines."""

from __future__ import annotations

import io
import math
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .._events import Granted, RefreshFailed
from .._token import TokenState
from ._output import escaped, say
from ._wording import counted, describe, failure_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .._events import Event, SessionStatistics
    from .._session import AnonymousSession
    from ._fleet import Fleet

BAR_WIDTH = 56
_LABELS_WIDTH = 24
_EVENTS_SHOWN = 10
_COLOURS = {
    TokenState.EMPTY: "magenta",
    TokenState.FRESH: "green",
    TokenState.STALE: "yellow",
    TokenState.EXPIRED: "red",
}


def age_bar(session: AnonymousSession, now: float, width: int = BAR_WIDTH) -> str:
    """Return the age of the session's token as a bar; S and E mark STALE and EXPIRED."""
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
class View:
    """The view of a session.

    Attributes:
        session: the session; set it before you call other methods.
        began_at: start of the view, on Trio's clock.
        seconds: duration in seconds; None until interrupted.
        every: seconds between two plain lines if nothing happens.
        shows_trouble: whether the panel has a row for the last failure and its advice.
        requests: returns the numbers of requests by result.
        fleet: the state of the store, if the token is shared.
        events: the texts of the last events.
    """

    began_at: float
    seconds: float | None = None
    every: float = 1.0
    shows_trouble: bool = False
    requests: Callable[[], Mapping[str, int]] = dict
    fleet: Fleet | None = None
    events: deque[str] = attrs.field(factory=lambda: deque(maxlen=_EVENTS_SHOWN))
    _session: AnonymousSession | None = None
    _trouble: str = ""
    # Events that are not printed yet. The observer does not print them itself, because the
    # session would catch the BrokenPipeError of a closed output.
    _news: deque[str] = attrs.field(factory=deque)
    _is_news: trio.Event = attrs.field(factory=trio.Event)

    @property
    def session(self) -> AnonymousSession:
        """The session."""
        assert self._session is not None
        return self._session

    @session.setter
    def session(self, session: AnonymousSession) -> None:
        self._session = session

    def say(self, words: str) -> None:
        """Show a text with the current time."""
        line = escaped(f"{trio.current_time() - self.began_at:5.1f} s  {words}")
        self.events.append(line)
        self._news.append(line)
        self._is_news.set()

    def observe(self, event: Event) -> None:
        """Show an event of the session, unless it has no text."""
        match event:
            case Granted():
                self._trouble = ""
            case RefreshFailed():
                failure = escaped(failure_text(event))
                # Only the first of several equal failures ends with advice, so keep it.
                if not self._trouble.startswith(failure):
                    self._trouble = failure
        text = describe(event) if self.fleet is None else self.fleet.describe(event)
        if text is not None:
            self.say(text)

    def line(self) -> str:
        """Return the current state in one line."""
        now = trio.current_time()
        seen = self.session.statistics()
        figures = {
            **{name: f"{n}" for name, n in self.requests().items()},
            "waiting": f"{seen.getters_held}",
            **{name: f"{n}" for name, n in self.grants(seen).items()},
            "failures": f"{seen.failures}",
        }
        text = ", ".join(f"{name} {figure}" for name, figure in figures.items())
        line = (
            f"{now - self.began_at:5.1f} s  {seen.state.name:<7} "
            f"[{age_bar(self.session, now, 32)}]  {text}"
        )
        return line if self.fleet is None else f"{line}\n{'':<9}{self.fleet.line()}"

    def grants(self, seen: SessionStatistics) -> dict[str, int]:
        """Return the numbers of tokens, by source."""
        if self.fleet is None:
            return {"grants": seen.grants}
        taken_over = self.fleet.taken_over
        return {"grants": seen.grants - taken_over, "taken over": taken_over}

    def panel(
        self, width: int = BAR_WIDTH + _LABELS_WIDTH, events_shown: int = _EVENTS_SHOWN
    ) -> Panel:
        """Return the current state as a panel for a terminal of this width."""
        now = trio.current_time()
        seen = self.session.statistics()
        grid = Table.grid(padding=(0, 2))
        grid.add_row("state", Text(seen.state.name, style=f"bold {_COLOURS[seen.state]}"))
        bar_width = max(10, min(BAR_WIDTH, width - _LABELS_WIDTH))
        bar = Text(age_bar(self.session, now, bar_width), style=_COLOURS[seen.state])
        grid.add_row("token's age", bar)
        grid.add_row("", "S: stale, to be refreshed   E: expired, not used any more")
        grid.add_row("next refresh", _in_words(seen.next_refresh_in))
        if requests := self.requests():
            grid.add_row("requests", ", ".join(f"{n} {name}" for name, n in requests.items()))
        waiting = f"{seen.getters_held} waiting now, {seen.getters_held_total} in total"
        grid.add_row("callers", waiting)
        grid.add_row("token endpoint", counted(self.grants(seen) | {"failures": seen.failures}))
        for name, text in self.fleet.rows().items() if self.fleet is not None else ():
            grid.add_row(name, Text(text))
        if self.shows_trouble and self._trouble:
            grid.add_row("last failure", Text(self._trouble, style="red"))
        of = f" of {self.seconds:g}" if self.seconds is not None else ""
        title = f"trio_anon_session · {now - self.began_at:.1f}{of} s"
        first = max(0, len(self.events) - events_shown)
        events = Table.grid(padding=(0, 2, 0, 0))
        for event in list(self.events)[first:]:
            # Use two columns, so that a long text continues below its own beginning.
            time, _, words = event.partition(" s  ")
            events.add_row(Text(f"{time} s"), Text(words))
        return Panel(Group(grid, Text(), events), title=title)

    def panel_that_fits(self, console: Console) -> Panel:
        """Return a panel without the oldest events if the terminal has too few lines."""
        # An event may take several lines, so their number is not known before rendering.
        for count in range(len(self.events), 0, -1):
            panel = self.panel(console.width, count)
            if len(console.render_lines(panel)) <= console.height:
                return panel
        return self.panel(console.width, 0)

    async def show(self, console: Console) -> bool:
        """Show the session for `seconds`, and return whether a signal ended it earlier."""
        is_live = console.is_terminal and not console.is_dumb_terminal
        return await _until_interrupted(self._draw if is_live else self._print, console)

    async def _draw(self, console: Console) -> None:
        # rich's own refresh thread cannot read Trio's clock, so refresh from this task.
        with Live(console=console, auto_refresh=False) as live:
            try:
                while (left := self._left()) > 0:
                    live.update(self.panel_that_fits(console), refresh=True)
                    await trio.sleep(min(0.1, left))
            finally:
                # The final panel may scroll, so it shows all events.
                live.update(self.panel(console.width))

    async def _print(self, _console: Console) -> None:
        next_at = -math.inf
        while (left := self._left()) > 0:
            self._print_news()
            now = trio.current_time()
            if now >= next_at:
                say(self.line())
                next_at = now + self.every
            self._is_news = trio.Event()
            with trio.move_on_after(min(next_at - now, left)):
                await self._is_news.wait()
        self._print_news()

    def _print_news(self) -> None:
        while self._news:
            say(self._news.popleft())

    def _left(self) -> float:
        if self.seconds is None:
            return math.inf
        return self.began_at + self.seconds - trio.current_time()


def make_console() -> Console:
    """Return the console of standard output."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An encoding without the bar's characters prints question marks instead.
        sys.stdout.reconfigure(errors="replace")
    return Console()


def _in_words(seconds: float | None) -> str:
    if seconds is None:
        return "not planned"
    return f"in {seconds:.1f} s" if seconds > 0 else "now"


async def _until_interrupted(show: Callable[[Console], Awaitable[None]], console: Console) -> bool:
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal interrupted
                async for _ in signals:
                    interrupted = True
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            await show(console)
            nursery.cancel_scope.cancel()
    return interrupted
