"""Measure what a timeline costs: to draw it, to run and judge it, to draw its picture.

Every figure is a ratio to a bare ``trio.run`` with a clock that jumps once, measured side
by side, in turns, in this one run: the median over the turns, and the spread of the middle
half. Needs the extra ``testing``. Run it with::

    python -m benchmarks.timelines
"""

from __future__ import annotations

import logging
import platform
import time
from typing import TYPE_CHECKING, TypeVar

import hypothesis
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.hot_path import report
from trio_anon_session.testing.strategies import Get, Timeline, run_timeline, timelines

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from trio_anon_session import AnonymousSession

T = TypeVar("T")
U = TypeVar("U")

TURNS = 11
DRAWN = 50

SMALLEST = Timeline(actions=[Get(at=0.0)], leaves_at=1.0)
DAY = Timeline(actions=[Get(at=600.0 * number) for number in range(144)], leaves_at=86400.0)


def time_once(function: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def time_each(function: Callable[[T], U], things: list[T]) -> tuple[float, list[U]]:
    """Return the seconds that a call takes for each of these, and what the calls return."""
    began = time.perf_counter()
    results = [function(thing) for thing in things]
    return (time.perf_counter() - began) / len(things), results


def bare_run() -> None:
    """Run Trio for a virtual second."""
    trio.run(trio.sleep, 1.0, clock=trio.testing.MockClock(autojump_threshold=0))


async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    """Make twenty requests of the protected resource in a virtual hour."""
    for _ in range(20):
        await client.get("/2.0/files/1", auth=session.auth())
        await trio.sleep(180.0)


def draw(number: int) -> tuple[float, list[Timeline]]:
    """Return the seconds that drawing takes, each, and what was drawn."""
    drawn: list[Timeline] = []

    @seed(number)
    @settings(
        max_examples=DRAWN,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(timelines())
    def collect(timeline: Timeline) -> None:
        drawn.append(timeline)

    return time_once(collect) / DRAWN, drawn


def main() -> None:
    """Measure everything."""
    versions = f"trio {trio.__version__}, Hypothesis {hypothesis.__version__}"
    print(f"Python {platform.python_version()}, {versions}, {TURNS} turns of {DRAWN} timelines")
    logging.disable(logging.CRITICAL)
    bare, drawing, running, picture, smallest, day, requests = ([] for _ in range(7))
    for turn in range(TURNS):
        bare.append(sum(time_once(bare_run) for _ in range(DRAWN)) / DRAWN)
        seconds, drawn = draw(turn)
        drawing.append(seconds)
        seconds, outcomes = time_each(run_timeline, drawn)
        running.append(seconds)
        seconds, _ = time_each(str, outcomes)
        picture.append(seconds)
        smallest.append(time_once(lambda: run_timeline(SMALLEST)))
        day.append(time_once(lambda: run_timeline(DAY)))
        requests.append(time_once(lambda: run_timeline(Timeline(), program)))
    report("draw a timeline / a bare trio.run", drawing, bare)
    report("run and judge what was drawn / a bare trio.run", running, bare)
    report("draw its picture / a bare trio.run", picture, bare)
    report("run and judge one getter / a bare trio.run", smallest, bare)
    report("run and judge a day, 144 getters / a bare trio.run", day, bare)
    report("run a program with 20 requests / a bare trio.run", requests, bare)


if __name__ == "__main__":
    main()
