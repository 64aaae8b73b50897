"""The results as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measure import Comparison, Row

_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e6, "MB"), (1e3, "KB"), (1.0, "B")),
}


def amount(value: float, unit: str) -> str:
    """Return an amount with three digits and its unit."""
    scales = _SCALES.get(unit)
    if scales is None:
        return f"{value:,.0f}"
    factor, name = next(
        (scale for scale in scales if abs(value) >= scale[0]),
        scales[-1],
    )
    return f"{value / factor:.3g} {name}"


def lines(title: str, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield a scene's tables."""
    yield title
    for comparison in comparisons:
        of = f" of {comparison.size:,}" if comparison.size is not None else ""
        yield f"  {comparison.figure}{of}, beside {comparison.base}"
        for row in comparison.rows:
            yield f"    {_line(row, comparison.unit)}"


def _line(row: Row, unit: str) -> str:
    mark = "*" if row.is_ours else " "
    line = f"{mark} {row.subject:<44} {amount(row.amount.median, unit):>12}"
    if row.ratio is not None:
        ratio = row.ratio
        line += f"  {ratio.median:9.3f} x [{ratio.low:.3f} to {ratio.high:.3f}]"
    if row.limit is not None:
        wanted = f"{row.limit.at_most:g} x"
        if row.limit.of == "amount":
            wanted = amount(row.limit.at_most, unit)
        line += f"  at most {wanted}: {'OVER' if row.is_over else 'kept'}"
    return f"{line}  {row.remark}".rstrip()
