"""Tests of `MutualTLS` on real sockets, with a server that demands certificates."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trustme

from tests.authentication.mutual_tls.certificates import Pair, config, server_context
from tests.authentication.mutual_tls.server import open_tls, shake_hands
from tests.wire import listening
from trio_anon_session import (
    AnonymousSession,
    Config,
    CredentialsRejectedError,
    MutualTLS,
    TokenManager,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session.testing import Client, TokenServer

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from trio.testing import MockClock

pytestmark = pytest.mark.slow

LIMIT = 30.0
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def old_authority() -> trustme.CA:
    """Return the first authority of the clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def new_authority() -> trustme.CA:
    """Return the next authority of the clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def old(old_authority: trustme.CA) -> Pair:
    """Return the first certificate of a client."""
    return Pair(old_authority, "old.example")


@pytest.fixture(scope="module")
def new(new_authority: trustme.CA) -> Pair:
    """Return the certificate that replaces the first one, with another type of key."""
    return Pair(new_authority, "new.example", "RSA")


def token_server() -> TokenServer:
    """Return a token server whose client has no secret."""
    return TokenServer(clients=[Client("my app", client_secret="")], lifetime=3600.0)


@pytest.mark.quick
async def test_grant_use_and_revoke(
    authority: trustme.CA, old_authority: trustme.CA, old: Pair, tmp_path: Path
) -> None:
    """Each token request, revocation and API request presents the certificate."""
    method = MutualTLS(*old.write(tmp_path))
    server = token_server()
    with trio.fail_after(LIMIT):
        async with (
            open_tls(
                server, authority, tmp_path, trusted=[old_authority], registered=["old.example"]
            ) as tls,
            AnonymousSession(config(method, tls.url)) as session,
            httpx.AsyncClient(
                auth=session.auth([tls.url]), verify=method.ssl_context(), base_url=tls.url
            ) as api,
        ):
            assert (await api.get("/2.0/files/1")).status_code == 200
            await session.revoke_tokens()
    assert server.revocations == 1
    assert tls.seen == [
        ("/oauth2/token", "old.example"),
        ("/2.0/files/1", "old.example"),
        ("/oauth2/revoke", "old.example"),
    ]


async def test_a_client_of_the_caller(
    http: ModuleType, authority: trustme.CA, old_authority: trustme.CA, old: Pair, tmp_path: Path
) -> None:
    """A given client with the method's context presents the certificate in token requests."""
    method = MutualTLS(*old.write(tmp_path))
    with trio.fail_after(LIMIT):
        async with (
            open_tls(
                token_server(),
                authority,
                tmp_path,
                trusted=[old_authority],
                registered=["old.example"],
            ) as tls,
            http.AsyncClient(verify=method.ssl_context()) as client,
            TokenManager(config(method, tls.url), http_client=client) as manager,
        ):
            await manager.get_tokens_client_credentials_grant()
    assert tls.seen == [("/oauth2/token", "old.example")]


@pytest.mark.parametrize("binds", [False, True])
async def test_replaced_during_a_session(
    binds: bool,
    authority: trustme.CA,
    old_authority: trustme.CA,
    new_authority: trustme.CA,
    old: Pair,
    new: Pair,
    tmp_path: Path,
) -> None:
    """While the files are replaced one by one, no request fails; then the new certificate is used.

    This also works if the server accepts a token only with the certificate of its token request.
    """
    certfile, keyfile = old.write(tmp_path)
    method = MutualTLS(certfile, keyfile)
    server = token_server()
    with trio.fail_after(LIMIT):
        async with (
            open_tls(
                server,
                authority,
                tmp_path,
                trusted=[old_authority, new_authority],
                registered=["old.example", "new.example"],
                binds=binds,
            ) as tls,
            AnonymousSession(
                config(method, tls.url, min_refresh_interval=0.01, refresh="on_request")
            ) as session,
            httpx.AsyncClient(
                auth=session.auth([tls.url]),
                verify=method.ssl_context(),
                base_url=tls.url,
                limits=httpx.Limits(max_keepalive_connections=0),
            ) as api,
        ):

            async def use() -> str | None:
                """Use the API with a revoked token, and return whose token request follows."""
                server.revoke_all()
                before = len(tls.seen)
                assert (await api.get("/2.0/files/1")).status_code == 200
                [name] = {name for path, name in tls.seen[before:] if path == "/oauth2/token"}
                return name

            assert await use() == "old.example"
            certfile.write_bytes(new.certificate)
            assert await use() == "old.example"
            keyfile.write_bytes(new.key)
            assert await use() == "new.example"
            # The next request of the API comes with the new certificate, too.
            assert (await api.get("/2.0/files/1")).status_code == 200
            assert tls.seen[-1] == ("/2.0/files/1", "new.example")
            assert session.statistics().failures == 0


