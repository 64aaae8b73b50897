"""Search for leaks in many examples, and print the sinks and the leaks.

    python -m tools.leaks [--examples 1000] [--seed 0]

In half of the examples, the client's secret changes. Exit code 1 if a secret or a token was shown.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.drawing import draw_each

from .canaries import leaks_in
from .changes import ChangingLife, changing_lives, hunt_changes
from .hunt import Life, Shown, find_leaks, hunt, lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BATCH = 50
"""Number of lives for each seed."""


def main() -> int:
    """Run the program, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sinks: dict[str, int] = {}
    found: dict[str, str] = {}
    examples = 0

    def look(life: Life | ChangingLife) -> None:
        nonlocal examples
        examples += 1
        if isinstance(life, Life):
            report(life, hunt(life), leaks_in)
        else:
            shown, traces = hunt_changes(life)
            report(life, shown, traces.found_in)

    def report(life: object, shown: Shown, leaks_in: Callable[[str], Iterable[str]]) -> None:
        for sink, texts in shown.texts.items():
            sinks[sink] = sinks.get(sink, 0) + sum(map(bool, texts))
        for sink, text in find_leaks(shown, leaks_in).items():
            found.setdefault(sink, f"{text}\n    {life}")

    for seed in range(arguments.seed, arguments.seed + -(-arguments.examples // BATCH)):
        draw_each(lives, look, seed=seed, count=BATCH // 2)
        draw_each(changing_lives, look, seed=seed, count=BATCH // 2)
    for sink, count in sorted(sinks.items()):
        print(f"{count:9,}  {sink}")
    for sink, text in found.items():
        print(f"\nLEAK in {sink}:\n    {text}")
    looked_at = sum(count > 0 for count in sinks.values())
    print(
        f"\n{examples:,} examples, {looked_at} sinks that showed something, "
        f"{sum(sinks.values()):,} texts, {len(found)} leaks"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
