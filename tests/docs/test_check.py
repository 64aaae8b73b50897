"""What docs/check.py finds on pages with mistakes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import trio_anon_session
from trio_anon_session import testing

ROOT = Path(__file__).parents[2]
OTHER = '<h1 id="top">Other</h1><a name="old">x</a>'


@pytest.fixture(scope="module")
def check() -> Any:
    """Return the module docs/check.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("docs_check", ROOT / "docs" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html#top">x</a> <a href="#here">x</a> <a href="#">x</a>', None),
        ('<a href="other.html#old">x</a> <a href="https://example.com/#gone">x</a>', None),
        ('<img src="data:image/png;base64,AA=="> <img src="picture.svg">', None),
        ('<a href="gone.html">x</a>', "does not exist"),
        ('<a href="other.html#gone">x</a>', "other.html has no such anchor"),
        ('<a href="#gone">x</a>', "page.html has no such anchor"),
        ('<a href="../secret.html">x</a>', "is outside of the site"),
        ('<a href="/other.html">x</a>', "is outside of the site"),
        ('<img src="gone.svg">', "does not exist"),
        ('<img srcset="picture.svg 1x, gone.svg 2x">', "does not exist"),
        ('<link rel="stylesheet" href="gone.css">', "does not exist"),
        ('<script src="https://cdn.example.com/x.js"></script>', "is loaded from elsewhere"),
        ('<script src="//cdn.example.com/x.js"></script>', "is loaded from elsewhere"),
        ('<style>@import "https://fonts.example.com/x.css";</style>', "is loaded from elsewhere"),
        ('<p style="background: url(http://example.com/x.png)">', "is loaded from elsewhere"),
    ],
)
def test_mistakes_on_a_built_page(
    check: Any, tmp_path: Path, body: str, problem: str | None
) -> None:
    """The check reports a broken link, anchor or file, and anything loaded from another site."""
    (tmp_path / "other.html").write_text(OTHER)
    (tmp_path / "picture.svg").write_text("<svg/>")
    (tmp_path / "page.html").write_text(f'<h1 id="here">Page</h1>{body}')
    found = [line.rsplit(": ", 1)[1] for line in check.built_site(tmp_path).problems()]
    assert found == ([problem] if problem else [])


def test_a_style_or_picture_from_elsewhere(check: Any, tmp_path: Path) -> None:
    """The check reports styles and pictures that load something from another site."""
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.com/f.woff2') }")
    (tmp_path / "b.svg").write_text('<svg><image href="https://example.com/x.png"/></svg>')
    assert list(check.built_site(tmp_path).problems()) == [
        "a.css: https://example.com/f.woff2: is loaded from elsewhere",
        "b.svg: https://example.com/x.png: is loaded from elsewhere",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[x](docs/other.md#the-state-stale_at-is-here)", None),
        ("[x](docs/other.md#twice-1) and `[x](gone.md)`", None),
        ("[x](docs/gone.md)", "does not exist"),
        ("[x](docs/other.md#the-state)", "docs/other.md has no such anchor"),
        ("[x](docs/other.md#twice-2)", "docs/other.md has no such anchor"),
        ("![x](docs/gone.svg)", "does not exist"),
        ("![x](https://example.com/badge.svg)", "is loaded from elsewhere"),
        ('<img src="docs/gone.svg" width="10">', "does not exist"),
    ],
)
def test_mistakes_in_markdown(check: Any, tmp_path: Path, line: str, problem: str | None) -> None:
    """The check reports broken links in Markdown, with the anchors that a forge gives headings."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text(
        "# The state `stale_at`, is *here*\n\n## Twice\n\n## Twice\n"
    )
    (tmp_path / "README.md").write_text(f"{line}\n")
    found = [line.rsplit(": ", 1)[1] for line in check.source_site(tmp_path).problems()]
    assert found == ([problem] if problem else [])


def test_links_of_the_project_resolve(check: Any) -> None:
    """Each relative link of the README, its neighbours and docs/ resolves."""
    source = check.source_site()
    assert len(source.pages) > 20
    assert list(source.problems()) == []


def test_public_names_are_in_the_reference(check: Any) -> None:
    """The check reports each public name that has no place in the reference."""
    names = dict(check.public_names("trio_anon_session"))
    assert {f"trio_anon_session.{n}" for n in trio_anon_session.__all__} - names.keys() == {
        "trio_anon_session.__version__"
    }
    assert {f"trio_anon_session.testing.{n}" for n in testing.__all__} <= names.keys()
    there = names.keys() - {"trio_anon_session.Config", "trio_anon_session.testing.virtual_time"}
    # The plugin exports the same decorator, and one place is enough.
    assert check.missing_names(there, names) == ["trio_anon_session.Config"]
