"""Assertions that third-party servers accept: algorithms, audiences, times, key IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.authentication.signing import FITTING, key_of, pem_of
from trio_anon_session import (
    Config,
    CredentialsRejectedError,
    PrivateKeyJWT,
    TokenManager,
)

from .clients import jwk_of
from .peers import SCOPE, new_client_id

if TYPE_CHECKING:
    from .on_authlib import AuthlibServer
    from .on_node import NodeServer
    from .peers import Peer

pytestmark = pytest.mark.slow

KINDS = [
    (kind, algorithm)
    for kind, algorithms in FITTING.items()
    for algorithm in algorithms
    # oidc-provider accepts no such keys.
    if kind != "Ed448"
]


def jwk(kind: str = "P-256", number: int = 0, algorithm: str = "ES256") -> dict[str, Any]:
    """Return a public key as a JWK."""
    return jwk_of(key_of(kind, number).public_key(), algorithm)


def register(peer: Peer, *keys: dict[str, Any], prefix: str = "") -> str:
    """Register a new client with these keys, and return its id."""
    peer.reset()
    client_id = prefix + new_client_id()
    metadata = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": keys}}
    peer.register(client_id, metadata)
    return client_id


async def grant(peer: Peer, client_id: str, method: PrivateKeyJWT) -> None:
    """Request a token, with the endpoints that the server publishes."""
    config = await Config.discover(
        peer.issuer, client_id=client_id, auth_method=method, scope=SCOPE
    )
    async with TokenManager(config) as manager:
        await manager.get_tokens_client_credentials_grant()


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
async def test_algorithms(node: NodeServer, kind: str, algorithm: str) -> None:
    """oidc-provider verifies the signature of every algorithm."""
    client_id = register(node, jwk(kind, algorithm=algorithm))
    await grant(node, client_id, PrivateKeyJWT(pem_of(kind), algorithm=algorithm))


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA-2048", "RS256"), pytest.param("P-256", "ES256", marks=pytest.mark.quick)],
)
async def test_algorithms_of_authlib(authlib: AuthlibServer, kind: str, algorithm: str) -> None:
    """Authlib verifies the two algorithms for private keys that it accepts by default."""
    client_id = register(authlib, jwk(kind, algorithm=algorithm))
    await grant(authlib, client_id, PrivateKeyJWT(pem_of(kind), algorithm=algorithm))


async def test_audience(peer: Peer) -> None:
    """Servers accept the audience of a config with or without issuer, and not another server's."""
    client_id = register(peer, jwk())
    found = await Config.discover(
        peer.issuer,
        client_id=client_id,
        auth_method=PrivateKeyJWT(pem_of(), algorithm="ES256"),
        scope=SCOPE,
    )
    for config in (found, found.replace(issuer=None)):
        async with TokenManager(config) as manager:
            await manager.get_tokens_client_credentials_grant()

    method = PrivateKeyJWT(pem_of(), algorithm="ES256", audience="https://other.example")
    with pytest.raises(CredentialsRejectedError) as caught:
        await grant(peer, client_id, method)
    assert "audience" in str(caught.value.next_step)


async def test_key_id(peer: Peer) -> None:
    """A server with several keys uses the one with the key ID, and rejects an unknown ID."""
    client_id = register(peer, *(jwk(number=n) | {"kid": f"key {n}"} for n in range(3)))
    for number in range(3):
        method = PrivateKeyJWT(pem_of(number=number), algorithm="ES256", key_id=f"key {number}")
        await grant(peer, client_id, method)

    method = PrivateKeyJWT(pem_of(), algorithm="ES256", key_id="key 9")
    with pytest.raises(CredentialsRejectedError) as caught:
        await grant(peer, client_id, method)
    assert "key_id" in str(caught.value.next_step)


async def test_clock_of_the_client_is_behind(node: NodeServer) -> None:
    """A server rejects an ``exp`` in its past; a longer lifetime prevents that.

    Neither server shows the opposite: with an ``exp``, oidc-provider ignores the ``iat``, and the
    clock by which Authlib reads it cannot be moved.
    """
    client_id = register(node, jwk())
    node.move_clock(90.0)
    with pytest.raises(CredentialsRejectedError) as caught:
        await grant(node, client_id, PrivateKeyJWT(pem_of(), algorithm="ES256"))
    assert "this machine's clock" in str(caught.value.next_step)

    await grant(node, client_id, PrivateKeyJWT(pem_of(), algorithm="ES256", lifetime=120.0))


async def test_client_id_with_other_characters(authlib: AuthlibServer) -> None:
    """A server accepts a client whose ID has non-ASCII characters, quotes and spaces."""
    client_id = register(authlib, jwk(), prefix="密 😀 é\"'\\ ")
    await grant(authlib, client_id, PrivateKeyJWT(pem_of(), algorithm="ES256"))
