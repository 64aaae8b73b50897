"""A day of an eager session, with faults.

An eager session runs for 24 hours of a virtual clock. Each token lives five minutes, so there are
many refreshes. A token request takes up to a second, and one in a hundred fails in one of five
ways, chosen at random with a fixed seed. The session sends HTTP requests to the embedded token
server in the same process. The first table counts the callers that waited for a token request
after the first token had arrived.

1,000 callers ask per second. All 86 million calls would take ten minutes, and nearly all of them
are alike: the token is FRESH, also one second earlier and one second later. So all callers run
only near a refresh: from one second before a token becomes STALE until one second after the
request for the next token was sent. This includes the time of failed attempts. At other times, 10
calls per second stand for the 1,000. The remark says how many calls were made. The calls of one
twentieth of a second run one after another. If one waits, those behind it are late too, but are
not counted.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks import virtual_time
from benchmarks.logs import without_logs
from benchmarks.measure import Comparison, Contender, Effort, Limit, compare
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_anon_session import AnonymousSession

A_DAY = 24
"""Hours."""
LIFETIME = 300.0
FAULTY = 0.01
FAULTS = (
    Fault.hang(),
    Fault.server_error(),
    Fault.rate_limited("30"),
    Fault(cut="before_headers"),
    Fault(body=b"<html>"),
)
SEED = 6

A_SECOND = 1_000
"""Calls in a second."""
SPARSE = 10
"""Calls in a second that stand for `A_SECOND` at times without a token request."""
TICK = 0.05
"""Seconds; the calls of this time run one after another."""
MARGIN = 1.0
"""Seconds before a token becomes STALE, and after a token request, in which all calls run."""


@attrs.frozen
class Counts:
    """The counts of a run.

    Attributes:
        held: callers that waited after the first token had arrived.
        called: calls.
        requests: token requests.
        failures: token requests that failed.
    """

    held: int
    called: int
    requests: int
    failures: int


def run(effort: Effort) -> Sequence[Comparison]:
    """Measure it; with a brief effort, for an hour."""
    hours = min(A_DAY, max(effort.crowd // 1_000, 1))
    with without_logs():
        counts = virtual_time.run(let_pass, hours, plan(FAULTY, SEED))
    fewest = "one per half lifetime"
    return [
        compare(
            f"waiting callers in {hours} h",
            "getters",
            {
                Contender(
                    "an eager AnonymousSession",
                    is_ours=True,
                    limit=Limit(0, "amount"),
                    remark=f"{counts.called:,} calls were made, for {hours * 3600 * A_SECOND:,}",
                ): [counts.held]
            },
            base="an eager AnonymousSession",
        ),
        compare(
            f"token requests in {hours} h",
            "requests",
            {
                Contender(
                    "an eager AnonymousSession",
                    is_ours=True,
                    remark=f"{counts.failures} of them failed",
                ): [counts.requests],
                Contender(fewest): [hours * 3600 / (LIFETIME / 2)],
            },
            base=fewest,
        ),
    ]


def plan(share: float, seed: int) -> FaultPlan:
    """Return a plan in which this share of the token requests fails."""
    die = random.Random(seed)
    # There are more faults than requests. The first request succeeds, because all counts start with
    # it.
    return FaultPlan(
        token=[
            Fault(delay=die.random()),
            *(
                die.choice(FAULTS) if die.random() < share else Fault(delay=die.random())
                for _ in range(10_000)
            ),
        ]
    )


async def let_pass(hours: int, faults: FaultPlan) -> Counts:
    """Let these hours pass, and return the counts."""
    server = TokenServer(faults, lifetime=LIFETIME, keep=1)
    called = 0
    async with open_test_session(server) as session:
        await session.get_access_token()
        held_at_first = session.statistics().getters_held_total
        ends_at = trio.current_time() + hours * 3600
        async with trio.open_nursery() as nursery:
            while (now := trio.current_time()) < ends_at:
                interval = TICK if is_near_a_grant(session, now) else 1.0
                count = round(A_SECOND * TICK) if interval == TICK else SPARSE
                # Each call has its own task, so a waiting caller does not delay the others.
                nursery.start_soon(_call, session, count)
                called += count
                await trio.sleep(interval)
        counts = session.statistics()
    return Counts(
        held=counts.getters_held_total - held_at_first,
        called=called,
        requests=counts.grants + counts.failures,
        failures=counts.failures,
    )


def is_near_a_grant(session: AnonymousSession, now: float) -> bool:
    """Return whether a token request is in flight, has just ended, or is due soon."""
    token = session.token_info
    # The last second counts as near, because the pause between sparse calls is a second.
    return token is None or not token.sent_at + MARGIN < now < token.stale_at - MARGIN - 1.0


async def _call(session: AnonymousSession, count: int) -> None:
    for _ in range(count):
        await session.get_access_token()
