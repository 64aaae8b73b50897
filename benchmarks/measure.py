"""Measure things side by side, in turns, and say how they compare.

A figure on its own says more about the machine than about the code. So whatever is measured
here is measured beside something else in the same run: each turn measures every contender
once, in another order than the turn before, and the ratio is taken turn by turn. What slows
the machine down for a while slows all of them.
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
    """How much is done for a figure.

    Attributes:
        turns: how often each contender is measured.
        calls: how many calls one measurement of something short is the mean of.
        crowd: the largest crowd, of getters or sessions. Larger ones are left out.
    """

    turns: int
    calls: int
    crowd: int

    def sizes(self, *wanted: int) -> tuple[int, ...]:
        """Return those of the crowds that are not left out."""
        return tuple(size for size in wanted if size <= self.crowd)

    def turns_of(self, at_most: int) -> int:
        """Return the turns for something that takes long, and varies little."""
        return min(self.turns, at_most)


FULL = Effort(turns=15, calls=20_000, crowd=100_000)
BRIEF = Effort(turns=3, calls=500, crowd=1_000)
"""Enough to see that everything runs, and too little to believe a ratio."""


@attrs.frozen
class Spread:
    """A median, and the middle half around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of these."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@attrs.frozen
class Limit:
    """What a figure is to be at the most: itself, or its ratio to the base."""

    at_most: float
    of: Literal["ratio", "amount"] = "ratio"


@attrs.frozen
class Row:
    """What was measured of one contender.

    Attributes:
        subject: who.
        amount: in the comparison's unit.
        ratio: to the base; None where the base is 0.
        is_ours: whether it is this library.
        limit: what it is to be.
        remark: what one has to know beside the figure.
    """

    subject: str
    amount: Spread
    ratio: Spread | None
    is_ours: bool = False
    limit: Limit | None = None
    remark: str = ""

    @property
    def is_over(self) -> bool:
        """Whether there is a limit, and it is not kept."""
        if self.limit is None:
            return False
        spread = self.amount if self.limit.of == "amount" else self.ratio
        return spread is None or spread.median > self.limit.at_most


@attrs.frozen
class Comparison:
    """Contenders beside each other in one figure.

    Attributes:
        figure: what was measured, such as "a hit".
        unit: of the amounts.
        base: the contender to which the ratios are.
        rows: the base is one of them.
        size: of the crowd, where there is one.
    """

    figure: str
    unit: Unit
    base: str
    rows: tuple[Row, ...]
    size: int | None = None

    @property
    def name(self) -> str:
        """The figure, with the size of the crowd where there is one."""
        return self.figure if self.size is None else f"{self.figure} of {self.size:,}"

    @property
    def ours(self) -> Row | None:
        """What was measured of this library: the first, where it is measured in two ways."""
        return next((row for row in self.rows if row.is_ours), None)


@attrs.frozen
class Contender:
    """Somebody to measure, and what is known beforehand.

    Attributes:
        subject: who.
        is_ours: whether it is this library.
        limit: what its figure is to be at the most.
        remark: what one has to know beside the figure.
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
    """Return how these compare; each has a value for each turn."""
    floor = next(values for who, values in measured.items() if who.subject == base)
    rows = []
    for who, values in measured.items():
        pairs = list(zip(values, floor, strict=True))
        ratio = Spread.of([a / b for a, b in pairs]) if all(b for _, b in pairs) else None
        spread = Spread.of(values)
        rows.append(Row(who.subject, spread, ratio, who.is_ours, who.limit, who.remark))
    return Comparison(figure, unit, base, tuple(rows), size)


def orders(contenders: Sequence[T], turns: int) -> Iterator[list[T]]:
    """Yield, for each turn, the contenders in an order of its own.

    Drawn, and not moved round: what runs behind one that leaves the processor's caches full of
    something else is slower, and would always be the same.
    """
    draw = random.Random(0)
    for _ in range(turns):
        yield draw.sample(contenders, len(contenders))


def in_turns(
    contenders: Mapping[Contender, Callable[[], T]], turns: int
) -> dict[Contender, list[T]]:
    """Measure each once a turn, and return what each measurement returned."""
    measured: dict[Contender, list[T]] = {who: [] for who in contenders}
    for order in orders(list(contenders), turns):
        for who in order:
            measured[who].append(contenders[who]())
    return measured


async def in_turns_async(
    contenders: Mapping[Contender, Callable[[], Awaitable[T]]], turns: int
) -> dict[Contender, list[T]]:
    """Do the same inside of a run."""
    measured: dict[Contender, list[T]] = {who: [] for who in contenders}
    for order in orders(list(contenders), turns):
        for who in order:
            measured[who].append(await contenders[who]())
    return measured
