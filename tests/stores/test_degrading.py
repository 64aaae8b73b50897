"""A store that is down, slow, full, read-only, flushed, restarted, or holds garbage."""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers import (
    FakeTokenManager,
    TwoClocks,
    make_config,
    run_virtually,
    start_getters,
)
from trio_anon_session import AnonymousSession, TokenState
from trio_anon_session.stores import (
    Look,
    MemoryStore,
    SharedTokenManager,
    StoredFailure,
    StoredToken,
    StoreError,
)
from trio_anon_session.stores._access import STORE_TIMEOUT
from trio_anon_session.stores._claimant import GRACE
from trio_anon_session.stores._protocol import PACE
from trio_anon_session.stores._records import mark_of, name_of, token_record

from .faulty import EVERYTHING, READS, WRITES, FaultyStore, get_all, make_source, open_fleet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from trio.testing import MockClock


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_anon_session")


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, by its levels."""
    return [record.levelname for record in caplog.records]


# Troubles

TROUBLES: dict[str, dict[str, Any]] = {
    "down": {"fails": EVERYTHING},
    "not to be read": {"fails": READS},
    "read-only": {"fails": WRITES},
    "full": {"fails": {"put"}},
    "full, almost": {"fails": {"put", "claim"}},
    "hung": {"hangs": EVERYTHING},
    "hung where it is written to": {"hangs": WRITES},
    "too slow": {"slow": 2.1},
    "too slow to answer": {"slow_answers": 2.1},
    "answering nonsense": {"lies": {"look": None, "claim": "x", "put": None}},
    "keeping nothing": {"lies": {"put": False}},
    "without leases": {"lies": {"claim": None}},
}
HEALTHY: dict[str, Any] = {"fails": (), "hangs": (), "slow": 0.0, "slow_answers": 0.0, "lies": {}}


def strike(stores: Collection[FaultyStore], trouble: str | None) -> None:
    """Have stores in this trouble, or in none."""
    for store in stores:
        for name, value in (HEALTHY | (TROUBLES[trouble] if trouble else {})).items():
            setattr(store, name, value)
        if trouble is not None:
            store.cut()


async def test_nobody_stands_in_a_long_line_for_a_store_that_keeps_nothing(
    autojump_clock: MockClock,
) -> None:
    """However many processes there are, a getter waits as long as for three of them at most."""
    source = make_source(lifetime=600.0, latency=1.0, stale_buffer=200.0, request_timeout=10.0)
    memory = MemoryStore()
    stores = [FaultyStore(memory) for _ in range(30)]
    strike(stores, "keeping nothing")
    async with open_fleet(30, source, stores) as sessions, trio.open_nursery() as nursery:
        getters = [start_getters(nursery, session, 1)[0] for session in sessions]
    assert all(getter.token for getter in getters)
    assert max(getter.ended_at for getter in getters) <= 3 * 15.0 + 2 * 2.0 + 3 * 1.0


async def test_nobody_waits_for_the_lease_of_who_has_a_token_that_is_not_kept(
    autojump_clock: MockClock,
) -> None:
    """Beside a store that is full, each asks for itself, and as soon as it can."""
    source, memory = make_source(latency=0.5), MemoryStore()
    stores = [FaultyStore(memory) for _ in range(6)]
    strike(stores, "full")
    async with open_fleet(6, source, stores) as sessions:
        assert len(set(await get_all(sessions))) == 6
        assert trio.current_time() <= 6 * (0.5 + PACE)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("begins", ["before", "during the first grant", "in the middle"])
async def test_no_trouble_of_the_store_reaches_a_getter(
    autojump_clock: MockClock, trouble: str, begins: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All go on with tokens of their own, and with one for all when it is over; it is said once."""
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
        # Some lives in trouble: nobody is held, for the next token is there in time. The trouble
        # ends between two grants: a question that it still catches would be said once more.
        for _ in range(600):
            await trio.sleep(1.0)
            for session in sessions:
                session.get_access_token_nowait()
        strike(stores, None)
        for _ in range(600):
            await trio.sleep(1.0)
            for session in sessions:
                session.get_access_token_nowait()
        # By then, all have the same again.
        tokens = {session.get_access_token_nowait() for session in sessions}
        assert len(tokens) <= 2
        sent_in_peace = [at for at in source.sent if at > trio.current_time() - 330.0]
        assert len(sent_in_peace) <= 2
        assert {session.statistics().failures for session in sessions} == {0}
    # Waiting for leases that bring nothing, as long as for three of others, is what takes longest.
    assert held_for <= 3 * 15.0 + 2 * 2.0 + 3 * 1.0
    for record in caplog.records:
        assert "s3cret" not in record.getMessage()
    # Each process says once what is wrong, and once that it is over. Of a lease that does not
    # end, another kind of trouble, it says the first alone.
    stuck = [record for record in caplog.records if "lease" in record.getMessage()]
    assert len(stuck) <= 3
    others = [record.levelname for record in caplog.records if record not in stuck]
    warned = len(others) // 2
    assert warned <= 3
    assert others == ["WARNING"] * warned + ["INFO"] * warned


