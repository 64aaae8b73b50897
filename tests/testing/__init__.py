"""Tests of the test kit, and the requests that they send to a `TokenServer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import trio

if TYPE_CHECKING:
    from trio_anon_session.testing import TokenServer

GRANT = {
    "grant_type": "client_credentials",
    "client_id": "test-client",
    "client_secret": "test-secret",
}
"""The form of a valid token request of the server's first client."""

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"

TIME_LIMIT = 1e6
"""Virtual seconds after which a test fails."""


async def send(server: TokenServer, method: str, path: str, **request: Any) -> httpx.Response:
    """Send a request with httpx only, and return the server's answer."""
    with trio.fail_after(TIME_LIMIT):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(server), base_url="http://localhost"
        ) as client:
            return await client.request(method, path, **request)


async def post(server: TokenServer, path: str = "/oauth2/token", **request: Any) -> httpx.Response:
    """Send a POST request, by default to the token endpoint."""
    return await send(server, "POST", path, **request)


async def ask_for_token(server: TokenServer, **changes: str) -> str:
    """Request a token, and check that the request succeeds."""
    answer = await post(server, data=GRANT | changes)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    assert isinstance(token, str)
    return token


async def show(server: TokenServer, token: str, path: str = "/2.0/files/1") -> httpx.Response:
    """Send a token to the protected resource."""
    return await send(server, "GET", path, headers={"Authorization": f"Bearer {token}"})


def said(answer: httpx.Response) -> tuple[str, str]:
    """Return code and text of an OAuth error."""
    fields = answer.json()
    assert sorted(fields) == ["error", "error_description"]
    return fields["error"], fields["error_description"]


def revocation(token: str, **changes: str) -> dict[str, str]:
    """Return the form of a revocation by the first client."""
    fields = {"client_id": "test-client", "client_secret": "test-secret", "token": token}
    return fields | changes


def exchange(subject_token: str, **changes: str) -> dict[str, str]:
    """Return the form of an exchange by the first client."""
    fields = GRANT | {
        "grant_type": EXCHANGE,
        "subject_token": subject_token,
        "subject_token_type": ACCESS_TOKEN_TYPE,
        "scope": "item_preview",
        "resource": "https://api.box.com/2.0/files/123",
    }
    return fields | changes
