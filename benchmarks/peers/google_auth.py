"""google-auth's credentials, with both ways of refreshing, and on asyncio."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from google.auth._helpers import utcnow
from google.auth.aio.transport.sessions import _SyncCredentialsAdapter
from google.auth.credentials import Credentials

from benchmarks.peers import AsyncCache, SyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter, Getter

REQUEST = ("GET", "https://api.example/")


class _Credentials(Credentials):
    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    def refresh(self, request: object) -> None:
        self.token = self.endpoint.grant_at_once()
        self.expiry = utcnow() + timedelta(seconds=self.endpoint.lifetime)


@contextmanager
def _open(endpoint: Endpoint) -> Iterator[Getter]:
    credentials, headers = _Credentials(endpoint), dict[str, str]()
    yield lambda: credentials.before_request(None, *REQUEST, headers)


@contextmanager
def _open_non_blocking(endpoint: Endpoint) -> Iterator[Getter]:
    credentials, headers = _Credentials(endpoint), dict[str, str]()
    credentials.with_non_blocking_refresh()
    yield lambda: credentials.before_request(None, *REQUEST, headers)


@asynccontextmanager
async def _open_async(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
    adapter, headers = _SyncCredentialsAdapter(_Credentials(endpoint)), dict[str, str]()
    try:
        yield lambda: adapter.before_request(None, *REQUEST, headers)
    finally:
        adapter.close()


SYNC = (
    SyncCache("google-auth", _open),
    SyncCache("google-auth with_non_blocking_refresh", _open_non_blocking),
)
ON_ASYNCIO = (AsyncCache("google-auth on asyncio", _open_async, "a thread for each call"),)
