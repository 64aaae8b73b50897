"""How a cost grows with the number of callers, sessions or refreshes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.measure import Unit
    from benchmarks.results import Results


@attrs.frozen
class Cost:
    """A cost that grows with a number, and the scene that measures it.

    Attributes:
        name: the name of the cost.
        number: what the number counts.
        scene: the scene that measures it, once for each number.
        figure: the figure in that scene.
        is_each: whether the figure is the cost of one item, and not of all.
    """

    name: str
    number: str
    scene: str
    figure: str
    is_each: bool = False


COSTS = (
    Cost("release", "callers", "release", "the release"),
    Cost("memory", "callers", "release", "the memory of each", is_each=True),
    Cost("memory", "sessions", "sessions", "the memory of each", is_each=True),
    Cost("start", "sessions", "sessions", "the start of each", is_each=True),
    Cost("close", "sessions", "sessions", "the close of each", is_each=True),
    Cost("time", "refreshes", "refreshes", "a refresh", is_each=True),
)


@attrs.frozen
class Line:
    """The line that fits the measured costs: ``start + each * number``.

    It minimizes the sum of the squares of the relative errors, so that a thousand counts as much
    as a hundred thousand.

    Attributes:
        start: the fixed cost.
        each: the cost of one more.
        miss: the largest distance of a point from the line, as a share of the point.
        exponent: the exponent of the power of the number that fits the points; 1 is proportional.
    """

    start: float
    each: float
    miss: float
    exponent: float

    @classmethod
    def through(cls, points: Mapping[int, float]) -> Self:
        """Return the line for these costs by their number; both are above 0, and two or more."""
        start, each = _least_squares(points, weigh=lambda cost: 1 / cost**2)
        miss = max(abs(start + each * number - cost) / cost for number, cost in points.items())
        logs = {math.log(number): math.log(cost) for number, cost in points.items()}
        _, exponent = _least_squares(logs, weigh=lambda _: 1.0)
        return cls(start, each, miss, exponent)

    def at(self, number: float) -> float:
        """Return the cost of this number."""
        return self.start + self.each * number


def _least_squares(
    points: Mapping[float, float] | Mapping[int, float], weigh: Callable[[float], float]
) -> tuple[float, float]:
    """Return where the line begins that fits these best, and its slope."""
    weights = [weigh(y) for y in points.values()]
    total = sum(weights)
    x_mean = sum(w * x for w, x in zip(weights, points, strict=True)) / total
    y_mean = sum(w * y for w, y in zip(weights, points.values(), strict=True)) / total
    slope = sum(
        w * (x - x_mean) * (y - y_mean) for w, (x, y) in zip(weights, points.items(), strict=True)
    ) / sum(w * (x - x_mean) ** 2 for w, x in zip(weights, points, strict=True))
    return y_mean - slope * x_mean, slope


@attrs.frozen
class Curve:
    """A measured cost.

    Attributes:
        cost: the cost.
        unit: the unit of the points.
        points: the cost of each number.
        line: the line that fits the points; None for too few points.
    """

    cost: Cost
    unit: Unit
    points: Mapping[int, float]
    line: Line | None


def curves(results: Results, costs: Sequence[Cost] = COSTS) -> list[Curve]:
    """Return how the measured costs of this library grow."""
    found = []
    for cost in costs:
        there = [each for each in results.of(cost.scene) if each.figure == cost.figure]
        points = {
            each.size: each.ours.amount.median * (each.size if cost.is_each else 1)
            for each in there
            if each.size is not None and each.ours is not None and each.ours.amount.median > 0
        }
        if points:
            line = Line.through(points) if len(points) > 1 else None
            found.append(Curve(cost, there[0].unit, points, line))
    return found
