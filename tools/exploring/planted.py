"""Plants bugs in a machine, one at a time, and sees how soon its exploration finds each."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from tools.exploring.promises import BrokenPromiseError
from tools.mutation.loading import ROOT, load_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.exploring.bugs import Bug

LIMITS = (1000, 8000, None)
"""States of each part, in one search after the other."""


class Found(NamedTuple):
    """What came of a search.

    Attributes:
        states: the states that were found in the part where the bug was found.
        promise: the promise that was broken, or None.
        words: what happened.
        events: the length of the shortest path.
        where: the part.
        timeline: the path as text.
    """

    states: int
    promise: int | None = None
    words: str = ""
    events: int = 0
    where: str = ""
    timeline: str = ""


def search(bug: Bug, package: str) -> Found:
    """Explore the machine with a bug in it, in a process that has not imported it yet.

    Args:
        bug: the bug.
        package: has ``all_parts`` in ``bounds``, `Search` in ``search``, ``draw`` in ``timeline``.
    """
    load_from(bug.module, bug.source())
    all_parts = import_module(f"{package}.bounds").all_parts
    kind = import_module(f"{package}.search").Search
    draw = import_module(f"{package}.timeline").draw

    left = all_parts()
    # The paths to most bugs are short: a look at the start of each part comes first.
    for limit in LIMITS:
        states = 0
        for name, bounds in tuple(left.items()):
            try:
                found = kind(bounds, most_states=limit).run()
            except BrokenPromiseError as broken:
                timeline = draw(bounds, broken.path)
                words, count = broken.words, len(broken.path)
                return Found(broken.states, broken.promise, words, count, name, timeline)
            states += found.states
            if found.is_exhausted:
                del left[name]
    return Found(states)


def search_apart(number: int, package: str) -> Found:
    """Search in a process of its own. Bugs are counted from 1."""
    words = [sys.executable, "-m", f"{package}.planted", "--here", str(number)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return Found(*json.loads(ended.stdout))


def main(package: str, bugs: Sequence[Bug], survivors: Mapping[str, str]) -> int:
    """Print a line for each bug.

    Args:
        package: as for `search`; its ``planted`` calls this.
        bugs: the bugs.
        survivors: those that no exploration can find, each with the reason.
    """
    parser = argparse.ArgumentParser(description="Plant bugs in the machine, one at a time.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="only these bugs")
    parser.add_argument("--paths", type=int, default=0, help="draw the first paths")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(search(bugs[options.here - 1], package)))
        return 0
    numbers = options.numbers or range(1, len(bugs) + 1)
    paths = itertools.count(1)
    survived = 0
    print(f"{'':>4} {'promise':>7}  {'bug':<64} {'broken':>8} {'states':>7} {'path':>4}  in")
    for number in numbers:
        bug, found = bugs[number - 1], search_apart(number, package)
        broken = "survived" if found.promise is None else found.promise
        start = f"{number:>4} {bug.promise:>7}  {bug.what:<64} {broken:>8} {found.states:>7}"
        print(f"{start} {found.events or '':>4}  {found.where}", flush=True)
        if found.promise is None:
            survived += bug.what not in survivors
            print(f"      {survivors.get(bug.what, 'not found')}")
        elif next(paths) <= options.paths:
            print(f"\n{found.words}\n{found.timeline}\n")
    return 1 if survived else 0
