"""Tests of leases: which process sends the token request, if holders die, are late or cancelled."""

from __future__ import annotations

import itertools
import logging
import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import example, given
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
from tests.helpers import FakeTokenManager, run_virtually, start_getters
from trio_anon_session import AnonymousSession, TokenInfo
from trio_anon_session.stores import Look, MemoryStore, SharedTokenManager
from trio_anon_session.stores._claimant import LEASE
from trio_anon_session.stores._link import RELEASE_TIMEOUT
from trio_anon_session.stores._records import name_of

from .faulty import EVERYTHING, FaultyStore, get_all, levels, make_source, open_fleet

if TYPE_CHECKING:
    from trio.testing import MockClock


async def look(store: FaultyStore | MemoryStore, source: FakeTokenManager) -> Look:
    """Look into a store, under the name of a source's token."""
    return await store.look(name_of(source.config))


# Leases of long requests


async def test_a_lease_lasts_as_long_as_its_grant(autojump_clock: MockClock) -> None:
    """Only one process sends a request, although the endpoint takes six times the lease."""
    source = make_source(latency=29.0)
    async with open_fleet(5, source, MemoryStore()) as sessions:
        assert await get_all(sessions) == ["token-1"] * 5
        assert source.sent == [0.0]
        assert trio.current_time() == 29.0


async def test_a_waiting_process_looks_twice_a_second(autojump_clock: MockClock) -> None:
    """A process that waits for another's lease without listening looks twice a second."""
    source, memory = make_source(latency=3.2), MemoryStore()
    store = FaultyStore(memory)
    async with (
        SharedTokenManager(source, memory) as first,
        SharedTokenManager(source, store) as second,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(first.get_tokens_client_credentials_grant)
        await wait_all_tasks_blocked()
        token = await second.get_tokens_client_credentials_grant()
        assert token.access_token == "token-1"
        assert 3.2 <= trio.current_time() <= 3.2 + 0.5
    looks = store.times("look")
    assert max(b - a for a, b in itertools.pairwise(looks)) <= 0.5


async def test_a_call_that_waits_for_a_lease_counts_once(autojump_clock: MockClock) -> None:
    """``lease_waits`` counts calls and not looks, however soon the lease ends."""
    source, store = make_source(), MemoryStore()
    name = name_of(source.config)
    await store.claim(name, "other", (await store.look(name)).version, 0.9)
    async with SharedTokenManager(source, store) as manager:
        await manager.get_tokens_client_credentials_grant()
        assert manager.statistics().lease_waits == 1


# Processes that are killed


@pytest.mark.parametrize("renewed", [0, 2])
async def test_a_holder_that_dies_delays_the_others_by_a_lease(
    autojump_clock: MockClock, renewed: int
) -> None:
    """If a process dies during its token request, the others wait until its lease ends."""
    source, store = make_source(latency=20.0), MemoryStore()
    dying = FaultyStore(store)
    async with open_fleet(3, source, [dying, FaultyStore(store), FaultyStore(store)]) as sessions:
        async with trio.open_nursery() as nursery:
            start_getters(nursery, sessions[0], 1)
            await trio.sleep(1.0 + renewed * LEASE / 3)
            # A dead process neither renews its lease nor puts its token.
            dying.hangs = EVERYTHING
            last_sign_at = renewed * LEASE / 3
            source.latency = 0.1
            assert await get_all(sessions[1:]) == ["token-1"] * 2
            assert trio.current_time() - last_sign_at <= LEASE + 0.1 + 0.5
            assert len(source.sent) == 2
            nursery.cancel_scope.cancel()


async def test_a_late_holder_overwrites_nothing(autojump_clock: MockClock) -> None:
    """A process whose token arrives after its lease uses the newer token of the store."""
    source, store = make_source(latency=20.0), MemoryStore()
    stopped = FaultyStore(store)
    async with open_fleet(2, source, [stopped, FaultyStore(store)]) as (late, other):
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, late, 1)
            await trio.sleep(1.0)
            stopped.hangs = EVERYTHING
            source.latency = 0.1
            assert await other.get_access_token() == "token-1"
            stopped.hangs = ()
        assert getter.token == "token-1"
        seen = await look(store, source)
        assert seen.token is not None
        assert "token-1" in seen.token.record
        assert len(source.sent) == 2


