"""The planted bugs fit the machines as they are, and the explorations find some quickly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tools.claimant import bugs as of_claimants
from tools.exploring.planted import search_apart
from tools.lifecycle import bugs as of_sessions

if TYPE_CHECKING:
    from types import ModuleType

    from tools.exploring.bugs import Bug

PACKAGES = {"tools.claimant": of_claimants, "tools.lifecycle": of_sessions}
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

each_package = pytest.mark.parametrize("bugs", PACKAGES.values(), ids=PACKAGES)


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, id=bug.what) for bugs in PACKAGES.values() for bug in bugs.BUGS]
)
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """The place of each bug exists once."""
    compile(bug.source(), bug.module, "exec")


@each_package
def test_every_bug_is_another_one(bugs: ModuleType) -> None:
    """No bug is planted twice."""
    assert max(Counter(bug.what for bug in bugs.BUGS).values()) == 1
    assert max(Counter(bug.source() for bug in bugs.BUGS).values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", QUICK)
def test_a_planted_bug_is_found(what: str) -> None:
    """The exploration finds a bug, and draws the way there."""
    package = QUICK[what]
    number = [bug.what for bug in PACKAGES[package].BUGS].index(what)
    found = search_apart(number + 1, package)
    assert found.promise is not None
    assert "BROKEN" in found.timeline


@each_package
def test_every_survivor_is_a_bug(bugs: ModuleType) -> None:
    """No reason is given for a bug that is not planted."""
    assert {*bugs.SURVIVORS} <= {bug.what for bug in bugs.BUGS}
