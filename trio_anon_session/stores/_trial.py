"""A test of everything that a fleet needs from a store, under a name that no fleet uses."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

import trio

from ._access import STORE_TIMEOUT, words_of
from ._protocol import StoredToken, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._secrets import Secrets
    from ._protocol import TokenStore

_LIFE, _AGE, _LATENESS = 60.0, 10.0, 1.0
"""Seconds: lifetime and age of the test token, and the accepted error of the store's clock."""


async def try_out(store: TokenStore, owner: str, secrets: Secrets) -> str | None:
    """Test a store: claim, put, look, drop, and wait for the notification.

    Args:
        store: the store.
        owner: the name of this process.
        secrets: the texts to hide in the errors of the store.

    Returns:
        None, or why the store sends no notifications. The text contains no secret.

    Raises:
        StoreError: the store gives a wrong result. The message contains no secret.
        Exception: the store raised it.
    """
    name = mark = token_hex(16)
    fence = await store.claim(name, owner, (await store.look(name)).version, _LIFE)
    put_at = trio.current_time()
    if fence is None or not await store.put(name, fence, StoredToken("{}", mark, _LIFE, _AGE)):
        raise StoreError("it refuses to keep a token")
    back = (await store.look(name)).token
    passed = trio.current_time() - put_at
    problem = await _drop_and_listen(store, name, mark, secrets)
    if back is None or back.mark != mark:
        raise StoreError("it does not return the token that was put there")
    gone = back.age - _AGE
    if abs(gone - passed) > _LATENESS:
        raise StoreError(f"its clock advanced by {gone:.1f} s in {passed:.1f} s")
    return problem


async def _drop_and_listen(store: TokenStore, name: str, mark: str, secrets: Secrets) -> str | None:
    is_dropped = False

    async def drop() -> None:
        nonlocal is_dropped
        await store.drop(name, mark, 1.0)
        is_dropped = True

    try:
        async with store.listen(name) as wait_for_news:
            await drop()
            return await _wait_for_drop(wait_for_news)
    except Exception as error:
        words = words_of(error, secrets)
    # A store that sends no notifications can still accept a drop.
    if not is_dropped:
        await drop()
    return words


async def _wait_for_drop(wait_for_news: Callable[[], Awaitable[None]]) -> str | None:
    with trio.move_on_after(STORE_TIMEOUT):
        await wait_for_news()
        return None
    return f"no notification of a drop within {STORE_TIMEOUT:g} s"
