"""Tests of dropped tokens: invalidated, revoked, and reported to the other processes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.cancellation.everywhere import (
    Operation,
    Seen,
    Strike,
    cancel_everywhere,
    living_tasks,
    settle,
)
from tests.helpers import run_virtually, start_getters
from trio_anon_session import AnonymousSession, TokenState
from trio_anon_session.stores import MemoryStore, SharedTokenManager
from trio_anon_session.stores._access import STORE_TIMEOUT
from trio_anon_session.stores._link import RELEASE_TIMEOUT
from trio_anon_session.stores._records import mark_of, name_of
from trio_anon_session.stores._watch import RESUBSCRIBE_AFTER

from .faulty import EVERYTHING, FaultyStore, get_all, make_source, open_fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

    from trio_anon_session.stores import StoredToken


# Drops in other processes


async def test_promise_17_without_notifications_a_drop_takes_a_second(
    autojump_clock: MockClock,
) -> None:
    """Without notifications, all processes drop a token within a second."""
    source, store = make_source(), FaultyStore()
    store.fails = {"listen"}
    async with open_fleet(5, source, store) as sessions:
        await get_all(sessions)
        for _ in range(3):
            await trio.sleep(10.3)
            sessions[0].invalidate(await sessions[0].get_access_token())
            await trio.sleep(0.99)
            assert {session.state for session in sessions} == {TokenState.EMPTY}
            await get_all(sessions)
        assert len(source.sent) == 4


class FarStore(FaultyStore):
    """A store with a round trip of 300 ms, which needs ten of them to begin to listen."""

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        await trio.sleep(3.0)
        async with super().listen(name) as wait_for_news:
            yield wait_for_news


async def test_promise_17_a_distant_store_sends_notifications(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that needs 3 s to begin to listen is notified of a drop, and logs nothing."""
    source, store = make_source(), FarStore()
    async with open_fleet(2, source, store) as (one, other):
        dead, _ = await get_all([one, other])
        await trio.sleep(10.0)
        one.invalidate(dead)
        await wait_all_tasks_blocked()
        assert other.state is TokenState.EMPTY
        assert other.statistics().invalidations == 1
    assert "store" not in caplog.text


async def test_promise_17_a_drop_just_before_the_end_reaches_the_others(
    autojump_clock: MockClock,
) -> None:
    """A drop reaches the store although the block ends or is cancelled immediately after it."""
    source, store = make_source(), FaultyStore()
    store.slow = 0.1
    async with SharedTokenManager(source, store) as manager:
        async with AnonymousSession(source.config, manager) as other:
            for number in range(1, 4):
                async with open_fleet(1, source, store) as (leaver,):
                    dead = await leaver.get_access_token()
                    assert await other.get_access_token() == dead == f"token-{number}"
                    with trio.CancelScope() as scope:
                        leaver.invalidate(dead)
                        if number == 2:
                            scope.cancel()
                            await trio.lowlevel.checkpoint()
                await trio.sleep(1.0)
                assert other.state is TokenState.EMPTY


async def test_promise_17_a_failed_report_is_sent_again_at_the_end(
    autojump_clock: MockClock,
) -> None:
    """A report of a drop that has failed is sent again when the manager closes."""
    source, store = make_source(), FaultyStore()
    async with SharedTokenManager(source, store.store) as manager:
        async with AnonymousSession(source.config, manager) as other:
            async with open_fleet(1, source, store) as (leaver,):
                dead = await leaver.get_access_token()
                assert await other.get_access_token() == dead
                store.fails = {"drop"}
                leaver.invalidate(dead)
                await trio.sleep(0.1)
                store.fails = ()
            await trio.sleep(0.1)
            assert other.state is TokenState.EMPTY


