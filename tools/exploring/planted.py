"""Plants bugs in a machine, one at a time, and counts the states that each takes to find."""

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
"""Maximum number of states of each part, for one search after the other."""


class Found(NamedTuple):
    """Result of a search.

    Attributes:
        states: number of states found in the part in which the bug was found.
        promise: number of the broken promise; None if the bug was not found.
        words: what happened.
        events: length of the shortest path.
        where: name of the part.
        timeline: the path as text.
    """

    states: int
    promise: int | None = None
    words: str = ""
    events: int = 0
    where: str = ""
    timeline: str = ""


def search(bug: Bug, package: str) -> Found:
    """Explore the machine with a bug. The process must not have imported the machine before.

    Args:
        bug: the bug.
        package: package with ``bounds.all_parts``, ``search.Search`` and ``timeline.draw``.
    """
    load_from(bug.module, bug.source())
    all_parts = import_module(f"{package}.bounds").all_parts
    kind = import_module(f"{package}.search").Search
    draw = import_module(f"{package}.timeline").draw

    left = all_parts()
    # The paths to most bugs are short, so first explore only the begin of each part.
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
    """Search for a bug in a separate process. The first bug has number 1."""
    words = [sys.executable, "-m", f"{package}.planted", "--here", str(number)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return Found(*json.loads(ended.stdout))


def main(package: str, bugs: Sequence[Bug], survivors: Mapping[str, str]) -> int:
    """Print a line for each bug.

    Args:
        package: as for `search`. Its module ``planted`` calls this function.
        bugs: the bugs.
        survivors: the bugs that the exploration cannot find, each with the reason.
    """
    parser = argparse.ArgumentParser(description="Plant bugs in the machine, one at a time.")
    parser.add_argument(
        "numbers", nargs="*", type=int, metavar="NUMBER", help="find only these bugs"
    )
    parser.add_argument("--paths", type=int, default=0, help="draw the paths to the first N bugs")
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
