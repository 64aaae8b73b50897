"""Long runs: many timelines, many fleets, and simulated years of a token's life.

    python -m tools.soak --timelines 100000 --fleets 100000 --years 20 --state soak.json

The program does three kinds of work: batches of drawn timelines, batches of drawn fleets, and
single timelines of a month with hundreds of grants, callers and faults. It prints the seed of each
piece. To repeat a piece, use ``--first-seed N``, and 0 for the other kinds. ``--state`` names a
file with the progress, from which the next run continues. A broken promise ends the run with its
picture, a broken claim of a fleet with its log, and both with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tests.drawing import draw_each
from tools.fleet.draws import fleets
from tools.fleet.referee import BrokenClaimError, run_fleet
from trio_anon_session.testing.strategies import (
    PASSING_KINDS,
    Action,
    Answer,
    Ask,
    BrokenTimelineError,
    Get,
    Invalidate,
    Kill,
    Revoke,
    SetWall,
    Suspend,
    Timeline,
    run_timeline,
    timelines,
)

if TYPE_CHECKING:
    from tools.fleet.fleets import Fleet

BATCH = 50
MONTH = 30 * 86400.0
YEAR = 365 * 86400.0


@attrs.define
class Progress:
    """The progress: the next seed of each kind, and the totals."""

    path: Path | None = None
    timelines: int = 0
    fleets: int = 0
    simulated: float = 0.0
    grants: int = 0
    next_batch: int = 0
    next_fleets: int = 0
    next_month: int = 0

    @classmethod
    def load(cls, path: Path | None, first_seed: int) -> Progress:
        """Return the progress in a file, or a new one if the file does not exist."""
        if path is not None and path.exists():
            return cls(path, **json.loads(path.read_text()))
        return cls(path, next_batch=first_seed, next_fleets=first_seed, next_month=first_seed)

    def add(self, timeline: Timeline) -> None:
        """Run a timeline, and count it."""
        outcome = run_timeline(timeline)
        self.timelines += 1
        self.simulated += outcome.story.ends_at
        self.grants += outcome.server.grants

    def add_fleet(self, fleet: Fleet) -> None:
        """Run a fleet, and count it."""
        _, tally = run_fleet(fleet)
        self.fleets += 1
        self.grants += tally.grants

    def save(self) -> None:
        """Write the progress to its file."""
        if self.path is not None:
            state = attrs.asdict(self, filter=attrs.filters.exclude("path"))
            self.path.write_text(json.dumps(state))


def run_batch(progress: Progress, number: int, count: int = BATCH) -> None:
    """Draw and run timelines, each in two orders of tasks."""

    def run(timeline: Timeline) -> None:
        # Run each timeline in two orders of tasks, because drawing takes longer than running.
        progress.add(timeline)
        progress.add(attrs.evolve(timeline, seed=timeline.seed + 1))

    draw_each(timelines(), run, seed=number, count=count, shrink=True)


def run_fleets(progress: Progress, number: int, count: int = BATCH) -> None:
    """Draw and run fleets, each in two orders of tasks."""

    def run(fleet: Fleet) -> None:
        progress.add_fleet(fleet)
        progress.add_fleet(attrs.evolve(fleet, seed=fleet.seed + 1))

    draw_each(fleets(), run, seed=number, count=count, shrink=True)


def month(number: int) -> Timeline:
    """Return a timeline of thirty days, with faults in up to 30 % of the requests."""
    rng = random.Random(number)
    fault_rate = rng.choice([0.0, 0.01, 0.05, 0.3])
    moves_wall = rng.random() < 0.3

    def answer() -> Answer:
        if rng.random() >= fault_rate:
            return Answer(latency=rng.choice([0.0, 0.25, 2.0]))
        kind = rng.choice([*PASSING_KINDS, "rejected", "refused"])
        return Answer(kind=kind, latency=rng.choice([0.0, 1.0]))

    def moment() -> dict[str, Any]:
        return {"at": float(rng.randrange(int(MONTH))), "passes": rng.choice([0, 0, 3])}

    def action() -> Action:
        draw = rng.random()
        if draw < 0.02:
            return Revoke(**moment())
        if draw < 0.05:
            return Invalidate(**moment(), age=rng.choice([0, 1]))
        if draw < 0.07:
            return Kill(**moment())
        if draw < 0.10 and moves_wall:
            return Suspend(**moment(), seconds=rng.choice([600.0, 30_000.0]))
        if draw < 0.12 and moves_wall:
            return SetWall(**moment(), by=rng.choice([-3600.0, 5.0, 3600.0]))
        asks: tuple[Ask, ...] = ("get", "nowait", "exchange", "use")
        return Get(**moment(), ask=rng.choice(asks), count=rng.choice([1, 3]))

    return Timeline(
        lifetime=rng.choice([3600.0, 3601.0, 4250.0, 7200.0, 86400.0]),
        answers=[answer() for _ in range(1500)],
        actions=[Get(at=0.0), *(action() for _ in range(rng.choice([20, 400])))],
        leaves_at=MONTH,
        seed=number,
        refresh=rng.choice(["eager", "eager", "on_request"]),
        refresh_jitter=rng.choice([0.0, 60.0]),
        idle_timeout=rng.choice([None, None, 7200.0]),
        stale_buffer=rng.choice([600.0, 60.0]),
        revoke_on_exit=rng.random() < 0.5,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run until both goals are reached, or a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--timelines", type=int, default=2000, help="how many to draw")
    parser.add_argument("--fleets", type=int, default=400, help="how many to draw")
    parser.add_argument("--years", type=float, default=0.5, help="how many to simulate")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="file with the progress, to continue from")
    parser.add_argument("--svg", type=Path, help="file for the picture of a broken timeline")
    goals = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    progress = Progress.load(goals.state, goals.first_seed)
    began = time.monotonic()

    def report(what: str) -> None:
        years = progress.simulated / YEAR
        seconds = time.monotonic() - began
        print(
            f"{what}: {progress.timelines} timelines, {progress.fleets} fleets, "
            f"{years:.2f} years, {progress.grants} grants; {seconds:.0f} s",
            flush=True,
        )
        progress.save()

    what = ""
    try:
        while progress.timelines < goals.timelines:
            what = f"timelines of seed {progress.next_batch}"
            run_batch(progress, progress.next_batch)
            progress.next_batch += 1
            report(what)
        while progress.fleets < goals.fleets:
            what = f"fleets of seed {progress.next_fleets}"
            run_fleets(progress, progress.next_fleets)
            progress.next_fleets += 1
            report(what)
        while progress.simulated < goals.years * YEAR:
            what = f"month of seed {progress.next_month}"
            progress.add(month(progress.next_month))
            progress.next_month += 1
            report(what)
    except BrokenTimelineError as broken:
        print(f"{what}: {broken}")
        if goals.svg is not None:
            goals.svg.write_text(broken.outcome.svg())
        return 1
    except BrokenClaimError as broken_claim:
        print(f"{what}: {broken_claim}")
        return 1
    except BaseException:
        print(f"{what}: ended by the following exception", flush=True)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
