"""Tests of `SharedTokenManager`: shared tokens and their age, and its methods."""

from __future__ import annotations

import copy
import math
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

from tests.helpers import TwoClocks, make_config, run_virtually
from trio_anon_session import (
    AnonymousSession,
    TokenInfo,
    TokenManager,
    TokenRequestError,
    TokenRequestOptions,
    TokenState,
)
from trio_anon_session.stores import MemoryStore, SharedTokenManager, SQLiteStore
from trio_anon_session.stores._records import name_of

from .faulty import EVERYTHING, FaultyStore, get_all, make_source, open_fleet, use

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from trio_anon_session.stores import StoredToken


LOOP: list[object] = []
LOOP.append(LOOP)


# One token for all


async def test_a_fleet_gets_one_token_for_each_life(autojump_clock: MockClock) -> None:
    """In ten lifetimes, a fleet sends ten token requests, and no caller waits after the first."""
    source = make_source(lifetime=60.0, latency=0.5, stale_buffer=6.0, expired_buffer=1.0)
    async with open_fleet(8, source, MemoryStore()) as sessions:
        await get_all(sessions)
        await use(sessions, 535)
        assert len(source.sent) == 10
        assert source.most_in_flight == 1
        assert [session.statistics().grants for session in sessions] == [10] * 8


async def test_a_token_is_taken_over_with_what_remains_of_its_life(
    autojump_clock: MockClock,
) -> None:
    """A process that comes later gets the same token, with the time of its request."""
    source = make_source(latency=2.0)
    store = MemoryStore()
    async with open_fleet(2, source, store) as (first, second):
        granted = await first.exchange_token("x")
        await trio.sleep(1000.0)
        taken = await second.exchange_token("x")
        assert len(source.sent) == 1
        assert taken.access_token == granted.access_token
        assert taken.sent_at == pytest.approx(granted.sent_at)
        assert taken.expires_at == pytest.approx(granted.expires_at)
        assert (taken.lifetime, taken.token_type) == (granted.lifetime, granted.token_type)


@pytest.mark.parametrize(
    ("facts", "taken"),
    [
        ({"extra": {"restricted_to": [{"scope": "a"}], "n": None}}, True),
        ({"extra": {"thing": object()}}, False),
        ({"extra": {"loop": LOOP}}, False),
        ({"extra": {7: "seven", (7,): "no name of JSON's"}}, False),
        ({"scope": object(), "token_type": object()}, False),
    ],
    ids=["JSON", "object", "loop", "key", "scope and type"],
)
async def test_the_fields_of_a_token_that_is_taken_over(
    autojump_clock: MockClock, facts: dict[str, Any], taken: bool
) -> None:
    """Type, scope and extras of a token are shared, except values that are invalid or not JSON."""
    source = make_source()
    facts = {"token_type": "Bearer", "scope": "a b"} | facts
    token = TokenInfo.from_answer("a-token", 100.0, 0.0, source.config, **facts)
    source.outcomes = [token]
    async with open_fleet(2, source, MemoryStore()) as (first, second):
        assert await first.exchange_token("x") is token
        token = await second.exchange_token("x")
    assert token.access_token == "a-token"
    if isinstance(facts["scope"], str):
        assert (token.token_type, token.scope) == ("Bearer", "a b")
    else:
        assert (token.token_type, token.scope) == ("bearer", None)
    assert dict(token.extra) == (facts["extra"] if taken else {})


async def test_processes_that_took_a_token_over_refresh_later(autojump_clock: MockClock) -> None:
    """The token becomes STALE first in the process that requested it, later in the others."""
    source = make_source()
    async with open_fleet(30, source, MemoryStore()) as sessions:
        await get_all(sessions)
        tokens = [session.token_info for session in sessions]
        first, *others = sorted(token.stale_at for token in tokens if token is not None)
        (window,) = {token.expires_at - first for token in tokens if token is not None}
        assert first == 3600.0 - 600.0
        assert all(first < other <= first + 0.1 * window for other in others)
        # The processes do not all refresh at the same time.
        assert max(others) - min(others) > 0.05 * window


