"""Search for leaks in many examples, and print the sinks and the leaks.

    python -m tools.leaks [--examples 1000] [--seed 0]

Exit code 1 if a secret or a token was shown.
"""

from __future__ import annotations

import argparse
import sys

from tests.drawing import draw_each

from .canaries import leaks_in
from .hunt import Life, find_leaks, hunt, lives

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

    def look(life: Life) -> None:
        nonlocal examples
        examples += 1
        shown = hunt(life)
        for sink, texts in shown.texts.items():
            sinks[sink] = sinks.get(sink, 0) + sum(map(bool, texts))
        for sink, text in find_leaks(shown, leaks_in).items():
            found.setdefault(sink, f"{text}\n    {life}")

    for seed in range(arguments.seed, arguments.seed + -(-arguments.examples // BATCH)):
        draw_each(lives, look, seed=seed, count=BATCH)
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
