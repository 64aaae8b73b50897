"""Fixtures that serve the servers, and a summary with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .on_django import DjangoServer
from .on_flask import AuthlibServer
from .serving import Served, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

_MET = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def _authlib() -> AuthlibServer:
    return AuthlibServer()


@pytest.fixture(scope="session")
def _django(tmp_path_factory: pytest.TempPathFactory) -> DjangoServer:
    return DjangoServer(tmp_path_factory.mktemp("django") / "db.sqlite3")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("_authlib", id=AuthlibServer.name),
        pytest.param("_django", id=DjangoServer.name),
    ],
)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Serve each of the servers, one after the other."""
    server = request.getfixturevalue(request.param)
    note(request.config, server.name)
    with serve(server) as served:
        yield served


def note(config: pytest.Config, name: str) -> None:
    """Note that tests used the server with this name."""
    met = config.stash.setdefault(_MET, [])
    if name not in met:
        met.append(name)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the servers that tests used, whatever the verbosity."""
    for name in config.stash.get(_MET, []):
        terminalreporter.write_line(f"authorization server met: {name}")
