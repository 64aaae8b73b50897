"""Tests of `RedisStore` with a real server: notifications, and which connections it keeps."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_anon_session.stores import RedisStore, StoreError, _coredis

from .kit import MARK, NAME, TOKEN, claimed, kept
from .valkey import PATIENCE, Valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.slow


@pytest.fixture
def store(server: Valkey) -> RedisStore:
    """Return a store on this test's server."""
    return RedisStore(server.url)


# Notifications


async def assert_no_news(wait_for_news: Callable[[], Awaitable[None]]) -> None:
    """Assert that a listener gets no notification."""
    with trio.move_on_after(0.2) as limit:
        await wait_for_news()
    assert limit.cancelled_caught


async def test_other_events_wake_no_listener(store: RedisStore) -> None:
    """Notifications of another name, a claim and rejected calls wake no listener."""
    fence = await kept(store)
    async with store.listen(NAME) as wait_for_news:
        await kept(store, "other")
        assert not await store.put(NAME, fence, TOKEN)
        await claimed(store)
        await store.release(NAME, fence)
        # Notifications arrive in order, so this one arrives after all earlier ones.
        async with store.listen("other") as wait_for_other_news:
            await store.drop("other", MARK, 60.0)
            await wait_for_other_news()
        await assert_no_news(wait_for_news)


async def test_notifications_between_two_waits_are_kept(store: RedisStore, server: Valkey) -> None:
    """Several notifications between two waits end the next wait, and only that one."""
    async with store.listen(NAME) as wait_for_news:
        for _ in range(3):
            await store.drop(NAME, MARK, 60.0)
        # Before the server answers this, it sends all notifications.
        server.do("PING")
        await wait_all_tasks_blocked()
        await wait_for_news()
        await assert_no_news(wait_for_news)
        await store.drop(NAME, MARK, 60.0)
        await wait_for_news()


class _OurOwnError(Exception):
    pass


async def test_an_error_in_a_listening_block_propagates_unwrapped(
    store: RedisStore, server: Valkey
) -> None:
    """An error in the block is raised without a group, also if the connection is lost."""
    with pytest.raises(_OurOwnError) as caught:
        async with store.listen(NAME):
            raise _OurOwnError
    assert caught.value.__context__ is None
    with pytest.raises(_OurOwnError):
        async with store.listen(NAME) as wait_for_news:
            server.stop()
            with pytest.raises(StoreError):
                await wait_for_news()
            raise _OurOwnError


async def test_a_listening_block_can_be_cancelled(store: RedisStore, server: Valkey) -> None:
    """A cancelled block ends and closes its connection, also while the server hangs."""
    for hangs in (False, True):
        with trio.CancelScope() as scope:
            async with store.listen(NAME) as wait_for_news:
                if hangs:
                    server.pause()
                scope.cancel()
                await wait_for_news()
        assert scope.cancelled_caught
    server.resume()
    await server.has_clients(0)


def kill_listeners(server: Valkey) -> None:
    server.do("CLIENT", "KILL", "TYPE", "pubsub")


@pytest.mark.parametrize("lose", [Valkey.stop, kill_listeners])
async def test_a_lost_connection_ends_the_wait(
    store: RedisStore, server: Valkey, lose: Callable[[Valkey], None]
) -> None:
    """If the server stops or closes the connection, each wait raises immediately."""
    async with store.listen(NAME) as wait_for_news:
        lose(server)
        for _ in range(2):
            with pytest.raises(StoreError, match="the connection was lost"):
                await wait_for_news()


async def test_a_server_that_hangs_is_noticed_by_a_listener(
    store: RedisStore, server: Valkey
) -> None:
    """A wait raises if the server hangs, and so does a new listener."""
    async with store.listen(NAME) as wait_for_news:
        server.pause()
        with (
            trio.fail_after(60),
            pytest.raises(StoreError, match="published messages do not arrive"),
        ):
            await wait_for_news()
        with trio.fail_after(60), pytest.raises(StoreError):
            async with store.listen(NAME):
                pytest.fail("the server has not answered")


