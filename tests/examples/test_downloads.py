"""The downloader, as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("served_environment")]

LINK = "https://app.box.com/s/abc"


def test_links_are_downloaded(tmp_path: Path) -> None:
    """Links come from the command line and from a list, and each has a line.

    To the embedded server, every link leads to the same small file.
    """
    ended = run_example(
        "downloads/downloads.py", LINK, "--folder", tmp_path, "--list", "-", stdin=f"{LINK} pass\n"
    )
    assert ended.stderr == ""
    assert ended.returncode == 0
    path = tmp_path / "shared_items"
    assert ended.stdout == f"{LINK} is {path}\n" * 2
    assert path.read_text() == '{"type": "file", "id": "content"}'


def test_a_link_that_is_none(tmp_path: Path) -> None:
    """A wrong link is reported without its password; the others are there."""
    args = (LINK, "--folder", tmp_path, "--list", "-")
    ended = run_example("downloads/downloads.py", *args, stdin="ftp://example.com hush-hush\n")
    assert ended.returncode == 1
    assert ended.stderr == "ftp://example.com failed: this is no shared link\n"
    assert ended.stdout == f"{LINK} is {tmp_path / 'shared_items'}\n"
