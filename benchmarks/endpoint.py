"""A token endpoint for all kinds of caches, and a session that uses it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks.peers import AsyncCache
from benchmarks.sources import CONFIG
from trio_anon_session import AnonymousSession, TokenInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_anon_session import Config, TokenRequestOptions

URL = "https://token.example/oauth2/token"


class EndpointDownError(Exception):
    """The error of a request while the endpoint is down."""


@attrs.define(eq=False)
class Endpoint:
    """A token endpoint in process, so that the figures are those of the cache and not a network.

    Attributes:
        lifetime: lifetime of its tokens in seconds.
        takes: time until an answer, in seconds on Trio's clock.
        is_down: whether each request fails after this time.
        requests: number of requests.
    """

    lifetime: float = 3600.0
    takes: float = 0.0
    is_down: bool = False
    requests: int = 0

    async def grant(self) -> str:
        """Return a token to a cache that waits on Trio."""
        self.requests += 1
        await trio.sleep(self.takes)
        return self._answer()

    def grant_at_once(self) -> str:
        """Return a token to a cache that would block its thread."""
        self.requests += 1
        return self._answer()

    def form(self, token: str) -> dict[str, object]:
        """Return a token as a token endpoint sends it (RFC 6749 §5.1)."""
        return {"access_token": token, "token_type": "bearer", "expires_in": int(self.lifetime)}

    def _answer(self) -> str:
        if self.is_down:
            raise EndpointDownError
        return f"token-{self.requests}"


@attrs.frozen
class Source:
    """A token manager that sends its requests to this endpoint."""

    endpoint: Endpoint
    config: Config

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        sent_at = trio.current_time()
        token = await self.endpoint.grant()
        return TokenInfo.from_answer(token, self.endpoint.lifetime, sent_at, self.config)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_session(
    endpoint: Endpoint, config: Config = CONFIG
) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Open a session, and yield its `get_access_token`."""
    async with AnonymousSession(config, Source(endpoint, config)) as session:
        yield session.get_access_token


OURS = AsyncCache("AnonymousSession", open_session)