async def test_a_configured_jitter_is_the_only_one(autojump_clock: MockClock) -> None:
    """With ``refresh_jitter``, each process draws its own jitter, and no other delay is added."""
    source = make_source(refresh_jitter=0.001)
    async with open_fleet(10, source, MemoryStore()) as sessions:
        await get_all(sessions)
        drawn = [session.token_info.stale_at for session in sessions if session.token_info]
        assert all(3000.0 <= stale_at <= 3000.001 for stale_at in drawn)
        assert len(set(drawn)) == 10


@given(
    lifetime=st.floats(2.0, 7200.0),
    expired_buffer=st.floats(0.0, 60.0),
    latency=st.floats(0.0, 20.0),
    slow=st.tuples(*[st.floats(0.0, 1.9)] * 2),
    slow_answers=st.tuples(*[st.floats(0.0, 1.9)] * 2),
    share=st.floats(0.0, 1.1),
)
def test_a_token_that_is_taken_over_is_not_younger(
    lifetime: float,
    expired_buffer: float,
    latency: float,
    slow: tuple[float, float],
    slow_answers: tuple[float, float],
    share: float,
) -> None:
    """With any latency, a process that takes a token over does not count it as younger."""

    async def main() -> None:
        source = make_source(lifetime=lifetime, latency=latency, expired_buffer=expired_buffer)
        store = MemoryStore()
        stores = [FaultyStore(store), FaultyStore(store)]
        for one, slow_one, slow_answer in zip(stores, slow, slow_answers, strict=True):
            one.slow, one.slow_answers = slow_one, slow_answer
        async with (
            SharedTokenManager(source, stores[0]) as granting,
            SharedTokenManager(source, stores[1]) as taking,
        ):
            await granting.get_tokens_client_credentials_grant()
            await trio.sleep(share * lifetime)
            token = await taking.get_tokens_client_credentials_grant()
            sent_at = source.sent[int(token.access_token.removeprefix("token-")) - 1]
            # Allow for rounding, because the time is computed as a difference.
            assert token.sent_at <= sent_at + 1e-6
            assert token.lifetime == lifetime

    run_virtually(main)


@pytest.mark.parametrize("lifetime", [math.inf, 1e300, 2.0**32, 1000])
async def test_a_token_that_never_ends_is_shared(
    autojump_clock: MockClock, lifetime: float, tmp_path: Path
) -> None:
    """Tokens with a very long or infinite lifetime can be shared and dropped."""
    source, store = make_source(lifetime=lifetime), SQLiteStore(tmp_path / "tokens.db")
    async with open_fleet(3, source, store) as sessions:
        for number in (1, 2):
            for session in sessions:
                assert await session.get_access_token() == f"token-{number}"
            sessions[number].invalidate(f"token-{number}")
            await trio.sleep(2.0)
            assert {session.state for session in sessions} == {TokenState.EMPTY}
    assert len(source.sent) == 2


def test_a_suspend_ages_what_the_manager_has_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspend, a session gets a new token as soon as the old one is STALE or EXPIRED."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        source = make_source(refresh="on_request")
        async with SharedTokenManager(source, MemoryStore()) as manager:
            async with AnonymousSession(source.config, manager) as session:
                assert await session.get_access_token() == "token-1"
                clock.suspend(3100.0)
                # The token is STALE by the wall clock only. The session must get a new token, and
                # not the old one as a new one.
                assert await session.get_access_token() == "token-1"
                await clock.advance(2.0)
                assert await session.get_access_token() == "token-2"
                await clock.advance(2.0)
                clock.suspend(7200.0)
                assert await session.get_access_token() == "token-3"

    trio.run(main, clock=clock)