async def _outage(trouble: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log of one process that meets a trouble for some lives, twice."""
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
    return said


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_each_outage_is_said_once(
    autojump_clock: MockClock, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning when it begins, one word when it is over, and the same the next time."""
    said = await _outage(trouble, caplog)
    if trouble == "without leases":
        assert said == ["WARNING", "over"] * 2
    else:
        assert said == ["WARNING", "INFO", "over"] * 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("of s3cret"), "fails (OSError)"),
        (StoreError("redis://cache:6379 refuses"), "fails (redis://cache:6379 refuses)"),
        (ExceptionGroup("of s3cret", [OSError("of s3cret")]), "fails (ExceptionGroup)"),
    ],
)
async def test_what_is_said_of_a_store(
    autojump_clock: MockClock,
    error: Exception,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its own words where they are meant to be shown, and else the kind of its error alone."""
    source, store = make_source(), FaultyStore()
    store.fails, store.error = EVERYTHING, error
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
    assert words in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_store_that_hangs_is_said_to(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """In seconds."""
    source, store = make_source(), FaultyStore()
    store.hangs = EVERYTHING
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        # One question when it was opened, and one for this.
        assert trio.current_time() == 4.0
    assert "no answer within 2 s" in caplog.text


async def test_a_store_that_hangs_costs_two_questions_after_a_drop(
    autojump_clock: MockClock,
) -> None:
    """It may be read all the same, when it does not take the word of a dropped token."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(10.0)
        store.hangs = EVERYTHING
        session.invalidate("token-1")
        await session.get_access_token()
        assert trio.current_time() == 10.0 + 2 * STORE_TIMEOUT


async def test_a_store_that_is_down_is_not_stormed(autojump_clock: MockClock) -> None:
    """A process tries a few times a second whether it is back, and no more."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        strike([store], "down")
        store.asked.clear()
        await trio.sleep(100.0)
        # Listening and looking.
        assert 100 <= len(store.asked) <= 2 * 100.0 / 0.25


async def test_a_store_that_always_has_news_is_not_stormed(autojump_clock: MockClock) -> None:
    """However often it says so, it is looked at no more often than twenty times a second."""
    source, store = make_source(), FaultyStore()
    store.lies = {"wait": None}
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        store.asked.clear()
        await trio.sleep(10.0)
        assert 100 <= len(store.times("look")) <= 201


# No news


async def test_a_store_without_news_is_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it answers, but cannot be listened to, that is another trouble, and no outage."""
    source, store = make_source(lifetime=200.0), FaultyStore()
    store.fails = {"listen"}
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(600.0)
        assert levels(caplog) == ["WARNING"]
        assert "brings no news (OSError): it is looked at often" in caplog.text
        store.fails = ()
        await trio.sleep(600.0)
        store.fails = {"wait"}
        store.cut()
        await trio.sleep(600.0)
        assert levels(caplog) == ["WARNING"] * 2


async def test_a_store_whose_listening_hangs(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked at meanwhile, and listened to when that works again."""
    source, store = make_source(), FaultyStore()
    other = FaultyStore(store.store)
    store.hangs = {"listen"}
    async with open_fleet(2, source, [store, other]) as (first, second):
        await get_all([first, second])
        await trio.sleep(100.0)
        assert levels(caplog) == ["WARNING"]
        assert "brings no news (no answer within 2 s)" in caplog.text
        second.invalidate("token-1")
        await trio.sleep(3.0)
        assert first.state is TokenState.EMPTY
        store.hangs = ()
        await trio.sleep(5.0)
        second.invalidate(await second.get_access_token())
        await trio.sleep(0.1)
        assert first.state is TokenState.EMPTY


async def test_a_listener_that_hangs_when_it_is_left(autojump_clock: MockClock) -> None:
    """A connection that cannot even be given up holds nobody for more than two seconds."""

    class Clinging(FaultyStore):
        def listen(self, name: str) -> Any:
            return _Clinging(super().listen(name))

    class _Clinging:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __aenter__(self) -> Any:
            return await self.inner.__aenter__()

        async def __aexit__(self, *details: object) -> None:
            await self.inner.__aexit__(*details)  # noqa: ASYNC102  # what is wrong with it
            await trio.sleep_forever()  # noqa: ASYNC102  # likewise

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


# Losing all


@pytest.mark.parametrize("in_the_middle_of_a_grant", [True, False])
async def test_a_store_that_is_flushed(
    autojump_clock: MockClock, in_the_middle_of_a_grant: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Sessions keep their tokens, newcomers get one for all of them, and nothing is said."""
    source, memory = make_source(latency=1.0), MemoryStore()
    async with open_fleet(3, source, memory) as sessions:
        async with trio.open_nursery() as nursery:
            getters = [start_getters(nursery, session, 1)[0] for session in sessions]
            await trio.sleep(0.5)
            if in_the_middle_of_a_grant:
                memory._entries.clear()
        first = {getter.token for getter in getters}
        memory._entries.clear()
        assert {session.get_access_token_nowait() for session in sessions} == first
        async with open_fleet(3, source, memory) as newcomers:
            (new,) = set(await get_all(newcomers))
            assert new not in first
            # Until they refresh.
            await trio.sleep(3300.0)
            last = {session.get_access_token_nowait() for session in [*sessions, *newcomers]}
            assert len(last) == 1
        assert len(source.sent) <= 3 + in_the_middle_of_a_grant
    assert not caplog.records


async def test_a_store_that_is_restarted_while_it_holds_a_lease(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for a lease that was lost: while there is no token, each asks for itself."""
    source = make_source(latency=3.0)
    stores = [FaultyStore() for _ in range(4)]
    for store in stores:
        store.store = stores[0].store
    async with open_fleet(4, source, stores) as sessions:
        async with trio.open_nursery() as nursery:
            getters = [start_getters(nursery, session, 1)[0] for session in sessions]
            await trio.sleep(1.0)
            strike(stores, "down")
            await trio.sleep(0.2)
            empty = MemoryStore()
            for store in stores:
                store.store = empty
            strike(stores, None)
        assert all(getter.ended_at <= 3.0 + 3.0 + 1.0 for getter in getters)
        await trio.sleep(10.0)
    assert levels(caplog) == ["WARNING"] * 4 + ["INFO"] * 4
    assert len(source.sent) == 4


@example(count=6, latency=20.0, begins=0.5, seconds=1.0, how="down", is_flushed=True)
@given(
    count=st.integers(2, 6),
    latency=st.floats(0.0, 30.0),
    begins=st.floats(0.0, 1.0),
    seconds=st.floats(0.0, GRACE - PACE),
    how=st.sampled_from(["down", "hung", "read-only"]),
    is_flushed=st.booleans(),
)
def test_a_restart_costs_one_grant_where_a_token_is_usable(
    count: int, latency: float, begins: float, seconds: float, how: str, is_flushed: bool
) -> None:
    """Whatever the moment of the grant, those who wait for it wait for the store, too."""

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
            # Some refresh later than others.
            for _ in range(120):
                await trio.sleep(1.0)
                for session in sessions:
                    session.get_access_token_nowait()
            assert len({session.get_access_token_nowait() for session in sessions}) <= 2
        assert len(source.sent) <= 2 + 1

    run_virtually(main)


@pytest.mark.slow
async def test_a_store_that_does_not_come_back_is_waited_for_once(
    autojump_clock: MockClock,
) -> None:
    """When it has failed for long, a process whose token is STALE asks at once."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(2999.0)
        strike([store], "down")
        await trio.sleep(1.0 + GRACE + PACE)
        assert source.sent == [0.0, pytest.approx(2999.0 + GRACE, abs=2 * PACE)]
        await trio.sleep_until(source.sent[1] + 3000.1)
        assert source.sent[2:] == [source.sent[1] + 3000.0]
        # Nobody waits for anything where there is no token.
        session.invalidate(await session.get_access_token())
        asked_at = trio.current_time()
        await session.get_access_token()
        assert trio.current_time() <= asked_at + 1.0


async def test_nobody_waits_for_a_store_whose_token_was_dropped(autojump_clock: MockClock) -> None:
    """The one before it, which may live still, is nobody's any more."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        await trio.sleep(3010.0)
        strike([store], "down")
        session.invalidate(session.get_access_token_nowait())
        asked_at = trio.current_time()
        assert await session.get_access_token() == "token-3"
        assert trio.current_time() <= asked_at + 1.0


async def test_a_session_without_a_token_waits_for_no_store(autojump_clock: MockClock) -> None:
    """Also where another one of the same manager has one."""
    source, store = make_source(), FaultyStore()
    async with (
        SharedTokenManager(source, store) as manager,
        AnonymousSession(source.config, manager) as first,
    ):
        await first.get_access_token()
        await trio.sleep(100.0)
        strike([store], "down")
        async with AnonymousSession(source.config, manager) as second:
            await second.get_access_token()
            assert trio.current_time() <= 101.0


@pytest.mark.parametrize("asleep_at", [1000.0, 3010.0])
def test_nobody_waits_for_a_store_after_a_suspend(
    monkeypatch: pytest.MonkeyPatch, asleep_at: float
) -> None:
    """The token that Trio's clock takes for a good one has expired."""
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


@pytest.mark.parametrize("lifetime", [4.0, 8.0, 20.0])
async def test_a_store_is_not_waited_for_until_the_token_is_expired(
    autojump_clock: MockClock, lifetime: float
) -> None:
    """Half of what is left of a short life is for the endpoint."""
    source, store = make_source(lifetime=lifetime, latency=lifetime / 10), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        strike([store], "down")
        for _ in range(100):
            await trio.sleep(lifetime / 50)
            session.get_access_token_nowait()
    assert len(source.sent) <= 6


@pytest.mark.parametrize("trouble", ["down", "hung", "hung where it is written to", "too slow"])
@pytest.mark.parametrize("lifetime", [16.0, 20.0, 24.0, 40.0, 60.0])
async def test_a_store_that_hangs_is_not_waited_for_until_the_token_is_expired(
    autojump_clock: MockClock, trouble: str, lifetime: float
) -> None:
    """To find out that it gives no answer takes two seconds of a short life each time."""
    # A quarter of the life is the stale window.
    source, store = make_source(lifetime=lifetime, latency=lifetime / 10), FaultyStore()
    async with open_fleet(1, source, store) as (session,):
        await session.get_access_token()
        strike([store], trouble)
        for _ in range(100):
            await trio.sleep(lifetime / 50)
            session.get_access_token_nowait()


async def test_a_store_that_comes_and_goes_is_waited_for_no_longer(
    autojump_clock: MockClock,
) -> None:
    """One that is read-only, and of which every other look fails, has not just begun to."""

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
        await trio.sleep(1.0 + GRACE + 2 * PACE)
        assert len(source.sent) == 2


# Garbage


def _with_record(record: str, mark: str = "a mark", *, lifetime: float = 3600.0) -> MemoryStore:
    """Return a store that has this record under each name."""

    class Spoilt(MemoryStore):
        async def look(self, name: str, marks: Collection[str] = ()) -> Look:
            if name not in self._entries:
                fence = await self.claim(name, "x", (await super().look(name)).version, 5.0)
                assert fence is not None
                await self.put(name, fence, StoredToken(record, mark, lifetime, 1.0))
            return await super().look(name, marks)

    return Spoilt()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_CONFIG = make_config()
_GOOD: dict[str, Any] = json.loads(
    token_record(FakeTokenManager(_CONFIG).new_token(0.0), _CONFIG, "x")
)


@st.composite
def _records(draw: st.DrawFn) -> str:
    """Draw any text, any JSON, and good records of which some fields are spoilt."""
    kind = draw(st.sampled_from(["text", "JSON", "spoilt", "cut"]))
    if kind == "text":
        return draw(st.text(st.characters()))
    if kind == "JSON":
        return json.dumps(draw(_JSON))
    if kind == "cut":
        whole = json.dumps(_GOOD)
        return whole[: draw(st.integers(0, len(whole) - 1))]
    spoilt = _GOOD | draw(
        st.dictionaries(st.sampled_from(sorted(_GOOD)), _JSON, min_size=1, max_size=3)
    )
    for name in draw(st.lists(st.sampled_from(sorted(_GOOD)), max_size=2)):
        spoilt.pop(name, None)
    return json.dumps(spoilt)


@given(record=_records())
@example("")
@example("[" * 100_000)
@example("9" * 5000)
@example("\ud800")
@example('{"purpose": NaN}')
def test_any_garbage_is_overwritten(record: str) -> None:
    """Whatever text is kept in a token's place, a getter gets its token, and so does the next."""

    async def main() -> None:
        store = _with_record(record)
        source = FakeTokenManager(_CONFIG)
        async with open_fleet(2, source, store) as (first, second):
            token = await first.get_access_token()
            assert token == "token-1"
            assert await second.get_access_token() in ("token-1", "token-2")
            assert {s.statistics().failures for s in (first, second)} == {0}

    run_virtually(main)


@pytest.mark.parametrize("record", ["", "garbage", "{}", "[]", '{"access_token": "a-token"}'])
async def test_garbage_is_said_once_and_overwritten(
    autojump_clock: MockClock, record: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The next one has a token for all again."""
    source, store = make_source(), _with_record(record)
    async with open_fleet(5, source, store) as sessions:
        assert await get_all(sessions) == ["token-1"] * 5
    assert len(source.sent) == 1
    assert set(levels(caplog)) == {"WARNING"}
    assert "is no token (no token can be read from it), and is overwritten" in caplog.text
    assert record not in caplog.text or not record


async def test_a_token_under_another_mark_is_garbage(autojump_clock: MockClock) -> None:
    """Else a dropped one could come back under a name that nobody has dropped."""
    source = make_source()
    token = source.new_token(0.0)
    store = _with_record(token_record(token, source.config, "x"), "another mark")
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-2"


@pytest.mark.parametrize("lifetime", [0.0, -1.0, math.inf, math.nan, 1e300, True, "3600", None, 7])
async def test_a_record_with_a_lifetime_that_is_none(
    autojump_clock: MockClock, lifetime: object
) -> None:
    """A record of this library's has a number of seconds, and a fraction, as a token can have."""
    source = make_source()
    token = source.new_token(0.0)
    fields = json.loads(token_record(token, source.config, "x")) | {"lifetime": lifetime}
    store = _with_record(json.dumps(fields), mark_of("token-1"))
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-2"


# Another configuration's token


async def test_another_configurations_token_is_neither_taken_nor_overwritten(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the difference is one that no name may show, the second one has its own tokens."""
    one = make_source(lifetime=600.0, extra_params={"password": "a"})
    other = make_source(lifetime=600.0, extra_params={"password": "b"})
    assert name_of(one.config) == name_of(other.config)
    other.granted = 100
    store = MemoryStore()
    async with open_fleet(2, one, store) as ones, open_fleet(2, other, store) as others:
        assert await get_all(ones) == ["token-1"] * 2
        assert set(await get_all(others)) <= {"token-101", "token-102"}
        assert levels(caplog) == ["WARNING"] * 2
        assert "another configuration's token (its grant asks for something else)" in caplog.text
        for _ in range(3000):
            await trio.sleep(1.0)
            for session in [*ones, *others]:
                session.get_access_token_nowait()
        assert {s.statistics().failures for s in [*ones, *others]} == {0}
        assert min(int(s.get_access_token_nowait()[6:]) for s in others) > 100
        assert max(int(s.get_access_token_nowait()[6:]) for s in ones) < 100


class _Later(MemoryStore):
    """A store in which tokens look as if a later version of this package had put them there."""

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        record = json.dumps(json.loads(token.record) | {"format": 2, "access_token": ["parts"]})
        return await super().put(name, fence, attrs.evolve(token, record=record))


async def test_a_later_version_s_token_is_left_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Who cannot read it gets its own, and says so once."""
    source, store = make_source(), _Later()
    async with open_fleet(3, source, store) as sessions:
        assert set(await get_all(sessions)) == {"token-1", "token-2", "token-3"}
        assert levels(caplog) == ["WARNING"] * 2
        assert "later version's token (this version cannot read it)" in caplog.text
        seen = await store.look(name_of(source.config))
        assert seen.token is not None
        assert seen.token.mark == mark_of("token-1")


@pytest.mark.parametrize(
    "settings",
    [
        {"client_id": "other"},
        {"api_root_url": "https://other.example"},
        {"scope": "a"},
        {"box_subject_type": "user", "box_subject_id": "7"},
        {"extra_params": {"audience": "a"}},
        {"extra_params": {"password": "a"}},
    ],
)
async def test_what_gets_other_tokens_has_another_name(
    autojump_clock: MockClock, settings: dict[str, Any]
) -> None:
    """Fleets of different purposes share a store without a word."""
    one, other = make_source(), make_source(**settings)
    assert name_of(one.config) != name_of(other.config)
    store = MemoryStore()
    async with open_fleet(1, one, store) as (first,), open_fleet(1, other, store) as (second,):
        await get_all([first, second])
        assert (len(one.sent), len(other.sent)) == (1, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"client_secret": "rotated"},
        {"scope": "b a"},
        {"stale_buffer": 1.0, "expired_buffer": 0.0, "refresh": "on_request"},
        {"auth_method": "client_secret_basic"},
        {"max_retries": 0, "request_timeout": 1.0},
    ],
)
async def test_what_gets_the_same_tokens_shares_them(
    autojump_clock: MockClock, settings: dict[str, Any]
) -> None:
    """Neither a secret that is being rotated nor a matter of taste keeps processes apart."""
    one = make_source(scope="a b")
    other = make_source(**({"scope": "a b"} | settings))
    store = MemoryStore()
    async with open_fleet(1, one, store) as (first,), open_fleet(1, other, store) as (second,):
        assert await first.get_access_token() == await second.get_access_token()
        assert (len(one.sent), len(other.sent)) == (1, 0)


async def test_each_takes_a_token_over_with_its_own_buffers(autojump_clock: MockClock) -> None:
    """Of the same life, each makes what its config says."""
    one, other = make_source(), make_source(stale_buffer=100.0, expired_buffer=0.0)
    store = MemoryStore()
    async with open_fleet(1, one, store) as (first,), open_fleet(1, other, store) as (second,):
        assert (await first.exchange_token("x")).stale_at == 3000.0
        taken = await second.exchange_token("x")
        assert taken.expires_at == 3600.0
        assert 3500.0 <= taken.stale_at <= 3510.0


# Lies


def _lies() -> Iterator[object]:
    token = StoredToken("record", "mark", 1.0, 0.0)
    failure = StoredFailure("record", 1, 0.0)
    nonsense: Any
    for nonsense in (None, "x", 7, object(), [], {"version": 1}, Look):
        yield nonsense
    for nonsense in (None, "1", 1.5, object()):
        yield Look(nonsense)
    for nonsense in (7, b"owner", object()):
        yield Look(1, owner=nonsense)
    for nonsense in ("x", 7, object()):
        yield Look(1, token=nonsense)
        yield Look(1, failure=nonsense)
        yield Look(1, dead=nonsense)
    for nonsense in (None, "x", math.nan, -7.0, math.inf, 10**400, object()):
        yield Look(1, leased_for=nonsense)
        yield Look(1, token=attrs.evolve(token, age=nonsense))
        yield Look(1, token=attrs.evolve(token, lifetime=nonsense))
        yield Look(1, failure=attrs.evolve(failure, pause=nonsense))
    for nonsense in (None, 7, b"record", object()):
        yield Look(1, token=attrs.evolve(token, record=nonsense))
        yield Look(1, token=attrs.evolve(token, mark=nonsense))
        yield Look(1, failure=attrs.evolve(failure, record=nonsense))
    for nonsense in (None, "1", object()):
        yield Look(1, failure=attrs.evolve(failure, fence=nonsense))


@pytest.mark.parametrize(
    "lie", [pytest.param(lie, id=str(number)) for number, lie in enumerate(_lies())]
)
async def test_an_answer_that_is_none_is_a_store_that_fails(
    autojump_clock: MockClock, lie: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a look brings that is no Look: said once, and over when it is over."""
    source, store = make_source(max_retries=0), FaultyStore()
    store.lies = {"look": lie}
    async with open_fleet(1, source, store) as (session,):
        assert await session.get_access_token() == "token-1"
        await trio.sleep(5.0)
        assert levels(caplog) == ["WARNING"]
        assert "fails (its answer is none)" in caplog.text
        store.lies = {}
        await trio.sleep(1.0)
        assert levels(caplog) == ["WARNING", "INFO"]


async def test_a_token_from_the_future_is_no_younger_than_new(autojump_clock: MockClock) -> None:
    """An age below nothing, as rounding may make it, gives a token no longer life."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(1, source, store) as (first,):
        await first.get_access_token()
        seen = await store.look(name_of(source.config))
        assert seen.token is not None
        store.lies = {"look": attrs.evolve(seen, token=attrs.evolve(seen.token, age=-0.5))}
        async with SharedTokenManager(source, store) as manager:
            token = await manager.get_tokens_client_credentials_grant()
            assert token.sent_at == trio.current_time()


async def test_a_pause_that_never_ends_is_not_kept(autojump_clock: MockClock) -> None:
    """A store cannot keep a fleet from asking for longer than the longest pause there is."""
    source, store = make_source(max_retry_interval=30.0, max_retries=20), FaultyStore()
    record = '{"count": 3, "status_code": 503, "message": "busy"}'
    for pause in (1e9, 30.0):
        store.lies = {"look": Look(7, failure=StoredFailure(record, 3, pause))}
        store.lies |= {"claim": 8, "put": True}
        async with open_fleet(1, source, store) as (session,):
            began_at = trio.current_time()
            await session.get_access_token()
            assert trio.current_time() - began_at <= 31.0


_NUMBERS = st.floats() | st.integers(-(10**400), 10**400) | st.none() | st.text(max_size=3)


@given(
    look=st.one_of(
        st.none(),
        st.builds(
            Look,
            version=st.integers() | _NUMBERS,
            token=st.none()
            | st.builds(
                StoredToken, record=_records(), mark=st.text(), lifetime=_NUMBERS, age=_NUMBERS
            ),
            leased_for=_NUMBERS | st.just(0.0),
            owner=st.none() | st.text(),
            failure=st.none()
            | st.builds(
                StoredFailure,
                record=_records()
                | st.builds(
                    '{{"count": {}, "status_code": {}, "message": {}}}'.format,
                    st.integers(),
                    st.integers() | st.just("null"),
                    st.sampled_from(['"busy"', "null", "7"]),
                ),
                fence=st.integers() | _NUMBERS,
                pause=_NUMBERS,
            ),
            dead=st.frozensets(st.text(), max_size=2),
        ),
    ),
    claim=st.none() | st.integers() | st.text(max_size=3) | st.booleans(),
    put=st.none() | st.booleans() | st.text(max_size=3),
    renew=st.none() | st.booleans(),
)
def test_whatever_a_store_answers_getters_get_tokens(
    look: Look | None, claim: object, put: object, renew: object
) -> None:
    """No lie makes a getter fail or hang, and none makes a hot loop."""

    async def main() -> None:
        source = make_source(
            lifetime=200.0, latency=3.0, max_retry_interval=20.0, max_retries=9, request_timeout=5.0
        )
        store = FaultyStore()
        store.lies = {"look": look, "claim": claim, "put": put, "renew": renew}
        async with open_fleet(1, source, store) as (session,):
            token = await session.get_access_token()
            assert token
            assert trio.current_time() <= 80.0
            await trio.sleep(100.0 + 45.0)
            assert session.get_access_token_nowait() != token
            gaps = [b - a for a, b in zip(source.sent, source.sent[1:], strict=False)]
            assert min(gaps) >= 1.0
            assert len(source.sent) <= 4
            assert len(store.asked) <= 30 * trio.current_time()

    run_virtually(main)


async def test_a_store_that_is_not_async_is_one_that_fails(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A synchronous class of somebody's is said to fail, and harms nobody."""

    class Synchronous:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return lambda *args, **kwargs: None

    source = make_source()
    store: Any = Synchronous()
    async with SharedTokenManager(source, store) as manager:
        async with AnonymousSession(source.config, manager) as session:
            assert await session.get_access_token() == "token-1"
            await trio.sleep(10.0)
            session.invalidate("token-1")
            assert await session.get_access_token() == "token-2"
    assert levels(caplog)[0] == "WARNING"
    assert levels(caplog).count("WARNING") == 2
    assert "closing the token store raised TypeError" in caplog.text
