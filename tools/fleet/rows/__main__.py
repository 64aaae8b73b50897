"""Break a fleet of real processes in many ways, and print a table of the effects.

    python -m tools.fleet.rows [--package DIR] [--limit SECONDS] [ROW ...]

Without a ROW, all rows run one after the other. ``--package`` measures another version of the
package, in the folder of a checkout. ``--limit`` is the time after which a measurement stops; a
figure with ≥ was stopped there.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from . import accidents, clocks, clusters, distances, losses, subscriptions
from .scene import Lab

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .scene import Line

ROWS: dict[str, Callable[[Lab], Awaitable[list[Line]]]] = {
    "1a": subscriptions.may_not_publish,
    "1b": subscriptions.leads_elsewhere,
    "1c": subscriptions.forgets,
    "2a": losses.flushed,
    "2b": losses.restarted,
    "2c": losses.old_dump,
    "2d": losses.lagging_replica,
    "2e": losses.old_file,
    "3": clusters.dies,
    "4": clocks.second_run,
    "5": clocks.set_back,
    "6": clocks.killed_and_set_back,
    "7": distances.cancelled_claims,
    "8": distances.round_trips,
    "9a": clusters.moves,
    "9b": accidents.later_version,
    "9c": accidents.spoilt_file,
    "9d": accidents.killed_after_drop,
}
OWN = Path(__file__).parents[3]
LIMIT = 20.0
ROW_LIMIT = 600.0
"""Seconds after which a row fails."""


async def run_row(name: str, package: Path, limit: float) -> list[Line]:
    """Run one row in its own folder."""
    with tempfile.TemporaryDirectory(prefix="rows-") as folder, trio.fail_after(ROW_LIMIT):
        return await ROWS[name](Lab(package, Path(folder), limit))


def main(arguments: list[str] | None = None) -> int:
    """Run the rows of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.fleet.rows", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--package", type=Path, default=OWN, metavar="DIR")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS")
    options = parser.parse_args(arguments)
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}")
    # The block must end, so that it ends all processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    has_failed = False
    print("| row | what was done | figure | unit |\n|--:|---|--:|---|")
    for name in options.rows or ROWS:
        try:
            lines = trio.run(run_row, name, options.package.resolve(), options.limit)
        except Exception:
            has_failed = True
            traceback.print_exc()
            print(f"| {name} | failed | | |", flush=True)
            continue
        for line in lines:
            print(f"| {name} | {line.what} | {line.figure} | {line.unit} |", flush=True)
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