class _Ages(FaultyStore):
    """A store that records the age of each token that is put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.ages: list[float] = []

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        self.ages.append(token.age)
        return await super().put(name, fence, token)


@pytest.mark.parametrize(("suspended", "age"), [(0.0, 2.0), (100.0, 102.0), (-100.0, 2.0)])
def test_a_suspend_during_the_request_is_part_of_the_token_s_age(
    monkeypatch: pytest.MonkeyPatch, suspended: float, age: float
) -> None:
    """The age that a token is put with follows the clock that shows more time."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        store = _Ages()
        async with (
            SharedTokenManager(make_source(latency=2.0), store) as manager,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(manager.get_tokens_client_credentials_grant)
            await clock.advance(1.0)
            clock.suspend(suspended)
            await clock.advance(1.0)
        assert store.ages == [pytest.approx(age)]

    trio.run(main, clock=clock)


# Methods of the manager


@pytest.mark.parametrize("fails", [(), EVERYTHING], ids=["the store works", "the store fails"])
async def test_options_reach_the_token_request(
    autojump_clock: MockClock, fails: frozenset[str]
) -> None:
    """The inner manager gets the options of the call that starts a request or a revocation."""
    source, store = make_source(), FaultyStore()
    options = TokenRequestOptions(ip="192.0.2.1")
    async with SharedTokenManager(source, store) as manager:
        store.fails = fails
        token = await manager.get_tokens_client_credentials_grant(options)
        await manager.revoke_tokens(token.access_token, options)
    assert source.options == [options, options]


async def test_the_counters_of_a_manager(autojump_clock: MockClock) -> None:
    """The counters distinguish requested, directly requested and taken-over tokens.

    Taking a token over costs one look.
    """
    source, memory = make_source(), MemoryStore()
    requesting, taking = FaultyStore(memory), FaultyStore(memory)
    async with (
        SharedTokenManager(source, requesting) as first,
        SharedTokenManager(source, taking) as second,
    ):
        for _ in range(2):
            token = await first.get_tokens_client_credentials_grant()
            taken = await second.get_tokens_client_credentials_grant()
            assert taken.access_token == token.access_token
            first.drop(token)
            await trio.sleep(2.0)
        assert len(taking.times("look")) == 2
        assert second.statistics().taken_over == 2
        requesting.fails = EVERYTHING
        for _ in range(2):
            await first.get_tokens_client_credentials_grant()
        counters = first.statistics()
        assert (counters.requested, counters.requested_directly) == (2, 2)


async def test_its_methods_are_checkpoints(autojump_clock: MockClock) -> None:
    """Each method executes a checkpoint, also if it has nothing to do."""
    source = make_source()
    manager = SharedTokenManager(source, MemoryStore())
    with assert_checkpoints():
        await manager.__aenter__()
    for _ in range(2):
        with assert_checkpoints():
            token = await manager.get_tokens_client_credentials_grant()
    with assert_checkpoints():
        await manager.revoke_tokens(token.access_token)
    for _ in range(2):
        with assert_checkpoints():
            await manager.aclose()
    with assert_checkpoints():
        await manager.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("manager", "store", "words"),
    [
        (
            object(),
            MemoryStore(),
            "manager must be .* whose config is a Config, not object$",
        ),
        (None, MemoryStore(), "manager must be .*, not NoneType$"),
        (make_config(), MemoryStore(), "manager must be .*, not Config$"),
        (type("Half", (), {"config": make_config()})(), MemoryStore(), "must have an async"),
        (
            make_source(),
            None,
            "store must be .*, not NoneType, which has no method open$",
        ),
        (
            make_source(),
            "redis://localhost",
            "store must be .*, not str, which has no method open$",
        ),
        (make_source(), MemoryStore, r"store must be an object, .*: write MemoryStore\(\.\.\.\)$"),
    ],
)
def test_an_invalid_manager_or_store_is_refused(manager: Any, store: Any, words: str) -> None:
    """A manager or store of a wrong type raises a TypeError that says what was expected."""
    with pytest.raises(TypeError, match=words):
        SharedTokenManager(manager, store)


async def test_invalid_options_are_refused(autojump_clock: MockClock) -> None:
    """Invalid options raise a TypeError, also if the store has a token and they are not needed."""
    source = make_source()
    nonsense: Any = {"ip": "192.0.2.1"}
    async with SharedTokenManager(source, MemoryStore()) as manager:
        await manager.get_tokens_client_credentials_grant()
        with pytest.raises(TypeError, match="options must be a TokenRequestOptions"):
            await manager.get_tokens_client_credentials_grant(nonsense)
        with pytest.raises(TypeError, match="options must be a TokenRequestOptions"):
            await manager.revoke_tokens("a-token", nonsense)
        assert source.revoked == []


