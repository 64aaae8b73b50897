"""Many refreshes, one after another.

An eager session makes a number of refreshes in virtual time, without any callers. The figure is
the real time per refresh. A refresh is due every 50 minutes, and once a minute the session checks
whether the machine was suspended. The base is a task that sleeps as often as the session. If many
refreshes cost a multiple of one, the figures are the same for each number.
"""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from benchmarks import timing, virtual_time
from benchmarks.measure import Comparison, Contender, Effort, compare, in_turns
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTHS = (1, 10, 100, 1_000)
A_MINUTE = 60.0
MINUTES = 50
"""Minutes from a token request until the token is STALE, for a lifetime of an hour."""
FLOOR = "a task that sleeps as often"


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it, without the lengths that take as long as a crowd that is left out."""
    lengths = [length for length in LENGTHS if effort.sizes(100 * length)]
    with timing.heap_set_aside():
        return [_compare(length, effort.turns_of(15 if length <= 10 else 5)) for length in lengths]


def _compare(length: int, turns: int) -> Comparison:
    contenders = {
        Contender("an eager AnonymousSession", is_ours=True): partial(
            virtual_time.run, refresh, length
        ),
        Contender(FLOOR): partial(virtual_time.run, sleep_as_often, length),
    }
    measured = in_turns(contenders, turns)
    return compare("a refresh", "s", measured, base=FLOOR, size=length)


async def refresh(length: int) -> float:
    """Return the seconds for each of these refreshes."""
    grants = Grants()
    async with AnonymousSession(CONFIG, grants) as session:
        await session.get_access_token()
        gc.collect()
        began = time.perf_counter()
        await trio.sleep(length * MINUTES * A_MINUTE + 1.0)
        seconds = time.perf_counter() - began
    assert grants.sent == length + 1
    return seconds / length


async def sleep_as_often(length: int) -> float:
    """Return the seconds for as many sleeps as in one refresh."""
    gc.collect()
    began = time.perf_counter()
    for _ in range(length * MINUTES):
        await trio.sleep(A_MINUTE)
    return (time.perf_counter() - began) / length
