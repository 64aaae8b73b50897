"""A hit without waiting.

A token is there and fresh, and a caller that does not wait takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from benchmarks import timing
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns_async
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

FLOOR = "trio.lowlevel.checkpoint"


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return trio.run(_measure, effort)


async def _measure(effort: Effort) -> list[Comparison]:
    async with AnonymousSession(CONFIG, Grants()) as session:
        await session.get_access_token()
        sync = {
            Contender("get_access_token_nowait", is_ours=True, limit=Limit(0.07)): (
                session.get_access_token_nowait
            ),
            Contender("trio.current_time"): trio.current_time,
        }
        contenders: dict[Contender, Callable[[], Awaitable[float]]] = {
            who: _timed(call, effort.calls) for who, call in sync.items()
        }
        contenders[Contender(FLOOR)] = lambda: timing.each_awaited(
            trio.lowlevel.checkpoint, effort.calls
        )
        measured = await in_turns_async(contenders, effort.turns)
    return [compare("a hit", "s", measured, base=FLOOR)]


def _timed(call: Callable[[], object], calls: int) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        await trio.lowlevel.checkpoint()
        return timing.each(call, calls)

    return measure
