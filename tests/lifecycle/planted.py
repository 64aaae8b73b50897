"""Plant bugs in the machine, one at a time, and see how soon the exploration finds each.

    python -m tests.lifecycle.planted [--paths N] [NUMBER ...]

Each bug is looked for in a process of its own; the source is not written to. Exit code 1 if a
bug is not found, unless `SURVIVORS` gives the reason. ``--paths N`` draws the shortest path to
the first N bugs that are found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from typing import NamedTuple

from tests.lifecycle.bugs import BUGS, SURVIVORS, Bug
from tests.mutation.loading import ROOT, load_from

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


def search(bug: Bug) -> Found:
    """Explore the machine with a bug in it, in a process that has not imported it yet."""
    load_from(bug.module, bug.source())
    from tests.lifecycle.bounds import all_parts
    from tests.lifecycle.facts import BrokenPromiseError
    from tests.lifecycle.search import Search
    from tests.lifecycle.timeline import draw

    left = all_parts()
    # The paths to most bugs are short: a look at the start of each part comes first.
    for limit in LIMITS:
        states = 0
        for name, bounds in tuple(left.items()):
            try:
                found = Search(bounds, most_states=limit).run()
            except BrokenPromiseError as broken:
                timeline = draw(bounds, broken.path)
                words, count = broken.words, len(broken.path)
                return Found(broken.states, broken.promise, words, count, name, timeline)
            states += found.states
            if found.is_exhausted:
                del left[name]
    return Found(states)


def search_apart(number: int) -> Found:
    """Search in a process of its own. Bugs are counted from 1."""
    words = [sys.executable, "-m", "tests.lifecycle.planted", "--here", str(number)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return Found(*json.loads(ended.stdout))


def main() -> int:
    """Print a line for each bug."""
    parser = argparse.ArgumentParser(description="Plant bugs in the machine, one at a time.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="only these bugs")
    parser.add_argument("--paths", type=int, default=0, help="draw the first paths")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(search(BUGS[options.here - 1])))
        return 0
    numbers = options.numbers or range(1, len(BUGS) + 1)
    paths = itertools.count(1)
    survived = 0
    print(f"{'':>4} {'promise':>7}  {'bug':<64} {'broken':>8} {'states':>7} {'path':>4}  in")
    for number in numbers:
        bug, found = BUGS[number - 1], search_apart(number)
        broken = "survived" if found.promise is None else found.promise
        start = f"{number:>4} {bug.promise:>7}  {bug.what:<64} {broken:>8} {found.states:>7}"
        print(f"{start} {found.events or '':>4}  {found.where}", flush=True)
        if found.promise is None:
            survived += bug.what not in SURVIVORS
            print(f"      {SURVIVORS.get(bug.what, 'not found')}")
        elif next(paths) <= options.paths:
            print(f"\n{found.words}\n{found.timeline}\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
