"""`docs/reference/faults.md` shows the measured outcomes."""

from __future__ import annotations

import pytest

from tools.faults.page import PAGE, make_page


@pytest.mark.slow
def test_page_shows_the_measured_outcomes() -> None:
    """The committed page equals the one that is created from the outcomes of this run."""
    assert PAGE.read_text(encoding="utf-8") == make_page(), "run python -m tools.faults"
