"""The downloader, run as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("served_environment")]

LINK = "https://app.box.com/s/abc"


def test_links_are_downloaded(tmp_path: Path) -> None:
    """The program downloads links from the command line and a list, and prints a line for each.

    On the embedded server, every link leads to the same small file.
    """
    ended = run_example(
        "downloads/downloads.py", LINK, "--folder", tmp_path, "--list", "-", stdin=f"{LINK} pass\n"
    )
    assert ended.stderr == ""
    assert ended.returncode == 0
    path = tmp_path / "shared_items"
    assert ended.stdout == f"{LINK} is {path}\n" * 2
    assert path.read_text() == '{"type": "file", "id": "content"}'


def test_a_wrong_link(tmp_path: Path) -> None:
    """A wrong link is reported without its password, and the other links are downloaded."""
    args = (LINK, "--folder", tmp_path, "--list", "-")
    ended = run_example("downloads/downloads.py", *args, stdin="ftp://example.com hush-hush\n")
    assert ended.returncode == 1
    assert ended.stderr == "ftp://example.com failed: this is no shared link\n"
    assert ended.stdout == f"{LINK} is {tmp_path / 'shared_items'}\n"
