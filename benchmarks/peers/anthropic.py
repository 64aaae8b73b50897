"""Anthropic's ``TokenCache``."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from anthropic.lib.credentials import AccessToken, TokenCache

from benchmarks.peers import NO_CHECKPOINT, AsyncCache, SyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter, Getter


def _access_token(endpoint: Endpoint, token: str) -> AccessToken:
    return AccessToken(token, int(time.time() + endpoint.lifetime))


@asynccontextmanager
async def _open_async(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async def provide(*, force_refresh: bool = False) -> AccessToken:
        return _access_token(endpoint, await endpoint.grant())

    # The default time source is the same function, but it was bound when the module was imported.
    yield TokenCache(provide, time_source=time.time).async_get_token


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    def provide(*, force_refresh: bool = False) -> AccessToken:
        return _access_token(endpoint, endpoint.grant_at_once())

    yield TokenCache(provide, time_source=time.time).get_token


ON_TRIO = (AsyncCache("Anthropic TokenCache", _open_async, NO_CHECKPOINT),)
SYNC = (SyncCache("Anthropic TokenCache", _open),)
