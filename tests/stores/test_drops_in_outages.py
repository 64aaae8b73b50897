"""Tests of tokens that are dropped while the store is down, and of their reports afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from trio_anon_session import TokenInfo, TokenState
from trio_anon_session.stores import MemoryStore, SharedTokenManager
from trio_anon_session.stores._access import STORE_TIMEOUT
from trio_anon_session.stores._link import moment
from trio_anon_session.stores._records import mark_of, name_of

from .faulty import EVERYTHING, WRITES, FaultyStore, get_all, make_source, open_fleet

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_drop_is_delivered_when_the_store_is_back(
    autojump_clock: MockClock, is_cut: bool
) -> None:
    """A drop during an outage is reported afterwards, whether or not the subscription was lost."""
    source, store = make_source(), MemoryStore()
    cut_off = FaultyStore(store)
    async with open_fleet(2, source, [cut_off, FaultyStore(store)]) as (first, second):
        await get_all([first, second])
        await trio.sleep(10.0)
        cut_off.fails = EVERYTHING
        if is_cut:
            cut_off.cut()
        first.invalidate("token-1")
        assert await first.get_access_token() == "token-2"
        await trio.sleep(60.0)
        assert second.get_access_token_nowait() == "token-1"
        cut_off.fails = ()
        await trio.sleep(1.0)
        assert second.state is TokenState.EMPTY
        seen = await store.look(name_of(source.config), [mark_of("token-1")])
        assert seen.dead == {mark_of("token-1")}
        # This also counts failed reports. After the success, only the next drop is reported.
        told = len(cut_off.times("drop"))
        assert 60 <= told <= 250
        await trio.sleep(100.0)
        first.invalidate("token-2")
        await trio.sleep(1.0)
        assert len(cut_off.times("drop")) == told + 1


async def test_a_drop_is_reported_only_until_its_token_expires(autojump_clock: MockClock) -> None:
    """Drops are reported after an outage, but not once their tokens have expired."""
    source, store = make_source(lifetime=20.0), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        store.fails = EVERYTHING
        for _ in range(30):
            session.invalidate(await session.get_access_token())
        store.fails = ()
        await trio.sleep(1.0)
        assert len(store.times("drop")) > 0
        store.asked.clear()
        await trio.sleep(30.0)
        assert store.times("drop") == []


async def test_a_caller_does_not_wait_for_all_reports_to_a_slow_store(
    autojump_clock: MockClock,
) -> None:
    """After an outage with many drops, a caller gets a token before all of them are reported."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        store.fails = EVERYTHING
        for _ in range(40):
            session.invalidate(await session.get_access_token())
        store.fails, store.slow = (), 1.0
        asked_at = trio.current_time()
        await session.get_access_token()
        assert trio.current_time() <= asked_at + 5 * STORE_TIMEOUT
        await trio.sleep(100.0)
        assert len(store.times("drop")) >= 40
        told = len(store.times("drop"))
        await trio.sleep(100.0)
        assert len(store.times("drop")) == told


async def test_a_drop_of_a_token_that_was_granted_twice_is_reported(
    autojump_clock: MockClock,
) -> None:
    """A drop is reported although the server had granted the same token twice before it."""
    source, store = make_source(latency=5.0, refresh="on_request"), MemoryStore()
    cut_off = FaultyStore(store)
    async with open_fleet(2, source, [cut_off, FaultyStore(store)]) as (first, second):
        # The process that requested the token finds it STALE first.
        for session in (first, second):
            await session.get_access_token()
        await trio.sleep_until(3000.0)
        # The server grants the same token again.
        source.granted = 0
        assert await first.get_access_token() == "token-1"
        await trio.sleep(2.0)
        cut_off.fails = EVERYTHING
        first.invalidate("token-1")
        assert await first.get_access_token() == "token-2"
        assert len(source.sent) == 3
        cut_off.fails = ()
        await trio.sleep(1.0)
        assert second.state is TokenState.EMPTY


async def test_a_token_granted_again_while_drops_are_reported(autojump_clock: MockClock) -> None:
    """Drops of tokens that were granted again are removed while other drops are reported."""
    source, store = make_source(), FaultyStore()
    async with SharedTokenManager(source, store) as manager:

        def named(name: str) -> TokenInfo:
            return TokenInfo.from_answer(name, 3600.0, trio.current_time(), source.config)

        store.fails = {"drop"}
        for name in "abcdefgh":
            manager.drop(named(name))
        await trio.sleep(1.0)
        store.fails, store.slow = (), 0.5
        manager.drop(named("i"))
        await trio.sleep(0.7)
        for name in "abcdefgh":
            manager._claimant.hand_out(named(name), moment())
        await trio.sleep(10.0)
        assert manager.statistics().untold_drops == 0


async def test_a_process_that_cannot_report_a_drop_still_looks(
    autojump_clock: MockClock,
) -> None:
    """With a read-only store, a process still takes tokens over and is notified of drops."""
    source, store = make_source(), MemoryStore()
    reading = FaultyStore(store)
    async with open_fleet(2, source, [reading, FaultyStore(store)]) as (first, second):
        await get_all([first, second])
        reading.fails = WRITES
        await trio.sleep(10.0)
        first.invalidate("token-1")
        second.invalidate("token-1")
        assert await second.get_access_token() == "token-2"
        assert await first.get_access_token() == "token-2"
        await trio.sleep(10.0)
        second.invalidate("token-2")
        await trio.sleep(1.0)
        assert first.state is TokenState.EMPTY
        assert len(source.sent) == 2


async def test_a_drop_is_reported_without_a_look(autojump_clock: MockClock) -> None:
    """A process reports a drop once, and looks at the store only when the store notifies it."""
    source, store = make_source(), FaultyStore()
    store.hangs = {"wait"}
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(10.0)
        before = len(store.asked)
        session.invalidate("token-1")
        await trio.sleep(1.0)
        assert [method for method, _ in store.asked[before:]] == ["drop"]