async def test_a_closed_store_keeps_a_connection_only_to_listen(
    store: RedisStore, server: Valkey
) -> None:
    """A store that is not open keeps a connection only while it listens."""
    await server.has_clients(0)
    async with store.listen(NAME):
        await kept(store)
        await server.has_clients(1)
        assert b" sub=2 " in server.do("CLIENT", "LIST", "TYPE", "pubsub")
    await server.has_clients(0)


# Kept connections


def greetings(server: Valkey) -> int:
    """Return how many connections clients have opened."""
    found = re.search(rb"cmdstat_hello:calls=(\d+)", server.do("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_an_open_store_keeps_one_connection(store: RedisStore, server: Valkey) -> None:
    """An open store keeps one connection until it closes, also after many concurrent calls."""
    await store.open()
    for number in range(3):
        await kept(store, f"name-{number}")
    assert greetings(server) == 1
    await server.has_clients(1)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(store.look, NAME)
    await server.has_clients(1)
    made = greetings(server)
    await store.look(NAME)
    assert greetings(server) == made
    await store.aclose()
    await server.has_clients(0)


async def test_a_store_that_several_have_open(store: RedisStore, server: Valkey) -> None:
    """The last close ends the connection, also if it is cancelled."""
    await store.open()
    await store.open()
    await store.look(NAME)
    await store.aclose()
    await store.look(NAME)
    assert greetings(server) == 1
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.aclose()
    await server.has_clients(0)
    await store.open()
    await store.look(NAME)
    assert greetings(server) == 2
    await store.aclose()


async def test_a_kept_connection_ends_with_a_cancellation(
    store: RedisStore, server: Valkey
) -> None:
    """A cancelled call does not disturb concurrent calls, and the next call gets its own answer."""
    await store.open()
    fence = await kept(store)
    server.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.look, NAME)
        nursery.start_soon(store.look, "other")
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.1) as limit:
            await store.renew(NAME, fence, 5.0)
        assert limit.cancelled_caught
        server.resume()
    seen = await store.look(NAME)
    assert seen.token is not None
    assert seen.version == fence
    await server.has_clients(1)
    await store.aclose()


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_a_kept_connection_that_the_server_ends(
    store: RedisStore, server: Valkey, how: str
) -> None:
    """If the server closed the connection between two calls, the next call opens a new one."""
    await store.open()
    await kept(store)
    if how == "restart":
        server.stop()
        server.start()
    else:
        server.do("CLIENT", "KILL", "TYPE", "normal")
    await store.look(NAME)
    await server.has_clients(1)
    await store.aclose()


async def test_an_idle_connection_is_closed(
    store: RedisStore, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection is closed after a timeout, and the next call opens a new one."""
    monkeypatch.setattr(_coredis, "IDLE_TIMEOUT", 0.2)
    await store.open()
    await store.look(NAME)
    with trio.fail_after(PATIENCE):
        await server.has_clients(0)
    await store.look(NAME)
    await store.aclose()


async def test_a_program_that_leaves_its_store_open(store: RedisStore, server: Valkey) -> None:
    """A connection that was not closed ends with its Trio run; the next run opens a new one."""

    async def leave_it_open() -> None:
        await store.open()
        await store.look(NAME)

    for _ in range(2):
        await trio.to_thread.run_sync(trio.run, leave_it_open)
        await server.has_clients(0)
    assert greetings(server) == 2


async def test_runs_in_several_threads_share_no_connection(
    store: RedisStore, server: Valkey
) -> None:
    """A store that is open in several Trio runs has a connection of its own in each."""
    barrier = threading.Barrier(3)

    async def use() -> None:
        await store.open()
        for _ in range(20):
            await store.look(NAME)
        await trio.to_thread.run_sync(barrier.wait)
        await store.aclose()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.to_thread.run_sync, trio.run, use)
    assert greetings(server) == 3
    await server.has_clients(0)
