"""Run the benchmarks, all or those that are named, and print what came of them.

python -m benchmarks [SCENE ...] [--brief] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import attrs

from benchmarks import report, scenes
from benchmarks.measure import BRIEF, FULL
from benchmarks.versions import versions


def main() -> None:
    """Run what is asked for; exit with 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(scenes.NAMES))
    parser.add_argument("--brief", action="store_true", help="only see that everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.scenes if name not in scenes.NAMES]
    if unknown:
        parser.error(f"no such scene: {', '.join(unknown)}; there are {', '.join(scenes.NAMES)}")

    effort = BRIEF if arguments.brief else FULL
    used = versions()
    print(", ".join(f"{name} {version}" for name, version in used.items()), flush=True)
    results: dict[str, list[dict[str, object]]] = {}
    is_over = False
    for name in arguments.scenes or scenes.NAMES:
        scene = scenes.load(name)
        comparisons = scene.run(effort)
        print(*report.lines(scenes.title(scene), comparisons), sep="\n", flush=True)
        results[name] = [attrs.asdict(comparison) for comparison in comparisons]
        is_over |= any(row.is_over for each in comparisons for row in each.rows)
    if arguments.json:
        told = {"versions": used, "effort": attrs.asdict(effort), "scenes": results}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.exit(is_over and not arguments.brief)


if __name__ == "__main__":
    main()
