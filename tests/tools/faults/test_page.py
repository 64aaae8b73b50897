"""`docs/reference/faults.md` says what was measured."""

from __future__ import annotations

import pytest

from tools.faults.page import PAGE, make_page


@pytest.mark.slow
def test_page_says_what_was_measured() -> None:
    """The page, made again from this run's outcomes, is the one that is there."""
    assert PAGE.read_text(encoding="utf-8") == make_page(), "run python -m tools.faults"
