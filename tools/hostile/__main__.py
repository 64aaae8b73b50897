"""Draw hostile peers, and print their cost.

    python -m tools.hostile [--examples 1000] [--seed 0]

Exit code 1 if a peer made a session show a secret, raise something else, or block.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.drawing import draw_each

from .lives import Life, live, lives
from .measuring import MOST, longest_step

BATCH = 25
"""Number of lives for each seed."""


def main() -> int:
    """Run the program, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    examples, most_read, longest = 0, 0, 0.0
    found: dict[str, str] = {}

    def look(life: Life) -> None:
        nonlocal examples, most_read, longest
        examples += 1
        cost = live(life)
        most_read = max(most_read, cost.read)
        for sink, text in cost.leaks().items():
            found.setdefault(f"shown in {sink}", f"{text}\n    {life}")
        for error in cost.unexpected:
            found.setdefault(f"raised {type(error).__name__}", f"{error}\n    {life}")
        step = longest_step(lambda steps: live(life, steps))
        longest = max(longest, step)
        if step > MOST:
            found.setdefault(f"blocked for {step:.1f} pieces of work", f"{life}")

    # Without a filter, Python writes the warnings to standard error.
    logging.getLogger("trio_anon_session").addHandler(logging.NullHandler())
    began = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + -(-arguments.examples // BATCH)):
        draw_each(lives, look, seed=seed, count=BATCH)
    for what, text in found.items():
        print(f"\n{what}:\n    {text}")
    took = time.monotonic() - began
    print(
        f"\n{examples:,} lives in {took:.0f} s: at most {most_read:,} bytes read, longest step "
        f"{longest:.2f} pieces of work (limit {MOST:g}), {len(found)} findings"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
