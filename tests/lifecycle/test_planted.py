"""The planted bugs fit the machine as it is, and the exploration finds some quickly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tools.exploring.planted import search_apart
from tools.lifecycle.bugs import BUGS, SURVIVORS
from tools.lifecycle.planted import PACKAGE

if TYPE_CHECKING:
    from tools.exploring.bugs import Bug

QUICK = (
    "a request is due while one is in flight",
    "rejected credentials do not end the round",
    "a discarded answer becomes the token",
    "a closed session keeps callers waiting",
)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what for bug in BUGS])
def test_a_bug_can_be_planted(bug: Bug) -> None:
    compile(bug.source(), bug.module, "exec")


def test_every_bug_is_another_one() -> None:
    assert max(Counter(bug.what for bug in BUGS).values()) == 1
    assert max(Counter(bug.source() for bug in BUGS).values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", QUICK)
def test_a_planted_bug_is_found(what: str) -> None:
    number = [bug.what for bug in BUGS].index(what)
    found = search_apart(number + 1, PACKAGE)
    assert found.promise is not None
    assert "BROKEN" in found.timeline


def test_every_survivor_is_a_bug() -> None:
    assert {*SURVIVORS} <= {bug.what for bug in BUGS}
