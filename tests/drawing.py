"""Draws values from a strategy outside of a test."""

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
    """Draw this many values, which depend on the seed, and call ``use`` with each.

    Many short runs cover more than one long run, because an example is often similar to the
    one before. An exception of ``use`` propagates; with ``shrink``, it is that of the smallest
    value.
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