async def test_replaced_between_two_lifetimes(
    authority: trustme.CA,
    old_authority: trustme.CA,
    new_authority: trustme.CA,
    old: Pair,
    new: Pair,
    tmp_path: Path,
    mock_clock: MockClock,
) -> None:
    """After the lifetime of a token, the next one is requested with the new certificate."""
    method = MutualTLS(*old.write(tmp_path))
    server = token_server()
    async with (
        open_tls(
            server,
            authority,
            tmp_path,
            trusted=[old_authority, new_authority],
            registered=["old.example", "new.example"],
        ) as tls,
        AnonymousSession(config(method, tls.url, refresh="on_request")) as session,
    ):
        first = await session.get_access_token()
        new.write(tmp_path)
        mock_clock.jump(2900.0)
        assert await session.get_access_token() == first
        mock_clock.jump(700.0)
        assert await session.get_access_token() != first
        assert session.statistics().failures == 0
    assert [name for _, name in tls.seen] == ["old.example", "new.example"]


async def failure_of(
    settings: Config, client: httpx.AsyncClient | None = None
) -> TokenRequestError:
    """Return the error of a token request."""
    with trio.fail_after(LIMIT):
        async with TokenManager(settings, http_client=client) as manager:
            with pytest.raises(TokenRequestError) as caught:
                await manager.get_tokens_client_credentials_grant()
    return caught.value


CLIENTS = ["unknown certificate", "no certificate", "secret"]


async def failure_at(url: str, client: str, old: Pair, folder: Path) -> TokenRequestError:
    """Return the error of a client that lacks what the server demands."""
    settings = config(MutualTLS(*old.write(folder)), url)
    if client == "secret":
        settings = settings.replace(auth_method="client_secret_post", client_secret="s")
    async with httpx.AsyncClient() as without:
        return await failure_of(settings, without if client == "no certificate" else None)


@pytest.mark.parametrize("newest", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_server_that_sends_an_alert(
    client: str,
    newest: ssl.TLSVersion,
    authority: trustme.CA,
    new_authority: trustme.CA,
    old: Pair,
    tmp_path: Path,
) -> None:
    """If the server refuses the handshake, the error has its alert, and names what to check."""
    context = server_context(authority, trusted=new_authority)
    context.maximum_version = newest
    async with listening(partial(shake_hands, context=context)) as port:
        error = await failure_at(f"https://127.0.0.1:{port}", client, old, tmp_path)

    assert isinstance(error, TokenUnavailableError)
    assert error.network_failure == "tls"
    assert "alert" in str(error)
    if client == "secret":
        assert "whether the server requires a client certificate" in str(error)
    else:
        assert "certificate is registered and has not expired" in str(error)
        assert "verify=auth_method.ssl_context()" in str(error)


@pytest.mark.parametrize("newest", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS[:2])
async def test_a_server_that_sends_no_alert(
    client: str,
    newest: ssl.TLSVersion,
    authority: trustme.CA,
    new_authority: trustme.CA,
    old: Pair,
    tmp_path: Path,
) -> None:
    """If the server only closes the connection, the error also names what to check."""
    async with open_tls(
        token_server(), authority, tmp_path, trusted=[new_authority], newest=newest
    ) as tls:
        error = await failure_at(tls.url, client, old, tmp_path)

    assert isinstance(error, TokenUnavailableError)
    assert "certificate is registered and has not expired" in str(error)
    assert tls.seen == []


@pytest.mark.parametrize("has_certificate", [False, True])
async def test_a_server_that_does_not_know_the_certificate(
    has_certificate: bool,
    authority: trustme.CA,
    old_authority: trustme.CA,
    old: Pair,
    tmp_path: Path,
) -> None:
    """A server that checks the certificate after the handshake rejects the client."""
    async with (
        open_tls(
            token_server(), authority, tmp_path, trusted=[old_authority], demands=False
        ) as tls,
        httpx.AsyncClient() as client,
    ):
        settings = config(MutualTLS(*old.write(tmp_path)), tls.url)
        error = await failure_of(settings, None if has_certificate else client)

    assert isinstance(error, CredentialsRejectedError)
    assert error.error == "invalid_client"
    assert "certificate is registered and has not expired" in str(error.next_step)
    assert tls.seen == [("/oauth2/token", "old.example" if has_certificate else None)]
