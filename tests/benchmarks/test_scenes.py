"""Properties of every scene."""

from __future__ import annotations

import pytest

from benchmarks import scenes
from benchmarks.measure import Effort

pytestmark = pytest.mark.nightly

LEAST = Effort(turns=1, calls=200, crowd=1_000)


# The two scenes that are left out take long, and have their own tests.
@pytest.mark.parametrize("name", sorted({*scenes.NAMES} - {"instructions", "under_load"}))
def test_the_scene_shows_ours_and_a_base(name: str) -> None:
    """A scene has its base; only this library has limits, which counts and bytes keep."""
    for comparison in scenes.load(name).run(LEAST):
        assert comparison.base in [row.subject for row in comparison.rows]
        for row in comparison.rows:
            assert row.is_ours or row.limit is None
            if row.limit is not None and row.limit.of == "amount" and comparison.unit != "s":
                # Counts and bytes are the same on every machine; times are not.
                assert not row.is_over
