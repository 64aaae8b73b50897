"""Refreshes under load.

Ten tasks together make 50,000 calls per second: each makes 50 calls in a row every 10 ms, and they
start 1 ms apart. During this time, the session refreshes its token 20 times, every 0.5 s, and the
endpoint takes 25 ms for each refresh. This is far more often than with tokens that live for an
hour: 5 % of the calls get a STALE token. For comparison, the same load runs on a session whose
token stays FRESH, and on bare checkpoints without a session.

All times are CPU time. Trio's clock uses CPU time too, and skips the time in which there is
nothing to do. So the load is the same as on an idle machine, whatever other programs do. The time
of a call ends when the call returns, and includes the time in which other tasks run. The
percentiles cover all calls of one turn of the measurement. Waiting callers are those that had to
wait for a token after the first token had arrived.

Garbage is collected before each load, but not during it.
"""

from __future__ import annotations

import math
import time
from array import array
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks.measure import Comparison, Contender, Effort, Limit, compare, in_turns_async
from benchmarks.memory import no_collection
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession, TokenInfo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio_anon_session import TokenRequestOptions

CALLERS = 10
IN_A_ROW = 50
PERIOD = 0.01
STALE_AFTER = 0.5
"""Seconds until a token is STALE, which is also the time between two refreshes.

At each refresh, about four calls wait for a turn of the session's tasks. With 0.1 s, these calls
would be the slowest 0.1 % of all.
"""
ANSWER_AFTER = 0.025
REFRESHES = 20
TURNS = 3
"""Maximum number of turns: a turn makes 1.5 million calls."""

OURS = Contender("get_access_token, with refreshes", is_ours=True)
BASE = Contender("get_access_token, without refreshes", is_ours=True)
FLOOR = Contender("no session, only a checkpoint")
LIMITS = {"p99.9": Limit(1.1)}
HELD_LIMIT = Limit(0, "amount")
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it."""
    return trio.run(_measure, effort, clock=WorkClock())


async def _measure(effort: Effort) -> list[Comparison]:
    refreshes = REFRESHES if effort.calls >= 1_000 * REFRESHES else 1
    measured = await in_turns_async(
        {
            OURS: partial(with_session, Renewals, refreshes),
            BASE: partial(with_session, Grants, refreshes),
            FLOOR: partial(without_session, refreshes),
        },
        effort.turns_of(TURNS),
    )
    sessions = {who: loads for who, loads in measured.items() if who != FLOOR}
    comparisons = []
    for name, share in PERCENTILES.items():
        times = {
            attrs.evolve(who, limit=LIMITS.get(name) if who == OURS else None): [
                load.time_of(share) for load in loads
            ]
            for who, loads in measured.items()
        }
        figure = f"a call, {name}"
        comparisons.append(compare(figure, "s", times, base=BASE.subject))
    held = {
        attrs.evolve(who, limit=HELD_LIMIT): [load.held for load in loads]
        for who, loads in sessions.items()
    }
    sent = {who: [load.refreshes for load in loads] for who, loads in sessions.items()}
    return [
        *comparisons,
        compare("waiting callers after the first token", "getters", held, base=BASE.subject),
        compare("refreshes", "grants", sent, base=BASE.subject),
    ]


@attrs.frozen
class Load:
    """The results of one load.

    Attributes:
        times: seconds of each call, the shortest first.
        held: number of callers that waited for a token.
        refreshes: number of tokens granted during this time.
    """

    times: Sequence[float]
    held: int = 0
    refreshes: int = 0

    def time_of(self, share: float) -> float:
        """Return the seconds within which this share of the calls returned."""
        return self.times[int(share * (len(self.times) - 1))]


async def with_session(source: Callable[[], Grants], refreshes: int) -> Load:
    """Run the load on a session, for the time of this number of refreshes."""
    grants = source()
    async with AnonymousSession(grants.config, grants) as session:
        await session.get_access_token()
        before = session.statistics()
        times = await _load(session.get_access_token, refreshes)
        after = session.statistics()
    return Load(
        times,
        held=after.getters_held_total - before.getters_held_total,
        refreshes=after.grants - before.grants,
    )


async def without_session(refreshes: int) -> Load:
    """Run the load without a session, for the same time."""
    return Load(await _load(trio.lowlevel.checkpoint, refreshes))


async def _load(call: Callable[[], Awaitable[object]], refreshes: int) -> Sequence[float]:
    """Return the seconds that each call took, sorted."""
    times = array("d")
    # The load continues for a while after the last refresh.
    rows = round((refreshes + 0.5) * STALE_AFTER / PERIOD)
    with no_collection():
        begin_at = trio.current_time() + PERIOD
        async with trio.open_nursery() as nursery:
            for caller in range(CALLERS):
                own_begin_at = begin_at + caller * PERIOD / CALLERS
                nursery.start_soon(_call, call, own_begin_at, rows, times)
    return sorted(times)


async def _call(
    call: Callable[[], Awaitable[object]], begin_at: float, rows: int, times: array[float]
) -> None:
    for row in range(rows):
        await trio.sleep_until(begin_at + row * PERIOD)
        for _ in range(IN_A_ROW):
            began = time.thread_time()
            await call()
            times.append(time.thread_time() - began)


class Renewals(Grants):
    """A token manager whose tokens become STALE soon, and whose requests take some time."""

    def __init__(self) -> None:
        super().__init__(CONFIG.replace(min_refresh_interval=STALE_AFTER / 2), lifetime=4.0)

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        token = await super().get_tokens_client_credentials_grant(options)
        await trio.sleep(ANSWER_AFTER)
        return attrs.evolve(token, stale_at=token.sent_at + STALE_AFTER)


class WorkClock(trio.abc.Clock):
    """A clock of this thread's CPU time that skips the time in which the thread would sleep."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._skipped + time.thread_time()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        # Trio calls this method when no task can run before the deadline.
        if deadline == math.inf:
            return deadline
        self._skipped += max(0.0, deadline - self.current_time())
        return 0.0
