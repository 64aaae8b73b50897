"""Explore every sequence of events of a session's machine: `python -m tools.lifecycle`.

Prints the states, the transitions, the depth and the CPU seconds of each part. A broken promise
ends it, and is printed with the shortest sequence of events that leads there.

The options set other bounds than the gate's. A mode is then explored in one part.
"""

from __future__ import annotations

import argparse
import sys

import attrs

from tools.exploring.promises import BrokenPromiseError
from tools.lifecycle.bounds import MODES, Bounds, parts_of
from tools.lifecycle.search import Search
from tools.lifecycle.timeline import draw


def main() -> int:
    parser = argparse.ArgumentParser(description="Explore a session's machine.")
    parser.add_argument("--mode", choices=MODES, action="append", help="only this mode")
    parser.add_argument("--callers", type=int, help="the most waiting callers at one time")
    parser.add_argument("--drops", type=int, help="the most dropped tokens")
    parser.add_argument("--wall", type=float, help="seconds that the wall clock is off")
    parser.add_argument("--stalls", action="store_const", const=True, help="tasks run late")
    parser.add_argument(
        "--all-answers", action="store_const", const=True, help="dropped tokens come back"
    )
    parser.add_argument("--most-states", type=int, help="stop after so many states of a part")
    options = vars(parser.parse_args())
    modes, most_states = options.pop("mode") or MODES, options.pop("most_states")
    larger = {name: value for name, value in options.items() if value is not None}
    print(f"{'part':<22} {'states':>8} {'transitions':>11} {'depth':>5} {'CPU s':>6}")
    for mode in modes:
        parts = {f"{mode}, larger": attrs.evolve(MODES[mode], **larger)} if larger else None
        for name, bounds in (parts or parts_of(mode)).items():
            if not _explore(name, bounds, most_states):
                return 1
    return 0


def _explore(name: str, bounds: Bounds, most_states: int | None) -> bool:
    """Explore one part, and return whether every promise was kept."""
    try:
        found = Search(bounds, most_states=most_states).run()
    except BrokenPromiseError as broken:
        print(f"{name}: {broken}\n{draw(bounds, broken.path)}")
        return False
    numbers = f"{found.states:>8} {found.transitions:>11} {found.depth:>5} {found.seconds:>6.1f}"
    print(f"{name:<22} {numbers}", "" if found.is_exhausted else "not exhausted", flush=True)
    return True


sys.exit(main())
