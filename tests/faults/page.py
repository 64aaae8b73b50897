"""``docs/faults.md``, made from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .rows import GROUPS, ROWS
from .runs import FAULTY_ANSWERS, SETTINGS, measure

if TYPE_CHECKING:
    from .rows import Row, Where
    from .runs import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

_HEAD = f"""\
# What a session makes of every fault

{{count}} faults of a token endpoint, and what was measured of each.
The page is written by `python -m tests.faults`, which runs them all, and a test compares it with the outcome of its own runs.

- **A held getter** is one that asks while the session has no token. Every answer has the fault until the session gives up, here after `max_retries={SETTINGS["max_retries"]}`, so that a fault that may pass takes three *attempts*. What it gets is the token or an error, here with the status and the code of the last answer. Once the server is well, the first getter after the pause gets a token, with one request: that was checked for each row.
- **A STALE getter** is one that asks once the token has become stale. The refresh meets the fault, in {FAULTY_ANSWERS} answers where it does harm. It got the token all the while, at once.
- **Well again** is the time from the first of these attempts, on Trio's clock, to the new token: what the attempts took, and the pauses between them. The jitter of the pauses, half to one and a half of each, is left out. On real sockets times are nobody's promise, and *with the next attempt* means that the first good answer was enough.
- **In process**, bytes go through memory and time is virtual, with the default settings: `request_timeout` is 30 seconds. **On real sockets**, the same server listens on loopback. Rows that name both had the same outcome.

Two further grants were made after each outage, on the connections that were there: each took one request.
"""

_COLUMNS = """\
| fault | where | held getter gets | STALE getter gets | attempts | well again |
|---|---|---|---|---|---|
"""


def make_page() -> str:
    """Return the page; takes the time of all runs that have not been made yet."""
    parts = [_HEAD.format(count=len(ROWS))]
    for heading, rows in GROUPS.items():
        lines = [line for row in rows for line in _lines(row)]
        parts.append(f"## {heading}\n\n{_COLUMNS}{''.join(lines)}")
    return "\n".join(parts)


def _lines(row: Row) -> list[str]:
    outcomes = {where: measure(row, where) for where in row.where}
    # One line for both kinds of place, unless they differ in more than in how time is told.
    lines: dict[Outcome, tuple[Outcome, list[Where]]] = {}
    for where, outcome in outcomes.items():
        told = lines.setdefault(attrs.evolve(outcome, well_again=""), (outcome, []))
        told[1].append(where)
    return [
        f"| {row.name} | {', '.join(places)} | {outcome.held} | {outcome.stale} "
        f"| {outcome.attempts} | {outcome.well_again} |\n"
        for outcome, places in lines.values()
    ]
