"""The bugs that `python -m tests.claimant.planted` plants; `tests.exploring.bugs` reads them."""

from __future__ import annotations

from pathlib import Path

from tests.exploring.bugs import read_folder

BUGS = read_folder(Path(__file__).with_name("bugs"))

SURVIVORS: dict[str, str] = {}
"""The changes that no exploration can find, each with the reason."""
