"""The stores that have to keep the contract."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.stores.places import FilePlace, MemoryPlace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stores.places import Place


def _file(request: pytest.FixtureRequest, *, is_virtual: bool) -> FilePlace:
    folder: Path = request.getfixturevalue("tmp_path")
    return FilePlace(folder / "tokens.db", is_virtual=is_virtual)


PLACES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {
    "memory": lambda request: MemoryPlace(),
    "sqlite-virtual": lambda request: _file(request, is_virtual=True),
    "sqlite": lambda request: _file(request, is_virtual=False),
}
IN_REAL_TIME = ("sqlite",)


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.slow] if kind in IN_REAL_TIME else [])
        for kind in PLACES
    ]
)
def place(request: pytest.FixtureRequest) -> Place:
    """Run a test with each kind of store."""
    return PLACES[request.param](request)


@pytest.fixture
def name() -> str:
    """Return a name that nobody else uses."""
    return secrets.token_hex(16)
