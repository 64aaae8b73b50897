"""What a shared token manager shows of its store, and that no token is in it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from tests.lazy import an_async_function
from trio_anon_session import TokenInfo, TokenUnavailableError
from trio_anon_session._secrets import fingerprint
from trio_anon_session.stores import (
    MemoryStore,
    SharedTokenManager,
    StoredToken,
    StoreError,
    StoreStatus,
)
from trio_anon_session.stores._records import mark_of, name_of, token_record

from .faulty import EVERYTHING, WRITES, FaultyStore, make_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

CONFIG = make_config()


def member(store: MemoryStore) -> tuple[SharedTokenManager, FakeTokenManager]:
    """Return a manager that shares, and the one within."""
    inner = FakeTokenManager(CONFIG)
    return SharedTokenManager(inner, store), inner


class MoodyStore(MemoryStore):
    """Fails as long as it is told to."""

    error: Exception | None = None

    async def look(self, name: str, marks: object = ()) -> object:  # type: ignore[override]
        if self.error is not None:
            raise self.error
        return await super().look(name)

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[object]:  # type: ignore[override]
        raise StoreError("tells nothing")
        yield


async def test_a_store_with_nothing_in_it(autojump_clock: MockClock) -> None:
    """Of a store with nothing in it there is nothing to see."""
    manager, _ = member(MemoryStore())
    assert await manager.look_at_store() == StoreStatus()


async def test_a_token_and_who_got_it(autojump_clock: MockClock) -> None:
    """All see whose the token is and how old, and nobody sees the token."""
    store = MemoryStore()
    (one, _), (other, _) = member(store), member(store)
    async with one:
        token = await one.get_tokens_client_credentials_grant()
    await trio.sleep(7)
    seen = await other.look_at_store()
    assert seen == StoreStatus(
        fingerprint=fingerprint(token.access_token),
        granted_by=one.owner,
        lifetime=3600.0,
        age=7.0,
    )
    assert one.owner != other.owner
    assert token.access_token not in repr(seen)


async def test_a_lease_and_a_pause(autojump_clock: MockClock) -> None:
    """While a process asks the endpoint, that is seen, and afterwards what it was told."""
    store = MemoryStore()
    (one, inner), (other, _) = member(store), member(store)
    inner.latency = 1.0
    inner.outcomes = [TokenUnavailableError("too many", status_code=429, retry_after=30.0)]

    async def ask() -> None:
        with pytest.raises(TokenUnavailableError):
            await one.get_tokens_client_credentials_grant()

    async with one, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        assert await other.look_at_store() == StoreStatus(leased_by=one.owner, leased_for=4.5)
    assert await other.look_at_store() == StoreStatus(failure="too many", failures=1, pause=30.0)


@pytest.mark.parametrize("record", ["nonsense", '{"purpose": "another", "owner": "somebody"}'])
async def test_what_is_no_token(autojump_clock: MockClock, record: str) -> None:
    """Garbage, and a token that was got for something else, are no token."""
    store = MemoryStore()
    name = name_of(CONFIG)
    fence = await store.claim(name, "x", (await store.look(name)).version, 5.0)
    assert fence is not None
    assert await store.put(name, fence, StoredToken(record, "mark", 100.0, 0.0))
    manager, _ = member(store)
    assert await manager.look_at_store() == StoreStatus()


async def test_a_token_under_another_mark(autojump_clock: MockClock) -> None:
    """A token that lies under another one's mark is garbage, as it is to who asks for it."""
    store, name = MemoryStore(), name_of(CONFIG)
    fence = await store.claim(name, "x", (await store.look(name)).version, 5.0)
    assert fence is not None
    info = TokenInfo.from_answer("t", 100.0, trio.current_time(), CONFIG)
    record = token_record(info, CONFIG, "x")
    assert await store.put(name, fence, StoredToken(record, mark_of("another"), 100.0, 0.0))
    manager, _ = member(store)
    assert await manager.look_at_store() == StoreStatus()


async def test_an_owner_that_is_no_name(autojump_clock: MockClock) -> None:
    """Whatever somebody has put there as a name reaches no terminal as it is."""
    store = MemoryStore()
    name = name_of(CONFIG)
    seen = await store.look(name)
    assert await store.claim(name, "\x1b[31m" + "x" * 1000, seen.version, 5.0)
    manager, _ = member(store)
    owner = (await manager.look_at_store()).leased_by
    assert owner == "***"


async def test_trouble(autojump_clock: MockClock) -> None:
    """What is wrong with a store is told for as long as it is so, as it is logged."""
    store = MoodyStore()
    manager, _ = member(store)
    assert manager.trouble is None
    store.error = OSError("with a secret in it")
    with pytest.raises(StoreError, match=r"^OSError$"):
        await manager.look_at_store()
    trouble = (
        "the token store fails (OSError): until it answers again, this process gets its own tokens"
    )
    assert manager.trouble == trouble
    async with manager:
        manager.on_drop(print)
        await trio.sleep(3)
        # The worst comes first.
        assert manager.trouble == trouble
        store.error = None
        await trio.sleep(3)
        assert manager.trouble == (
            "the token store brings no news (tells nothing): it is looked at often instead"
        )


@pytest.mark.parametrize(
    ("listener", "kind"),
    [(1, "int"), (an_async_function, "an async function")],
    ids=["int", "async"],
)
def test_what_no_drop_can_be_reported_to(listener: Any, kind: str) -> None:
    """A listener that a plain call does not run is refused."""
    manager, _ = member(MoodyStore())
    with pytest.raises(TypeError, match=f"^listener must be a plain callable, not {kind}$"):
        manager.on_drop(listener)


async def test_a_store_that_was_full_and_is_down(autojump_clock: MockClock) -> None:
    """Who looks is told why that fails, and not what was wrong before."""
    source, store = make_source(), FaultyStore()
    store.fails, store.error = WRITES, StoreError("is full")
    async with SharedTokenManager(source, store) as manager:
        await manager.get_tokens_client_credentials_grant()
        assert manager.trouble is not None
        assert "is full" in manager.trouble
        store.fails, store.error = EVERYTHING, StoreError("refuses")
        with pytest.raises(StoreError, match=r"^refuses$"):
            await manager.look_at_store()
        assert "refuses" in manager.trouble
