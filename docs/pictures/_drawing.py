"""Shared by all pictures: a card to draw on, its colours, and shapes.

A card has its own background, so it is readable on a light and on a dark page. Letters of 14 units
on a card of 480 units are 10 pixels high on a phone of 360 pixels, and 18 on a desktop.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WIDTH = 480
MARGIN = 16
STYLE = """
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif }
text { fill: #1f2328 }
.card { fill: #ffffff; stroke: #d1d9e0 }
.head { font-size: 15px; font-weight: 600 }
.name { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.faint { fill: #59636e }
.on { font-size: 13px; font-weight: 600; fill: #14181d }
.fresh { fill: #4ac26b }
.stale { fill: #e3b341 }
.expired { fill: #f0937a }
.gone { fill: none; stroke: #818b98; stroke-dasharray: 3 3 }
.guide { stroke: #d1d9e0 }
.axis { stroke: #818b98 }
.wait { stroke: #0969da; stroke-width: 3 }
.dot { fill: #0969da }
.bad { stroke: #d1242f; stroke-width: 2.5; fill: none }
.ours { fill: #0969da }
.other { fill: #afb8c1 }
.us { font-weight: 600 }
.blue, .green, .brown, .violet { fill: none; stroke-width: 2 }
.blue { stroke: #0969da }
.green { stroke: #1a7f37 }
.brown { stroke: #bc4c00 }
.violet { stroke: #8250df }
.point { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.card { fill: #0d1117; stroke: #3d444d }
.faint { fill: #9198a1 }
.on { fill: #14181d }
.fresh { fill: #3fb950 }
.stale { fill: #d29922 }
.expired { fill: #e5826a }
.guide { stroke: #3d444d }
.wait { stroke: #58a6ff }
.dot { fill: #58a6ff }
.bad { stroke: #ff7b72 }
.ours { fill: #58a6ff }
.other { fill: #59636e }
.blue { stroke: #58a6ff }
.green { stroke: #3fb950 }
.brown { stroke: #f0883e }
.violet { stroke: #bc8cff }
.point { fill: #0d1117 }
}
"""


def card(title: str, told: str, height: float, body: Iterable[str]) -> str:
    """Return a whole picture.

    Args:
        title: the title.
        told: the description for screen readers.
        height: the height of the card; its width is 480.
        body: the drawn elements.
    """
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH * 1.25:g}" '
            f'height="{height * 1.25:g}" viewBox="0 0 {WIDTH} {height:g}">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(told)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" '
            'rx="8"/>',
            *body,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, look: str = "", anchor: str = "start") -> str:
    """Return words, at the left, in the middle, or at the right of a place."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{look}" {place}>{escape(words)}</text>'


def line(look: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a straight line."""
    return f'<line class="{look}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def bar(look: str, x1: float, x2: float, y: float, height: float) -> str:
    """Return a filled stretch."""
    return (
        f'<rect class="{look}" x="{x1:.1f}" y="{y:.1f}" width="{x2 - x1:.1f}" height="{height:g}"/>'
    )


def dot(x: float, y: float) -> str:
    """Return a point in time."""
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'


def cross(x: float, y: float) -> str:
    """Return the sign of a failure."""
    return f'<path class="bad" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def spoken(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds, without those that are 0."""
    whole, rest = divmod(seconds, 1)
    hours, minutes = divmod(int(whole) // 60, 60)
    parts = (hours, "h"), (minutes, "min"), (whole % 60 + round(rest, 3), "s")
    return " ".join(f"{number:g} {unit}" for number, unit in parts if number) or "0 s"


def write(draw: Callable[[], str], program: str) -> None:
    """Write the picture that a program draws, next to the program."""
    # A session in a picture fails on purpose, so its log would only confuse.
    logging.getLogger("trio_anon_session").addHandler(logging.NullHandler())
    path = Path(program).with_suffix(".svg")
    path.write_text(draw())
    print(path)
