"""What both services share: the session of a worker process, and the answer to a failed lookup."""

from __future__ import annotations

import math
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    TokenManager,
    TokenRequestError,
)
from trio_anon_session.stores import SharedTokenManager, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx


# The seconds that a user waits at most before the answer is a 503.
MAX_WAIT = 5.0


@asynccontextmanager
async def open_session() -> AsyncIterator[AnonymousSession]:
    """Open the session of this process. With ``TOKEN_STORE``, it shares the token in that file."""
    config = Config.from_env().replace(max_wait=MAX_WAIT)
    path = os.environ.get("TOKEN_STORE")
    if path is None:
        async with AnonymousSession(config) as session:
            yield session
    else:
        async with (
            SharedTokenManager(TokenManager(config), SQLiteStore(path)) as manager,
            AnonymousSession(config, manager) as session,
        ):
            yield session


def answer_to(error: AnonymousSessionError | httpx.HTTPError) -> tuple[int, dict[str, str]]:
    """Return status and headers of the answer to a user whose lookup has failed."""
    if not isinstance(error, AnonymousSessionError):
        # Also if the API answers 401: that is about this service, not about its user.
        return 502, {}
    if isinstance(error, TokenRequestError) and error.retry_after is not None:
        return 503, {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    return 503, {}
