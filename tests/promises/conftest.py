"""Fixtures of the promises."""

from __future__ import annotations

import pytest

from tests.helpers import TwoClocks


@pytest.fixture
def two_clocks(monkeypatch: pytest.MonkeyPatch) -> TwoClocks:
    """Run a test by a clock that moves apart from the wall clock, both by hand."""
    return TwoClocks(monkeypatch)
