"""`docs/explanation/fleet.md` says what was counted."""

from __future__ import annotations

import pytest

from tools.fleet.page import PAGE, quick_rows, rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("start", quick_rows())
def test_a_row_is_what_a_fresh_run_counts(start: str) -> None:
    """Each row that is made in no time, made again, is the one on the page."""
    row = quick_rows()[start]()
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), "run python -m tools.fleet --write"


def test_the_page_has_each_row_once() -> None:
    """The rows that take longer are there, too."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert {start: sum(line.startswith(start) for line in lines) for start in rows()} == (
        dict.fromkeys(rows(), 1)
    )
