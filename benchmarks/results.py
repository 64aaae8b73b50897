"""The results of a run, stored in a file.

The page and the pictures are made from that file, so that they can be made again without another
run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from benchmarks.measure import Comparison, Effort, Limit, Row, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE = Path(__file__).with_name("results.json")


@attrs.frozen
class Results:
    """The results of one run.

    Attributes:
        versions: the versions of the measured packages.
        machine: the machine.
        effort: the amount of work for each figure.
        scenes: the results of each scene by its name.
    """

    versions: Mapping[str, str]
    machine: Mapping[str, str]
    effort: Effort
    scenes: Mapping[str, tuple[Comparison, ...]]

    def of(self, scene: str) -> tuple[Comparison, ...]:
        """Return the results of a scene; empty if it was not run."""
        return self.scenes.get(scene, ())

    def misses(self) -> Iterator[str]:
        """Return the names of the comparisons that exceed a limit."""
        for scene, comparisons in self.scenes.items():
            for comparison in comparisons:
                if any(row.is_over for row in comparison.rows):
                    yield f"{scene}: {comparison.name}"

    def to_json(self) -> str:
        """Return the results as the text of a file."""
        return json.dumps(attrs.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the results from the text of a file."""
        told = json.loads(text)
        scenes = {
            scene: tuple(_comparison(**each) for each in comparisons)
            for scene, comparisons in told["scenes"].items()
        }
        return cls(told["versions"], told["machine"], Effort(**told["effort"]), scenes)


def read() -> Results:
    """Return the results that are stored in the project."""
    return Results.from_json(FILE.read_text(encoding="utf-8"))


def _comparison(rows: list[dict[str, Any]], **told: Any) -> Comparison:
    return Comparison(rows=tuple(_row(**row) for row in rows), **told)


def _row(
    amount: dict[str, float],
    ratio: dict[str, float] | None,
    limit: dict[str, Any] | None,
    **told: Any,
) -> Row:
    return Row(
        amount=Spread(**amount),
        ratio=Spread(**ratio) if ratio is not None else None,
        limit=Limit(**limit) if limit is not None else None,
        **told,
    )
