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
# What a session makes of every fault

{count} faults of a token endpoint, and the measured effect of each.
`python -m tools.faults` runs them all and writes this page.
A test compares the page with the results of new runs.

- **Waiting caller gets**: the result of a call while the session has no token.
  Every answer has the fault until the session gives up.
  With `max_retries={max_retries}`, that is after three *attempts* if the fault may be temporary.
  The caller gets the token or an error; the page shows the status and the code of the error.
  After that the server works, and the first caller after the pause gets a token with one request.
- **STALE caller gets**: the result of calls while the session's token is stale.
  The refresh in the background meets the fault, in {faulty} answers if the fault does harm.
  Callers get the current token immediately, from the first faulty answer to the last.
- **Recovery**: the time from the first of these attempts until the session has the new token.
  It is the time of the attempts and of the pauses between them, on Trio's clock.
  It does not include the jitter, half to one and a half of each pause.
  For attempts that fail immediately, the pauses of 2 and 4 seconds make 6 seconds.
  On real sockets times vary: *{with_the_next}* means that one good answer was enough.
- **In process**: bytes go through memory, and time is virtual.
  All settings except `max_retries` are defaults: an attempt has 30 seconds (`request_timeout`).
- **Real sockets**: the same server listens on loopback, with short pauses and timeouts.
  A line that names both had the same result in process and on real sockets.

After each outage the session requests two more tokens, with one request each.
"""

_COLUMNS = """\
| fault | where | waiting caller gets | STALE caller gets | attempts | recovery |
|---|---|---|---|---|---|
"""


def make_page() -> str:
    """Return the page. This does all runs that have not been done yet."""
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
    # One line for both kinds of place, unless they differ in more than the recovery time.
    lines: dict[Outcome, tuple[Outcome, list[Where]]] = {}
    for where, outcome in outcomes.items():
        line = lines.setdefault(attrs.evolve(outcome, well_again=""), (outcome, []))
        line[1].append(where)
    return [
        f"| {row.name} | {', '.join(places)} | {outcome.held} | {outcome.stale} "
        f"| {outcome.attempts} | {outcome.well_again} |\n"
        for outcome, places in lines.values()
    ]
