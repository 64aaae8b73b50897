"""Fixtures: the servers, certificates, and the trust in their authority."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.servers.conftest import note
from tests.servers.serving import serve

from .clients import METHODS, ClientFiles
from .on_authlib import METHODS as AUTHLIB_METHODS
from .on_authlib import AuthlibServer
from .on_node import NodeServer, run_node
from .peers import new_client_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .peers import Peer

PAIRS = [("authlib", method) for method in (*AUTHLIB_METHODS, "assertion")]
PAIRS += [("node", method) for method in (*METHODS, "assertion")]
"""Each server with each of its methods."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of ``peer`` and ``method`` with each server and method, or each server."""
    if {"peer", "method"} <= {*metafunc.fixturenames}:
        metafunc.parametrize(
            "peer, method",
            [pytest.param(*pair, id="-".join(pair)) for pair in PAIRS],
            indirect=["peer"],
            scope="session",
        )
    elif "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", ["authlib", "node"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return the authority that certifies the server and its clients."""
    return trustme.CA()


@pytest.fixture(scope="session")
def authlib() -> Iterator[AuthlibServer]:
    """Serve Authlib's server."""
    server: Any = AuthlibServer()
    with serve(server) as server.served:
        yield server


@pytest.fixture(scope="session")
def node(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeServer]:
    """Run oidc-provider's server."""
    yield from run_node(authority, tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="session")
def peer(request: pytest.FixtureRequest) -> Peer:
    """Return one of the servers."""
    server: Peer = request.getfixturevalue(request.param)
    note(request.config, server.name)
    return server


@pytest.fixture
def new_client(authority: trustme.CA, tmp_path: Path) -> Callable[[Peer, str], ClientFiles]:
    """Return a function that registers a new client with its first credential."""

    def new_client(peer: Peer, method: str) -> ClientFiles:
        client = ClientFiles(new_client_id(), method, peer.issuer, tmp_path, authority)
        peer.register(client.client_id, client.metadata())
        return client

    return new_client


@pytest.fixture(autouse=True)
def _trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
