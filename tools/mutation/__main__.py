"""Run the tests on every mutant of the core and of the stores' decisions.

    python -m tools.mutation [--all] [--again] [--seconds N] [--jobs N] [MODULE ...]

The program tries each mutant in a fork. It does not change the source, and kills a mutant that
hangs. Most mutants replace the body of a function: pytest collects the tests once, and each fork
replaces the body. For other mutants, the fork imports the package again.

The quick tests that reach the changed lines run, the fastest first, until one fails, for 40 seconds
at most; ``--all`` adds the slow ones. Hypothesis draws fewer examples than usual, the same ones
each time.

Exit code 1 if a mutant survives that survivors.md does not list, or if a listed one no longer
exists.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import attrs

from .loading import source_path
from .mutants import Mutant, mutants
from .preparing import RESULTS, prepare, record, side_by_side
from .suite import CORE, STORES
from .trying import KILLED, STILLBORN, SURVIVED, TIMED_OUT, fork, try_bodies, try_with_import

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .suite import Suite

ACCEPTED = Path(__file__).with_name("survivors.md")
OUTCOMES = RESULTS / "outcomes.jsonl"


@attrs.define
class _Results:
    """The outcome of each mutant by its key, and the test that failed."""

    accepted: set[str]
    found: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    # pytest captures sys.stderr.
    out: TextIO = attrs.field(factory=lambda: os.fdopen(os.dup(1), "w"))

    def record(self, module: str, mutant: Mutant, outcome: str, test: str) -> None:
        key = mutant.key(module)
        killer = test if outcome in (KILLED, TIMED_OUT) else ""
        # One write, so that the lines of several processes do not mix.
        with OUTCOMES.open("ab", buffering=0) as file:
            file.write(json.dumps([key, outcome, killer]).encode() + b"\n")
        if outcome == SURVIVED and key not in self.accepted:
            print(f"survived  {key}", file=self.out, flush=True)

    def load(self) -> None:
        if OUTCOMES.exists():
            for line in OUTCOMES.read_text().splitlines():
                key, outcome, killer = json.loads(line)
                self.found[key] = outcome, killer

    def show(self, modules: Sequence[str], keys: dict[str, list[str]]) -> bool:
        """Print the table, and return whether the survivors are those that are accepted."""
        columns = (KILLED, TIMED_OUT, SURVIVED, "accepted", STILLBORN)
        print("module".ljust(16), *(column.rjust(9) for column in columns), "score".rjust(8))
        table = {}
        for module in modules:
            table[module] = Counter(self.found[key][0] for key in keys[module])
            survivors = {key for key in keys[module] if self.found[key][0] == SURVIVED}
            table[module]["accepted"] = len(survivors & self.accepted)
        total: Counter[str] = sum(table.values(), Counter())
        for module, counts in [*table.items(), ("all", total)]:
            killed = counts[KILLED] + counts[TIMED_OUT]
            score = 100 * killed / max(1, killed + counts[SURVIVED])
            cells = (str(counts[column]).rjust(9) for column in columns)
            print(module.ljust(16), *cells, f"{score:7.1f}%")
        known = {key for module in modules for key in keys[module]}
        listed = {key for key in self.accepted if key.partition(" ")[0] in modules}
        for key in sorted(listed - known):
            print(f"{ACCEPTED.name} lists a mutant that does not exist: {key}")
        return total[SURVIVED] == total["accepted"] and listed <= known


def _accepted() -> set[str]:
    """Return the keys of the survivors that the file lists with a reason."""
    return set(re.findall(r"^- `` ?(.+?) ?``$", ACCEPTED.read_text(), re.MULTILINE))


def _share(
    suite: Suite,
    wanted: list[tuple[str, Mutant]],
    results: _Results,
    number: int,
    *,
    everything: bool,
) -> int:
    """Try a share of the mutants in this process."""
    running = RESULTS / f"running-{number}"
    bodies = [one for one in wanted if suite.needs_no_import(*one)]

    def work() -> int:
        with (RESULTS / f"pytest-{number}.log").open("w") as log, contextlib.redirect_stdout(log):
            return try_bodies(suite, bodies, results.record, running, everything=everything)

    if fork(work, silent=False) != 0:
        print(f"the tests could not be run on the mutants: see {RESULTS}", file=results.out)
        return 1
    for module, mutant in wanted:
        if not suite.needs_no_import(module, mutant):
            results.record(module, mutant, *try_with_import(module, mutant, suite, running))
    return 0


def _try_all(
    modules: Sequence[str],
    results: _Results,
    jobs: int,
    enough: float,
    *,
    again: bool,
    everything: bool,
) -> dict[str, list[str]]:
    """Try the mutants without an outcome, and return the keys of all."""
    sources = [source_path(module).read_text() for module in modules]
    with ProcessPoolExecutor(jobs) as pool:
        made = [
            (module, mutant)
            for module, found in zip(modules, pool.map(mutants, sources), strict=True)
            for mutant in found
        ]
    known = results.found if again else {}
    wanted = [
        (module, mutant)
        for module, mutant in made
        if (key := mutant.key(module)) not in known
        or (known[key][0] == SURVIVED and key not in results.accepted)
    ]
    killers = {key: killer for key, (_, killer) in results.found.items() if killer}
    if wanted:
        suite = record(modules, killers, enough, everything=everything)

        def try_share(number: int) -> int:
            return _share(suite, wanted[number::jobs], results, number, everything=everything)

        side_by_side(jobs, try_share)
    keys: dict[str, list[str]] = {module: [] for module in modules}
    for module, mutant in made:
        keys[module].append(mutant.key(module))
    return keys


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="for example session")
    parser.add_argument("--all", action="store_true", help="also run slow tests")
    parser.add_argument("--again", action="store_true", help="only mutants not tried yet")
    parser.add_argument("--seconds", type=float, default=40.0, help="of tests for each mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    chosen = parser.parse_args()
    prepare()
    results = _Results(_accepted())
    results.load()
    modules = chosen.modules or (*CORE, *STORES)
    keys = _try_all(
        modules, results, chosen.jobs, chosen.seconds, again=chosen.again, everything=chosen.all
    )
    results.load()
    if not results.show(modules, keys):
        sys.exit(1)


if __name__ == "__main__":
    main()
