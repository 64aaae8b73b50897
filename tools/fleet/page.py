"""The tables of `docs/explanation/fleet.md`, made from the figures of the runs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .days import DAY, GETTERS, HOURS, KINDS, LATENCY, OUTAGE, SESSIONS, day, measure, scenes
from .fleets import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .days import Figures

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "fleet.md"
SIZES = (10, 100, 1000)
_PLACE = re.compile(r"(<!-- fleet -->\n).*?(<!-- /fleet -->)", re.DOTALL)
_SLOW = re.compile(r"1,000|\| 100 \||the store (is down|hangs)|the endpoint hangs")
"""Rows that take from some seconds to a minute."""

_DAY = """\
A day of {hours:.0f} hours, with tokens of an hour, the default buffers, and an endpoint that \
answers after {latency} s.
All sessions start within a second, and each has {getters} callers at random times.
A token lifetime ends here when the token becomes STALE, after {life:,.0f} s, so a day has \
⌈{day:,.0f} / {life:,.0f}⌉ = {lives} of them.

| sessions | | lifetimes | tokens issued | most within a second | longest wait | store calls |
|--:|---|--:|--:|--:|--:|--:|
"""

_TROUBLE = """\

- *Most within a second* is the largest number of token requests within one second, after all \
sessions have their first token.
- *Longest wait* is the longest time that a caller waited, after its session had its first token.
- *Store calls* are those of one process, per lifetime.

The next table shows {sessions} sessions for {hours} hours, with failures.
Failures of the store and of the endpoint begin ten seconds before the token is STALE. They last \
a quarter of an hour, which is longer than the remaining lifetime of the token.
Each session has a caller every five minutes.
*Failed callers* are those that got an error.

| failure | lifetimes | token requests | most within a second | failed callers | longest wait |
|---|--:|--:|--:|--:|--:|
"""

_END = """\

- If a process is killed during its token request, no process gets the token that the endpoint \
issued: one more request for each killed process.
- While the store fails, each process sends its own token requests, one per lifetime of its own \
token.
- While the endpoint answers 503, all processes share the pause that it asks for. Without a store, \
each process sends its own requests.
- Broken connections may be the problem of one process, so each process makes its own attempts, \
one process after the other. Together they need almost as many as without a store.
"""


def rows() -> dict[str, Callable[[], str]]:
    """Return the function that makes each row, by the beginning of the row."""
    made: dict[str, Callable[[], str]] = {}
    for size in SIZES:
        for kind in KINDS:
            start = f"| {size:,} | {kind} |"
            made[start] = _row(start, partial(day, size, kind), _of_day)
    for name, make in scenes().items():
        start = f"| {name} |"
        made[start] = _row(start, make, _of_trouble)
    return made


def quick_rows() -> dict[str, Callable[[], str]]:
    """Return the rows that take less than a second."""
    return {start: make for start, make in rows().items() if not _SLOW.search(start)}


def _row(
    start: str, make: Callable[[], Fleet], cells: Callable[[Figures], Iterable[str]]
) -> Callable[[], str]:
    return lambda: f"{start} {' | '.join(cells(measure(make())))} |"


def _of_day(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.lives}",
        f"{figures.grants:,}",
        f"{figures.herd:,}",
        _seconds(figures.longest_hold),
        f"{figures.questions:.0f}" if figures.questions else "",
    )


def _of_trouble(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.lives}",
        f"{figures.attempts:,}",
        f"{figures.herd:,}",
        f"{figures.failed:,}",
        _seconds(figures.longest_hold),
    )


def _seconds(seconds: float) -> str:
    return f"{round(seconds, 2) or 0:g} s"


def fill(page: str) -> str:
    """Return the page with new tables, after doing all runs."""
    lives = Fleet()
    head = _DAY.format(
        hours=DAY / 3600,
        latency=LATENCY,
        getters=GETTERS,
        day=DAY,
        life=lives.until_stale,
        lives=-int(-DAY // lives.until_stale),
    )
    assert OUTAGE == 900.0
    middle = _TROUBLE.format(sessions=SESSIONS, hours=HOURS)
    lines = [make() for make in rows().values()]
    days = len(SIZES) * len(KINDS)
    text = "\n".join([head + "\n".join(lines[:days]), middle + "\n".join(lines[days:]), _END])
    return _PLACE.sub(lambda place: f"{place[1]}\n{text}\n{place[2]}", page)