async def test_a_store_that_hangs_delays_the_end_by_its_timeouts(
    autojump_clock: MockClock,
) -> None:
    """A block that ends after a drop waits for a store that hangs only until its timeouts."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        session.invalidate(await session.get_access_token())
        store.hangs = EVERYTHING
        left_at = trio.current_time()
    # Two reports of drops and the close of the store may time out.
    assert trio.current_time() <= left_at + 2 * STORE_TIMEOUT + RELEASE_TIMEOUT


@pytest.mark.parametrize("fails_then", [False, True])
async def test_promise_17_a_drop_that_arrives_before_its_token(
    autojump_clock: MockClock, fails_then: bool
) -> None:
    """A process does not keep a token that was dropped while the look was on its way.

    The process looks again. If that look fails, it uses the token until the store answers.
    """
    source, memory = make_source(), MemoryStore()
    stores = [FaultyStore(memory) for _ in range(2)]
    async with open_fleet(2, source, stores) as (first, second):
        dead = await first.get_access_token()
        await trio.sleep(5.0)
        stores[1].slow_answers = 0.6
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, second, 1)
            await trio.sleep(0.1)
            first.invalidate(dead)
            await trio.sleep(0.2)
            if fails_then:
                stores[1].fails = {"look"}
        if fails_then:
            assert getter.token == dead
            stores[1].fails = ()
            with trio.fail_after(2.0):
                await second.states.wait_value(TokenState.EMPTY)
        else:
            assert getter.token == second.get_access_token_nowait() == "token-2"
            assert second.statistics().failures == 0


async def test_promise_17_a_drop_before_the_store_confirms_the_token(
    autojump_clock: MockClock,
) -> None:
    """Another process may use and drop a token before the one that requested it can use it."""

    class SlowToConfirm(FaultyStore):
        async def put(self, name: str, fence: int, token: StoredToken) -> bool:
            is_kept = await super().put(name, fence, token)
            await trio.sleep(0.6)
            return is_kept

    source, memory = make_source(latency=1.0), MemoryStore()
    stores = [SlowToConfirm(memory), FaultyStore(memory)]
    async with open_fleet(2, source, stores) as (first, second), trio.open_nursery() as nursery:
        (getter,) = start_getters(nursery, first, 1)
        await trio.sleep(0.5)
        dead = await second.get_access_token()
        await trio.sleep(0.1)
        second.invalidate(dead)
        await trio.sleep(5.0)
        assert getter.token == first.get_access_token_nowait() == "token-2"


async def test_listeners_added_before_the_block_are_called(autojump_clock: MockClock) -> None:
    """Listeners added before the block are called, and one task serves all listeners.

    A listener that is removed is not called.
    """
    source, store = make_source(), MemoryStore()
    one, other = (SharedTokenManager(source, store) for _ in range(2))
    heard: list[str] = []
    for _ in range(2):
        other.on_drop(lambda token: heard.append(token.access_token))
    async with one, other:
        await wait_all_tasks_blocked()
        tasks = living_tasks()
        other.on_drop(lambda token: heard.append(token.access_token))
        other.on_drop(lambda _: heard.append("removed"))()
        assert living_tasks() == tasks
        token = await one.get_tokens_client_credentials_grant()
        await other.get_tokens_client_credentials_grant()
        one.drop(token)
        await trio.sleep(0.1)
        assert heard == ["token-1"] * 3


async def test_a_listener_that_stops_before_its_task_has_begun(autojump_clock: MockClock) -> None:
    """A listener that is removed immediately leaves no task and no wait for the store."""
    store = FaultyStore()
    async with SharedTokenManager(make_source(), store) as manager:
        tasks = living_tasks()
        manager.on_drop(lambda _: None)()
        await trio.sleep(1.0)
        assert living_tasks() == tasks
        assert store.times("wait") == []


async def test_a_lost_subscription_is_opened_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A lost subscription is opened again within a second, without a log record."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(2, source, store) as (first, second):
        await get_all([first, second])
        await trio.sleep(10.0)
        store.cut()
        await trio.sleep(1.0)
        first.invalidate("token-1")
        await trio.sleep(0.2)
        assert second.state is TokenState.EMPTY
    assert "store" not in caplog.text


async def test_a_subscription_lost_unnoticed_is_opened_again(autojump_clock: MockClock) -> None:
    """A subscription without notifications for minutes is opened again, followed by a look."""
    source, store = make_source(), MemoryStore()
    deaf = FaultyStore(store)
    async with open_fleet(2, source, [FaultyStore(store), deaf]) as (first, second):
        await get_all([first, second])
        await trio.sleep(10.0)
        store._listeners.pop()  # as if a router had lost the connection
        store._listeners.append(type(store._listeners[0])("another name"))
        first.invalidate("token-1")
        await trio.sleep(RESUBSCRIBE_AFTER + 1.0)
        assert second.state is TokenState.EMPTY
        first.invalidate(await first.get_access_token())
        await trio.sleep(0.2)
        assert second.state is TokenState.EMPTY


# Sessions on the same manager


@pytest.mark.parametrize("how", ["invalidate", "revoke", "invalidate while the store is down"])
async def test_sessions_on_one_manager_share_tokens_and_drops(
    autojump_clock: MockClock, how: str
) -> None:
    """Two sessions on one manager share a token, and drop it together, also without the store."""
    source, store = make_source(), FaultyStore()
    async with (
        SharedTokenManager(source, store) as manager,
        AnonymousSession(source.config, manager) as first,
        AnonymousSession(source.config, manager) as second,
    ):
        assert await get_all([first, second]) == ["token-1"] * 2
        await trio.sleep(10.0)
        if how == "revoke":
            await first.revoke_tokens()
        else:
            store.fails = EVERYTHING if "down" in how else ()
            first.invalidate("token-1")
        await wait_all_tasks_blocked()
        assert second.state is TokenState.EMPTY
        store.fails = ()
        assert await get_all([first, second]) == ["token-2"] * 2
        assert source.sent == pytest.approx([0.0, 10.0], abs=1.1)


# A server that gives the same token again


async def test_promise_17_a_token_granted_again_serves_both_sessions(
    autojump_clock: MockClock,
) -> None:
    """A token that the server grants again after its drop is usable in both sessions.

    The store still has the copy from before, because it did not get the report of the drop.
    """
    source, store = make_source(), FaultyStore()
    async with (
        SharedTokenManager(source, store) as manager,
        AnonymousSession(source.config, manager) as first,
        AnonymousSession(source.config, manager) as second,
    ):
        await get_all([first, second])
        await trio.sleep(50.0)
        store.fails = EVERYTHING
        first.invalidate("token-1")
        # The server grants the same token again.
        source.granted = 0
        assert await first.get_access_token() == "token-1"
        store.fails = ()
        await trio.sleep(50.0)
        assert await second.get_access_token() == "token-1"
        assert [session.statistics().failures for session in (first, second)] == [0, 0]
        # The token can be dropped again, and granted again.
        source.granted = 0
        first.invalidate("token-1")
        await wait_all_tasks_blocked()
        assert second.state is TokenState.EMPTY
        assert await get_all([first, second]) == ["token-1"] * 2


# Revoking


async def test_promise_18_a_revoke_reaches_all_and_is_sent_once(autojump_clock: MockClock) -> None:
    """All processes drop a revoked token while the only revocation request still runs."""
    source, store = make_source(), MemoryStore()
    source.revoke_latency = 30.0
    async with open_fleet(5, source, store) as sessions, trio.open_nursery() as nursery:
        await get_all(sessions)
        nursery.start_soon(sessions[0].revoke_tokens)
        await trio.sleep(0.2)
        assert {session.state for session in sessions} == {TokenState.EMPTY}
        assert await get_all(sessions) == ["token-2"] * 5
        assert source.revoked == ["token-1"]
    assert source.revoked == ["token-1"]


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_promise_18_a_revocation_while_the_store_is_down(
    autojump_clock: MockClock, trouble: str
) -> None:
    """The revocation is sent without the store, within 2 s, and the token is not used again."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        token = await session.get_access_token()
        setattr(store, trouble, EVERYTHING)
        began_at = trio.current_time()
        await session.revoke_tokens()
        assert trio.current_time() - began_at == (2.0 if trouble == "hangs" else 0.0)
        assert source.revoked == [token]
        assert await session.get_access_token() == "token-2"


