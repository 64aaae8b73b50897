"""The line that fits what many cost."""

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
    """What lies on a line is fitted by that line, however far apart its points are."""
    points = {number: start + each * number for number in numbers}
    line = Line.through(points)
    assert line.miss < 1e-6
    for number in numbers:
        assert line.at(number) == pytest.approx(points[number], rel=1e-6)


@given(NUMBERS, COST, st.floats(0.25, 3.0))
def test_an_exact_power_is_found(numbers: list[int], factor: float, power: float) -> None:
    """A cost that grows with the square has the exponent 2, whatever one costs."""
    line = Line.through({number: factor * number**power for number in numbers})
    assert line.exponent == pytest.approx(power, abs=1e-6)


@given(st.dictionaries(st.integers(1, 10**4), st.floats(1.0, 1e3), min_size=3, max_size=6))
def test_no_line_beside_it_fits_better(points: dict[int, float]) -> None:
    """Moved or tilted, a line misses by more."""

    def squares(start: float, each: float) -> float:
        return sum(((start + each * n - cost) / cost) ** 2 for n, cost in points.items())

    line = Line.through(points)
    best = squares(line.start, line.each)
    for moved in (0.99, 1.01):
        assert squares(line.start * moved, line.each) >= best * (1 - 1e-9) - 1e-9
        assert squares(line.start, line.each * moved) >= best * (1 - 1e-9) - 1e-9


def test_curves_are_of_this_library_and_of_all() -> None:
    """A cost of each is multiplied by the number, so that all lines are of what all cost."""
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
    """A brief run has one crowd, and what is below what can be measured is left out."""
    scene = (
        make_comparison("the release", size=10),
        make_comparison("the release", ours=0.0, size=1),
    )
    [curve] = curves(make_results(release=scene))
    assert list(curve.points) == [10]
    assert curve.line is None


def test_what_was_not_measured_has_no_curve() -> None:
    """A scene that was left out, and a figure without a size, are passed over."""
    results = make_results(release=[make_comparison("the release")])
    assert curves(results) == []
    assert curves(results, [Cost("x", "getters", "no such scene", "x")]) == []


def test_two_costs_of_a_number_have_two_names() -> None:
    """Tables and pictures call a cost by its name and by what there are many of."""
    assert len({(cost.number, cost.name) for cost in COSTS}) == len(COSTS)
