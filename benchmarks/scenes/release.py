"""Many waiting callers get their token.

Many callers wait for a session that has no token, and whose token request has no answer yet. Then
the answer arrives. For comparison, as many tasks wait for one of Trio's own primitives.

- The release is the time from the answer until the last task has ended.
- The stall is the longest time for which another task, which only loops over checkpoints, did not
  run during the release. That task slows down the release, so the two are measured separately,
  both in CPU time.
- The memory is what Python has allocated (tracemalloc) for each waiting task, including the task
  and its coroutine. It is measured in a third pass, and only once, because it does not vary.
- The release per caller compares many callers with few, measured in the same turns. If a release
  is linear, both are equal. For a bare ``trio.Event`` the time per caller grows too, because the
  processor's caches can no longer hold all data.

Garbage is collected before each measurement, but not during it.
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
"""Maximum number of turns: a crowd of 100,000 takes seconds, and varies little."""
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
        # With 100,000 tasks, tracing the other gates would take longer than all other measurements.
        weighed = GATES if size < SIZES[-1] else (OURS, BASE)
        weights = _contenders(crowds.weight, size, WEIGHT_LIMIT, weighed)
        measured = await in_turns_async(weights, 1)
        comparisons.append(compare("the memory of each", "B", measured, base=BASE, size=size))
    return comparisons


async def _totals(size: int, turns: int, *, few: int | None) -> list[Comparison]:
    """Measure the release of a crowd, and in the same turns that of few callers."""
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
    """Compare the release per caller among many and among few."""
    many, few = totals
    is_ours = subject == OURS
    limit = SHARE_LIMIT if is_ours else None
    shares = {
        Contender(f"among {many:,}", is_ours, limit): [total / many for total in totals[many]],
        Contender(f"among {few:,}", is_ours): [total / few for total in totals[few]],
    }
    figure = f"the release per caller, {subject}"
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
    """A session whose token request waits for its answer."""
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
