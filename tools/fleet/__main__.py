"""Simulate fleets: print the tables of a page, or search for broken claims.

    python -m tools.fleet [--write | --soak NUMBER [--first-seed NUMBER]]

Without options, the program prints the tables of `docs/explanation/fleet.md`, with the time that
each row took. ``--write`` writes them to the page. ``--soak`` draws fleets and checks each. It
shrinks and prints a fleet that breaks a claim, and exits with code 1.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time

from tests.drawing import draw_each

from .draws import fleets
from .page import PAGE, fill, rows
from .referee import BrokenClaimError, run_fleet

BATCH = 50
"""Number of fleets for each seed."""


def show() -> None:
    """Print all rows."""
    for make in rows().values():
        began = time.monotonic()
        print(f"{make()}  {time.monotonic() - began:.1f} s", flush=True)


def soak(number: int, first_seed: int) -> int:
    """Draw fleets, and check each."""
    began = time.monotonic()
    done = 0
    for seed in itertools.count(first_seed):
        if done >= number:
            return 0
        try:
            draw_each(fleets(), run_fleet, seed=seed, count=BATCH, shrink=True)
        except BrokenClaimError as broken:
            print(f"fleets of seed {seed}: {broken}")
            return 1
        done += BATCH
        print(f"seed {seed}: {done} fleets; {time.monotonic() - began:.0f} s", flush=True)
    raise AssertionError


def main() -> int:
    """Run the program with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.fleet", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--soak", type=int, metavar="NUMBER", help="draw this number of fleets")
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    # Warnings about the simulated faults would hide an error of the runs.
    logging.disable(logging.CRITICAL)
    if options.soak is not None:
        return soak(options.soak, options.first_seed)
    if options.write:
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
