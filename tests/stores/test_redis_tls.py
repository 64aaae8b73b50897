"""Tests of TLS between `RedisStore` and a server: certificates of the server and the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from trio_anon_session import ConfigError
from trio_anon_session.stores import RedisStore

from .kit import NAME, listening, refusal, round_trip
from .valkey import Valkey, run_valkey

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

pytestmark = pytest.mark.slow


class Authority:
    """A certificate authority for the test, and the files of its certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def files_for(self, identity: str) -> tuple[str, str]:
        """Write a certificate and a key for an identity, and return their paths."""
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        issued = self._authority.issue_cert(identity)
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)

    def run_server(self, identity: str, *, clients: str = "no") -> AbstractContextManager[Valkey]:
        """Run a server with a certificate for this identity."""
        certificate, key = self.files_for(identity)
        options = ["--tls-cert-file", certificate, "--tls-key-file", key]
        options += ["--tls-ca-cert-file", str(self.file), "--tls-auth-clients", clients]
        return run_valkey(self.folder, *options, tls=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return a new certificate authority."""
    return Authority(tmp_path)


async def test_tls_with_the_authority_of_the_url(authority: Authority) -> None:
    """The authority of the URL is trusted; without it, calls fail, unless checks are off."""
    with authority.run_server("127.0.0.1") as server:
        await round_trip(RedisStore(f"{server.url}?ssl_ca_certs={authority.file}"))
        await round_trip(RedisStore(f"{server.url}?ssl_cert_reqs=none"))
        unknown = await refusal(RedisStore(server.url).look(NAME))
        assert unknown.startswith("the request failed (SSLCertVerificationError")
        assert await refusal(listening(RedisStore(server.url))) == unknown
        plain = RedisStore(server.url.replace("rediss", "redis"))
        assert await refusal(plain.look(NAME))


async def test_tls_with_an_authority_of_the_environment(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the URL names no authority, those of the environment are trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with authority.run_server("127.0.0.1") as server:
        await round_trip(RedisStore(server.url))


async def test_tls_with_the_certificate_of_another_host(authority: Authority) -> None:
    """A certificate for another host is rejected, unless the URL turns the check off."""
    with authority.run_server("elsewhere.example") as server:
        url = f"{server.url}?ssl_ca_certs={authority.file}"
        problem = await refusal(RedisStore(url).look(NAME))
        assert "SSLCertVerificationError" in problem
        assert "IP address mismatch" in problem
        await round_trip(RedisStore(f"{url}&ssl_check_hostname=false"))


async def test_tls_with_a_certificate_of_the_client(authority: Authority) -> None:
    """A server that requires a client certificate gets the one that the URL names."""
    with authority.run_server("127.0.0.1", clients="yes") as server:
        url = f"{server.url}?ssl_ca_certs={authority.file}"
        assert await refusal(RedisStore(url).look(NAME))
        certificate, key = authority.files_for("me.example")
        url += f"&ssl_certfile={certificate}&ssl_keyfile={key}"
        await round_trip(RedisStore(url))


def test_tls_files_that_cannot_be_read_raise_immediately(authority: Authority) -> None:
    """A TLS file that is missing or invalid raises a ConfigError when the store is created."""
    certificate, _key = authority.files_for("me.example")
    other = authority.folder / "other.pem"
    other.write_text("no certificate")
    for option in (
        f"ssl_ca_certs={authority.folder / 'missing'}",
        f"ssl_ca_certs={other}",
        f"ssl_certfile={other}",
        f"ssl_certfile={certificate}&ssl_keyfile={other}",
    ):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            RedisStore(f"rediss://127.0.0.1?{option}")
        assert caught.value.field == "url"
