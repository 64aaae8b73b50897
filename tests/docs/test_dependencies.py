"""The page of third-party packages lists those of pyproject.toml and their dependencies."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tools.dependencies import named, required_by

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()


def column(section: str, number: int) -> dict[str, str]:
    """Return one cell for each row of a section, by package."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): row[number].strip() for row in rows}


def test_every_package_has_a_row_with_its_lower_bound() -> None:
    """The tables list the packages of pyproject.toml, and no others, with their lowest bounds."""
    sections = (
        "What every installation gets",
        "What the extras add",
        "Tests and documentation",
        "Tools",
    )
    listed = {name: bound for section in sections for name, bound in column(section, 2).items()}
    assert listed == named()


def test_every_package_that_comes_with_the_core_has_a_row() -> None:
    """The table lists what pip installs for the dependencies without extras."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        texts = tomllib.load(file)["project"]["dependencies"]
    core = {Requirement(text).name for text in texts}
    assert column("What comes with them", 1).keys() == required_by(core) - core
