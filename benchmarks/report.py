"""The results as text for a terminal, and amounts for the page and the pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measure import Comparison, Limit, Row

_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")),
}


def three_digits(value: float) -> str:
    """Return a number with three digits, or with all digits before the point."""
    if value == 0:
        return "0"
    # Round first, because 9.999 has the three digits 10.0, not 10.00.
    rounded = float(f"{value:.2e}")
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def amount(value: float, unit: str) -> str:
    """Return an amount with three digits and its unit; counts have no unit."""
    scales = _SCALES.get(unit)
    if scales is None:
        return f"{value:,.0f}" if value == round(value) or value >= 100 else three_digits(value)
    # 999.9 µs are 1.00 ms.
    rounded = abs(float(f"{value:.2e}"))
    factor, name = next((scale for scale in scales if rounded >= scale[0]), scales[-1])
    return f"{three_digits(value / factor)} {name}"


def times(ratio: float) -> str:
    """Return a ratio."""
    return f"{three_digits(ratio)} ×"


def middle_half(row: Row, unit: str) -> str:
    """Return the middle half of the ratios, or of the amounts if there are no ratios.

    Return an empty string if all are the same.
    """
    spread = row.ratio or row.amount
    if spread.low == spread.high:
        return ""
    if row.ratio is not None:
        return f"{three_digits(row.ratio.low)} to {three_digits(row.ratio.high)}"
    return f"{amount(row.amount.low, unit)} to {amount(row.amount.high, unit)}"


def wanted(limit: Limit, unit: str) -> str:
    """Return the upper limit of a figure."""
    if limit.of == "amount":
        return amount(limit.at_most, unit)
    return f"{limit.at_most:g} ×"


def lines(title: str, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield a scene's tables."""
    yield title
    for comparison in comparisons:
        yield f"  {comparison.name}, compared with {comparison.base}"
        for row in comparison.rows:
            yield f"    {_line(row, comparison.unit)}"


def _line(row: Row, unit: str) -> str:
    mark = "*" if row.is_ours else " "
    line = f"{mark} {row.subject:<44} {amount(row.amount.median, unit):>12}"
    if row.ratio is not None:
        line += f"  {times(row.ratio.median):>9}"
    if half := middle_half(row, unit):
        line += f"  [{half}]"
    if row.limit is not None:
        verdict = "OVER" if row.is_over else "kept"
        line += f"  at most {wanted(row.limit, unit)}: {verdict}"
    return f"{line}  {row.remark}".rstrip()
