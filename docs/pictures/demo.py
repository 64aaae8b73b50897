"""Draws ``trio-anon-session demo`` as an animated terminal.

    python docs/pictures/demo.py

writes ``demo.svg`` next to this file. It runs the command's own scene in virtual time with a server
in process, so that the picture is the same each time.
"""

from __future__ import annotations

import contextlib
import io
import logging
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import trio
import trio.testing
from rich.console import Console
from rich.segment import Segment

from trio_anon_session._cli._scene import make_server, open_scene
from trio_anon_session.testing._clocks import seeded_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

SECONDS = 15.0
WORKERS = 24
LIFETIME = 4.0
EVERY = 0.5
"""Seconds between two frames."""
HELD = 4.0
"""Seconds for which the last frame stays."""

COLUMNS = 80
ROWS = 20
"""Lines of the terminal; few, so that the panel fills most of them from the first frame on."""
CELL_WIDTH = 8.4
ROW_HEIGHT = 17
MARGIN = 14
COLOURS = {"magenta": "#d19ae6", "green": "#8fce6f", "yellow": "#e6c15c", "red": "#f07178"}

Row = tuple[tuple[str, str, bool], ...]
"""Pieces of a line, each with its text, its colour, and whether it is bold."""


def draw() -> str:
    """Return the picture, as SVG."""
    with seeded_schedule(0):
        frames = trio.run(_record, clock=trio.testing.MockClock(autojump_threshold=0))
    return _animate(frames)


async def _record() -> list[list[Row]]:
    server = make_server(LIFETIME)
    transport = httpx.ASGITransport(server)
    # The line above the panel has the command.
    console = Console(
        width=COLUMNS,
        height=ROWS - 1,
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
    )
    frames = []
    async with open_scene(
        server, "http://localhost", SECONDS, WORKERS, LIFETIME, transport
    ) as scene:
        for number in range(1, round(SECONDS / EVERY) + 1):
            await trio.sleep_until(scene.view.began_at + number * EVERY)
            frames.append(_rows(console, scene.view.panel_that_fits(console)))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            scene.sum_up()
        frames[-1] += [((line, "", False),) for line in printed.getvalue().splitlines()]
    return frames


def _rows(console: Console, shown: RenderableType) -> list[Row]:
    return [tuple(_pieces(line)) for line in console.render_lines(shown)]


def _pieces(line: Iterable[Segment]) -> Iterable[tuple[str, str, bool]]:
    for segment in Segment.simplify(line):
        style = segment.style
        colour = style.color.name if style is not None and style.color is not None else ""
        yield segment.text, colour, bool(style is not None and style.bold)


def _animate(frames: list[list[Row]]) -> str:
    command: Row = (("$ trio-anon-session demo", "", False),)
    # As on a terminal, the summary at the end scrolls the first lines away.
    frames = [[command, *frame, *[()] * ROWS][:ROWS] for frame in frames[:-1]] + [
        [command, *frames[-1]][-ROWS:]
    ]
    # Lines that are the same in all frames are drawn once.
    still = [n for n in range(ROWS) if len({frame[n] for frame in frames}) == 1]
    total = SECONDS + HELD
    share = 100 * EVERY / total
    width = round(COLUMNS * CELL_WIDTH) + 2 * MARGIN
    groups = [
        f'<g class="f" style="animation-delay:{number * EVERY:g}s">'
        f"{_texts(frame, set(range(ROWS)) - set(still))}</g>"
        for number, frame in enumerate(frames[:-1])
    ]
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {ROWS * ROW_HEIGHT + 2 * MARGIN}" \
role="img" aria-labelledby="t d" xml:space="preserve">
<title id="t">trio-anon-session demo</title>
<desc id="d">A terminal: the token's age grows as a bar, turns from fresh to stale, and starts \
again, while the token endpoint is slow, then down, then back; no request fails.</desc>
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; \
fill: #d8dee9; white-space: pre }}
.b {{ font-weight: bold }}
{" ".join(f".{name} {{ fill: {colour} }}" for name, colour in COLOURS.items())}
.f {{ visibility: hidden; animation: f {total:g}s step-end infinite }}
.l {{ animation: l {total:g}s step-end infinite }}
@keyframes f {{ 0% {{ visibility: visible }} {share:.3f}%, 100% {{ visibility: hidden }} }}
@keyframes l {{ 0% {{ visibility: hidden }} \
{100 * (SECONDS - EVERY) / total:.3f}%, 100% {{ visibility: visible }} }}
@media (prefers-reduced-motion: reduce) {{ .f, .l {{ animation: none }} }}
</style>
<rect width="100%" height="100%" rx="8" fill="#1f2430"/>
<g>{_texts(frames[0], set(still))}</g>
{chr(10).join(groups)}
<g class="l">{_texts(frames[-1], set(range(ROWS)) - set(still))}</g>
</svg>
"""


def _texts(frame: list[Row], wanted: set[int]) -> str:
    return "".join(_text(n, frame[n]) for n in sorted(wanted) if frame[n])


def _text(number: int, row: Row) -> str:
    length = len("".join(text for text, _, _ in row).rstrip())
    if not length:
        return ""
    spans = "".join(_span(*piece) for piece in row).rstrip()
    y = MARGIN + (number + 0.75) * ROW_HEIGHT
    # textLength gives each cell its place in any font.
    return f'<text x="{MARGIN}" y="{y:g}" textLength="{length * CELL_WIDTH:.1f}">{spans}</text>'


def _span(text: str, colour: str, is_bold: bool) -> str:
    classes = " ".join(filter(None, [colour, "b" if is_bold else ""]))
    return f'<tspan class="{classes}">{escape(text)}</tspan>' if classes else escape(text)


if __name__ == "__main__":
    # The picture already shows what the session logs.
    logging.disable()
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")
