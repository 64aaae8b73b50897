"""Fixtures of all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import httpx2
import pytest

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> ModuleType:
    """Run a test with each of the libraries whose clients a session serves."""
    library: ModuleType = request.param
    return library
