"""Authlib's ``AsyncOAuth2Client``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client

from benchmarks.endpoint import URL
from benchmarks.peers import AsyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter

EXPIRED = {"access_token": "token-0", "token_type": "bearer", "expires_at": 1}
"""It wants a token to begin with."""


@asynccontextmanager
async def _open(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=endpoint.form(await endpoint.grant()))

    async with AsyncOAuth2Client(
        "id",
        "secret",
        token=dict(EXPIRED),
        grant_type="client_credentials",
        token_endpoint=URL,
        transport=httpx2.MockTransport(answer),
    ) as client:
        yield lambda: client.ensure_active_token(client.token)


ON_TRIO = (AsyncCache("Authlib AsyncOAuth2Client", _open),)
