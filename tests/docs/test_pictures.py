"""The pictures in docs/pictures, each of which a program draws."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from trio_anon_session import Config

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """Return the module that draws a picture; it imports modules from its own directory."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_what_its_program_draws(program: Any, name: str) -> None:
    """Each committed picture equals the one that its program draws."""
    assert (FOLDER / f"{name}.svg").read_text() == program.draw(), (
        f"the picture changes: run 'python docs/pictures/{name}.py', and look at it"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_accessible_and_small(name: str) -> None:
    """Each picture has a title and a description for screen readers, and loads nothing."""
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert all(root.findtext(f"{SVG}{part}") for part in ("title", "desc"))
    assert not re.search(r"(href|src)=|url\(|@import|@font-face", text)
    assert len(text.encode()) < 150_000
    assert name != "demo" or "every promise was kept" in text


def test_every_picture_has_its_program() -> None:
    """Each picture has a program that draws it."""
    assert [path.stem for path in sorted(FOLDER.glob("*.svg"))] == NAMES


@pytest.mark.parametrize("name", ["states", "token_life"])
@pytest.mark.parametrize(
    ("change", "was", "becomes"),
    [
        ({"stale_buffer": 300.0}, ">50 min<", ">55 min<"),
        ({"expired_buffer": 60.0}, ">59 min 30 s<", ">59 min<"),
    ],
)
def test_another_default_makes_another_picture(
    program: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    was: str,
    becomes: str,
) -> None:
    """If a default changes, the boundaries in the picture change."""
    assert was in program.draw()
    monkeypatch.setattr(program, "Config", functools.partial(Config, **change))
    picture = program.draw()
    assert was not in picture
    assert becomes in picture
