"""Release of many held getters.

A crowd of getters is held by an empty session, whose grant has no answer yet. Then the answer
comes. Beside it, as many tasks wait at a bare gate of Trio's, which is opened.

The total is the time from there until the last of the tasks has ended. The stall is the longest
time for which another task had no turn meanwhile, one that does nothing but loop over
checkpoints; that slows the release down, so the two are measured apart, both on the processor's
clock. The memory is what Python has allocated (tracemalloc) for each that waits, its task and
coroutine included: in a third pass, and once, since it does not vary. Where a release is linear,
a getter's share of it is among many what it is among few, measured in the same turns; what grows
beside a bare event, too, is what the processor's caches no longer hold.

Garbage is collected before each measurement, and not again before its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from benchmarks import crowds
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns_async
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

OURS = "get_access_token"
BASE = "trio.Event"
SIZES = (1_000, 10_000, 100_000)
TURNS = {1_000: 15, 10_000: 9, 100_000: 3}
"""At the most: 100,000 take seconds, and vary little."""
TOTAL_LIMITS = {10_000: Limit(1.9)}
STALL_LIMITS = {10_000: Limit(3e-3, "amount"), 100_000: Limit(5e-3, "amount")}
WEIGHT_LIMIT = Limit(3_900, "amount")
SHARE_LIMIT = Limit(2.0)

Measure = Callable[[crowds.Gates, int], Awaitable[float]]


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return trio.run(_measure, effort)


async def _measure(effort: Effort) -> list[Comparison]:
    comparisons = []
    for size in effort.sizes(*SIZES):
        turns = effort.turns_of(TURNS[size])
        comparisons += await _totals(size, turns, few=SIZES[0] if size == SIZES[-1] else None)
        stalls = _contenders(crowds.stall, size, STALL_LIMITS.get(size))
        measured = await in_turns_async(stalls, turns)
        comparisons.append(
            compare("the longest stall of another task", "s", measured, base=BASE, size=size)
        )
        # To trace the others of 100,000 would take longer than all of the rest.
        weighed = GATES if size < SIZES[-1] else (OURS, BASE)
        weights = _contenders(crowds.weight, size, WEIGHT_LIMIT, weighed)
        measured = await in_turns_async(weights, 1)
        comparisons.append(compare("the memory of each", "B", measured, base=BASE, size=size))
    return comparisons


async def _totals(size: int, turns: int, *, few: int | None) -> list[Comparison]:
    """Measure the whole release, and in the same turns that of a few."""
    contenders = _contenders(crowds.total, size, TOTAL_LIMITS.get(size))
    among_few = {}
    if few is not None:
        among_few = {
            Contender(f"{who}, few"): partial(crowds.total, GATES[who], few) for who in (OURS, BASE)
        }
    measured = await in_turns_async(contenders | among_few, turns)
    totals = {who: measured[who] for who in contenders}
    comparisons = [compare("the release", "s", totals, base=BASE, size=size)]
    if few is not None:
        seconds = {who.subject: values for who, values in measured.items()}
        comparisons += [
            _shares(who, {size: seconds[who], few: seconds[f"{who}, few"]}) for who in (OURS, BASE)
        ]
    return comparisons


def _shares(subject: str, totals: Mapping[int, Sequence[float]]) -> Comparison:
    """Compare one's share of the release among many and among few."""
    many, few = totals
    is_ours = subject == OURS
    limit = SHARE_LIMIT if is_ours else None
    shares = {
        Contender(f"among {many:,}", is_ours, limit): [total / many for total in totals[many]],
        Contender(f"among {few:,}", is_ours): [total / few for total in totals[few]],
    }
    figure = f"one's share of the release, {subject}"
    return compare(figure, "s", shares, base=f"among {few:,}")


def _contenders(
    measure: Measure, size: int, limit: Limit | None, subjects: Iterable[str] | None = None
) -> dict[Contender, Callable[[], Awaitable[float]]]:
    return {
        Contender(who, is_ours=who == OURS, limit=limit if who == OURS else None): partial(
            measure, GATES[who], size
        )
        for who in subjects or GATES
    }


@asynccontextmanager
async def session(grants: Grants | None = None) -> AsyncIterator[crowds.Gate]:
    """A session whose grant waits for its answer."""
    grants = grants or Grants()
    grants.gate = trio.Event()

    async def answer() -> None:  # noqa: ASYNC124  # others' gates wait
        grants.gate.set()

    async with AnonymousSession(CONFIG, grants) as opened:
        yield crowds.Gate(opened.get_access_token, answer)


GATES: dict[str, crowds.Gates] = {
    OURS: session,
    BASE: crowds.event,
    "trio.Condition, notify_all": crowds.condition,
    "trio.lowlevel.ParkingLot, unpark_all": crowds.parking_lot,
}
