"""Fixtures of the tests of `MutualTLS`: certificates, and trust in their authority."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from tests.authentication.mutual_tls.certificates import Pair, server_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the authority of the server and its clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def old(authority: trustme.CA) -> Pair:
    """Return the first certificate of a client."""
    return Pair(authority, "old.example")


@pytest.fixture(scope="module")
def new(authority: trustme.CA) -> Pair:
    """Return the certificate that replaces the first one."""
    return Pair(authority, "new.example")


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> ssl.SSLContext:
    """Return the server's context."""
    return server_context(authority)


@pytest.fixture(autouse=True)
def _trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
