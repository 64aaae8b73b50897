"""The exploration of claimants: no sequence of events breaks a promise."""

from __future__ import annotations

import pytest

from tools.claimant.bounds import Bounds, all_parts, small_constants
from tools.claimant.events import EVENTS, act
from tools.claimant.search import Search
from tools.claimant.snapshots import COPIER
from tools.claimant.timeline import draw
from tools.claimant.world import World

LONG = (
    *("three", "cancels", "failures", "stops", "lost writes", "lost answers"),
    *("drops", "drops, same", "drops, watch"),
)
"""Parts that take more than a few seconds."""
PATH = (
    ("ask", 0),
    ("receive", 0, 0),
    ("receive", 0, 0),
    ("grant", 0),
    ("receive", 0, 0),
    ("ask", 1),
    ("receive", 1, 0),
    ("drop", 0),
    ("tick",),
)


@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=pytest.mark.slow) if part in LONG else part for part in all_parts()],
)
def test_every_sequence_of_events_keeps_the_promises(part: str) -> None:
    """The search reaches all states of a part, and finds no broken promise in them."""
    found = Search(all_parts()[part]).run()
    assert found.is_exhausted
    assert found.transitions > found.states > 500


def test_some_part_has_every_fault() -> None:
    """The parts have each fault, except a restart, after which a token's age is unknown."""
    kinds = {kind for bounds in all_parts().values() for kind in bounds.kinds}
    ends = {"continue", "outage ends", "copy"}
    users = {"tick", "do", "receive", "ask", "grant", "fail", "wake", "cancel", "drop"}
    assert kinds == EVENTS.keys() - ends - users - {"watch", "watch again", "restart"}


def test_a_snapshot_restores_a_world() -> None:
    """A snapshot that is restored equals the state at which it was taken."""
    bounds = Bounds(drops=1, watch=1)
    with small_constants(bounds):
        world = World(bounds)
        start = COPIER.take(world)
        for event in PATH:
            act(world, event)
        changed = COPIER.take(world)
        assert changed != start
        COPIER.restore(start)
        assert COPIER.take(world) == start
        COPIER.restore(changed)
        assert COPIER.take(world) == changed


def test_a_search_that_is_cut_short_is_not_exhausted() -> None:
    """A search that stops at a number of states does not count as exhausted."""
    assert not Search(Bounds(), most_states=100).run().is_exhausted


def test_a_timeline_has_a_line_for_each_event() -> None:
    """A timeline shows what each event did, and the state after it."""
    lines = draw(Bounds(drops=1, watch=1), PATH).splitlines()
    assert len(lines) == 1 + len(PATH)
    assert "Q: receive look (asking)" in lines[7]
    assert "gets a token" in lines[7]
    assert "dropped: t1" in lines[8]
