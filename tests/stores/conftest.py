"""Fixtures for tests of stores: each kind of store, files and servers."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.stores.places import FilePlace, MemoryPlace, ServerPlace
from tests.stores.valkey import Valkey, run_valkey
from trio_anon_session.stores import _sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stores.places import Place


def _file(request: pytest.FixtureRequest, *, is_virtual: bool) -> FilePlace:
    folder: Path = request.getfixturevalue("tmp_path")
    return FilePlace(folder / "tokens.db", is_virtual=is_virtual)


def _server(request: pytest.FixtureRequest, *, encryption_key: bytes | None) -> ServerPlace:
    request.getfixturevalue("patient_connections")
    return ServerPlace(request.getfixturevalue("one_server"), encryption_key=encryption_key)


PLACES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {
    "memory": lambda request: MemoryPlace(),
    "sqlite-virtual": lambda request: _file(request, is_virtual=True),
    "sqlite": lambda request: _file(request, is_virtual=False),
    "redis": lambda request: _server(request, encryption_key=None),
    "redis-sealed": lambda request: _server(request, encryption_key=bytes(range(32))),
}
IN_REAL_TIME = ("sqlite", "redis", "redis-sealed")


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
    """Return a name that no other test uses."""
    return secrets.token_hex(16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist yet."""
    return tmp_path / "tokens.db"


@pytest.fixture
def impatient_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the time for which SQLite waits for other writers to 0.05 s."""
    monkeypatch.setattr(_sqlite, "BUSY_TIMEOUT", 0.05)


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Run one server for all tests that only add data under names of their own."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def patient_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for connections than in production: a busy machine may stop for a second."""
    monkeypatch.setattr("trio_anon_session.stores._coredis.CONNECT_TIMEOUT", 30.0)


@pytest.fixture
def patient_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for answers and notifications of stores than in production."""
    for module in ("_access", "_link", "_trial", "_watch"):
        monkeypatch.setattr(f"trio_anon_session.stores.{module}.STORE_TIMEOUT", 30.0)
    monkeypatch.setattr("trio_anon_session.stores._coredis.LISTEN_TIMEOUT", 30.0)


@pytest.fixture
def server(tmp_path: Path, patient_connections: None) -> Iterator[Valkey]:
    """Run a server for this test only."""
    with run_valkey(tmp_path) as server:
        yield server


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[Valkey]:
    """Run a second server for this test only."""
    folder = tmp_path / "other"
    folder.mkdir()
    with run_valkey(folder) as server:
        yield server
