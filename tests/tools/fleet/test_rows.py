"""The program that measures a fleet of real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_cheapest_row() -> None:
    """After an old SQLite file is restored, the dropped token is in use for less than 10 s."""
    ended = subprocess.run(
        [sys.executable, "-m", "tools.fleet.rows", "2e"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    row, _what, seconds, _unit = ended.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert row == "2e"
    assert float(seconds) < 10.0
