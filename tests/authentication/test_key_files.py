"""Tests of `PrivateKeyJWT.from_file`: keys that are replaced while a session is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from tests.authentication.signing import (
    CLIENT_ID,
    PASSWORD,
    accepts,
    assertion_in,
    key_of,
    pem_of,
)
from tests.http.endpoint import Endpoint, open_manager, says
from trio_anon_session import (
    AnonymousSession,
    Config,
    Granted,
    PrivateKeyJWT,
    RefreshFailed,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio_anon_session import Event

TOKEN_URL = "https://id.example/token"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a key to a file."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem_of())
    return path


def write(file: Path, content: bytes | None) -> None:
    """Replace a file, or remove it."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def config_with(file: Path, password: str | None = None) -> Config:
    method = PrivateKeyJWT.from_file(file, algorithm="ES256", password=password)
    return Config(client_id=CLIENT_ID, token_url=TOKEN_URL, auth_method=method)


@pytest.mark.parametrize("is_during_request", [False, True], ids=["before", "during"])
async def test_a_replaced_key_is_used_at_the_next_refresh(
    autojump_clock: trio.testing.MockClock, file: Path, is_during_request: bool
) -> None:
    """File and server change the key, even while a request is under way.

    Then the server rejects this attempt, and the session retries with the new key.
    """
    old, new = (
        accepts(key_of("P-256", number), algorithm="ES256", audience=TOKEN_URL) for number in (0, 1)
    )

    async def replaces(request: httpx.Request) -> httpx.Response:
        write(file, pem_of("P-256", 1))
        return await new(request)

    endpoint = Endpoint(old, replaces if is_during_request else new)
    events: list[Event] = []
    async with open_manager(endpoint, config_with(file)) as manager:
        async with AnonymousSession(manager.config, manager, observers=[events.append]) as session:
            await session.get_access_token()
            if not is_during_request:
                write(file, pem_of("P-256", 1))
            await trio.sleep(3600)
            await session.get_access_token()

    assert len(endpoint.requests) == (3 if is_during_request else 2)
    assert sum(isinstance(event, Granted) for event in events) == 2
    failures = [event for event in events if isinstance(event, RefreshFailed)]
    assert [event.retryable for event in failures] == [True] * is_during_request
    assertions = [assertion_in(request) for request in endpoint.requests]
    assert len(set(assertions)) == len(assertions)


async def test_an_unchanged_key_is_rejected_once(file: Path) -> None:
    """If the server rejects a key and the file has no other, the request is not repeated."""
    endpoint = Endpoint(says(401, {"error": "invalid_client"}))
    async with open_manager(endpoint, config_with(file)) as manager:
        with pytest.raises(httpx.RequestError) as caught:
            await manager.get_tokens_client_credentials_grant()
    assert len(endpoint.requests) == 1
    step = str(getattr(caught.value, "next_step", ""))
    for checked in ("client_id", "public key", "key_id", "algorithm", "audience", "clock"):
        assert checked in step


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "key: the file {file!r} cannot be read: No such file or directory"),
        (b"", "key must be a private key in PEM format, got no PEM text (file {file!r})"),
        (
            pem_of()[:100],
            "key must be a private key in PEM format, got 'PRIVATE KEY' (file {file!r})",
        ),
        (bytes(2**16 + 1), "key: the file {file!r} has more than 65536 bytes"),
        (
            pem_of("P-384"),
            "algorithm must be 'ES384' for this key (EC, P-384), got 'ES256' (file {file!r})",
        ),
        (
            pem_of("P-256", password=PASSWORD),
            "password must be set, because the key is encrypted (file {file!r})",
        ),
    ],
    ids=["missing", "empty", "cut", "large", "other kind", "encrypted"],
)
async def test_a_file_without_a_usable_key_fails_the_attempt(
    file: Path, content: bytes | None, reason: str
) -> None:
    """An attempt without a key sends nothing and names the file; a later attempt reads it again."""
    endpoint = Endpoint(accepts(key_of("P-256"), algorithm="ES256", audience=TOKEN_URL))
    async with open_manager(endpoint, config_with(file)) as manager:
        await manager.get_tokens_client_credentials_grant()
        write(file, content)
        for _ in range(2):
            with pytest.raises(TokenUnavailableError) as caught:
                await manager.get_tokens_client_credentials_grant()
            assert reason.format(file=str(file)) in str(caught.value)
            assert caught.value.retryable
        write(file, pem_of())
        await manager.get_tokens_client_credentials_grant()
    assert len(endpoint.requests) == 2


async def test_the_session_continues_without_a_key(
    autojump_clock: trio.testing.MockClock, file: Path
) -> None:
    """While the file has no key, callers get the current token, and the session retries."""
    endpoint = Endpoint(says())
    async with open_manager(endpoint, config_with(file)) as manager:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            write(file, b"")
            await trio.sleep(3100)
            assert await session.get_access_token()
            assert session.statistics().failures > 0
            write(file, pem_of())
            await trio.sleep(300)
            await session.get_access_token()
    assert len(endpoint.requests) == 2


async def test_an_encrypted_file(file: Path) -> None:
    """The password decrypts the key of the file, and of the file that replaces it."""
    write(file, pem_of("P-256", password=PASSWORD))
    keys = (key_of("P-256", number) for number in (0, 1))
    endpoint = Endpoint(*(accepts(key, algorithm="ES256", audience=TOKEN_URL) for key in keys))
    async with open_manager(endpoint, config_with(file, PASSWORD)) as manager:
        await manager.get_tokens_client_credentials_grant()
        write(file, pem_of("P-256", 1, password=PASSWORD))
        await manager.get_tokens_client_credentials_grant()
    assert len(endpoint.requests) == 2


def test_a_path_of_a_wrong_type() -> None:
    """A path of a wrong type raises a TypeError."""
    with pytest.raises(TypeError, match="path must be a path, not int"):
        PrivateKeyJWT.from_file(1)  # type: ignore[arg-type]  # the error is what is tested
