"""The SVG drawing of a picture."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from .picture import lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .picture import Kind, Picture, Row
    from .record import Story

# In pixels: a cell, a row, and the margin around the whole.
CELL = 8
LINE = 20
EDGE = 16
# Plain colours, because many SVG programs do not support CSS variables.
# Letters of 13 pixels are slightly narrower than a cell.
STYLE = """
.tas text { font-size: 13px; fill: #24292f }
.tas text { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
.tas .paper { fill: #ffffff }
.tas text.faint { fill: #57606a }
.tas text.alarm { fill: #b3141d; font-weight: bold }
.tas .axis { stroke: #8c959f; stroke-width: 1 }
.tas .guide { stroke: #d8dee4; stroke-width: 1 }
.tas .breach { stroke: #d1242f; stroke-width: 2 }
.tas .pointer { fill: #d1242f }
.tas .broken { fill: #ffe2e0 }
.tas .fresh { fill: #2da44e }
.tas .stale { fill: #d9a514 }
.tas .expired { fill: #e07a5f }
.tas .coming, .tas .forgotten, .tas .rest { stroke: #8c959f; stroke-width: 2; fill: none }
.tas .coming { stroke-dasharray: 2 3 }
.tas .forgotten { stroke-dasharray: 6 4 }
.tas .dead { stroke: #b3141d; stroke-width: 6; stroke-dasharray: 2 4 }
.tas .rest { stroke-dasharray: 1 5; stroke-width: 4 }
.tas .line { stroke: #0969da; stroke-width: 2; fill: none }
.tas .good { fill: #0969da }
.tas .open { fill: #ffffff; stroke: #0969da; stroke-width: 2 }
.tas .solid { fill: #24292f }
.tas .wall { stroke: #24292f; stroke-width: 3 }
.tas .bad { stroke: #b3141d; stroke-width: 2.5; fill: none }
@media (prefers-color-scheme: dark) {
.tas text { fill: #e6edf3 }
.tas .paper { fill: #0d1117 }
.tas text.faint { fill: #9198a1 }
.tas text.alarm { fill: #ff8f87 }
.tas .guide { stroke: #30363d }
.tas .breach { stroke: #ff6a60 }
.tas .pointer { fill: #ff6a60 }
.tas .broken { fill: #4a1f20 }
.tas .fresh { fill: #2ea043 }
.tas .stale { fill: #c69026 }
.tas .expired { fill: #d4694f }
.tas .line { stroke: #58a6ff }
.tas .good { fill: #58a6ff }
.tas .open { fill: #0d1117; stroke: #58a6ff }
.tas .solid { fill: #e6edf3 }
.tas .wall { stroke: #e6edf3 }
.tas .bad, .tas .dead { stroke: #ff8f87 }
}
"""


def draw_svg(story: Story, *, width: int = 960) -> str:
    """Return the picture of a timeline as self-contained SVG for light and dark pages.

    Args:
        story: the events.
        width: width in pixels; a picture narrower than 40 characters is scaled down.
    """
    picture = lay_out(story, cells=(width - 2 * EDGE) // CELL)
    heading = picture.heading_lines
    top = EDGE + LINE * len(heading)
    axis = top + LINE * (1 + max((tick.level for tick in picture.ticks), default=0)) + 12
    tops = list(_row_tops(picture, axis + 10))
    bottom = (tops[-1] + LINE if tops else axis + 10) + 4
    body = [
        *_heading(picture, heading),
        *_broken_rows(picture, tops),
        *_axis(picture, axis, bottom),
        *_rows(picture, tops),
        *_breach(picture, axis, bottom),
        *_signs_on_breach(picture, tops),
    ]
    below, height = _below(picture, bottom + (LINE if picture.breach is not None else 0))
    return "\n".join(_document(picture, [*body, *below], width, height))


def _document(picture: Picture, body: list[str], width: int, height: int) -> Iterator[str]:
    cells = picture.width * CELL + 2 * EDGE
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tas" role="img" width="{width}" '
        f'height="{height * width // cells}" viewBox="0 0 {cells} {height}">'
    )
    yield f"<title>{escape(picture.heading)}</title>"
    yield f"<desc>{escape('; '.join(row.told for row in picture.rows))}</desc>"
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="paper" width="{cells}" height="{height}"/>'
    yield from body
    yield "</svg>"


def _x(picture: Picture, column: float) -> float:
    """Return the left edge of a cell."""
    return EDGE + (picture.gutter + column) * CELL


def _middle(picture: Picture, column: float) -> float:
    return _x(picture, column + 0.5)


def _text(x: float, y: float, text: str, look: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{look}" xml:space="preserve">{escape(text)}</text>'


def _stroke(look: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{look}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _heading(picture: Picture, lines: list[str]) -> Iterator[str]:
    look = "" if picture.breach is None else "alarm"
    for number, line in enumerate(lines):
        yield _text(EDGE, EDGE + 14 + number * LINE, line, look)


def _row_tops(picture: Picture, top: int) -> Iterator[int]:
    section = None
    for row in picture.rows:
        if section not in (None, row.section):
            top += LINE // 2
        section = row.section
        yield top
        top += LINE


def _broken_rows(picture: Picture, tops: list[int]) -> Iterator[str]:
    for row, top in zip(picture.rows, tops, strict=True):
        if row.broken:
            wide = picture.width * CELL
            yield f'<rect class="broken" x="{EDGE}" y="{top}" width="{wide}" height="{LINE}"/>'


def _axis(picture: Picture, y: int, bottom: int) -> Iterator[str]:
    yield _text(EDGE + 2 * CELL, y, "seconds", "faint")
    for tick in picture.ticks:
        x = _middle(picture, tick.column)
        label = y - 11 - tick.level * LINE
        yield _stroke("guide", x, label + 2, x, bottom)
        yield _text(_x(picture, tick.start), label, tick.text)
    first, last = picture.axis.columns[0], picture.axis.columns[-1]
    yield _stroke("axis", _middle(picture, first), y, _middle(picture, last), y)
    if picture.cut:
        yield _sign("earlier", _middle(picture, 0), y - 4)


def _breach(picture: Picture, axis: int, bottom: int) -> Iterator[str]:
    if picture.breach is not None:
        x = _middle(picture, picture.breach)
        yield _stroke("breach", x, axis, x, bottom)
        yield f'<path class="pointer" d="M{x:g} {axis} l-6 -8 h12 z M{x:g} {bottom} l-6 9 h12 z"/>'
        words = _x(picture, picture.pointer.column)
        yield _text(words, bottom + 12, picture.pointer.text, "alarm")


def _signs_on_breach(picture: Picture, tops: list[int]) -> Iterator[str]:
    """Draw the symbols under the line of the breach again, on top of it."""
    for row, top in zip(picture.rows, tops, strict=True):
        for sign in row.signs:
            if sign.column == picture.breach:
                yield _sign(sign.kind, _middle(picture, sign.column), top + LINE / 2)


def _rows(picture: Picture, tops: list[int]) -> Iterator[str]:
    for row, top in zip(picture.rows, tops, strict=True):
        yield f"<g aria-label={quoteattr(row.label)}><title>{escape(row.told)}</title>"
        yield from _row(picture, row, top)
        yield "</g>"


def _row(picture: Picture, row: Row, top: int) -> Iterator[str]:
    base, y = top + 14, top + LINE / 2
    if row.broken:
        yield _text(EDGE, base, "▶", "alarm")
    yield _text(EDGE + 2 * CELL, base, row.label, "alarm" if row.broken else "")
    for span in row.spans:
        yield _span(span.kind, _middle(picture, span.start), _middle(picture, span.end), y)
    for sign in row.signs:
        yield _sign(sign.kind, _middle(picture, sign.column), y)
    yield _text(_x(picture, row.note.column), base, row.note.text)


_BARS = ("fresh", "stale", "expired")
_LINES = ("asking", "held")


def _span(kind: Kind, start: float, end: float, y: float) -> str:
    if kind in _BARS:
        size = f'width="{end - start:g}" height="12"'
        return f'<rect class="{kind}" x="{start:g}" y="{y - 6:g}" {size}/>'
    return _stroke("line" if kind in _LINES else kind, start, y, end, y)


def _sign(kind: Kind, x: float, y: float) -> str:
    shapes: dict[Kind, str] = {
        "sent": f'<path class="line" d="M{x:g} {y - 5:g} v10"/>',
        "arrived": f'<path class="line" d="M{x:g} {y - 5:g} v10"/>',
        "failed": _cross(x, y),
        "dropped": _cross(x, y),
        "asked": f'<circle class="good" cx="{x:g}" cy="{y:g}" r="3"/>',
        "served": f'<circle class="good" cx="{x:g}" cy="{y:g}" r="5"/>',
        "nothing": f'<circle class="open" cx="{x:g}" cy="{y:g}" r="4"/>',
        "closed": f'<rect class="solid" x="{x - 4:g}" y="{y - 4:g}" width="8" height="8"/>',
        "refused": f'<path class="wall" d="M{x:g} {y - 8:g} v16"/>',
        "happened": f'<path class="solid" d="M{x:g} {y - 6:g} l5 6 l-5 6 l-5 -6 z"/>',
        "goes on": f'<path class="solid" d="M{x:g} {y - 5:g} l7 5 l-7 5 z"/>',
        "earlier": _text(x - 1.5 * CELL, y + 4, "…"),
    }
    return shapes[kind]


def _cross(x: float, y: float) -> str:
    return f'<path class="bad" d="M{x - 5:g} {y - 5:g} l10 10 m0 -10 l-10 10"/>'


def _below(picture: Picture, top: int) -> tuple[list[str], int]:
    """Return the drawing below the rows, and the height of the picture."""
    drawn = []
    for line in textwrap.wrap(picture.remark, picture.width):
        drawn.append(_text(EDGE, top + LINE, line, "faint"))
        top += LINE
    top += LINE
    cell = 0
    for kind, words in picture.legend:
        if cell + len(words) + 4 > picture.width:
            top, cell = top + LINE, 0
        drawn += _legend_entry(kind, words, EDGE + cell * CELL, top + LINE / 2)
        cell += len(words) + 6
    drawn.append(_text(EDGE, top + 2 * LINE - 6, "gaps are not to scale", "faint"))
    return drawn, top + 2 * LINE + EDGE - 6


def _legend_entry(kind: Kind, words: str, x: float, y: float) -> Iterator[str]:
    spans = (*_BARS, *_LINES, "coming", "dead", "forgotten", "rest")
    if kind in spans:
        yield _span(kind, x, x + 2.5 * CELL, y)
    else:
        yield _sign(kind, x + 1.5 * CELL, y)
    yield _text(x + 3 * CELL, y + 4, words, "faint")
