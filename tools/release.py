"""Check that a built wheel may be published, and write the notes of the release.

    python -m tools.release VERSION WHEEL NOTES

VERSION is the name of the tag. NOTES becomes a file with the changelog of this version. If
something is missing, the program prints it and exits with 1. `.ci/release` runs this.
"""

from __future__ import annotations

import argparse
import email
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

ROOT = Path(__file__).parents[1]
MARK = re.compile("until the project has a place|not on PyPI yet|no release exists", re.IGNORECASE)
"""Phrases in files that mark a missing address, or say that there is no release."""
MARKED = ("*.md", "*.toml", "docs/**/*.md", ".github/**/*.*")
URLS = ("Changelog", "Documentation", "Issues", "Source")
LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")


def missing(root: Path, version: str, metadata: Message) -> Iterator[str]:
    """Yield one sentence for each thing that is missing for a release of this version.

    Args:
        root: the folder of the project.
        version: the name of the tag.
        metadata: the file ``METADATA`` of the wheel, with the README as its text.
    """
    if metadata["Version"] != version:
        yield (
            f"the tag must be the version in trio_anon_session/_version.py, {metadata['Version']}, "
            f"got {version}"
        )
    if notes(root, version) is None:
        yield f'CHANGELOG.md must have a heading "## {version} (YYYY-MM-DD)" with text below it'
    if not (metadata["Author-email"] or metadata["Maintainer-email"]):
        yield "[project] authors in pyproject.toml must have an email: people report to it"
    labels = {text.partition(",")[0] for text in metadata.get_all("Project-URL", [])}
    for label in URLS:
        if label not in labels:
            yield f"[project.urls] in pyproject.toml must have {label}"
    links = LINK.findall(str(metadata.get_payload()))
    if links:
        yield f"links of the README must be complete URLs in the package, got {links[0]}"
    for name, line, mark in marked(root):
        yield f'{name}:{line} says "{mark}": MAINTAINING.md says what to do'


def marked(root: Path) -> list[tuple[str, int, str]]:
    """Return the places that change when the project has one: file, line, and what it says."""
    paths = sorted({path for pattern in MARKED for path in root.glob(pattern)})
    return [
        (path.relative_to(root).as_posix(), number, found[0])
        for path in paths
        if "_build" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := MARK.search(line))
    ]


def notes(root: Path, version: str) -> str | None:
    """Return the changelog of a version, or None if it has no text or no date."""
    heading = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)\n(.*?)(?=^## |\Z)"
    changelog = (root / "CHANGELOG.md").read_text()
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    return (found[1].strip() or None) if found else None


def main() -> None:
    """Print what is missing, or write the notes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("wheel", metavar="WHEEL", type=Path)
    parser.add_argument("notes", metavar="NOTES", type=Path)
    options = parser.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(wheel.read(name))
    problems = [*missing(ROOT, options.version, metadata)]
    if problems:
        sys.exit("\n".join(["This cannot be published:", *problems]))
    options.notes.write_text(f"{notes(ROOT, options.version)}\n")


if __name__ == "__main__":
    main()
