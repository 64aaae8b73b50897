"""Draws ``trouble.svg``: how many token requests an endpoint gets when something goes wrong.

    python docs/pictures/trouble.py

reads four scenes of ``benchmarks/results.json``. Of a scene with crowds of several sizes, it
draws the smallest. Of the rows of this library, it draws only the one with the default settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _drawing import card, write
from _scales import Bar, Panel, draw_panels, height

from benchmarks import report, results

if TYPE_CHECKING:
    from benchmarks.measure import Comparison

HEADINGS = {
    "herd": "No token yet",
    "down": "Endpoint down",
    "cancelled": "First caller cancelled",
    "hour": "One hour, lifetime 300 s",
}

COUNTED = ("grants", "requests")


def draw(found: results.Results | None = None) -> str:
    """Return the picture."""
    there = results.read() if found is None else found
    panels = [
        _panel(heading, comparison)
        for scene, heading in HEADINGS.items()
        for comparison in [each for each in there.of(scene) if each.unit in COUNTED][:1]
    ]
    told = f"How many token requests an endpoint gets. {' '.join(map(str, panels))}"
    return card("Token requests during failures", told, height(panels), draw_panels(panels, ""))


def _panel(heading: str, comparison: Comparison) -> Panel:
    unit = comparison.unit
    crowd = "" if comparison.size is None else f", {comparison.size:,} callers"
    bars = [
        Bar(row.subject, row.amount.median, report.amount(row.amount.median, unit), row.is_ours)
        for row in sorted(comparison.rows, key=lambda row: row.amount.median)
        if row.amount.median > 0 and (row is comparison.ours or not row.is_ours)
    ]
    return Panel(f"{heading}{crowd}: token requests", bars)


if __name__ == "__main__":
    write(draw, __file__)
