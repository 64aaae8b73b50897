"""Draws ``speed.svg``: the cost of a call with a cached token, compared with others.

    python docs/pictures/speed.py

reads the calls of a single task from ``benchmarks/results.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _drawing import card, write
from _scales import Bar, Panel, draw_panels, height

from benchmarks import report, results

if TYPE_CHECKING:
    from benchmarks.measure import Comparison

HEADINGS = {"hit_sync": "Calls that do not wait", "hit_async": "Awaited calls on Trio"}


def draw(found: results.Results | None = None) -> str:
    """Return the picture."""
    there = results.read() if found is None else found
    panels = [
        _panel(heading, there.of(scene)[0])
        for scene, heading in HEADINGS.items()
        if there.of(scene)
    ]
    told = f"Multiples of the cost of a Trio checkpoint. {' '.join(map(str, panels))}"
    return card(
        "The cost of a call with a cached token", told, height(panels), draw_panels(panels, " ×")
    )


def _panel(heading: str, comparison: Comparison) -> Panel:
    rows = [(row, row.ratio.median) for row in comparison.rows if row.ratio is not None]
    bars = [
        Bar(row.subject, ratio, report.times(ratio), row.is_ours)
        for row, ratio in sorted(rows, key=lambda pair: pair[1])
    ]
    return Panel(heading, bars)


if __name__ == "__main__":
    write(draw, __file__)
