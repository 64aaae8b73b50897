"""Explore every sequence of events of a fleet's claimants: `python -m tools.claimant`.

Prints the states, the transitions, the depth and the CPU seconds of each part. A broken promise
ends its part, and is printed with the shortest sequence of events that leads to it.

The gate uses the default bounds. The options change them.
"""

from __future__ import annotations

import argparse
import sys

import attrs

from tools.claimant.bounds import Bounds, all_parts
from tools.claimant.search import Search
from tools.claimant.timeline import draw
from tools.exploring.promises import BrokenPromiseError


def main() -> int:
    parts = all_parts()
    parser = argparse.ArgumentParser(description="Explore a fleet of claimants.")
    parser.add_argument("--part", choices=parts, action="append", help="explore only this part")
    parser.add_argument("--larger", action="store_true", help="use larger bounds")
    parser.add_argument("--processes", type=int, help="number of processes")
    parser.add_argument("--faults", type=int, help="maximum number of faults in one history")
    parser.add_argument("--drops", type=int, help="maximum number of dropped tokens")
    parser.add_argument("--cancels", type=int, help="maximum number of cancelled questions")
    parser.add_argument("--failures", type=int, help="maximum number of failed requests")
    for flag, words in (
        ("--halves", "the store can execute a call with a delay"),
        ("--slow", "time can pass during a call of the store"),
    ):
        parser.add_argument(flag, action="store_const", const=True, help=words)
    parser.add_argument("--most-states", type=int, help="stop a part after this number of states")
    options = vars(parser.parse_args())
    names, most_states = options.pop("part") or [*parts], options.pop("most_states")
    if options.pop("larger"):
        parts = all_parts(larger=True)
        names = [name for name in names if name in parts]
    changes = {name: value for name, value in options.items() if value is not None}
    print(f"{'part':<22} {'states':>8} {'transitions':>11} {'depth':>5} {'CPU s':>6}")
    # Explore all parts, even if one breaks a promise.
    kept = [_explore(name, attrs.evolve(parts[name], **changes), most_states) for name in names]
    return 0 if all(kept) else 1


def _explore(name: str, bounds: Bounds, most_states: int | None) -> bool:
    """Explore one part, and return whether it kept every promise."""
    try:
        found = Search(bounds, most_states=most_states).run()
    except BrokenPromiseError as broken:
        print(f"{name}: {broken}\n{draw(bounds, broken.path)}")
        return False
    numbers = f"{found.states:>8} {found.transitions:>11} {found.depth:>5} {found.seconds:>6.1f}"
    print(f"{name:<22} {numbers}", "" if found.is_exhausted else "not exhausted", flush=True)
    return True


sys.exit(main())
