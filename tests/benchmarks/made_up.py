"""Invented results for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.measure import BRIEF, Comparison, Contender, Limit, Unit, compare
from benchmarks.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterable


def make_comparison(
    figure: str = "a hit",
    unit: Unit = "s",
    ours: float = 2e-6,
    other: float = 1e-6,
    *,
    size: int | None = None,
    limit: Limit | None = None,
) -> Comparison:
    """Return a comparison of this library with another one, the same in all turns."""
    measured = {
        Contender("ours", is_ours=True, limit=limit): [ours] * 3,
        Contender("other cache"): [other] * 3,
    }
    return compare(figure, unit, measured, base="other cache", size=size)


def make_results(**scenes: Iterable[Comparison]) -> Results:
    """Return results with these scenes."""
    return Results(
        {"trio": "1.0"},
        {"processor": "abacus", "cores": "1", "system": "wood"},
        BRIEF,
        {name: tuple(comparisons) for name, comparisons in scenes.items()},
    )
