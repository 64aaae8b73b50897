"""``docs/reference/faults.md``, made from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .rows import GROUPS, ROWS
from .runs import FAULTY_ANSWERS, SETTINGS, WITH_THE_NEXT, measure

if TYPE_CHECKING:
    from .rows import Row, Where
    from .runs import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

_HEAD = """\
# What a session makes of every fault

{count} faults of a token endpoint, and what was measured of each.
`python -m tools.faults` runs them all and writes this page.
A test compares it with the outcome of runs of its own.

- **A held getter** is one that asks while the session has no token.
  Every answer has the fault until the session gives up.
  Here that is after `max_retries={max_retries}`, so that what may pass takes three *attempts*.
  The getter gets the token or an error, of which the page names status and code.
  Then the server is well, and the first getter after the pause gets a token with one request.
- **A STALE getter** is one that asks once the token has become stale.
  It is the refresh that meets the fault, in {faulty} answers where that does harm.
  The getter gets the token that is there, at once, from the first of them to the last.
- **Well again** is when the new token is there, counted from the first of these attempts.
  That is the time of the attempts and of the pauses between them, on Trio's clock.
  The jitter of the pauses, half to one and a half of each, is left out.
  Attempts that fail at once, with pauses of 2 and 4 seconds after them, make 6 seconds.
  On real sockets time is nobody's promise: *{with_the_next}* means that it took one good answer.
- **In process**, bytes go through memory, and time is virtual.
  Settings are the defaults but for `max_retries`: one attempt has 30 seconds (`request_timeout`).
- **On real sockets**, the same server listens on loopback, and nobody waits for long.
  A line that names both kinds had the same outcome on both.

After each outage two more grants are made.
Each takes one request.
"""

_COLUMNS = """\
| fault | where | held getter gets | STALE getter gets | attempts | well again |
|---|---|---|---|---|---|
"""


def make_page() -> str:
    """Return the page; takes the time of all runs that have not been made yet."""
    parts = [
        _HEAD.format(
            count=len(ROWS),
            max_retries=SETTINGS["max_retries"],
            faulty=FAULTY_ANSWERS,
            with_the_next=WITH_THE_NEXT,
        )
    ]
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
