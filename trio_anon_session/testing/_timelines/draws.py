"""What the strategies of this package are made of, and those of simulated fleets."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy

TICK = 2.0**-10
"""Seconds; about a millisecond. Sums of such are exact, so that boundaries can be met."""


def among(*strategies: Strategy[Any]) -> Strategy[Any]:
    """Draw from one of them; one that is named twice comes twice as often.

    ``one_of`` takes each once only.
    """
    return st.integers(0, len(strategies) - 1).flatmap(strategies.__getitem__)


def seconds_up_to(most: int) -> Strategy[float]:
    """Draw whole seconds, or ticks."""
    return st.one_of(
        st.integers(0, most).map(float), st.integers(0, most * 1024).map(lambda n: n * TICK)
    )


def lists_up_to(element: Strategy[Any], most: int) -> Strategy[list[Any]]:
    """Draw a list: a short one, as Hypothesis likes them, or a longer one, where more can meet."""
    short = st.lists(element, max_size=most)
    return st.one_of(short, st.lists(element, min_size=most // 2, max_size=most))


def moments_about(edges: list[float]) -> Strategy[float]:
    """Draw moments: on the edges, beside them, anywhere."""
    step = st.sampled_from([TICK, -TICK, 1.0, -1.0, 60.0])
    beside = st.builds(lambda edge, by: max(0.0, edge + by), st.sampled_from(edges), step)
    edge = st.sampled_from(edges)
    return among(edge, edge, beside, seconds_up_to(int(edges[-1]) + 60))
