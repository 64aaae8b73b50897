"""The check of a release, on projects with a mistake."""

from __future__ import annotations

import email
import re
from pathlib import Path

import pytest

from tools.release import marked, missing, notes

ROOT = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## 1.1.0 (2027-02-01)\n\nNew.\n\n## 1.0.0 (2027-01-01)\n\nFirst.\n"
METADATA = """\
Name: trio_anon_session
Version: 1.1.0
Author-email: Maintainers <maintainers@example.com>
Project-URL: Changelog, https://example.com/changes
Project-URL: Documentation, https://example.com/pages
Project-URL: Issues, https://example.com/issues
Project-URL: Source, https://example.com/source

[A page](https://example.com/page), [a section](#section).
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Create a project that can be published."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "config.yml").write_text("blank_issues_enabled: false\n")
    return tmp_path


def test_nothing_is_missing(project: Path) -> None:
    """A complete project has no problem, and its part of the changelog is the release notes."""
    assert [*missing(project, "1.1.0", email.message_from_string(METADATA))] == []
    assert notes(project, "1.1.0") == "New."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Version: 1.1.0", "Version: 1.0.0", "the tag must be the version"),
        ("Author-email: Maintainers <maintainers@example.com>\n", "", "must have an email"),
        ("Project-URL: Source, https://example.com/source\n", "", "must have Source"),
        ("(https://example.com/page)", "(docs/page.md)", "got docs/page.md"),
    ],
)
def test_metadata(project: Path, old: str, new: str, message: str) -> None:
    """Each wrong or missing item of the wheel's metadata is one problem."""
    metadata = email.message_from_string(METADATA.replace(old, new))
    [problem] = missing(project, "1.1.0", metadata)
    assert message in problem


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CHANGELOG.md", "## 1.1.0 (unreleased)\n\nNew.\n", "CHANGELOG.md must have a heading"),
        ("CHANGELOG.md", "## 1.1.0 (2027-02-01)\n\n## 1.0.0 (2027-01-01)\n", "with text below"),
        ("README.md", "It is\nnot on PyPI yet.\n", "README.md:2 says"),
        (".github/config.yml", "# Until the project has a place\n", ".github/config.yml:1 says"),
    ],
)
def test_files(project: Path, name: str, text: str, message: str) -> None:
    """Each file that is not ready is one problem, with its line."""
    (project / name).write_text(text)
    [problem] = missing(project, "1.1.0", email.message_from_string(METADATA))
    assert message in problem


def test_the_list_for_maintainers_names_the_files() -> None:
    """MAINTAINING.md lists each file that must change when the project has a place."""
    page = (ROOT / "MAINTAINING.md").read_text().partition("## When the project has a place")[2]
    comments = {name for name, _, mark in marked(ROOT) if mark.lower().startswith("until")}
    assert set(re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)) == comments
