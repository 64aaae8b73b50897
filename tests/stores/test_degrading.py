"""Tests of sessions whose store is down, slow, full, read-only, flushed or restarted."""

from __future__ import annotations

import itertools
import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers import (
    TwoClocks,
    run_virtually,
    start_getters,
)
from trio_anon_session import TokenState
from trio_anon_session.stores import (
    Look,
    MemoryStore,
    SharedTokenManager,
    StoreError,
)
from trio_anon_session.stores._access import STORE_TIMEOUT
from trio_anon_session.stores._claimant import RECOVERY_TIME
from trio_anon_session.stores._protocol import POLL_INTERVAL

from .faulty import (
    EVERYTHING,
    READS,
    WRITES,
    FaultyStore,
    get_all,
    levels,
    make_source,
    open_fleet,
    use,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from trio.testing import MockClock


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_anon_session")


# Troubles

TROUBLES: dict[str, dict[str, Any]] = {
    "down": {"fails": EVERYTHING},
    "not readable": {"fails": READS},
    "read-only": {"fails": WRITES},
    "full": {"fails": {"put"}},
    "full, almost": {"fails": {"put", "claim"}},
    "hung": {"hangs": EVERYTHING},
    "hung on writes": {"hangs": WRITES},
    "too slow": {"slow": 2.1},
    "too slow to answer": {"slow_answers": 2.1},
    "answering nonsense": {"lies": {"look": None, "claim": "x", "put": None}},
    "keeping nothing": {"lies": {"put": False}},
    "without leases": {"lies": {"claim": None}},
}
HEALTHY: dict[str, Any] = {"fails": (), "hangs": (), "slow": 0.0, "slow_answers": 0.0, "lies": {}}


def strike(stores: Collection[FaultyStore], trouble: str | None) -> None:
    """Give stores this trouble, or end their trouble."""
    for store in stores:
        for name, value in (HEALTHY | (TROUBLES[trouble] if trouble else {})).items():
            setattr(store, name, value)
        if trouble is not None:
            store.cut()


async def test_a_full_store_does_not_delay_processes_by_leases(
    autojump_clock: MockClock,
) -> None:
    """With a full store, each process gets its own token without waiting for whole leases."""
    source, memory = make_source(latency=0.5), MemoryStore()
    stores = [FaultyStore(memory) for _ in range(6)]
    strike(stores, "full")
    async with open_fleet(6, source, stores) as sessions:
        assert len(set(await get_all(sessions))) == 6
        assert trio.current_time() <= 6 * (0.5 + POLL_INTERVAL)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("begins", ["before", "during the first grant", "in the middle"])
async def test_no_trouble_of_the_store_reaches_a_caller(
    autojump_clock: MockClock, trouble: str, begins: str
) -> None:
    """While the store fails, callers get their process's own token, and a shared one afterwards."""
    source = make_source(lifetime=300.0, latency=1.0, stale_buffer=130.0, request_timeout=10.0)
    memory = MemoryStore()
    stores = [FaultyStore(memory) for _ in range(3)]
    if begins == "before":
        strike(stores, trouble)
    held_for = 0.0
    async with open_fleet(3, source, stores) as sessions:
        async with trio.open_nursery() as nursery:
            getters = [start_getters(nursery, session, 1)[0] for session in sessions]
            await trio.sleep(0.5)
            if begins == "during the first grant":
                strike(stores, trouble)
        held_for = max(getter.ended_at for getter in getters)
        assert all(getter.token for getter in getters)
        if begins == "in the middle":
            strike(stores, trouble)
        # The trouble lasts for several lifetimes, but no caller waits, because each next token
        # arrives in time. It ends between two grants, so that no later call to the store logs it
        # again.
        await use(sessions, 600)
        strike(stores, None)
        await use(sessions, 600)
        # After this time, all processes share one token again.
        tokens = {session.get_access_token_nowait() for session in sessions}
        assert len(tokens) <= 2
        sent_in_peace = [at for at in source.sent if at > trio.current_time() - 330.0]
        assert len(sent_in_peace) <= 2
        assert {session.statistics().failures for session in sessions} == {0}
    # In the longest case, a caller waits for leases of three other processes, and gets no token
    # from them.
    assert held_for <= 3 * 15.0 + 2 * 2.0 + 3 * 1.0


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_each_outage_is_logged_once(
    autojump_clock: MockClock, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each outage logs one warning when it begins, and one INFO record when the store recovers.

    The end of the trouble of a store that grants no lease is not logged.
    """
    source, store = make_source(lifetime=300.0, request_timeout=10.0), FaultyStore()
    said = []
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        for _ in range(2):
            strike([store], trouble)
            await trio.sleep(630.0)
            said += levels(caplog)
            caplog.clear()
            strike([store], None)
            await trio.sleep(630.0)
            said += [*levels(caplog), "over"]
            caplog.clear()
            session.get_access_token_nowait()
    if trouble == "without leases":
        assert said == ["WARNING", "over"] * 2
    else:
        assert said == ["WARNING", "INFO", "over"] * 2


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"fails": EVERYTHING, "error": OSError("of s3cret")}, "fails (OSError)"),
        ({"fails": EVERYTHING, "error": StoreError("it refuses")}, "fails (it refuses)"),
        (
            {"fails": EVERYTHING, "error": ExceptionGroup("of s3cret", [OSError("of s3cret")])},
            "fails (ExceptionGroup)",
        ),
        ({"hangs": EVERYTHING}, "fails (no answer within 2 s)"),
    ],
    ids=["OSError", "StoreError", "group", "hangs"],
)
async def test_the_log_of_a_failing_store(
    autojump_clock: MockClock,
    trouble: dict[str, Any],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log shows the message of a StoreError, and only the type of any other error."""
    source, store = make_source(), FaultyStore()
    vars(store).update(trouble)
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        # There was one call when the store was opened, and one for the token.
        assert trio.current_time() == (2 * STORE_TIMEOUT if store.hangs else 0.0)
    assert words in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_store_that_hangs_costs_two_calls_after_a_drop(
    autojump_clock: MockClock,
) -> None:
    """After a drop, a caller waits for two calls to a store that hangs: the report and a look."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(10.0)
        store.hangs = EVERYTHING
        session.invalidate("token-1")
        await session.get_access_token()
        assert trio.current_time() == 10.0 + 2 * STORE_TIMEOUT


@pytest.mark.parametrize(
    ("trouble", "most"),
    [({"fails": EVERYTHING}, 2 * 20 / 0.25), ({"lies": {"wait": None}}, 20 / 0.05 + 1)],
    ids=["down", "always has news"],
)
async def test_calls_to_a_store_are_rate_limited(
    autojump_clock: MockClock, trouble: dict[str, Any], most: float
) -> None:
    """A process looks at a store that is down, and tries to listen, four times a second at most.

    It looks at most twenty times a second at a store that always sends notifications.
    """
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        vars(store).update(trouble)
        store.cut()
        store.asked.clear()
        await trio.sleep(20.0)
        asked = [at for method, at in store.asked if method != "wait"]
        assert most / 4 <= len(asked) <= most


# No notifications


async def test_a_store_without_notifications_is_logged_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store answers but sends no notifications, one warning about that is logged."""
    source, store = make_source(), FaultyStore()
    store.fails = {"listen"}
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(30.0)
        assert levels(caplog) == ["WARNING"]
        assert "sends no notifications (OSError): this process polls it" in caplog.text
        store.fails = ()
        await trio.sleep(30.0)
        # The notification of this drop ends the trouble.
        session.invalidate(await session.get_access_token())
        await trio.sleep(1.0)
        caplog.clear()
        store.fails = {"wait"}
        store.cut()
        await trio.sleep(30.0)
        assert levels(caplog) == ["WARNING"]


async def test_a_store_whose_listening_hangs(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A process polls a store whose listening hangs, and listens again when that works."""
    source, store = make_source(), FaultyStore()
    other = FaultyStore(store.store)
    store.hangs = {"listen"}
    async with open_fleet(2, source, [store, other]) as (first, second):
        await get_all([first, second])
        await trio.sleep(100.0)
        assert levels(caplog) == ["WARNING"]
        assert "sends no notifications (no answer within 2 s)" in caplog.text
        second.invalidate("token-1")
        await trio.sleep(3.0)
        assert first.state is TokenState.EMPTY
        store.hangs = ()
        await trio.sleep(5.0)
        second.invalidate(await second.get_access_token())
        await trio.sleep(0.1)
        assert first.state is TokenState.EMPTY


async def test_a_listener_that_hangs_when_it_is_left(autojump_clock: MockClock) -> None:
    """A subscription that hangs when it is closed delays neither looks nor the end."""

    class Clinging(FaultyStore):
        @asynccontextmanager
        async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
            async with super().listen(name) as wait_for_news:
                try:
                    yield wait_for_news
                finally:
                    await trio.sleep_forever()  # noqa: ASYNC102  # the fault under test

    source, store = make_source(), Clinging()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(1.0)
        store.cut()
        store.asked.clear()
        await trio.sleep(5.0)
        assert len(store.times("look")) >= 2
        left_at = trio.current_time()
    assert trio.current_time() == left_at


# Loss of all data


@example(count=6, latency=20.0, begins=0.5, seconds=1.0, how="down", is_flushed=True)
@given(
    count=st.integers(2, 6),
    latency=st.floats(0.0, 30.0),
    begins=st.floats(0.0, 1.0),
    seconds=st.floats(0.0, RECOVERY_TIME - POLL_INTERVAL),
    how=st.sampled_from(["down", "hung", "read-only"]),
    is_flushed=st.booleans(),
)
def test_a_restart_costs_one_grant_where_a_token_is_usable(
    count: int, latency: float, begins: float, seconds: float, how: str, is_flushed: bool
) -> None:
    """A short outage of the store during a refresh costs one token request more at most."""

    async def main() -> None:
        source, memory = make_source(latency=latency), MemoryStore()
        stores = [FaultyStore(memory) for _ in range(count)]
        async with open_fleet(count, source, stores) as sessions:
            await get_all(sessions)
            await trio.sleep_until(source.sent[0] + 3000.0 + begins * latency)
            strike(stores, how)
            if is_flushed:
                memory._entries.clear()
            await trio.sleep(seconds)
            strike(stores, None)
            # Some processes refresh later than others.
            await use(sessions, 120)
            assert len({session.get_access_token_nowait() for session in sessions}) <= 2
        assert len(source.sent) <= 2 + 1

    run_virtually(main)


async def test_a_store_that_does_not_come_back_is_waited_for_once(
    autojump_clock: MockClock,
) -> None:
    """A process with a STALE token gives a failing store time to recover once, and not again."""
    source, store = make_source(lifetime=200.0, stale_buffer=100.0), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(99.0)
        strike([store], "down")
        await trio.sleep(1.0 + RECOVERY_TIME + POLL_INTERVAL)
        assert source.sent == [0.0, pytest.approx(99.0 + RECOVERY_TIME, abs=2 * POLL_INTERVAL)]
        await trio.sleep_until(source.sent[1] + 100.1)
        assert source.sent[2:] == [source.sent[1] + 100.0]
        # Without a token, no caller waits for the store.
        session.invalidate(await session.get_access_token())
        asked_at = trio.current_time()
        await session.get_access_token()
        assert trio.current_time() <= asked_at + 1.0


async def test_a_failed_store_is_tried_twice_a_second(autojump_clock: MockClock) -> None:
    """While a process gives the store time to recover, it looks at random intervals."""
    source, store = make_source(), FaultyStore()
    async with SharedTokenManager(source, store) as manager:
        await manager.get_tokens_client_credentials_grant()
        await trio.sleep(3000.0)
        store.asked.clear()
        strike([store], "down")
        await manager.get_tokens_client_credentials_grant()
    looks = store.times("look")
    pauses = [b - a for a, b in itertools.pairwise(looks)]
    assert len(pauses) >= 9
    assert POLL_INTERVAL / 2 <= min(pauses) < max(pauses) <= POLL_INTERVAL


async def test_promise_07_the_gap_is_kept_without_the_store(autojump_clock: MockClock) -> None:
    """A second token request of this process is sent after ``min_refresh_interval``."""
    source, store = make_source(min_refresh_interval=3.0), FaultyStore()
    strike([store], "down")
    async with SharedTokenManager(source, store) as manager:
        for _ in range(2):
            await manager.get_tokens_client_credentials_grant()
    assert source.sent == [0.0, 3.0]


async def test_a_token_that_is_taken_over_ends_a_trouble(autojump_clock: MockClock) -> None:
    """A token that another process put there ends the trouble of a store that was full."""
    source, memory = make_source(), MemoryStore()
    store = FaultyStore(memory)
    strike([store], "full")
    async with (
        SharedTokenManager(source, store) as first,
        SharedTokenManager(source, memory) as second,
    ):
        await first.get_tokens_client_credentials_grant()
        assert first.trouble is not None
        granted = await second.get_tokens_client_credentials_grant()
        taken = await first.get_tokens_client_credentials_grant()
        assert taken.access_token == granted.access_token
        assert first.trouble is None


@pytest.mark.parametrize("asleep_at", [1000.0, 3010.0])
def test_no_caller_waits_for_a_store_after_a_suspend(
    monkeypatch: pytest.MonkeyPatch, asleep_at: float
) -> None:
    """After a suspend that outlasted the token, a caller does not wait for the store."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        source, store = make_source(refresh="on_request"), FaultyStore()
        async with open_fleet(1, source, store) as (session,):
            await session.get_access_token()
            await clock.advance(asleep_at)
            clock.suspend(7200.0)
            strike([store], "down")
            async with trio.open_nursery() as nursery:
                (getter,) = start_getters(nursery, session, 1)
                await clock.advance(1.0)
                assert getter.token == "token-2"
                nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)


@pytest.mark.parametrize(
    ("trouble", "lifetime"),
    [
        *(("down", lifetime) for lifetime in (4.0, 8.0, 16.0, 60.0)),
        *(("hung", lifetime) for lifetime in (16.0, 20.0, 24.0, 40.0, 60.0)),
        ("hung on writes", 16.0),
        ("too slow", 24.0),
    ],
)
async def test_a_failing_store_does_not_let_the_token_expire(
    autojump_clock: MockClock, trouble: str, lifetime: float
) -> None:
    """Callers always have a usable token, also with a short lifetime and a failing store."""
    # The stale window is a quarter of the lifetime.
    source, store = make_source(lifetime=lifetime, latency=lifetime / 10), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        strike([store], trouble)
        for _ in range(100):
            await trio.sleep(lifetime / 50)
            session.get_access_token_nowait()
    assert len(source.sent) <= 6


async def test_an_unstable_store_gets_no_second_recovery_time(
    autojump_clock: MockClock,
) -> None:
    """A read-only store whose looks fail every other time gets no second recovery time."""

    class Flapping(FaultyStore):
        looks: float = math.nan

        async def look(self, name: str, marks: Collection[str] = ()) -> Look:
            self.looks += 1
            if self.looks % 2 == 1:
                raise OSError("comes and goes")
            return await super().look(name, marks)

    source, store = make_source(), Flapping()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(2999.0)
        store.looks, store.fails = 0, WRITES
        await trio.sleep(1.0 + RECOVERY_TIME + 2 * POLL_INTERVAL)
        assert len(source.sent) == 2
