"""Run the quick suite on every planted bug, and print how soon a test fails.

    python -m tools.mutation.bugs [--jobs N]

The bugs are those of `tools.planted`, `tools.lifecycle` and `tools.claimant`, which also have their
own programs to find them. The tests that reach the changed lines run, the fastest first. Exit code
1 if no test finds a bug that the explorations find.
"""

from __future__ import annotations

import argparse
import math
import os
import time

from tools import planted
from tools.claimant.bugs import BUGS as OF_THE_CLAIMANT
from tools.claimant.bugs import SURVIVORS as NOT_OF_THE_CLAIMANT
from tools.lifecycle.bugs import BUGS as OF_THE_LIFECYCLE
from tools.lifecycle.bugs import SURVIVORS as NOT_OF_THE_LIFECYCLE

from .loading import source_path
from .mutants import from_bug
from .preparing import RESULTS, prepare, record, side_by_side
from .trying import SURVIVED, try_with_import

SURVIVORS = NOT_OF_THE_CLAIMANT | NOT_OF_THE_LIFECYCLE
SETS = {
    "timelines": planted.BUGS,
    "lifecycle": OF_THE_LIFECYCLE,
    "claimant": OF_THE_CLAIMANT,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation.bugs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    jobs: int = parser.parse_args().jobs
    prepare()
    bugs = [(name, bug) for name, one_set in SETS.items() for bug in one_set]
    suite = record(sorted({bug.module for _, bug in bugs}), {}, math.inf, everything=False)

    def try_share(number: int) -> int:
        survived = 0
        for name, bug in bugs[number::jobs]:
            mutant = from_bug(bug, source_path(bug.module).read_text())
            began = time.monotonic()
            running = RESULTS / f"running-{number}"
            outcome, test = try_with_import(bug.module, mutant, suite, running)
            seconds = time.monotonic() - began
            words = test
            if outcome == SURVIVED:
                words = SURVIVORS.get(bug.what, "NOT FOUND")
                survived += bug.what not in SURVIVORS
            print(f"{name:<10} {bug.what:<64} {outcome:<9} {seconds:>5.1f} s  {words}", flush=True)
        return min(survived, 1)

    side_by_side(jobs, try_share)


if __name__ == "__main__":
    main()
