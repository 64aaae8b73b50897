"""Caches written by hand: a primitive of Trio around a check and a token request."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from benchmarks.peers import AsyncCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from benchmarks.endpoint import Endpoint
    from benchmarks.peers import AsyncGetter

BUFFER = 30.0
"""Seconds before the end of a token in which it is not used."""


def _opener(
    primitive: Callable[[], AbstractAsyncContextManager[object]],
) -> Callable[[Endpoint], AbstractAsyncContextManager[AsyncGetter]]:
    @asynccontextmanager
    async def open_cache(endpoint: Endpoint) -> AsyncIterator[AsyncGetter]:
        lock = primitive()
        token = ""
        good_until = -math.inf

        async def get() -> str:
            nonlocal token, good_until
            async with lock:
                now = trio.current_time()
                if now >= good_until:
                    token = await endpoint.grant()
                    good_until = now + endpoint.lifetime - BUFFER
                return token

        yield get

    return open_cache


WITH_LOCK = AsyncCache("a trio.Lock, by hand", _opener(trio.Lock))
WITH_CONDITION = AsyncCache("a trio.Condition, by hand", _opener(trio.Condition))
