"""Make ``docs/reference/faults.md`` from the measured outcomes."""

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
# How a session handles every fault

This page lists {count} faults of a token endpoint, and what a session did at each of them.
`python -m tools.faults` runs them all and writes this page.
A test compares the page with its own runs.

- **Waiting caller gets**: a caller asks while the session has no token.
  Every answer has the fault until the session gives up.
  Here, that is after `max_retries={max_retries}`: three *attempts*, if a retry may succeed.
  With the default `max_wait`, callers get an error after 30 s at the latest.
  The caller gets the token or an error; the table has the error's class, status and code.
  Then the server works again, and the first caller after the pause gets a token with one request.
- **Caller at STALE gets**: callers ask while the token is STALE.
  If the fault makes an attempt fail, {faulty} answers have it, otherwise every answer has it.
  *The token* means that every caller got the current token immediately,
  from the first attempt to the last.
- **Recovered**: the time from the first of these attempts until the session has a new token.
  It consists of the attempts and the pauses between them, on Trio's clock.
  The runs have no jitter, which normally makes each pause half to one and a half times as long.
  For example, attempts that fail immediately, with pauses of 2 s and 4 s after them, take 6 s.
  On real sockets, times vary; *{with_the_next}* means that one valid answer was enough.
- **In process**: the bytes go through memory, and time is virtual.
  All settings except `max_retries` and `max_wait=None` have their defaults.
  So an attempt takes at most 30 s (`request_timeout`).
- **Real sockets**: the same server listens on loopback, with short timeouts and pauses.
  A line with both kinds had the same outcome on both.

After each outage, the run makes two more token requests; each takes one attempt.
"""

_COLUMNS = """\
| fault | where | waiting caller gets | caller at STALE gets | attempts | recovered |
|---|---|---|---|---|---|
"""


def make_page() -> str:
    """Return the page; this makes all runs that have not been made yet."""
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
    # Both kinds of place share a line, unless they differ in more than the notation of time.
    lines: dict[Outcome, tuple[Outcome, list[Where]]] = {}
    for where, outcome in outcomes.items():
        line = lines.setdefault(attrs.evolve(outcome, recovered=""), (outcome, []))
        line[1].append(where)
    return [
        f"| {row.name} | {', '.join(places)} | {outcome.held} | {outcome.stale} "
        f"| {outcome.attempts} | {outcome.recovered} |\n"
        for outcome, places in lines.values()
    ]
