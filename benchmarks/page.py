"""The figures of ``docs/explanation/speed.md``. The text of the page is written by hand.

This module writes only between two comments of the same name::

    <!-- release -->
    <!-- /release -->

Each scene has such a place, and so have ``growth`` and ``machine``.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report, scenes
from benchmarks.growth import curves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.growth import Curve
    from benchmarks.measure import Comparison, Row
    from benchmarks.results import Results

FILE = Path(__file__).parents[1] / "docs" / "explanation" / "speed.md"
_PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
_KNOWN = re.compile(r"^- `(\w+: [^`]+)`: \w", re.MULTILINE)


def fill(page: str, results: Results) -> str:
    """Return the page with these results in its places."""
    pieces = make_pieces(results)
    return _PLACE.sub(lambda place: f"{place[1]}\n{pieces.get(place[2], '')}\n{place[3]}", page)


def places(page: str) -> list[str]:
    """Return the names of the places of a page."""
    return [name for _, name, _ in _PLACE.findall(page)]


def known_misses(page: str) -> list[str]:
    """Return the limits that the page lists by hand as exceeded, with a reason."""
    return _KNOWN.findall(page)


def make_pieces(results: Results) -> dict[str, str]:
    """Return the text of each place."""
    pieces = {name: _scene(name, comparisons) for name, comparisons in results.scenes.items()}
    pieces["growth"] = make_growth_tables(curves(results))
    pieces["machine"] = _machine(results)
    return pieces


def make_growth_tables(found: Sequence[Curve]) -> str:
    """Return a table for each number that a cost grows with."""
    return "\n".join(
        _growth_with(number, list(group))
        for number, group in groupby(found, key=lambda curve: curve.cost.number)
    )


def _scene(name: str, comparisons: Sequence[Comparison]) -> str:
    """Return how a scene is measured, from its docstring, and a table for each of its figures."""
    words = (scenes.load(name).__doc__ or "").partition("\n")[2].strip()
    figures = dict.fromkeys(comparison.figure for comparison in comparisons)
    tables = [_figure([each for each in comparisons if each.figure == name]) for name in figures]
    return "\n".join([*([f"{words}\n"] if words else []), *tables])


def _figure(comparisons: Sequence[Comparison]) -> str:
    """Return a table of one figure: for each size of crowd, the contenders sorted by value."""
    first = comparisons[0]
    head = ["", "number", first.figure, "ratio", "quartiles", "limit", "remark"]
    return _table(head, [_cells(each, row) for each in comparisons for row in _sorted(each.rows)])


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.amount.median)


def _cells(comparison: Comparison, row: Row) -> list[str]:
    unit, is_base = comparison.unit, row.subject == comparison.base
    limit = ""
    if row.limit is not None:
        limit = f"{report.wanted(row.limit, unit)}, {'**over**' if row.is_over else 'kept'}"
    return [
        f"**{_escape(row.subject)}**" if row.is_ours else _escape(row.subject),
        "" if comparison.size is None else f"{comparison.size:,}",
        report.amount(row.amount.median, unit),
        "base" if is_base else "" if row.ratio is None else report.times(row.ratio.median),
        "" if is_base else report.middle_half(row, unit),
        limit,
        _escape(row.remark),
    ]


def _growth_with(number: str, found: Sequence[Curve]) -> str:
    sizes = sorted({size for curve in found for size in curve.points})
    head = [
        number,
        *(f"{size:,}" for size in sizes),
        "fitted line",
        "largest deviation",
        "exponent",
    ]
    rows = []
    for curve in found:
        points = (curve.points.get(size) for size in sizes)
        told = ["" if cost is None else report.amount(cost, curve.unit) for cost in points]
        rows.append([curve.cost.name, *told, *_line(curve)])
    return _table(head, rows)


def _line(curve: Curve) -> list[str]:
    line, unit = curve.line, curve.unit
    if line is None:
        return ["", "", ""]
    told = f"{report.amount(line.each, unit)} each"
    # A start below a thousandth of the smallest cost does not matter.
    if abs(line.start) > 0.001 * min(curve.points.values()):
        told += f" {'+' if line.start > 0 else '−'} {report.amount(abs(line.start), unit)}"
    return [told, f"{line.miss:.1%}", f"{line.exponent:.2f}"]


def _machine(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    machine = results.machine
    return (
        f"Measured on {machine['system']}, with {machine['cores']} cores ({machine['processor']}), "
        f"in {results.effort.turns} turns: {versions}.\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table without empty columns."""
    kept = [n for n in range(len(head)) if n == 0 or any(row[n] for row in rows)]
    # Numbers are aligned at the right, so that their digits can be compared.
    rule = ["---" if n == 0 or head[n] == "remark" else "--:" for n in kept]
    lines = [[head[n] for n in kept], rule, *([row[n] for n in kept] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escape(words: str) -> str:
    return re.sub(r"([|<*\\])", r"\\\1", words)
