"""The tables of `docs/explanation/fleet.md`, made from what was counted."""

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
"""Rows that take some seconds, and up to a minute."""

_DAY = """\
A day of {hours:.0f} hours, tokens of an hour, the default buffers, and an endpoint that takes \
{latency} s.
All sessions begin within a second, and each has {getters} getters at drawn times.
A token's life ends when it becomes STALE, after {life:,.0f} s, so that a day has \
⌈{day:,.0f} / {life:,.0f}⌉ = {lives} of them.

| sessions | | lives | grants | most within a second | longest hold | questions |
|--:|---|--:|--:|--:|--:|--:|
"""

_TROUBLE = """\

*Most within a second* is the herd: counted once all have their first token.
*Longest hold* is of getters whose session has had a token before.
*Questions* are those of one process to the store, for each life.
*Requests*, below, are those to the endpoint, and *failed getters* are those that got an error.

And {sessions} sessions for {hours} hours, with trouble.
That of the store and that of the endpoint begin ten seconds before the token is STALE, and last \
a quarter of an hour, which is longer than the token does.
Each session is asked every five minutes.

| trouble | lives | requests | most within a second | failed getters | longest hold |
|---|--:|--:|--:|--:|--:|
"""

_END = """\

Who is killed while it asks has had a token granted that nobody has: one request more for each.
While the store fails, each process asks for itself, once for each life of its own token.
While the endpoint answers that it is not available, the pause that it asks for is kept by all as \
by one; without a store, each asks on its own.
Connections that break may be a process's own trouble, so that each makes its own attempts then, \
one after the other, and hardly fewer than without a store.
"""


def rows() -> dict[str, Callable[[], str]]:
    """Return what makes each row, by how it begins."""
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
    """Return those of them that are made in no time."""
    return {start: make for start, make in rows().items() if not _SLOW.search(start)}


def _row(
    start: str, make: Callable[[], Fleet], tell: Callable[[Figures], Iterable[str]]
) -> Callable[[], str]:
    return lambda: f"{start} {' | '.join(tell(measure(make())))} |"


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
    """Return the page with fresh tables; takes the time of all runs."""
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
