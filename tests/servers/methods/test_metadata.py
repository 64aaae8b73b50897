"""`Config.discover` with the metadata of third-party servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_anon_session import Config, ConfigError

from .clients import WITH_CERTIFICATE
from .peers import discover, new_client_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clients import ClientFiles
    from .on_authlib import AuthlibServer
    from .peers import Peer

    NewClient = Callable[[Peer, str], ClientFiles]

pytestmark = pytest.mark.slow


async def test_endpoints(peer: Peer, method: str, new_client: NewClient) -> None:
    """The config has the metadata's endpoints; for a client with a certificate, the aliases."""
    peer.reset()
    config = await discover(peer, new_client(peer, method))

    root = peer.root_for(method)
    assert config.issuer == peer.issuer
    assert config.token_url.startswith(root)
    assert config.token_url.endswith(peer.token_path)
    assert config.revoke_url.startswith(root)
    assert config.revoke_url.endswith(peer.revoke_path)
    assert root.startswith("https") == (method in WITH_CERTIFICATE)


async def test_metadata_of_openid_only(peer: Peer) -> None:
    """If the server has no metadata at the URL of RFC 8414, that of OpenID Connect is used."""
    peer.reset()
    await Config.discover(peer.issuer, client_id=new_client_id(), client_secret="x" * 32)

    tried = [status for path, status in peer.answers() if path.startswith("/.well-known/")]
    assert tried == ([404, 200] if peer.issuer.endswith("/tenant") else [200])


@pytest.mark.parametrize("change", ["/", "/other"])
async def test_another_issuer(peer: Peer, change: str) -> None:
    """An issuer with an additional slash or path raises ConfigError."""
    with pytest.raises(ConfigError) as caught:
        await Config.discover(
            peer.issuer + change, client_id=new_client_id(), client_secret="x" * 32
        )
    assert caught.value.field == "issuer"


async def test_method_that_is_not_listed(authlib: AuthlibServer, new_client: NewClient) -> None:
    """A method that the server does not list is refused before any token request."""
    client = new_client(authlib, "tls_client_auth")
    authlib.reset()
    with pytest.raises(ConfigError) as caught:
        await discover(authlib, client)

    assert caught.value.field == "auth_method"
    assert "'private_key_jwt'" in str(caught.value)
    assert [path for path, _ in authlib.answers()] == ["/.well-known/oauth-authorization-server"]