# Processes that lose their lease


class _Overtaken(FaultyStore):
    """Rejects tokens, as if each one came too late."""

    def __init__(self, times: float = math.inf) -> None:
        super().__init__()
        self.times_left = times

    async def put(self, name: str, fence: int, token: object) -> bool:
        if self.times_left:
            self.times_left -= 1
            await self._ask("put", trio.lowlevel.checkpoint)
            await self.release(name, fence)
            return False
        return await super().put(name, fence, token)  # type: ignore[arg-type]  # passed on unchanged


async def test_a_process_whose_token_is_not_kept_gets_another_one(
    autojump_clock: MockClock,
) -> None:
    """If its token is not kept and no newer one exists, a process requests another one.

    It waits for ``min_refresh_interval`` before that.
    """
    source, store = make_source(min_refresh_interval=7.0), _Overtaken(1)
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-2"
        assert source.sent == pytest.approx([0.0, 7.0], abs=0.5)


async def test_promise_07_a_store_that_keeps_nothing_causes_no_hot_loop(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A process uses its second token although the store does not keep it, and logs that once."""
    caplog.set_level(logging.INFO)
    source, store = make_source(lifetime=60.0), _Overtaken()
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-2"
        await trio.sleep(300.0)
        assert session.get_access_token_nowait()
        assert min(b - a for a, b in zip(source.sent, source.sent[1:], strict=False)) >= 1.0
        assert len(source.sent) <= 2 * (1 + 300.0 / 30.0)
        assert levels(caplog) == ["WARNING"]
        assert "it does not keep the tokens put there" in caplog.text
        store.times_left = 0
        await trio.sleep(60.0)
        assert levels(caplog) == ["WARNING", "INFO"]


async def test_promise_07_the_gap_counts_from_the_last_request(autojump_clock: MockClock) -> None:
    """The gap counts from the last request, not from the call that waited for a lease."""
    source, store = make_source(latency=20.0, refresh="on_request"), MemoryStore()
    dying = FaultyStore(store)
    async with open_fleet(2, source, [dying, FaultyStore(store)]) as (first, second):
        async with trio.open_nursery() as nursery:
            start_getters(nursery, first, 1)
            await trio.sleep(1.0)
            dying.hangs = EVERYTHING
            source.latency = 0.0
            # The gap counts from the request to the endpoint, which is much later than the call.
            second.invalidate(await second.get_access_token())
            sent_at = source.sent[-1]
            assert sent_at > 4.0
            await second.get_access_token()
            assert source.sent[-1] - sent_at >= 1.0
            nursery.cancel_scope.cancel()


# At this moment, the claim is on its way, and the manager closes before the answer arrives.
@example(at=0.7, fails=False, stays=False)
@given(at=st.floats(0.0, 2.5), fails=st.booleans(), stays=st.booleans())
def test_a_cancelled_claim_releases_its_lease(at: float, fails: bool, stays: bool) -> None:
    """A lease that the store grants to a cancelled call is released, and no task is left."""

    async def main() -> None:
        memory = MemoryStore()
        slow = FaultyStore(memory)
        slow.slow_answers = 0.5
        source = make_source()
        async with SharedTokenManager(source, slow) as manager:
            tasks = living_tasks()
            if fails:
                slow.fails = {"claim"}
            with trio.move_on_after(at):
                await manager.get_tokens_client_credentials_grant()
            if stays:
                await trio.sleep(2.0)
                assert living_tasks() == tasks
        assert (await look(memory, source)).leased_for == 0

    run_virtually(main)


async def test_a_cancelled_claim_that_gets_no_lease_releases_none(
    autojump_clock: MockClock,
) -> None:
    """A cancelled claim that gets no lease does not call `release`."""
    source, store = make_source(), FaultyStore()
    store.lies = {"claim": None}
    async with SharedTokenManager(source, store) as manager:
        store.slow_answers = 0.5
        with trio.move_on_after(0.7):
            await manager.get_tokens_client_credentials_grant()
        await trio.sleep(2.0)
        assert store.times("claim") == [0.5]
        assert store.times("release") == []


# A store that lies about leases


@pytest.mark.parametrize(
    "lies",
    [{"look": Look(7, leased_for=1e9)}, {"claim": None}],
    ids=["no end", "no grant"],
)
async def test_a_lease_is_waited_for_no_longer_than_an_attempt(
    autojump_clock: MockClock, lies: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A process asks directly, and logs once, if a lease never ends, or if no process gets it."""
    patience = 1.0 + LEASE
    source, store = make_source(lifetime=200.0, request_timeout=1.0), FaultyStore()
    store.lies = lies
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-1"
        assert patience <= trio.current_time() <= patience + 1.0
        # The process looks at a limited rate, and once more after its patience has ended.
        assert len(store.times("look")) <= patience / 0.05 + 5
        await trio.sleep(160.0)
        assert session.get_access_token_nowait() == "token-2"
        assert levels(caplog) == ["WARNING"]
        assert "lease in the token store does not end" in caplog.text
        # The trouble ends with a token in the store. If the trouble returns, it is logged again.
        store.lies = {}
        await trio.sleep(100.0)
        assert session.get_access_token_nowait() == "token-3"
        assert (await look(store, source)).token is not None
        store.lies = lies
        await trio.sleep(140.0)
        assert levels(caplog) == ["WARNING"] * 2


# Cancelled calls


def test_a_cancelled_holder_releases_its_lease() -> None:
    """A holder cancelled at any step releases its lease and leaves no task."""

    async def play(strike: Strike) -> Seen:
        source, store = make_source(latency=2.0), MemoryStore()
        operation = Operation(strike)
        async with (
            SharedTokenManager(source, store) as cancelled,
            SharedTokenManager(source, store) as other,
        ):
            tasks = living_tasks()

            async def get() -> str:
                return (await cancelled.get_tokens_client_credentials_grant()).access_token

            await operation.run(get)
            await settle()
            assert living_tasks() == tasks
            seen = await look(store, source)
            assert seen.leased_for == 0
            began_at = trio.current_time()
            token = await other.get_tokens_client_credentials_grant()
            assert trio.current_time() - began_at in (0.0, 2.0)
            assert source.most_in_flight == 1
            # If the cancellation comes when the token arrives, the store may keep or lose the
            # token.
            if seen.token is not None:
                assert token.access_token == "token-1"
            return Seen(operation, {"sent": len(source.sent), "is kept": seen.token is not None})

    def check(seen: Seen, usual: Seen) -> None:
        sent = seen.facts["sent"]
        assert isinstance(sent, int)
        assert sent in (1, 2)
        if not seen.operation.was_cancelled:
            assert seen.facts == usual.facts
            assert seen.operation.result == "token-1"

    cancel_everywhere(play, check, at_least=4)


def test_a_cancelled_waiting_call_does_not_disturb_the_holder() -> None:
    """A waiting call can be cancelled at any step, and the holder still gets its token."""

    async def play(strike: Strike) -> Seen:
        source, store = make_source(latency=2.0), MemoryStore()
        operation = Operation(strike)
        tokens: list[TokenInfo] = []

        async def grant() -> None:
            tokens.append(await holding.get_tokens_client_credentials_grant())

        async def wait() -> str:
            return (await waiting.get_tokens_client_credentials_grant()).access_token

        async with (
            SharedTokenManager(source, store) as holding,
            SharedTokenManager(source, store) as waiting,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(grant)
            await settle()
            await operation.run(wait)
            await trio.sleep_until(10.0)
            assert (await look(store, source)).leased_for == 0
        return Seen(operation, {"sent": source.sent, "got": [t.access_token for t in tokens]})

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.facts == usual.facts
        if not seen.operation.was_cancelled:
            assert seen.operation.result == "token-1"

    cancel_everywhere(play, check, at_least=6)


@pytest.mark.parametrize("holds", [True, False])
async def test_promise_19_a_session_ends_soon_if_the_store_hangs(
    autojump_clock: MockClock, holds: bool
) -> None:
    """If the store hangs, a session's exit waits for `release` at most, and leaves no task."""
    source, store = make_source(latency=math.inf), FaultyStore()
    before = living_tasks()
    async with SharedTokenManager(source, store) as manager:
        await wait_all_tasks_blocked()
        tasks = living_tasks()
        async with AnonymousSession(source.config, manager) as session:
            if not holds:
                store.hangs = EVERYTHING
            with trio.move_on_after(1.0):
                await session.get_access_token()
            store.hangs = EVERYTHING
            left_at = trio.current_time()
        assert trio.current_time() - left_at == (RELEASE_TIMEOUT if holds else 0.0)
        await wait_all_tasks_blocked()
        assert living_tasks() == tasks
        store.hangs = ()
    assert living_tasks() == before


# Exceptions


class _OwnError(BaseException):
    pass


@pytest.mark.parametrize("kind", [_OwnError, KeyboardInterrupt, SystemExit])
async def test_promise_14_a_crash_of_the_inner_manager_is_unwrapped(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    """A crash of the inner manager propagates unwrapped from manager and session.

    The lease is released.
    """
    source, store = make_source(), MemoryStore()
    crash = kind()
    async with SharedTokenManager(source, store) as manager:
        source.outcomes = [crash]
        with pytest.raises(kind) as caught:
            await manager.get_tokens_client_credentials_grant()
        assert caught.value is crash
        assert caught.value.__context__ is None
        source.outcomes = [crash]
        with pytest.raises(kind) as caught:
            async with AnonymousSession(source.config, manager) as session:
                await session.get_access_token()
        assert caught.value is crash
    assert (await look(store, source)).leased_for == 0


@pytest.mark.parametrize("method", ["look", "claim", "renew", "put", "release", "drop", "listen"])
async def test_promise_20_a_crash_of_the_store_propagates_unwrapped(
    autojump_clock: MockClock, method: str
) -> None:
    """A BaseException that a method of the store raises ends the session, unwrapped."""
    source, store = make_source(latency=2.0), FaultyStore()
    crash = store.error = _OwnError()
    if method == "release":
        source.outcomes = [ValueError()]
    with pytest.raises(_OwnError) as caught:
        async with open_fleet(1, source, store) as (session,):
            await trio.sleep(1.0)
            store.fails = {method}
            if method == "listen":
                store.cut()
            token = await session.get_access_token()
            session.invalidate(token)
            await trio.sleep(5.0)
    assert caught.value is crash
    store.fails = ()
    # If the store cannot release the lease, it lasts until its end.
    assert (await look(store, source)).leased_for == 0 or method == "release"


async def test_promise_20_a_cancellation_propagates_unwrapped(autojump_clock: MockClock) -> None:
    """A cancelled call raises one Cancelled, and no exception group."""
    source, store = make_source(latency=10.0), MemoryStore()
    async with SharedTokenManager(source, store) as manager:
        with trio.move_on_after(1.0) as scope:
            try:
                await manager.get_tokens_client_credentials_grant()
            except BaseException as error:
                assert type(error) is trio.Cancelled  # noqa: PT017  # it is raised again
                raise
        assert scope.cancelled_caught
