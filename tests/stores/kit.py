"""What tests of a store begin with, a lease and a token, and what a look shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_anon_session.stores import StoredToken

if TYPE_CHECKING:
    from trio_anon_session.stores import Look, TokenStore

NAME = "name"
MARK = "mark"
LONG = 1000.0
"""Seconds; no test takes as long."""
TOKEN = StoredToken("the-secret-record", MARK, LONG, 0.0)


async def claimed(store: TokenStore, name: str = NAME, seconds: float = LONG) -> int:
    """Take the lease, which no process has, and return its fence."""
    seen = await store.look(name)
    fence = await store.claim(name, "owner", seen.version, seconds)
    assert fence is not None
    return fence


async def kept(store: TokenStore, name: str = NAME, token: StoredToken = TOKEN) -> int:
    """Put a token, and return the fence of the lease under which it was got."""
    fence = await claimed(store, name)
    assert await store.put(name, fence, token)
    return fence


def standing(seen: Look) -> tuple[object, ...]:
    """Return what a look has seen, without what passes with time."""
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
    """Return what is there, without what passes with time."""
    return standing(await store.look(name, ("mark", "other mark")))
