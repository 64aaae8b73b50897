"""The line that is fitted to costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.growth import COSTS, Cost, Line, curves

from .made_up import make_comparison, make_results

NUMBERS = st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True)
COST = st.floats(1e-9, 1e6)


@given(NUMBERS, st.floats(0.0, 1e3), COST)
def test_an_exact_line_is_found(numbers: list[int], start: float, each: float) -> None:
    """Points on a line are fitted by that line, however far apart they are."""
    points = {number: start + each * number for number in numbers}
    line = Line.through(points)
    assert line.miss < 1e-6
    for number in numbers:
        assert line.at(number) == pytest.approx(points[number], rel=1e-6)


@given(NUMBERS, COST, st.floats(0.25, 3.0))
def test_an_exact_power_is_found(numbers: list[int], factor: float, power: float) -> None:
    """A cost that is a power of the number has that power as exponent."""
    line = Line.through({number: factor * number**power for number in numbers})
    assert line.exponent == pytest.approx(power, abs=1e-6)


@given(st.dictionaries(st.integers(1, 10**4), st.floats(1.0, 1e3), min_size=3, max_size=6))
def test_no_other_line_fits_better(points: dict[int, float]) -> None:
    """A line with another start or slope has a larger error."""

    def squares(start: float, each: float) -> float:
        return sum(((start + each * n - cost) / cost) ** 2 for n, cost in points.items())

    line = Line.through(points)
    best = squares(line.start, line.each)
    for moved in (0.99, 1.01):
        assert squares(line.start * moved, line.each) >= best * (1 - 1e-9) - 1e-9
        assert squares(line.start, line.each * moved) >= best * (1 - 1e-9) - 1e-9


def test_curves_are_of_the_total_cost() -> None:
    """Each curve has the cost of all; a cost of each is multiplied by the number."""
    scene = [
        comparison
        for size in (10, 1_000)
        for comparison in (
            make_comparison("the release", ours=size * 2.0, other=1.0, size=size),
            make_comparison("the memory of each", "B", ours=300.0, other=1.0, size=size),
        )
    ]
    total, memory = curves(make_results(release=scene))
    assert (total.cost.name, total.unit, total.points) == ("release", "s", {10: 20.0, 1000: 2000.0})
    assert (memory.cost.name, memory.unit) == ("memory", "B")
    assert memory.points == {10: 3000.0, 1000: 300_000.0}
    assert memory.line is not None
    assert memory.line.each == pytest.approx(300.0)


def test_one_number_makes_no_line() -> None:
    """A curve with one point has no line, and a point of 0 is left out."""
    scene = (
        make_comparison("the release", size=10),
        make_comparison("the release", ours=0.0, size=1),
    )
    [curve] = curves(make_results(release=scene))
    assert list(curve.points) == [10]
    assert curve.line is None


def test_a_scene_that_was_not_measured_has_no_curve() -> None:
    """A scene that was left out, or a figure without a size, has no curve."""
    results = make_results(release=[make_comparison("the release")])
    assert curves(results) == []
    assert curves(results, [Cost("x", "getters", "no such scene", "x")]) == []


def test_names_of_costs_are_unique() -> None:
    """No two costs have the same name and number."""
    assert len({(cost.number, cost.name) for cost in COSTS}) == len(COSTS)
