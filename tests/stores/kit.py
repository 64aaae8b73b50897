"""Helpers for tests of stores: take a lease, put a token, and compare what a store returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.stores.places import PATIENCE
from trio_anon_session.stores import StoredToken, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from trio_anon_session.stores import Look, TokenStore

NAME = "name"
MARK = "mark"
LONG = 1000.0
"""Seconds; longer than any test."""
TOKEN = StoredToken("the-secret-record", MARK, LONG, 0.0)


async def claimed(store: TokenStore, name: str = NAME, seconds: float = LONG) -> int:
    """Take the lease, which must be free, and return its fence."""
    seen = await store.look(name)
    fence = await store.claim(name, "owner", seen.version, seconds)
    assert fence is not None
    return fence


async def kept(store: TokenStore, name: str = NAME, token: StoredToken = TOKEN) -> int:
    """Take the lease, put a token, and return the fence of the lease."""
    fence = await claimed(store, name)
    assert await store.put(name, fence, token)
    return fence


def standing(seen: Look) -> tuple[object, ...]:
    """Return the contents of a look, without values that change with time."""
    token, failure = seen.token, seen.failure
    return (
        seen.version,
        token and (token.record, token.mark, token.lifetime),
        seen.leased_for > 0,
        seen.owner,
        failure and (failure.record, failure.fence, failure.pause > 0),
        seen.dead,
    )


async def stands(store: TokenStore, name: str) -> tuple[object, ...]:
    """Look into the store, and return the contents without values that change with time."""
    return standing(await store.look(name, ("mark", "other mark")))


async def round_trip(store: TokenStore, name: str = NAME) -> None:
    """Call each method that a fleet uses, and wait for a notification."""
    async with store.listen(name) as wait_for_news:
        fence = await claimed(store, name)
        assert await store.renew(name, fence, LONG)
        assert await store.put(name, fence, TOKEN)
        with trio.fail_after(PATIENCE):
            await wait_for_news()
        await store.drop(name, MARK, 60.0)
        assert (await store.look(name, [MARK])).dead == {MARK}
        await store.release(name, await claimed(store, name), "a failure", 3.0)
        assert (await store.look(name)).failure is not None


async def listening(store: TokenStore, name: str = NAME) -> None:
    """Begin to listen, and stop again."""
    async with store.listen(name):
        pass


async def refusal(asked: Awaitable[object]) -> str:
    """Return the message of the StoreError that a call raises, without its prefix."""
    with pytest.raises(StoreError) as caught:
        await asked
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return str(caught.value).partition(": ")[2]
