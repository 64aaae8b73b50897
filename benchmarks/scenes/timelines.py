"""Timelines: draw them, run and check them, draw their pictures.

Hypothesis draws the timelines, as in a test. The timelines of a turn are run, checked and shown as
pictures in the same turn or in the next one. The base is a bare ``trio.run`` with a clock that
jumps once. This needs the extra ``testing``.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks import timing
from benchmarks.logs import without_logs
from benchmarks.measure import Comparison, Contender, Effort, compare, in_turns
from trio_anon_session.testing.strategies import Get, Timeline, run_timeline, timelines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from trio_anon_session import AnonymousSession

SMALLEST = Timeline(actions=[Get(at=0.0)], leaves_at=1.0)
DAY = Timeline(actions=[Get(at=600.0 * number) for number in range(144)], leaves_at=86400.0)
FLOOR = "a bare trio.run"


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    drawn = Drawn(count=min(50, effort.calls // 100))
    contenders: dict[Contender, Callable[[], float]] = {
        Contender("draw a timeline", is_ours=True): drawn.draw,
        Contender("run and check a timeline", is_ours=True): drawn.run,
        Contender("draw the picture of a timeline", is_ours=True): drawn.show,
        Contender(FLOOR): partial(timing.each, _bare_run, drawn.count),
        Contender("run and check one caller", is_ours=True): partial(
            timing.each, partial(run_timeline, SMALLEST), 1
        ),
        Contender("run and check a day, 144 callers", is_ours=True): partial(
            timing.each, partial(run_timeline, DAY), 1
        ),
        Contender("run a program with 20 requests", is_ours=True): partial(
            timing.each, partial(run_timeline, Timeline(), program), 1
        ),
    }
    with without_logs():
        drawn.draw()
        drawn.run()
        measured = in_turns(contenders, effort.turns_of(11))
    return [compare("time per timeline", "s", measured, base=FLOOR)]


@attrs.define
class Drawn:
    """The timelines that were drawn last, and the outcomes of those that were run last.

    Attributes:
        count: number of timelines in each draw.
        timelines: the timelines of the last draw.
        outcomes: the outcomes, from which pictures are drawn.
        draws: number of draws, which is the seed of the last one.
    """

    count: int
    timelines: list[Timeline] = attrs.field(factory=list)
    outcomes: list[object] = attrs.field(factory=list)
    draws: int = 0

    def draw(self) -> float:
        """Draw timelines, and return the seconds for each."""
        self.timelines = []
        self.draws += 1

        @seed(self.draws)
        @settings(
            max_examples=self.count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(timelines())
        def collect(timeline: Timeline) -> None:
            self.timelines.append(timeline)

        return timing.each(collect, 1) / self.count

    def run(self) -> float:
        """Run and check the timelines, and return the seconds for each."""
        began = time.perf_counter()
        self.outcomes = [run_timeline(timeline) for timeline in self.timelines]
        return (time.perf_counter() - began) / len(self.timelines)

    def show(self) -> float:
        """Draw the pictures of the outcomes, and return the seconds for each."""
        began = time.perf_counter()
        for outcome in self.outcomes:
            str(outcome)
        return (time.perf_counter() - began) / len(self.outcomes)


async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    """Send twenty requests to the protected resource in a virtual hour."""
    for _ in range(20):
        await client.get("/2.0/files/1", auth=session.auth())
        await trio.sleep(180.0)


def _bare_run() -> None:
    trio.run(trio.sleep, 1.0, clock=trio.testing.MockClock(autojump_threshold=0))
