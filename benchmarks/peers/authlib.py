"""Authlib's ``AsyncOAuth2Client``."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client

from benchmarks.endpoint import URL
from benchmarks.peers import RESOURCE, AsyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter

EXPIRED = {"access_token": "token-0", "token_type": "bearer", "expires_at": 1}
"""A token to start with, which the client requires."""


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


@asynccontextmanager
async def _request(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async def answer(  # noqa: ASYNC124  # the client awaits it
        request: httpx2.Request,
    ) -> httpx2.Response:
        return httpx2.Response(200)

    async with AsyncOAuth2Client(
        token={**endpoint.form("token-0"), "expires_at": time.time() + endpoint.lifetime},
        transport=httpx2.MockTransport(answer),
    ) as client:
        yield partial(client.get, RESOURCE)


ON_TRIO = (AsyncCache("Authlib AsyncOAuth2Client", _open),)
REQUESTS = (AsyncCache("Authlib AsyncOAuth2Client", _request, remark="uses httpx2"),)
