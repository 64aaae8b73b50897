"""Simulated fleets keep all claims: drawn fleets, and fleets that once showed a bug."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings

from tools.fleet.draws import fleets
from tools.fleet.fleets import Act, Crash, EndpointTrouble, Fleet, Stop, StoreTrouble
from tools.fleet.log import Asked, Got, Sent
from tools.fleet.referee import LEASE, run_fleet
from tools.fleet.run import play
from trio_anon_session.testing._timelines.timeline import Answer, Get, Invalidate, Revoke
from trio_anon_session.testing.strategies import TICK

pytestmark = pytest.mark.slow

ALL_ASK = Act(who="all", what=Get(at=TICK))


# Two processes in a row get no token: one is stopped, and the endpoint does not answer the other.
@example(
    Fleet(
        joins=(0.0, 0.0, 0.0),
        acts=(ALL_ASK, Act(who="holder", what=Stop(at=0.5, seconds=900.0))),
        endpoint=(EndpointTrouble(at=1.0, seconds=60.0, answer=Answer(latency=30.0 + TICK)),),
        latency=1.0,
    )
)
# A waiting process is stopped for longer than any process waits.
@example(
    Fleet(
        joins=(TICK, TICK, 2.0),
        every=7.5,
        acts=(
            ALL_ASK,
            Act(who="holder", what=Crash(at=1.5)),
            Act(what=Stop(at=1.5, passes=39, seconds=90.0)),
        ),
        latency=1.0,
        lifetime=60.0,
        ends_at=166.0,
    )
)
# The store does not accept the report of a drop, and sends no notification afterwards.
@example(
    Fleet(
        acts=(ALL_ASK, Act(what=Revoke(at=8.0))),
        store=(StoreTrouble(at=8.0, seconds=TICK, kind="hangs"),),
    )
)
@example(
    Fleet(
        acts=(ALL_ASK, Act(what=Invalidate(at=8.0))),
        store=(StoreTrouble(at=8.0, seconds=0.5, kind="read-only"),),
    )
)
# A process cannot listen either. It reports a failed drop again in time.
@example(
    Fleet(
        every=450.0,
        acts=(ALL_ASK, *[Act(who="all", what=Get(at=6057.0))] * 3, Act(what=Revoke(at=6057.0))),
        store=(
            StoreTrouble(at=6057.0, seconds=TICK, kind="slow", latency=8.0, who=(0,)),
            *[StoreTrouble(at=6057.0, seconds=TICK)] * 2,
        ),
        latency=TICK,
        ends_at=15571.0,
    )
)
# A notification is late, because it was in transit while the store was slow.
@example(
    Fleet(
        joins=(0.0, 0.0, 712.0),
        every=450.0,
        acts=(ALL_ASK, Act(what=Revoke(at=3570.0))),
        store=(StoreTrouble(at=3570.0, seconds=TICK, kind="slow", latency=8.0, who=(2,)),),
    )
)
# A process waits for another process's attempt, and then makes its own.
@example(
    Fleet(
        joins=(0.0, 0.0, 0.0),
        acts=(
            Act(who="all", what=Get(at=1.0, passes=29, count=2, gives_up=1.0)),
            Act(who="all", what=Get(at=3.0)),
        ),
        endpoint=(
            EndpointTrouble(
                at=0.0, seconds=2.0, answer=Answer(kind="unavailable", retry_after=0.0)
            ),
        ),
        store=(StoreTrouble(at=0.0, seconds=700.0, kind="read-only", who=(0,)),),
        latency=0.5,
        store_latency=TICK,
        seed=2946,
    )
)
@given(fleets())
def test_a_fleet_keeps_every_claim(fleet: Fleet) -> None:
    """The referee finds no broken claim, whatever fails, stops or crashes in a drawn fleet."""
    _, tally = run_fleet(fleet)
    assert tally.grants <= tally.attempts


@example(Fleet(joins=(TICK, TICK), acts=(ALL_ASK,), ends_at=15571.0))
# Fewer examples are enough, because less can happen without trouble.
@settings(max_examples=settings().max_examples // 2)
@given(fleets(troubles=False))
def test_a_fleet_without_faults_has_one_grant_in_a_life(fleet: Fleet) -> None:
    """There is one grant in each life, and no getter waits after its process's first token."""
    played, tally = run_fleet(fleet)
    lives = tally.lives + tally.under_way
    assert tally.grants == tally.attempts == lives
    sent = [entry.at for entry in played.log if isinstance(entry.what, Sent)]
    # After this time, the first process has found a token STALE, has looked and has claimed.
    longest = fleet.until_stale + fleet.refresh_jitter + 2 * fleet.store_latency
    # If all processes start too late, there is no request.
    lasts = fleet.ends_at - min(sent, default=fleet.ends_at)
    assert math.ceil(lasts / (longest + TICK)) <= lives <= math.ceil(lasts / fleet.until_stale)
    served_at: dict[int, float] = {}
    asked = {entry.what.getter: entry.at for entry in played.log if isinstance(entry.what, Asked)}
    for entry in played.log:
        if isinstance(entry.what, Got):
            asked_at = asked[entry.what.getter]
            assert entry.at == asked_at or asked_at < served_at.setdefault(entry.who, entry.at)


def test_a_killed_holder_delays_the_others_by_its_lease() -> None:
    """After a crash of the lease's holder, waiting getters get a token when the lease has ended."""
    fleet = Fleet(
        joins=(0.0,) * 5,
        acts=(ALL_ASK, Act(who="holder", what=Crash(at=1.0))),
        latency=2.0,
        ends_at=60.0,
    )
    played, tally = run_fleet(fleet)
    sent = [entry.at for entry in played.log if isinstance(entry.what, Sent)]
    assert sent[1] == TICK + LEASE
    assert {e.at for e in played.log if isinstance(e.what, Got)} == {TICK + LEASE + 2.0}
    assert (tally.lives, tally.lost, tally.grants) == (1, 1, 2)


def test_two_runs_of_a_fleet_are_equal() -> None:
    """Two runs of the same fleet have the same log."""
    fleet = Fleet(
        joins=(0.0, 0.0, 1.0),
        every=450.0,
        acts=(ALL_ASK, Act(who="holder", what=Stop(at=3000.5, seconds=20.0))),
        latency=1.0,
        seed=7,
    )
    first, second = play(fleet), play(fleet)
    assert first.log == second.log
    assert first.questions == second.questions
