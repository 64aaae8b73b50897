"""A session with each way to authenticate, with third-party servers.

Sockets are real; the tests move the session's clock and the server's. The endpoints come from the
metadata that each server publishes, and the credentials from files. `on_authlib` and `on_node` list
the required settings of each server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_anon_session import CredentialsRejectedError, RevocationError, TokenManager

from .clients import WITH_CERTIFICATE
from .peers import LIFETIME, SCOPE, discover, open_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from .clients import ClientFiles
    from .peers import Peer

    NewClient = Callable[[Peer, str], ClientFiles]

pytestmark = pytest.mark.slow

ADVICE = {
    "client_secret_post": "client_secret",
    "client_secret_basic": "client_secret",
    "client_secret_jwt": "client_secret (BOX_CLIENT_ID, BOX_CLIENT_SECRET), issuer (BOX_ISSUER)",
    "private_key_jwt": "the public key that is registered at the server",
    "assertion": "the claims iss, sub, aud and exp of the assertion",
    "tls_client_auth": "its certificate is registered",
    "self_signed_tls_client_auth": "its certificate is registered",
}
"""A part of the advice if the server rejects a client."""


def rejections(method: str) -> list[bool]:
    """Return the items of `Program.granted` for a first round with a wrong credential."""
    # A provider that returns another assertion each time gets a second attempt.
    return [False, False] if method == "assertion" else [False]


async def test_grant_and_use(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """The server accepts the client, and the resource accepts the token."""
    async with open_program(peer, new_client(peer, method), mock_clock) as program:
        answers = [await program.use(), await program.use()]
        token_info = program.session.token_info

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "files")] * 2
    assert program.granted() == [True]
    assert token_info is not None
    assert (token_info.lifetime, token_info.scope) == (LIFETIME, SCOPE)


async def test_expiry(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """The session refreshes a STALE token, and the server accepts the next credentials."""
    async with open_program(peer, new_client(peer, method), mock_clock) as program:
        first = await program.session.get_access_token()
        program.let_time_pass(LIFETIME / 2 + 1.0)
        assert await program.use_with(program.session.get_access_token_nowait()) == 200
        await program.wait_until_fresh()
        second = program.session.get_access_token_nowait()

        program.let_time_pass(LIFETIME / 2 - 1.0)

        assert await program.use_with(first) == 401
        assert await program.use_with(second) == 200
        assert (await program.use()).history == []
        assert program.granted() == [True, True]


async def test_revoke(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """After the session revokes its token, the server refuses that token and grants another."""
    async with open_program(peer, new_client(peer, method), mock_clock) as program:
        token = await program.session.get_access_token()
        await program.session.revoke_tokens()

        assert program.statuses(peer.revoke_path) == [200]
        assert await program.use_with(token) == 401
        program.let_time_pass(5.0)
        assert (await program.use()).status_code == 200
        assert program.granted() == [True, True]


async def test_rotation(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """After the server and the files have the next credential, the session uses it.

    The server rejects no token request, and every request of a caller succeeds.
    """
    client = new_client(peer, method)
    async with open_program(peer, client, mock_clock, min_refresh_interval=0.01) as program:
        assert (await program.use()).status_code == 200
        peer.register(client.client_id, client.metadata(1))
        client.write(1)
        program.let_time_pass(LIFETIME / 2 + 1.0)

        assert (await program.use()).status_code == 200
        await program.wait_until_fresh()
        assert (await program.use()).status_code == 200

        assert all(program.granted())
        # A server that binds tokens to certificates may refuse the request in the middle: it has
        # the new certificate if the session has just read it, and still the old token.
        if method not in WITH_CERTIFICATE:
            assert program.statuses("/files") == [200, 200, 200]


async def test_rotation_during_an_attempt(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """If the files change during a rejected attempt, the next attempt succeeds."""
    client = new_client(peer, method)

    async def write() -> None:
        client.write(1)

    async with open_program(
        peer, client, mock_clock, on_rejection=write, min_refresh_interval=0.01
    ) as program:
        await program.use()
        peer.register(client.client_id, client.metadata(1))
        program.session.invalidate(program.session.get_access_token_nowait())
        program.let_time_pass(5.0)

        assert (await program.use()).status_code == 200

        assert program.granted() == [True, False, True]
        assert program.statuses("/files") == [200, 200]
        assert program.session.statistics().failures == 1


async def test_rotation_with_late_files(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """If the files change after the server, callers keep the token until the next attempt."""
    client = new_client(peer, method)
    async with open_program(peer, client, mock_clock) as program:
        await program.use()
        peer.register(client.client_id, client.metadata(1))
        program.let_time_pass(LIFETIME / 2 + 1.0)
        while program.session.statistics().failures == 0:
            assert (await program.use()).status_code == 200
        client.write(1)
        program.let_time_pass(10.0)
        await program.wait_until_fresh()

        assert (await program.use()).status_code == 200
        assert program.granted() == [True, False, True]
        assert {*program.statuses("/files")} == {200}


async def test_wrong_credential(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """The server rejects another credential at the first attempt, and the error has advice."""
    client = new_client(peer, method)
    client.write(1)
    async with open_program(peer, client, mock_clock, min_refresh_interval=0.01) as program:
        with pytest.raises(CredentialsRejectedError) as caught:
            await program.session.get_access_token()

    # Authlib answers 400 to an assertion, and 401 to a secret.
    assert caught.value.status_code in (400, 401)
    assert caught.value.error == "invalid_client"
    assert ADVICE[method] in str(caught.value.next_step)
    assert program.granted() == rejections(method)


async def test_revocation_with_a_wrong_credential(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """A revocation with another credential is an error with advice, and the token stays valid."""
    client = new_client(peer, method)
    async with open_program(peer, client, mock_clock) as program:
        token = await program.session.get_access_token()
        client.write(1)
        async with TokenManager(await discover(peer, client)) as manager:
            with pytest.raises(RevocationError) as caught:
                await manager.revoke_tokens(token)
        client.write(0)
        assert (await program.use()).status_code == 200

    assert caught.value.error == "invalid_client"
    assert ADVICE[method] in str(caught.value.next_step)


async def test_another_registered_method(
    peer: Peer, method: str, new_client: NewClient, mock_clock: MockClock
) -> None:
    """If the client is registered with another method, the error also says to check that."""
    client = new_client(peer, method)
    other = "client_secret_post" if method == "client_secret_jwt" else "client_secret_jwt"
    secret = client.metadata().get("client_secret", "x" * 32)
    peer.register(client.client_id, {"token_endpoint_auth_method": other, "client_secret": secret})
    async with open_program(peer, client, mock_clock, min_refresh_interval=0.01) as program:
        with pytest.raises(CredentialsRejectedError) as caught:
            await program.session.get_access_token()

    assert caught.value.error == "invalid_client"
    assert "another auth_method" in str(caught.value.next_step)


async def test_assertion_file(peer: Peer, new_client: NewClient, mock_clock: MockClock) -> None:
    """A server that accepts an assertion once rejects it later, until the file has another.

    During this time, callers keep the token.
    """
    client = new_client(peer, "assertion_file")
    async with open_program(peer, client, mock_clock) as program:
        await program.use()
        program.let_time_pass(LIFETIME / 2 + 1.0)
        while program.session.statistics().failures == 0:
            assert (await program.use()).status_code == 200
        async with TokenManager(await discover(peer, client)) as manager:
            with pytest.raises(CredentialsRejectedError) as caught:
                await manager.get_tokens_client_credentials_grant()
        client.write(0)
        program.let_time_pass(10.0)
        await program.wait_until_fresh()
        assert (await program.use()).status_code == 200
        client.write(0)
        await program.session.revoke_tokens()

        assert "accepts it more than once" in str(caught.value.next_step)
        assert program.granted() == [True, False, False, True]
        assert {*program.statuses("/files")} == {200}
        assert program.statuses(peer.revoke_path) == [200]
