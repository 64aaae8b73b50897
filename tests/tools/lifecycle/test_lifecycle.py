"""The exploration of the lifecycle: no sequence of events breaks a promise."""

from __future__ import annotations

import pytest

from tools.lifecycle.bounds import MODES, Bounds, all_parts, parts_of, short_sleeps
from tools.lifecycle.events import EVENTS
from tools.lifecycle.search import Search
from tools.lifecycle.snapshots import COPIER
from tools.lifecycle.timeline import draw
from tools.lifecycle.world import World

EVERY_RESULT = {
    "tick": {""},
    "wall": {"forward", "back"},
    "timer": {"starts a request", "starts nothing"},
    "send": {"sent", "not sent"},
    "answer": {
        *("a token", "the same token", "discarded", "after the end"),
        *("failure: bad", "failure: rejected", "failure: expired"),
    },
    "get": {
        *("a FRESH token", "a STALE token", "closed"),
        *("waits", "waits for the lock", "an error in the pause"),
    },
    "nowait": {"a FRESH token", "a STALE token", "no token"},
    "look": {
        *("a FRESH token", "a STALE token", "closed"),
        *("waits on", "the error of its round", "what is known"),
    },
    "cancel": {""},
    "late report": {"nothing"},
    "invalidate": {"dropped", "nothing"},
    "revoke": {"revokes", "nothing to revoke"},
    "close": {"closed"},
}
"""The results of each event that the search must reach in every mode."""
OF_ALL_ANSWERS = {
    "answer": {
        *("failure: nonsense", "failure: foreign", "failure: renewed", "failure: local"),
        *("failure: dropped", "failure: revoked"),
    },
    "revoked": {""},
}
"""The results that a part with all answers must reach in addition."""
MARKS = {"eager": pytest.mark.slow, "on_request": pytest.mark.slow}
"""Marks of the modes that take more than ten seconds."""


@pytest.mark.parametrize("mode", [pytest.param(mode, marks=MARKS.get(mode, ())) for mode in MODES])
def test_every_sequence_of_events_keeps_the_promises(mode: str) -> None:
    reached: set[tuple[str, str]] = set()
    has_all_answers = False
    for bounds in parts_of(mode).values():
        found = Search(bounds).run()
        assert found.is_exhausted
        assert found.transitions > found.states > 1000
        reached |= found.results.keys()
        has_all_answers |= bounds.all_answers
    expected = {(event, result) for event, results in EVERY_RESULT.items() for result in results}
    if has_all_answers:
        expected |= {(event, result) for event, words in OF_ALL_ANSWERS.items() for result in words}
    if MODES[mode].revoke_on_exit:
        expected.add(("close", "closed, revokes"))
    assert reached == expected


def test_some_part_has_every_event() -> None:
    assert {*EVERY_RESULT, *OF_ALL_ANSWERS} == {*EVENTS}
    assert any(bounds.all_answers for bounds in all_parts().values())


def test_a_snapshot_restores_every_slot() -> None:
    bounds = Bounds("eager")
    world = World(bounds, bounds.config())
    start = COPIER.take(world)
    path = (("get",), ("timer",), ("send",), ("answer", "new", "A", "sent"), ("revoke",))
    with short_sleeps():
        for event in path:
            EVENTS[event[0]](world, *event[1:])
    changed = COPIER.take(world)
    assert changed != start
    COPIER.restore(start)
    assert COPIER.take(world) == start
    COPIER.restore(changed)
    assert COPIER.take(world) == changed


@pytest.mark.parametrize("bounds", all_parts().values(), ids=all_parts())
def test_the_first_thousand_states_keep_the_promises(bounds: Bounds) -> None:
    # The shortest paths come first, so this finds nearly every bug that the slow tests find.
    assert not Search(bounds, most_states=1000).run().is_exhausted


def test_a_timeline_has_a_line_for_each_event() -> None:
    bounds = Bounds("on_request", wall=1.0)
    path = (("get",), ("timer",), ("send",), ("wall", 1.0), ("answer", "new", "A", "sent"))
    lines = draw(bounds, path).splitlines()
    assert len(lines) == 1 + len(path)
    assert "starts a request" in lines[2]
    assert "set by +1" in lines[4]
    assert "FRESH; A of 0" in lines[5]
