"""Run all benchmarks, or those on the command line, and print the results."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import page, report, results, scenes
from benchmarks.apart import Measured, measure_apart
from benchmarks.measure import BRIEF, FULL
from benchmarks.results import Results
from benchmarks.versions import machine, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.measure import Comparison, Effort

PICTURES = ("speed", "trouble", "growth")


def main(
    given: Sequence[str] | None = None,
    measure_scene: Callable[[str, Effort], Measured] = measure_apart,
) -> None:
    """Run the benchmarks of the command line; exit with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(scenes.NAMES))
    parser.add_argument("--brief", action="store_true", help="only check that everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument(
        "--write", action="store_true", help="store the results, and write page and pictures"
    )
    parser.add_argument(
        "--draw", action="store_true", help="write page and pictures from the stored results"
    )
    arguments = parser.parse_args(given)
    unknown = [name for name in arguments.scenes if name not in scenes.NAMES]
    if unknown:
        parser.error(f"no such scene: {', '.join(unknown)}; there are {', '.join(scenes.NAMES)}")
    if arguments.write and (arguments.scenes or arguments.brief):
        parser.error("--write requires all scenes, without --brief")
    if arguments.draw:
        draw()
        return

    effort = BRIEF if arguments.brief else FULL
    names = arguments.scenes or scenes.NAMES
    measured = run(names, effort, measure_scene, may_leave_out=not arguments.write)
    found = Results(versions(), machine(), effort, measured)
    if arguments.json:
        arguments.json.write_text(found.to_json(), encoding="utf-8")
    if arguments.write:
        results.FILE.write_text(found.to_json(), encoding="utf-8")
        draw()
    misses = [] if arguments.brief else list(found.misses())
    for miss in misses:
        print(f"not kept: {miss}")
    sys.exit(bool(misses))


def run(
    names: Iterable[str],
    effort: Effort,
    measure_scene: Callable[[str, Effort], Measured],
    *,
    may_leave_out: bool,
) -> dict[str, tuple[Comparison, ...]]:
    """Run these scenes, print and return the results of each."""
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(", ".join(machine().values()), flush=True)
    found = {}
    for name in names:
        try:
            title, comparisons = measure_scene(name, effort)
        except scenes.LeftOutError as error:
            if not may_leave_out:
                sys.exit(f"{name} {error}, and all scenes are wanted")
            print(f"{scenes.title(scenes.load(name))}: left out, {error}", flush=True)
            continue
        print(*report.lines(title, comparisons), sep="\n", flush=True)
        found[name] = comparisons
    return found


def draw() -> None:
    """Write the page and the pictures from the stored results."""
    text = page.FILE.read_text(encoding="utf-8")
    page.FILE.write_text(page.fill(text, results.read()), encoding="utf-8")
    print(page.FILE)
    # The programs must import these benchmarks, and not those of another clone that is installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for name in PICTURES:
        program = page.FILE.parents[1] / "pictures" / f"{name}.py"
        subprocess.run([sys.executable, program], env=environment, check=True)


if __name__ == "__main__":
    main()
