"""Settings of all tests, and the README's code blocks as tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Verbosity, settings

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", deadline=None, max_examples=2000, verbosity=Verbosity.normal)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own settings out of every test."""
    for name in tuple(os.environ):
        if name.startswith("BOX_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
