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
    """Links come from the command line and from a list, and each is told of.

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
    """It is told on stderr, the exit code is 1, and the others are there."""
    ended = run_example("downloads/downloads.py", "ftp://example.com", LINK, "--folder", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == "ftp://example.com failed: this is no shared link\n"
    assert ended.stdout == f"{LINK} is {tmp_path / 'shared_items'}\n"


def test_no_password_is_shown(tmp_path: Path) -> None:
    """A link that fails is told without its password."""
    ended = run_example(
        "downloads/downloads.py", "--list", "-", "--folder", tmp_path, stdin="ftp://a hush-hush\n"
    )
    assert ended.stderr == "ftp://a failed: this is no shared link\n"
