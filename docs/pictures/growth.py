"""Draws ``growth.svg``: the cost of many callers, sessions and refreshes, and the fitted lines.

    python docs/pictures/growth.py

reads ``benchmarks/results.json``. The lines come from ``benchmarks/growth.py``.
"""

from __future__ import annotations

import re
from itertools import cycle
from typing import TYPE_CHECKING

import attrs
from _drawing import MARGIN, WIDTH, card, line, text, write
from _scales import Scale

from benchmarks import growth, report, results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.growth import Curve
    from benchmarks.measure import Unit

HEADINGS: dict[Unit, str] = {"s": "Time", "B": "Memory"}
LOOKS = ("blue", "brown", "green", "violet")
LEFT, RIGHT = MARGIN + 60.0, WIDTH - MARGIN - 16.0
HIGH = 200.0
STEPS = 40
"""Pieces of a fitted line: on logarithmic scales, it is a curve where it starts above 0."""


def draw(found: results.Results | None = None) -> str:
    """Return the picture."""
    curves = growth.curves(results.read() if found is None else found)
    body: list[str] = []
    y = 12.0
    for unit, heading in HEADINGS.items():
        there = [curve for curve in curves if curve.unit == unit]
        if there:
            body += _panel(heading, there, y)
            y += _legend_height(there) + HIGH + 74
    told = " ".join(map(_tell, curves))
    return card(
        "The cost of many callers, sessions and refreshes", f"Costs by number. {told}", y, body
    )


@attrs.frozen
class _Axes:
    numbers: Scale
    costs: Scale

    @classmethod
    def around(cls, curves: Sequence[Curve], top: float) -> _Axes:
        costs = [cost for curve in curves for cost in curve.points.values()]
        numbers = [number for curve in curves for number in curve.points]
        return cls(Scale.over(numbers, LEFT, RIGHT, 0.1), Scale.over(costs, top + HIGH, top))

    def place(self, number: float, cost: float) -> tuple[float, float]:
        return self.numbers.at(number), self.costs.at(cost)


def _panel(heading: str, curves: Sequence[Curve], y: float) -> Iterator[str]:
    unit, top = curves[0].unit, y + 30 + _legend_height(curves)
    axes = _Axes.around(curves, top)
    yield text(MARGIN, y + 16, heading, "head")
    for power in axes.costs.powers():
        at = axes.costs.at(power)
        yield line("guide", LEFT, at, RIGHT, at)
        words = re.sub(r"\.0+ ", " ", report.amount(power, unit))
        yield text(LEFT - 8, at + 5, words, "faint", "end")
    for power in axes.numbers.powers():
        at = axes.numbers.at(power)
        yield line("guide", at, top, at, top + HIGH)
        yield text(at, top + HIGH + 18, f"{power:,g}", "faint", "middle")
    for place, (curve, look) in enumerate(zip(curves, cycle(LOOKS), strict=False)):
        x, label = MARGIN + 6 + 226 * (place % 2), y + 36 + 22 * (place // 2)
        yield _mark(look, x, label)
        yield text(x + 12, label + 5, f"{curve.cost.number}: {curve.cost.name}")
        yield from _curve(curve, look, axes)


def _legend_height(curves: Sequence[Curve]) -> float:
    return 22.0 * ((len(curves) + 1) // 2)


def _curve(curve: Curve, look: str, axes: _Axes) -> Iterator[str]:
    first, last = min(curve.points), max(curve.points)
    if curve.line is not None:
        numbers = [first * (last / first) ** (step / STEPS) for step in range(STEPS + 1)]
        places = (
            axes.place(number, curve.line.at(number))
            for number in numbers
            if curve.line.at(number) > 0
        )
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="{look}" points="{path}"/>'
    for number, cost in curve.points.items():
        yield _mark(look, *axes.place(number, cost))


def _mark(look: str, x: float, y: float) -> str:
    return f'<circle class="{look} point" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _tell(curve: Curve) -> str:
    points = ", ".join(
        f"{number:,} {report.amount(cost, curve.unit)}" for number, cost in curve.points.items()
    )
    return f"{curve.cost.number}, {curve.cost.name}: {points}."


if __name__ == "__main__":
    write(draw, __file__)
