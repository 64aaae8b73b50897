"""httpx-auth's ``OAuth2ClientCredentials``."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx
from httpx_auth import OAuth2, OAuth2ClientCredentials

from benchmarks.endpoint import URL
from benchmarks.peers import RESOURCE, AsyncCache, SyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter, Getter


@contextmanager
def _auth(endpoint: Endpoint) -> Iterator[OAuth2ClientCredentials]:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=endpoint.form(endpoint.grant_at_once()))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        try:
            yield OAuth2ClientCredentials(URL, "id", "secret", client=client)
        finally:
            # All auths of a process share this cache.
            OAuth2.token_cache.clear()


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    request = httpx.Request("GET", RESOURCE)
    with _auth(endpoint) as auth:
        yield lambda: next(auth.auth_flow(request))


@asynccontextmanager
async def _request(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with _auth(endpoint) as auth:
        async with httpx.AsyncClient(transport=transport, auth=auth) as client:
            yield partial(client.get, RESOURCE)


SYNC = (SyncCache("httpx-auth OAuth2ClientCredentials", _open),)
REQUESTS = (AsyncCache("httpx-auth OAuth2ClientCredentials", _request),)
