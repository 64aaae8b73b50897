"""The planted bugs fit the claimant as it is, and the exploration finds some quickly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tools.claimant.bugs import BUGS, SURVIVORS
from tools.claimant.planted import PACKAGE
from tools.exploring.planted import search_apart

if TYPE_CHECKING:
    from tools.exploring.bugs import Bug

QUICK = (
    "a lease of another process is overlooked",
    "each failure is an answer",
    "a drop is not written to the store",
)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what for bug in BUGS])
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """The place of each bug exists once."""
    compile(bug.source(), bug.module, "exec")


def test_every_bug_is_another_one() -> None:
    """No bug is planted twice."""
    assert max(Counter(bug.what for bug in BUGS).values()) == 1
    assert max(Counter(bug.source() for bug in BUGS).values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", QUICK)
def test_a_planted_bug_is_found(what: str) -> None:
    """The exploration finds a bug, and draws the way there."""
    number = [bug.what for bug in BUGS].index(what)
    found = search_apart(number + 1, PACKAGE)
    assert found.promise is not None
    assert "BROKEN" in found.timeline


def test_every_survivor_is_a_bug() -> None:
    """No reason is given for a bug that is not planted."""
    assert {*SURVIVORS} <= {bug.what for bug in BUGS}
