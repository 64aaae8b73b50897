"""Measure contenders in turns, and compare them.

A single figure depends more on the machine than on the code. So each run measures all contenders
of a figure: each turn measures every contender once, in a new order, and the ratio is taken turn
by turn. Other work of the machine slows down all contenders.
"""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

Unit = Literal["s", "B", "grants", "getters", "instructions", "requests", "exceptions"]


@attrs.frozen
class Effort:
    """The amount of work for a figure.

    Attributes:
        turns: how often each contender is measured.
        calls: number of calls in one measurement of a short call.
        crowd: the largest crowd of callers or sessions. Larger ones are left out.
    """

    turns: int
    calls: int
    crowd: int

    def sizes(self, *wanted: int) -> tuple[int, ...]:
        """Return the crowds that are not left out."""
        return tuple(size for size in wanted if size <= self.crowd)

    def turns_of(self, at_most: int) -> int:
        """Return the number of turns for figures that take long and vary little."""
        return min(self.turns, at_most)


FULL = Effort(turns=15, calls=20_000, crowd=100_000)
BRIEF = Effort(turns=3, calls=500, crowd=1_000)
"""Enough to check that everything runs, but too little for reliable ratios."""


@attrs.frozen
class Spread:
    """A median, and the middle half of the values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of these values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@attrs.frozen
class Limit:
    """The upper limit of a figure, or of its ratio to the base."""

    at_most: float
    of: Literal["ratio", "amount"] = "ratio"


@attrs.frozen
class Row:
    """The result of one contender.

    Attributes:
        subject: the name of the contender.
        amount: the amount in the unit of the comparison.
        ratio: the ratio to the base; None if the base is 0.
        is_ours: whether it is this library.
        limit: the limit.
        remark: a note to the figure.
    """

    subject: str
    amount: Spread
    ratio: Spread | None
    is_ours: bool = False
    limit: Limit | None = None
    remark: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the figure exceeds its limit."""
        if self.limit is None:
            return False
        spread = self.amount if self.limit.of == "amount" else self.ratio
        return spread is None or spread.median > self.limit.at_most


@attrs.frozen
class Comparison:
    """The comparison of all contenders in one figure.

    Attributes:
        figure: the name of the figure, such as "a hit".
        unit: the unit of the amounts.
        base: the contender that the ratios refer to.
        rows: the results, including the base.
        size: the size of the crowd, if any.
    """

    figure: str
    unit: Unit
    base: str
    rows: tuple[Row, ...]
    size: int | None = None

    @property
    def name(self) -> str:
        """The figure, with the size of the crowd if any."""
        return self.figure if self.size is None else f"{self.figure} of {self.size:,}"

    @property
    def ours(self) -> Row | None:
        """The result of this library; the first one, if it is measured in two ways."""
        return next((row for row in self.rows if row.is_ours), None)


@attrs.frozen
class Contender:
    """A contender before the measurement.

    Attributes:
        subject: the name of the contender.
        is_ours: whether it is this library.
        limit: the upper limit of its figure.
        remark: a note to the figure.
    """

    subject: str
    is_ours: bool = False
    limit: Limit | None = None
    remark: str = ""


def compare(
    figure: str,
    unit: Unit,
    measured: Mapping[Contender, Sequence[float]],
    *,
    base: str,
    size: int | None = None,
) -> Comparison:
    """Return the comparison of contenders that each have a value for each turn."""
    floor = next(values for who, values in measured.items() if who.subject == base)
    rows = []
    for who, values in measured.items():
        pairs = list(zip(values, floor, strict=True))
        ratio = Spread.of([a / b for a, b in pairs]) if all(b for _, b in pairs) else None
        spread = Spread.of(values)
        rows.append(Row(who.subject, spread, ratio, who.is_ours, who.limit, who.remark))
    return Comparison(figure, unit, base, tuple(rows), size)


def orders(contenders: Sequence[T], turns: int) -> Iterator[list[T]]:
    """Yield the contenders in a random order for each turn.

    With a fixed order, the same contender would always follow one that fills the caches of the
    processor, and would be slower.
    """
    draw = random.Random(0)
    for _ in range(turns):
        yield draw.sample(contenders, len(contenders))


def in_turns(
    contenders: Mapping[Contender, Callable[[], T]], turns: int
) -> dict[Contender, list[T]]:
    """Measure each contender once a turn, and return the results of the measurements."""
    measured: dict[Contender, list[T]] = {who: [] for who in contenders}
    for order in orders(list(contenders), turns):
        for who in order:
            measured[who].append(contenders[who]())
    return measured


async def in_turns_async(
    contenders: Mapping[Contender, Callable[[], Awaitable[T]]], turns: int
) -> dict[Contender, list[T]]:
    """Do the same inside a Trio run."""
    measured: dict[Contender, list[T]] = {who: [] for who in contenders}
    for order in orders(list(contenders), turns):
        for who in order:
            measured[who].append(await contenders[who]())
    return measured
