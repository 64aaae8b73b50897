"""`docs/explanation/fleet.md` shows the counted results."""

from __future__ import annotations

import pytest

from tools.fleet.page import PAGE, quick_rows, rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("start", quick_rows())
def test_a_row_equals_a_new_run(start: str) -> None:
    """Each row that can be computed quickly equals the one on the page."""
    row = quick_rows()[start]()
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), "run python -m tools.fleet --write"


def test_the_page_has_each_row_once() -> None:
    """The page has each row exactly once, also the rows that take longer."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert {start: sum(line.startswith(start) for line in lines) for start in rows()} == (
        dict.fromkeys(rows(), 1)
    )
