"""Prints the outcome of each contract test with each store.

``python -m tests.stores.listing``
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


class Listing:
    """A pytest plugin that records the outcome of each test with each store."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = {}
        self._names: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        for item in items:
            params = dict(item.callspec.params)
            store = str(params.pop("place"))
            name = " ".join([item.originalname, *map(str, params.values())])
            self._names[item.nodeid] = name, store

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            name, store = self._names[report.nodeid]
            self.outcomes.setdefault(name, {})[store] = report.outcome


listing = Listing()
files = map(str, sorted(Path(__file__).parent.glob("test_contract*.py")))
code = pytest.main(["-q", *files], plugins=[listing])
stores = sorted({store for row in listing.outcomes.values() for store in row})
print(f"{'':60}", *(f"{store:>14}" for store in stores))
for test, row in listing.outcomes.items():
    print(f"{test:60}", *(f"{row.get(store, '-'):>14}" for store in stores))
print(f"{len(listing.outcomes)} tests")
sys.exit(code)
