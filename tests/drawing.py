"""Draws from a strategy outside of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


def draw_each(
    strategy: SearchStrategy[T],
    use: Callable[[T], object],
    *,
    seed: int,
    count: int,
    shrink: bool = False,
) -> None:
    """Draw so many values, others for each seed, and use each.

    Many short runs reach more than a long one: an example is often much like the one
    before. What ``use`` raises comes out, and of the smallest value if it is to be shrunk.
    """

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value: T) -> None:
        use(value)

    run()
