"""Tests of `TokenManager` as an object: its block, its client, and the validity of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import trio
from trio.testing import assert_checkpoints

from tests.http.endpoint import CALLS, CLIENT_ID, TOKEN, Endpoint, ask, config, hangs, says
from trio_anon_session import Config, RevocationError, TokenInfo, TokenManager, TokenRequestError
from trio_anon_session.testing import TokenServer

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize(
    ("now", "buffer", "is_valid"),
    [
        (0.0, 0.0, True),
        (10.0, 0.0, True),
        # The stale and expired boundaries have no effect.
        (30.0, 0.0, True),
        (109.5, 0.0, True),
        (110.0, 0.0, False),
        (50.0, 59.5, True),
        (50.0, 60.0, False),
    ],
)
async def test_a_token_is_valid_until_its_raw_lifetime_ends(
    autojump_clock: trio.testing.MockClock, now: float, buffer: float, is_valid: bool
) -> None:
    """A token is valid while more than the buffer is left of its lifetime, even if EXPIRED."""
    one = TokenInfo(TOKEN, 100.0, 10.0, 20.0, 30.0)
    await trio.sleep(now)
    assert TokenManager(config()).is_access_token_valid(one, buffer) is is_valid
    assert TokenManager(config()).is_access_token_valid(one) is (now < 110.0)


class OwnClients:
    """The clients that managers create for themselves, and their common fake endpoint."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(says())
        self.made: list[httpx.AsyncClient] = []


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> OwnClients:
    """Replace the class of the clients that managers create for themselves."""
    own = OwnClients()

    class Client(httpx.AsyncClient):
        def __init__(self, **settings: Any) -> None:
            super().__init__(transport=own.endpoint, **settings)
            own.made.append(self)

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    return own


async def test_own_client_is_closed(own: OwnClients) -> None:
    """A manager creates one client for all of its requests, and closes it."""
    async with TokenManager(config()) as manager:
        await manager.get_tokens_client_credentials_grant()
        await manager.revoke_tokens(TOKEN)
        (client,) = own.made
        assert not client.is_closed
        # The client honours the proxy variables.
        assert client.trust_env
    assert client.is_closed
    assert own.endpoint.closed == 1


async def test_own_client_is_closed_when_cancelled(own: OwnClients) -> None:
    """A cancelled close still closes the client."""
    manager = TokenManager(config())
    await manager.get_tokens_client_credentials_grant()
    with trio.CancelScope() as scope:
        scope.cancel()
        await manager.aclose()
    assert scope.cancelled_caught
    assert own.made[0].is_closed


async def test_given_client_is_not_closed(http: ModuleType) -> None:
    """A given client stays open."""
    endpoint = Endpoint(says())
    async with http.AsyncClient(transport=endpoint) as client:
        async with TokenManager(config(), http_client=client) as manager:
            await manager.get_tokens_client_credentials_grant()
        await manager.aclose()
        assert not client.is_closed
        assert endpoint.closed == 0


async def test_block_of_a_manager() -> None:
    """The block's target is the manager, and entering, leaving and closing are checkpoints."""
    manager = TokenManager(config())
    with assert_checkpoints():
        assert await manager.__aenter__() is manager
    with assert_checkpoints():
        await manager.__aexit__(None, None, None)
    with assert_checkpoints():
        await manager.aclose()


async def test_calls_are_checkpoints() -> None:
    """Both calls are checkpoints, even over a transport that answers immediately."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(says())) as client:
        manager = TokenManager(config(), http_client=client)
        with assert_checkpoints():
            await manager.get_tokens_client_credentials_grant()
        with assert_checkpoints():
            await manager.revoke_tokens(TOKEN)


@pytest.mark.parametrize(
    "client", [httpx.Client, httpx2.Client, httpx.AsyncClient, "httpx"], ids=ascii
)
async def test_a_client_of_another_kind(client: Any) -> None:
    """A synchronous client, a class or a name raises a TypeError with the argument's name."""
    wrong = client() if client in (httpx.Client, httpx2.Client) else client
    said = (
        "^http_client must be an httpx.AsyncClient, an httpx2.AsyncClient or None, "
        f"not {type(wrong).__name__}$"
    )
    with pytest.raises(TypeError, match=said):
        TokenManager(config(), http_client=wrong)
    with pytest.raises(TypeError, match=said):
        await Config.discover(
            "https://id.example", client_id="id", client_secret="s", http_client=wrong
        )


@pytest.mark.parametrize("given", [True, False])
async def test_use_of_a_closed_manager(own: OwnClients, *, given: bool) -> None:
    """A closed manager sends nothing more."""
    client = httpx.AsyncClient() if given else None
    async with TokenManager(config(), http_client=client) as manager:
        await manager.get_tokens_client_credentials_grant()
    closed = "manager is closed: use it and its sessions inside its 'async with' block"
    with pytest.raises(TokenRequestError, match=closed) as granting:
        await manager.get_tokens_client_credentials_grant()
    with pytest.raises(RevocationError, match=closed) as revoking:
        await manager.revoke_tokens(TOKEN)
    # The manager cannot be opened again, so a retry is useless.
    assert not granting.value.retryable
    assert not revoking.value.retryable
    assert len(own.endpoint.requests) == 1
    assert len(own.made) == 1
    if client is not None:
        await client.aclose()


@pytest.mark.parametrize("call", CALLS)
async def test_a_manager_that_is_closed_during_a_request(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    """If the manager is closed before a request fails, the error is not retryable."""
    async with (
        httpx.AsyncClient(transport=Endpoint(hangs)) as client,
        trio.open_nursery() as nursery,
    ):
        manager = TokenManager(config(), http_client=client)

        @nursery.start_soon
        async def close() -> None:
            await trio.sleep(1.0)
            await manager.aclose()

        with pytest.raises(TokenRequestError, match="did not answer") as caught:
            await ask(manager, call)
    assert not caught.value.retryable


@pytest.mark.parametrize("given", [None, "config", {}])
def test_a_config_of_the_wrong_type(given: Any) -> None:
    """The error names the argument, and the type of the wrong value."""
    with pytest.raises(TypeError, match=f"config must be a Config, not {type(given).__name__}"):
        TokenManager(given)


def test_repr_of_a_manager() -> None:
    """A manager shows its client's id and its endpoint, and no secret."""
    text = repr(TokenManager(config()))
    assert text == f"<TokenManager for {CLIENT_ID!r} at https://api.box.com/oauth2/token>"


async def test_grant_and_revoke(http: ModuleType, autojump_clock: trio.testing.MockClock) -> None:
    """A token is valid at the server until it is revoked."""
    server = TokenServer(lifetime=1800.0)
    async with http.AsyncClient(transport=http.ASGITransport(server)) as client:
        async with TokenManager(server.config(), http_client=client) as manager:
            one = await manager.get_tokens_client_credentials_grant()
            assert [token.access_token for token in server.live_tokens()] == [one.access_token]
            await manager.revoke_tokens(one.access_token)
        assert list(client.cookies.jar) == []
    assert server.live_tokens() == []
    assert (server.grants, server.revocations, one.lifetime) == (1, 1, 1800.0)
    assert one.extra == {"restricted_to": []}