# Cancellation


def test_a_cancelled_revocation_is_reported_later() -> None:
    """A revocation cancelled at any step drops the token, here and in the store."""

    async def play(strike: Strike) -> Seen:
        source, store = make_source(), FaultyStore()
        operation = Operation(strike)
        async with SharedTokenManager(source, store) as manager:
            token = await manager.get_tokens_client_credentials_grant()
            store.slow = 0.5

            async def revoke() -> None:
                await manager.revoke_tokens(token.access_token)

            await operation.run(revoke)
            await settle()
            store.slow = 0.0
            new = await manager.get_tokens_client_credentials_grant()
            seen = await store.look(name_of(source.config), [mark_of("token-1")])
        return Seen(operation, {"new": new.access_token, "dead": len(seen.dead)})

    def check(seen: Seen, usual: Seen) -> None:
        if seen.operation.strike.moment == seen.operation.strike.nth == 0 and (
            seen.operation.was_cancelled
        ):
            # The call may have been cancelled before it began.
            return
        assert seen.facts == usual.facts == {"new": "token-2", "dead": 1}

    cancel_everywhere(play, check, at_least=2)


# Random drops


@given(
    drops=st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(["invalidate", "revoke"]), st.floats(0.0, 5.0)
        ),
        max_size=8,
    ),
    latency=st.floats(0.0, 3.0),
    slow=st.floats(0.0, 0.3),
    has_news=st.booleans(),
)
def test_promise_17_no_dead_token_is_handed_out_a_second_later(
    drops: list[tuple[int, str, float]], latency: float, slow: float, has_news: bool
) -> None:
    """One second after any drop, no process hands the token out."""

    async def main() -> None:
        source = make_source(latency=latency)
        store = FaultyStore()
        store.slow = slow / 4
        store.fails = () if has_news else {"listen"}
        dead_at: dict[str, float] = {}

        async def get_often(session: AnonymousSession) -> None:
            while True:
                token = await session.get_access_token()
                assert trio.current_time() <= dead_at.get(token, 1e9) + 1.0
                await trio.sleep(0.25)

        async with open_fleet(4, source, store) as sessions, trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(get_often, session)
            for who, how, pause in drops:
                await trio.sleep(pause)
                token = await sessions[who].get_access_token()
                dead_at.setdefault(token, trio.current_time())
                if how == "invalidate":
                    sessions[who].invalidate(token)
                else:
                    nursery.start_soon(sessions[who].revoke_tokens)
            await trio.sleep(5.0)
            assert all(session.statistics().failures == 0 for session in sessions)
            # Each dropped token needs one new grant, and each drop may have discarded another one.
            assert len(source.sent) <= 1 + 2 * len(dead_at)
            nursery.cancel_scope.cancel()

    run_virtually(main)
