"""gcloud-aio-auth's ``Token``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from io import StringIO
from typing import TYPE_CHECKING

from gcloud.aio.auth.token import Token, TokenResponse

from benchmarks.peers import AsyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter


class _Token(Token):
    def __init__(self, endpoint: Endpoint) -> None:
        # Do not use an account of this machine.
        super().__init__(service_file=StringIO("{}"))
        self.endpoint = endpoint

    async def refresh(self, *, timeout: int) -> TokenResponse:  # noqa: ASYNC109 - its signature
        return TokenResponse(self.endpoint.grant_at_once(), int(self.endpoint.lifetime))


@asynccontextmanager
async def _open(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    async with _Token(endpoint) as token:
        # Set by hand, because the first get would start a task of asyncio.
        await token.acquire_access_token()
        yield token.get


AWAITS_NOTHING = (AsyncCache("gcloud-aio-auth Token", _open, "awaited, but never waits"),)
