"""Helpers for the strategies of this package and of simulated fleets."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy

TICK = 2.0**-10
"""Seconds; about a millisecond. Sums of ticks are exact, so that boundaries can be hit."""


def among(*strategies: Strategy[Any]) -> Strategy[Any]:
    """Draw from one of the strategies; one that is passed twice is drawn twice as often.

    ``one_of`` ignores repetitions.
    """
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


def seconds_up_to(most: int) -> Strategy[float]:
    """Draw whole seconds, or multiples of a tick."""
    return st.one_of(
        st.integers(0, most).map(float), st.integers(0, most * 1024).map(lambda n: n * TICK)
    )


def lists_up_to(element: Strategy[Any], most: int) -> Strategy[list[Any]]:
    """Draw lists, half of them short, half of them with at least `most` // 2 elements."""
    short = st.lists(element, max_size=most)
    return st.one_of(short, st.lists(element, min_size=most // 2, max_size=most))


def moments_about(edges: list[float]) -> Strategy[float]:
    """Draw moments: at the edges, near them, or anywhere."""
    step = st.sampled_from([TICK, -TICK, 1.0, -1.0, 60.0])
    near = st.builds(lambda edge, by: max(0.0, edge + by), st.sampled_from(edges), step)
    edge = st.sampled_from(edges)
    return among(edge, edge, near, seconds_up_to(int(edges[-1]) + 60))
