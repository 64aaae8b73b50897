"""The planted bugs can be applied to the code, they differ, and some are found quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tools import planted as of_timelines
from tools.claimant import bugs as of_claimants
from tools.exploring.planted import search_apart
from tools.lifecycle import bugs as of_sessions

if TYPE_CHECKING:
    from types import ModuleType

PACKAGES: dict[str, ModuleType] = {
    "tools.planted": of_timelines,
    "tools.claimant": of_claimants,
    "tools.lifecycle": of_sessions,
}
QUICK = {
    "a lease of another process is overlooked": "tools.claimant",
    "each failure is an answer": "tools.claimant",
    "a drop is not written to the store": "tools.claimant",
    "a request is due while one is in flight": "tools.lifecycle",
    "rejected credentials do not end the round": "tools.lifecycle",
    "a discarded answer becomes the token": "tools.lifecycle",
    "a closed session keeps callers waiting": "tools.lifecycle",
}
"""Bugs that are found within a second, each with the package of the exploration."""


@pytest.mark.parametrize("package", PACKAGES)
def test_the_bugs_can_be_planted(package: str) -> None:
    """Each bug can be planted and is valid Python, and no two bugs are the same."""
    bugs: tuple[Any, ...] = PACKAGES[package].BUGS
    for bug in bugs:
        compile(bug.source(), bug.module, "exec")
    assert len({bug.what for bug in bugs}) == len({bug.source() for bug in bugs}) == len(bugs)
    # Each survivor is the name of a planted bug.
    survivors = getattr(PACKAGES[package], "SURVIVORS", ())
    assert {*survivors} <= {bug.what for bug in bugs}


def test_there_is_a_bug_for_each_promise() -> None:
    """For each promise that a timeline can break, at least one bug breaks it."""
    assert {bug.promise for bug in of_timelines.BUGS} == {*range(1, 21)}


@pytest.mark.slow
def test_a_timeline_finds_a_planted_bug() -> None:
    """The search with timelines finds a planted bug and names its promise."""
    [number] = [
        number
        for number, bug in enumerate(of_timelines.BUGS, 1)
        if bug.what == "time is counted from the answer"
    ]
    found = of_timelines.search_here(number)
    assert found.promise == 1
    assert "A expires at" in found.text


@pytest.mark.slow
@pytest.mark.parametrize("what", QUICK)
def test_an_exploration_finds_a_planted_bug(what: str) -> None:
    """The exploration finds each of these bugs and shows the timeline."""
    package = QUICK[what]
    number = [bug.what for bug in PACKAGES[package].BUGS].index(what)
    found = search_apart(number + 1, package)
    assert found.promise is not None
    assert "BROKEN" in found.timeline
