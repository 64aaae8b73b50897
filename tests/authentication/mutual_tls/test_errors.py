"""Tests of the errors of a client with `MutualTLS`: their advice, and hidden secrets."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.authentication.mutual_tls.certificates import Pair, config
from tests.http.endpoint import CALLS, Endpoint, ask, error_of, fails, open_manager, says
from trio_anon_session import (
    CredentialsRejectedError,
    MutualTLS,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

REJECTED = says(401, {"error": "invalid_client"})


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_rejected(
    is_replaced: bool, old: Pair, new: Pair, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """After a rejection, a changed certificate is used by the next request, as the error says."""
    method = MutualTLS(*old.write(tmp_path))

    async def rejects(request: httpx.Request) -> httpx.Response:
        if is_replaced:
            new.write(tmp_path)
        return await REJECTED(request)

    endpoint = Endpoint(rejects, says())
    async with open_manager(endpoint, config(method)) as manager:
        with pytest.raises(CredentialsRejectedError) as caught:
            await ask(manager)
        assert len(endpoint.requests) == 1
        if is_replaced:
            assert "credentials have changed since" in str(caught.value.next_step)
            await ask(manager)
        else:
            assert "token_url" in str(caught.value)
            assert "certificate is registered and has not expired" in str(caught.value.next_step)
            assert "client_secret" not in str(caught.value.next_step)


async def test_a_server_quotes_the_secrets(
    old: Pair, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Password and key are hidden if a server quotes them."""
    certfile, keyfile = old.write(tmp_path)
    key = old.encrypted_key("correcthorse")
    keyfile.write_bytes(key)
    method = MutualTLS(certfile, keyfile, "correcthorse")
    # Words of this form are shown if they are not known as secrets.
    part = re.search(r"[A-Za-z0-9]{12}", key.decode())
    assert part is not None
    for secret in ("correcthorse", part[0]):
        said = says(400, {"error": "invalid_request", "error_description": f"got {secret} here"})
        error = await error_of(said, settings=config(method))
        assert "got *** here" in str(error)


def caused_by(cause: Exception) -> httpx.ConnectError:
    """Return httpx's error of a connection that failed for this reason."""
    error = httpx.ConnectError("")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "error",
    [httpx.ReadError(""), httpx.ConnectError(""), caused_by(ssl.SSLError(1, "handshake failure"))],
    ids=["read", "connect", "handshake"],
)
async def test_a_broken_connection(
    call: str, error: Exception, old: Pair, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """If the connection breaks, the error names the certificate as a possible reason."""
    caught = await error_of(fails(error), call, config(MutualTLS(*old.write(tmp_path))))
    assert caught.retryable
    assert call == "revoke" or isinstance(caught, TokenUnavailableError)
    endpoint = "token_url (BOX_TOKEN_URL)" if call == "grant" else "revoke_url (BOX_REVOKE_URL)"
    assert f"certificate is registered and has not expired, and that {endpoint}" in str(caught)
    assert "verify=auth_method.ssl_context()" in str(caught)


async def test_a_failure_that_no_certificate_causes(
    old: Pair, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A refused connection has its usual advice, and a closed manager has no advice."""
    settings = config(MutualTLS(*old.write(tmp_path)))
    refused = await error_of(fails(caused_by(ConnectionRefusedError())), settings=settings)
    assert str(refused.next_step).startswith("No server listens there")
    async with open_manager(Endpoint(says()), settings) as manager:
        await manager.aclose()
        with pytest.raises(TokenRequestError) as caught:
            await ask(manager)
    assert caught.value.next_step is None


async def test_a_web_page_of_nginx(old: Pair, tmp_path: Path, autojump_clock: MockClock) -> None:
    """A 400 without an error code, such as that of nginx, has the advice about certificates."""
    settings = config(MutualTLS(*old.write(tmp_path)))
    page = says(400, b"<html>No required SSL certificate was sent</html>", sort="text/html")
    error = await error_of(page, settings=settings)
    assert "certificate is registered and has not expired" in str(error)
    assert "verify=auth_method.ssl_context()" in str(error)
    error = await error_of(says(400, {"error": "invalid_scope"}), settings=settings)
    assert "certificate" not in str(error)
