"""Fixtures for tests of the promises."""

from __future__ import annotations

import pytest

from tests.helpers import TwoClocks


@pytest.fixture
def two_clocks(monkeypatch: pytest.MonkeyPatch) -> TwoClocks:
    """Return a Trio clock and a wall clock that the test moves separately."""
    return TwoClocks(monkeypatch)
