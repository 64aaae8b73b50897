"""Virtual time for property tests, a clock that can be suspended, and the order of tasks."""

from __future__ import annotations

import functools
import itertools
import math
import random
import time

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_anon_session.testing._clocks import (
    FOREVER,
    SuspendableClock,
    seeded_schedule,
    virtual_time,
)

from .timelines.kit import global_state


class OwnError(Exception):
    """The error that a test's block raises."""


# virtual_time


@virtual_time
async def sleep_virtually(seconds: float) -> tuple[float, float]:
    """Sleep, and return when it began and when it ended."""
    began_at = trio.current_time()
    await trio.sleep(seconds)
    return began_at, trio.current_time()


def test_each_call_has_its_own_clock() -> None:
    """The clock of each call starts at 0; arguments and results are passed through."""
    assert sleep_virtually(60.0) == (0.0, 60.0)
    assert sleep_virtually(seconds=5.0) == (0.0, 5.0)


@pytest.mark.parametrize("wait", [trio.sleep_forever, functools.partial(trio.sleep, FOREVER + 1.0)])
def test_an_endless_wait_is_ended(wait: object) -> None:
    """A function that never stops waiting raises TooSlowError after 100 virtual years."""
    ended_at = math.nan

    @virtual_time
    async def hang() -> None:
        nonlocal ended_at
        try:
            await wait()  # type: ignore[operator]  # parametrize knows no types
        finally:
            ended_at = trio.current_time()

    with pytest.raises(trio.TooSlowError):
        hang()
    assert ended_at == 100 * 365 * 86400.0


def test_exceptions_propagate_unwrapped() -> None:
    """An exception of the function propagates unwrapped, and the next call works."""

    @virtual_time
    async def fail(error: Exception | None) -> str:
        await trio.sleep(1.0)
        if error is not None:
            raise error
        return "well"

    error = OwnError()
    with pytest.raises(OwnError) as caught:
        fail(error)
    assert caught.value is error
    assert fail(None) == "well"


def test_virtual_time_keeps_name_and_docstring() -> None:
    """The decorated function keeps its name and docstring."""
    assert sleep_virtually.__name__ == "sleep_virtually"
    assert sleep_virtually.__doc__ == "Sleep, and return when it began and when it ended."


# SuspendableClock


@pytest.mark.parametrize("by", [3600.0, -3600.0])
def test_the_wall_clock_can_be_set(by: float) -> None:
    """Both clocks advance without waiting; ``set_wall`` changes only the wall clock."""
    clock = SuspendableClock()

    async def main() -> None:
        start = time.time()
        await trio.sleep(86400.0)
        assert time.time() - start == trio.current_time() == 86400.0
        clock.set_wall(by)
        assert time.time() - start == 86400.0 + by
        assert trio.current_time() == 86400.0
        await trio.sleep(5.0)
        assert time.time() - start == 86400.0 + by + 5.0

    with clock.installed():
        trio.run(main, clock=clock)


# seeded_schedule

TASKS = 8


def order_of_turns(seed: int, turns: int = 3) -> list[int]:
    """Return the order in which tasks that are all ready take turns."""
    order: list[int] = []

    async def take_turns(number: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(take_turns, number)

    with seeded_schedule(seed):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return order


@settings(max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_same_seed_same_order(seed: int) -> None:
    """The same seed gives the same order of turns."""
    assert order_of_turns(seed) == order_of_turns(seed)


def test_different_seeds_give_different_orders() -> None:
    """Twenty seeds give twenty orders of eight tasks, with each task before each other."""
    orders = {tuple(order_of_turns(seed, turns=1)) for seed in range(20)}
    assert len(orders) == 20
    pairs = {pair for order in orders for pair in itertools.combinations(order, 2)}
    assert len(pairs) == TASKS * (TASKS - 1)


def test_seed_0_is_the_order_of_starting() -> None:
    """With 0, tasks take turns in the order in which they were started."""
    assert order_of_turns(0) == [*range(TASKS)] * 3


def test_the_global_random_is_seeded() -> None:
    """Inside the block, ``random`` depends on the seed."""
    drawn = []
    for seed in (1, 1, 2):
        with seeded_schedule(seed):
            drawn.append(random.random())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("seed", [0, 1])
def test_global_state_is_restored(seed: int) -> None:
    """After the block, wall clock, task order and ``random`` are restored, also on an error."""
    before = global_state()
    with SuspendableClock().installed(), seeded_schedule(seed):
        wall_clock_and_order = slice(1, 3)
        assert not {*before[wall_clock_and_order]} & {*global_state()[wall_clock_and_order]}
    assert global_state() == before

    with pytest.raises(OwnError), SuspendableClock().installed(), seeded_schedule(seed):
        random.random()
        raise OwnError
    assert global_state() == before
