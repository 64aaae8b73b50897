"""The bugs that `python -m tools.planted` plants fit the core as it is."""

from __future__ import annotations

import pytest

from tools.planted import BUGS, Bug, search_here


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what for bug in BUGS])
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """There is one place for it in the source, and what it makes of that is Python."""
    compile(bug.source(), bug.module, "exec")


def test_there_is_a_bug_for_each_promise() -> None:
    """Each promise that a timeline can break is broken by one at least."""
    assert {bug.promise for bug in BUGS} == {*range(1, 21)}


@pytest.mark.slow
def test_a_planted_bug_is_found() -> None:
    """A process of its own runs the core with the bug in it, and the referee sees it."""
    bug = next(bug for bug in BUGS if bug.what == "time is counted from the answer")
    found = search_here(BUGS.index(bug) + 1)
    assert found.promise == 1
    assert "A expires at" in found.text