async def test_a_call_outside_of_the_block_warns(autojump_clock: MockClock) -> None:
    """A call outside of the block warns, before it was entered and after it was left."""
    manager = SharedTokenManager(make_source(), MemoryStore())
    for _ in range(2):
        with pytest.warns(
            RuntimeWarning, match=r"use it inside 'async with SharedTokenManager\("
        ) as warned:
            await manager.get_tokens_client_credentials_grant()
        assert [warning.filename for warning in warned] == [__file__]
        # The token comes as fast as in a block.
        assert trio.current_time() == 0.0
        async with manager:
            await manager.get_tokens_client_credentials_grant()


async def test_an_open_manager_cannot_be_entered(autojump_clock: MockClock) -> None:
    """Entering a manager that is already open raises a RuntimeError, and changes nothing."""
    store = FaultyStore()
    async with SharedTokenManager(make_source(), store) as manager:
        with pytest.raises(RuntimeError, match="already open"):
            await manager.__aenter__()
    assert [method for method, _ in store.asked] == ["open", "aclose"]


def test_the_repr_shows_manager_and_store(autojump_clock: MockClock) -> None:
    """The repr shows the reprs of the manager and the store."""
    manager = SharedTokenManager(TokenManager(make_config()), MemoryStore())
    assert repr(manager) == (
        "<SharedTokenManager of <TokenManager for 'id' at https://api.box.com/oauth2/token> "
        "and <MemoryStore of 0 entries>>"
    )
    assert manager.config == make_config()


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_shared_manager_is_neither_pickled_nor_copied(copier: Any) -> None:
    """Pickling or copying a manager raises a TypeError."""
    with pytest.raises(TypeError, match="cannot pickle a SharedTokenManager"):
        copier(SharedTokenManager(make_source(), MemoryStore()))


# Custom managers


@pytest.mark.parametrize("nonsense", [None, "a-token"])
async def test_an_inner_manager_that_returns_no_token(
    autojump_clock: MockClock, nonsense: object
) -> None:
    """If the inner manager returns no token, the session raises after one attempt.

    The store keeps nothing, and the lease is released.
    """
    source = make_source(max_retries=0)
    source.outcomes = [nonsense]
    store = FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        with pytest.raises(TokenRequestError, match=f"returned {type(nonsense).__name__}, not"):
            await session.get_access_token()
        assert len(source.sent) == 1
        # The store kept nothing, and the lease is free.
        assert store.times("put") == []
        assert len(store.times("release")) == 1
        await trio.sleep(10.0)
        assert await session.get_access_token() == "token-1"


@pytest.mark.parametrize("begins_at", [(1e6, 0.0), (0.0, 1e6)])
def test_a_manager_that_is_used_in_a_second_trio_run(begins_at: tuple[float, float]) -> None:
    """In a second Trio run, whose clock started elsewhere, no time of the first delays a caller."""
    source, store = make_source(min_refresh_interval=60.0), MemoryStore()
    manager = SharedTokenManager(source, store)

    async def main(pause: float) -> None:
        await trio.sleep(pause)
        async with manager, AnonymousSession(source.config, manager) as session:
            began_at = trio.current_time()
            token = await session.exchange_token("x")
            assert trio.current_time() == began_at
            session.invalidate(token.access_token)

    for pause in begins_at:
        run_virtually(main, pause)
    assert len(source.sent) == 2


async def test_a_cached_token_of_the_inner_manager_keeps_its_age(autojump_clock: MockClock) -> None:
    """If an inner manager returns a token with an earlier ``sent_at``, the store keeps its age."""
    source = make_source()
    await trio.sleep(500.0)
    source.outcomes = [TokenInfo.from_answer("old", 3600.0, 100.0, source.config)]
    async with open_fleet(2, source, MemoryStore()) as (first, second):
        await first.get_access_token()
        await trio.sleep(100.0)
        assert (await second.exchange_token("x")).sent_at == pytest.approx(100.0)


async def test_a_store_gets_no_secret_except_the_token(autojump_clock: MockClock) -> None:
    """The record in the store contains neither the client secret nor extra parameters."""
    source = make_source(client_secret="s3cret", extra_params={"password": "pa55", "audience": "a"})
    store = MemoryStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        token = (await store.look(name_of(source.config))).token
    assert token is not None
    assert "token-1" in token.record
    assert "s3cret" not in token.record
    assert "pa55" not in token.record
    assert "token-1" not in token.mark
    assert "token-1" not in repr(token)
