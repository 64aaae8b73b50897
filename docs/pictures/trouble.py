"""Draws ``trouble.svg``: how often a token endpoint is asked when something goes wrong.

    python docs/pictures/trouble.py

from what ``benchmarks/results.json`` has of four scenes; of those with crowds of several
sizes, the smallest. This library is drawn with its defaults, and not as it is set up to
compare otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _drawing import card, write
from _scales import Bar, Panel, draw_panels, height

from benchmarks import report, results

if TYPE_CHECKING:
    from benchmarks.measure import Comparison

HEADINGS = {
    "herd": "A cold herd",
    "down": "An endpoint that is down",
    "cancelled": "The first caller is cancelled",
    "hour": "An hour of short tokens",
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
    told = f"How often an endpoint is asked. {' '.join(map(str, panels))}"
    return card("Grants in trouble", told, height(panels), draw_panels(panels, ""))


def _panel(heading: str, comparison: Comparison) -> Panel:
    unit = comparison.unit
    crowd = "" if comparison.size is None else f", {comparison.size:,} callers"
    bars = [
        Bar(row.subject, row.amount.median, report.amount(row.amount.median, unit), row.is_ours)
        for row in sorted(comparison.rows, key=lambda row: row.amount.median)
        if row.amount.median > 0 and (row is comparison.ours or not row.is_ours)
    ]
    return Panel(f"{heading}{crowd}: {unit}", bars)


if __name__ == "__main__":
    write(draw, __file__)
