"""ARCHITECTURE.md: its picture matches the code, and the files that it names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import pytest

from trio_anon_session._lifecycle import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PARTS = {"_gate": "gate", "_alarm": "alarm", "_background": "tasks", "_reporter": "reporter"}


def test_the_picture_is_drawn_from_the_code() -> None:
    """The page shows which event each method of the session passes to the machine."""
    assert picture() in PAGE, f"replace the picture of ARCHITECTURE.md by\n\n{picture()}"


def test_the_files_that_the_page_names_exist() -> None:
    """Each file that the page names exists."""
    names = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", PAGE))
    assert len(names) > 10
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "trio_anon_session" / name).exists(), name


@pytest.mark.parametrize("folder", ["", "_authentication", "stores"])
def test_the_map_of_a_package_has_all_of_its_modules(folder: str) -> None:
    """The table in the docstring of a package lists each module once."""
    package = ROOT / "trio_anon_session" / folder
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py"}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    listed = re.findall(r"^``(\w+)``", docstring, re.MULTILINE)
    assert sorted(listed) == sorted((modules | folders) - {"__init__", "__main__"})


def picture() -> str:
    """Return one line for each method of the session that passes an event to the machine."""
    source = (ROOT / "trio_anon_session" / "_session.py").read_text()
    rows = [("the session", "asks the machine", "and does what it says")]
    for method in ast.walk(ast.parse(source)):
        if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        uses = list(_uses(method))
        events = [name for part, name in uses if part == "_lifecycle"]
        effects = [f"{PARTS[part]}.{name}" for part, name in uses if part in PARTS]
        if events:
            rows.append((method.name, _joined(events), _joined(effects)))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [
        f"{first:{widths[0]}}  ─►  {second:{widths[1]}}  ─►  {third}".rstrip(" ─►")
        for first, second, third in rows
    ]
    return "\n".join(lines)


def _uses(method: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each attribute of the session's parts that a method uses: the part, and the name."""
    for node in ast.walk(method):
        if not isinstance(node, ast.Attribute):
            continue
        match node.value:
            case ast.Attribute(attr=part) if part == "_lifecycle" or part in PARTS:
                name = node.attr
            case ast.Name(id="lifecycle"):
                part, name = "_lifecycle", node.attr
            case _:
                continue
        is_event = isinstance(getattr(Lifecycle, name, None), FunctionType | property)
        if part != "_lifecycle" or is_event:
            yield part, name


def _joined(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
