"""azure-core's policies for bearer tokens."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import attrs
from azure.core.credentials import AccessTokenInfo
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    BearerTokenCredentialPolicy,
)
from azure.core.rest import HttpRequest

from benchmarks.peers import NO_CHECKPOINT, AsyncCache, SyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter, Getter


def _request() -> PipelineRequest:
    return PipelineRequest(HttpRequest("GET", "https://api.example/"), PipelineContext(None))


def _token_info(endpoint: Endpoint, token: str) -> AccessTokenInfo:
    return AccessTokenInfo(token, int(time.time() + endpoint.lifetime))


@attrs.frozen
class _AsyncCredential:
    endpoint: Endpoint

    async def get_token_info(self, *scopes: str, options: object = None) -> AccessTokenInfo:
        return _token_info(self.endpoint, await self.endpoint.grant())


@attrs.frozen
class _Credential:
    endpoint: Endpoint

    def get_token_info(self, *scopes: str, options: object = None) -> AccessTokenInfo:
        return _token_info(self.endpoint, self.endpoint.grant_at_once())


@asynccontextmanager
async def _open_async(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    policy, request = AsyncBearerTokenCredentialPolicy(_AsyncCredential(endpoint), "s"), _request()
    yield lambda: policy.on_request(request)


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    policy, request = BearerTokenCredentialPolicy(_Credential(endpoint), "s"), _request()
    yield lambda: policy.on_request(request)


ON_TRIO = (AsyncCache("azure-core AsyncBearerTokenCredentialPolicy", _open_async, NO_CHECKPOINT),)
SYNC = (SyncCache("azure-core BearerTokenCredentialPolicy", _open),)
