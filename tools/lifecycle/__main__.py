"""Explore every sequence of events of a session's machine: `python -m tools.lifecycle`.

Prints the states, the transitions, the depth and the CPU seconds of each part. A broken promise
ends the exploration, and is printed with the shortest sequence of events that leads to it.

The gate uses the default bounds. The options change them, and each mode is then one part.
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
    parser = argparse.ArgumentParser(description="Explore the state machine of a session.")
    parser.add_argument("--mode", choices=MODES, action="append", help="explore only this mode")
    parser.add_argument("--callers", type=int, help="maximum number of waiting callers")
    parser.add_argument("--drops", type=int, help="maximum number of dropped tokens")
    parser.add_argument("--wall", type=float, help="maximum error of the wall clock in seconds")
    parser.add_argument("--stalls", action="store_const", const=True, help="tasks can run late")
    parser.add_argument(
        "--all-answers", action="store_const", const=True, help="dropped tokens can come back"
    )
    parser.add_argument("--most-states", type=int, help="stop a part after this number of states")
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
