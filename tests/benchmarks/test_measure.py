"""How contenders are measured in turns and compared."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure import (
    Contender,
    Effort,
    Limit,
    Spread,
    compare,
    in_turns,
    in_turns_async,
    orders,
)

OURS, OTHER, THIRD = Contender("ours", is_ours=True), Contender("other"), Contender("third")
AMOUNTS = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20)


def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that is ten times slower in one turn changes no ratio."""
    both = compare("a hit", "s", {OURS: [2.0, 20.0, 2.0], OTHER: [1.0, 10.0, 1.0]}, base="other")
    ours, other = both.rows
    assert ours.ratio == Spread(2.0, 2.0, 2.0)
    assert other.ratio == Spread(1.0, 1.0, 1.0)
    assert ours.amount.high == 11.0
    assert both.ours is ours


def test_there_is_no_ratio_to_a_base_of_0() -> None:
    """If the base is 0 in a turn, there is no ratio, and a limit of the ratio is exceeded."""
    limited = Contender("ours", is_ours=True, limit=Limit(2.0))
    both = compare("held", "getters", {limited: [1.0, 1.0], OTHER: [0.0, 1.0]}, base="other")
    assert [row.ratio for row in both.rows] == [None, None]
    assert both.rows[0].is_over


@pytest.mark.parametrize(
    ("limit", "is_over"),
    [
        (None, False),
        (Limit(1.9), True),
        (Limit(2.0), False),
        (Limit(3.9, "amount"), True),
        (Limit(4.0, "amount"), False),
    ],
)
def test_a_limit_that_is_reached_is_kept(limit: Limit | None, is_over: bool) -> None:
    """A limit applies to the median of the ratio or of the amount, and includes the limit."""
    who = Contender("ours", limit=limit)
    both = compare("a hit", "s", {who: [4.0, 1.0, 9.0], OTHER: [2.0, 0.5, 1.0]}, base="other")
    assert both.rows[0].is_over is is_over


@given(AMOUNTS)
def test_the_middle_half_is_around_the_median(values: list[float]) -> None:
    """The values of a spread are in order, and between the minimum and the maximum."""
    spread = Spread.of(values)
    near = 1 + 1e-12
    assert min(values) <= spread.low * near
    assert spread.low <= spread.median * near
    assert spread.median <= spread.high * near
    assert spread.high <= max(values) * near


def test_turns_have_different_orders() -> None:
    """Each contender is measured once in each turn, and all orders occur."""
    turns = list(orders("abc", 60))
    assert [sorted(turn) for turn in turns] == [["a", "b", "c"]] * 60
    assert len({tuple(turn) for turn in turns}) == 6


async def test_in_turns_measures_each_once_a_turn() -> None:
    """Both functions call each contender once in each turn, in the same order."""
    called: list[Contender] = []

    def measure(who: Contender) -> int:
        called.append(who)
        return len(called)

    async def measure_async(who: Contender) -> int:
        return measure(who)

    contenders = (OURS, OTHER, THIRD)
    measured = in_turns({who: partial(measure, who) for who in contenders}, 2)
    assert sorted(who[0] for who in measured.values()) == [1, 2, 3]
    assert sorted(who[1] for who in measured.values()) == [4, 5, 6]
    assert list(measured) == [*contenders]
    first = called.copy()
    called.clear()
    again = await in_turns_async({who: partial(measure_async, who) for who in contenders}, 2)
    assert again == measured
    assert called == first


def test_an_effort_limits_crowds_and_turns() -> None:
    """An effort limits turns, and leaves out crowds that are larger than its own."""
    effort = Effort(turns=3, calls=1, crowd=1_000)
    assert effort.sizes(1, 1_000, 10_000) == (1, 1_000)
    assert effort.turns_of(9) == 3
    assert effort.turns_of(2) == 2
