"""Scales of powers of ten, and bars along them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import attrs
from _drawing import MARGIN, WIDTH, bar, line, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROW = 22.0
LETTER, BOLD = 7.6, 8.6
"""The width of a letter in units, at least the real one."""
LETTERS = 25
"""The maximum length of a name; longer names are cut."""
ROOM = 70.0
"""The width in units of the words after the longest bar."""


@attrs.frozen
class Scale:
    """A scale of powers of ten.

    Attributes:
        low: the power at which the scale begins.
        high: the power at which it ends.
        first: the position of `low`.
        last: the position of `high`.
    """

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def over(cls, values: Iterable[float], first: float, last: float, below: float = 0.2) -> Scale:
        """Return a scale that covers these values, and a part of a power below and above."""
        logs = [math.log10(value) for value in values]
        return cls(min(logs) - below, max(logs) + 0.1, first, last)

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def powers(self) -> list[float]:
        """Return the powers of ten on the scale."""
        return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]


@attrs.frozen
class Bar:
    """A bar, with a name before it and words after it."""

    name: str
    value: float
    told: str
    is_ours: bool


@attrs.frozen
class Panel:
    """Bars below a heading."""

    heading: str
    bars: Sequence[Bar]

    def __str__(self) -> str:
        return f"{self.heading}: {'; '.join(f'{b.name}, {b.told}' for b in self.bars)}."


def height(panels: Sequence[Panel]) -> float:
    """Return the height of a card with these panels."""
    return sum(34 + ROW * len(panel.bars) for panel in panels) + 44


def draw_panels(panels: Sequence[Panel], unit: str) -> Iterator[str]:
    """Draw panels below each other, along one scale, so that they can be compared."""
    values = [each.value for panel in panels for each in panel.bars]
    if not values:
        return
    widths = [
        len(name) * (BOLD if each.is_ours else LETTER)
        for panel in panels
        for each, name in zip(panel.bars, _names(panel), strict=True)
    ]
    scale = Scale.over(values, MARGIN + max(widths) + 8, WIDTH - MARGIN - ROOM)
    y = 12.0
    for panel in panels:
        yield from _draw_panel(panel, scale, y)
        y += 34 + ROW * len(panel.bars)
    taken = 0.0
    for power in scale.powers():
        words, x = f"{power:,g}{unit}", scale.at(power)
        half = LETTER * (len(words) + 0.5) / 2  # This leaves a gap of half a letter.
        if x - half > taken:
            yield text(x, y + 14, words, "faint", "middle")
            taken = x + half


def _draw_panel(panel: Panel, scale: Scale, y: float) -> Iterator[str]:
    top = y + 26
    yield text(MARGIN, y + 16, panel.heading, "head")
    for power in scale.powers():
        yield line("guide", scale.at(power), top, scale.at(power), top + ROW * len(panel.bars))
    for number, (each, name) in enumerate(zip(panel.bars, _names(panel), strict=True)):
        middle, end = top + ROW * number + ROW / 2, scale.at(each.value)
        look, letters = ("ours", "us") if each.is_ours else ("other", "")
        yield text(scale.first - 8, middle + 5, name, letters, "end")
        yield bar(look, scale.first, end, middle - 7, 14)
        yield text(end + 6, middle + 5, each.told, letters)


def _names(panel: Panel) -> list[str]:
    """Return short names: that of the project, if only one bar belongs to it."""
    firsts = Counter(_first(each.name) for each in panel.bars)
    return [
        first if firsts[first := _first(each.name)] == 1 else _cut(each.name) for each in panel.bars
    ]


def _first(name: str) -> str:
    word = name.partition(" ")[0].rstrip(",")
    return _cut(name) if len(word) < 3 else word


def _cut(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1].rstrip()}…"
