"""`RedisStore` with a real server: what it keeps, for how long, and how others hear of it."""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session.stores import (
    Look,
    RedisStore,
    SharedTokenManager,
    StoredToken,
    StoreError,
    _coredis,
)
from trio_anon_session.stores._clock import Moment
from trio_anon_session.stores._entry import Entry
from trio_anon_session.stores._lua import DAY

from .valkey import PATIENCE, Valkey, run_valkey

pytestmark = pytest.mark.slow

NAME = "0123abcd"
MARK = "mark-1"
TOKEN = StoredToken("the record", MARK, 3600.0, 10.0)


@pytest.fixture
def store(server: Valkey) -> RedisStore:
    """Return a store at that server."""
    return RedisStore(server.url)


async def put(store: RedisStore, token: StoredToken = TOKEN, name: str = NAME) -> int:
    """Put a token there, and return the fence under which it was."""
    seen = await store.look(name)
    fence = await store.claim(name, "me", seen.version, 5.0)
    assert fence is not None
    assert await store.put(name, fence, token)
    return fence


async def use_all(store: RedisStore) -> None:
    """Have every key there that there can be."""
    seen = await store.look(NAME)
    fence = await store.claim(NAME, "me", seen.version, 5.0)
    assert fence is not None
    await store.release(NAME, fence, "a failure", 3.0)
    await store.drop(NAME, "mark-2", 60.0)
    # A release ends no other's failure, and a put would.
    fence = await store.claim(NAME, "me", fence, 5.0)
    assert fence is not None
    kept = await store.look(NAME)
    await store.release(NAME, fence)
    fence = await store.claim(NAME, "me", fence, 5.0)
    assert kept.failure is not None
    assert fence is not None


# What the rules are


@attrs.frozen
class Step:
    """Is one intent, or that time passes."""

    does: str
    who: int = 0
    mark: str = MARK
    seconds: float = 0.0


# Whole tens pass, and what ends does so in the middle of one, so that the time which the
# machine takes decides on nothing.
LIVES = st.sampled_from([5.0, 25.0, 95.0])
MARKS = st.sampled_from([MARK, "mark-2"])
WHO = st.integers(0, 2)
STEPS = st.one_of(
    st.builds(Step, st.just("pass"), seconds=st.sampled_from([10.0, 40.0, 700.0])),
    st.builds(Step, st.just("claim"), WHO, seconds=LIVES),
    st.builds(Step, st.just("renew"), WHO, seconds=LIVES),
    st.builds(Step, st.just("put"), WHO, MARKS, LIVES),
    st.builds(Step, st.sampled_from(["release", "fail"]), WHO, seconds=LIVES),
    st.builds(Step, st.just("drop"), mark=MARKS, seconds=LIVES),
)


class Rules:
    """Runs the same steps on a store and on the rules that all stores have."""

    def __init__(self, server: Valkey) -> None:
        self.server = server
        self.store = RedisStore(server.url)
        self.now = 0.0
        self.entry = Entry(0)
        # Versions in the order in which they came, of the store and of the rules.
        self.versions: tuple[list[int], list[int]] = ([], [0])
        self.fences = [0, 0, 0]

    async def run(self, steps: list[Step]) -> None:
        """Take the steps, and look after each of them."""
        self.server.do("FLUSHALL")
        self.versions[0].append((await self.store.look(NAME)).version)
        for step in steps:
            answers = await self.take(step)
            assert answers[0] == answers[1], step
            await self.compare(step)

    async def take(self, step: Step) -> tuple[object, object]:
        """Take a step, and return what the store and the rules answer."""
        now, store, entry = Moment(self.now, self.now), self.store, self.entry
        server = self.server
        fences = [versions[self.fences[step.who]] for versions in self.versions]
        seconds = step.seconds
        match step.does:
            case "pass":
                self.now += seconds
                state = f"tas:{{{NAME}}}:state"
                if server.do("HEXISTS", state, "claimed"):
                    server.do("HINCRBY", state, "claimed", -int(seconds * 1000))
                for key in server.key_names():
                    left = server.do("PTTL", key) - int(seconds * 1000)
                    server.do("PEXPIRE", key, left)
            case "claim":
                seen = await store.look(NAME)
                got = await store.claim(NAME, str(step.who), seen.version, seconds)
                wanted = entry.claim(now, str(step.who), entry.version, seconds)
                if got is not None and wanted is not None:
                    self.fences[step.who] = self.count(0, got)
                    return self.fences[step.who], self.count(1, wanted)
                return got, wanted
            case "renew":
                return (
                    await store.renew(NAME, fences[0], seconds),
                    entry.renew(now, fences[1], seconds),
                )
            case "put":
                token = StoredToken(f"record of {step.who}", step.mark, seconds + 1.0, 1.0)
                return (
                    await store.put(NAME, fences[0], token),
                    entry.put(now, fences[1], token),
                )
            case "release" | "fail":
                failure = f"failure of {step.who}" if step.does == "fail" else None
                await store.release(NAME, fences[0], failure, seconds)
                entry.release(now, fences[1], failure, seconds)
            case "drop":
                await store.drop(NAME, step.mark, seconds)
                entry.drop(now, step.mark, seconds)
        return None, None

    async def compare(self, step: Step) -> None:
        """Compare what the store has with what the rules say that it has."""
        seen = await self.store.look(NAME, [MARK, "mark-2"])
        wanted = self.entry.look(Moment(self.now, self.now), [MARK, "mark-2"])
        assert self.shape(0, seen) == self.shape(1, wanted), step
        for got, exact in zip(self.times(seen), self.times(wanted), strict=True):
            # What the machine takes, which is ten seconds at the most.
            assert abs(got - exact) < 10

    def count(self, which: int, version: int) -> int:
        """Return how many versions there were before, in the store or in the rules."""
        versions = self.versions[which]
        if version > versions[-1]:
            versions.append(version)
        return versions.index(version)

    def shape(self, which: int, look: Look) -> object:
        """Return all that does not change with time."""
        token, failure = look.token, look.failure
        return (
            self.count(which, look.version),
            look.owner,
            token and (token.record, token.mark, token.lifetime),
            failure and (failure.record, self.count(which, failure.fence), failure.pause > 0),
            look.dead,
        )

    @staticmethod
    def times(look: Look) -> list[float]:
        """Return all that does."""
        token, failure = look.token, look.failure
        return [look.leased_for, token.age if token else 0, failure.pause if failure else 0]


@pytest.mark.quick
def test_a_server_keeps_the_rules() -> None:
    """Whatever is done in whatever order, a server has what the rules of all stores say."""
    with tempfile.TemporaryDirectory() as folder, run_valkey(Path(folder)) as server:

        @given(st.lists(STEPS, max_size=15))
        def check(steps: list[Step]) -> None:
            trio.run(Rules(server).run, steps)

        check()


async def test_a_late_holder_may_put_until_another_claims(
    store: RedisStore, server: Valkey
) -> None:
    """A lease that has run out keeps nobody from putting, and the next claim does."""
    seen = await store.look(NAME)
    late = await store.claim(NAME, "late", seen.version, 5.0)
    assert late is not None
    server.do("DEL", f"tas:{{{NAME}}}:lease")
    assert await store.renew(NAME, late, 5.0)
    server.do("DEL", f"tas:{{{NAME}}}:lease")
    other = await store.claim(NAME, "other", late, 5.0)
    assert other is not None
    assert not await store.put(NAME, late, TOKEN)
    assert not await store.renew(NAME, late, 5.0)
    assert await store.put(NAME, other, TOKEN)
    assert not await store.put(NAME, other, TOKEN)


async def test_a_drop_gives_nobody_a_lease(store: RedisStore) -> None:
    """The version that a drop makes is the fence of no lease, whoever held one before."""
    fence = await put(store)
    assert await store.claim(NAME, "late", fence, 5.0)
    await store.drop(NAME, MARK, 60.0)
    version = (await store.look(NAME)).version
    assert not await store.renew(NAME, version, 5.0)
    assert not await store.put(NAME, version, TOKEN)
    await store.release(NAME, version, "a failure", 3.0)
    assert await store.look(NAME) == Look(version)


async def test_of_many_who_claim_at_once_one_does(store: RedisStore) -> None:
    """Of thirty who have seen the same version, one gets the lease."""
    seen = await store.look(NAME)
    fences: list[int | None] = []

    async def claim(who: str) -> None:
        fences.append(await store.claim(NAME, who, seen.version, 5.0))

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(claim, str(number))
    (fence,) = filter(None, fences)
    assert fence > seen.version


async def test_every_method_is_a_checkpoint(store: RedisStore) -> None:
    """Each method yields, also those that have nothing to do."""
    with assert_checkpoints():
        await store.open()
    with assert_checkpoints():
        await store.look(NAME)
    with assert_checkpoints():
        await store.aclose()


# How long things are kept


async def test_every_key_ends_by_itself(store: RedisStore, server: Valkey) -> None:
    """No key is for ever, and the version outlives all others by a day."""
    await use_all(store)
    assert len(server.key_names()) == 4
    await put(store, name="other")
    left = {key: server.do("PTTL", key) for key in server.key_names()}
    assert len(left) == 6
    assert min(left.values()) > 0
    for name in (NAME, "other"):
        mine = {key: ttl for key, ttl in left.items() if f"{{{name}}}".encode() in key}
        version = mine.pop(f"tas:{{{name}}}:state".encode())
        assert version > max(mine.values()) + DAY - 60_000


async def test_a_token_lives_as_long_as_its_key(store: RedisStore, server: Valkey) -> None:
    """A token's age is its life without what is left of its key's, by the server's clock."""
    await put(store)
    key = f"tas:{{{NAME}}}:token"
    assert 3_500_000 < server.do("PTTL", key) <= 3_590_000
    server.do("PEXPIRE", key, 600_000)
    token = (await store.look(NAME)).token
    assert token is not None
    assert 3000.0 <= token.age < 3060.0
    assert attrs.evolve(token, age=10.0) == TOKEN


async def test_a_token_with_more_life_left_than_it_had(store: RedisStore, server: Valkey) -> None:
    """A server whose clock was set back does not know how old it is, and it makes way."""
    await put(store)
    server.do("PEXPIRE", f"tas:{{{NAME}}}:token", 3_601_000)
    seen = await store.look(NAME)
    assert seen.token is None
    assert await store.claim(NAME, "me", seen.version, 5.0) is not None


@pytest.mark.parametrize("step", [2, 1000, 10**9])
async def test_a_clock_that_is_set_back(store: RedisStore, server: Valkey, step: int) -> None:
    """Nobody knows how long the token and the lease have lived, so both go, once."""
    await put(store)
    state = f"tas:{{{NAME}}}:state"
    seen = await store.look(NAME)
    fence = await store.claim(NAME, "me", seen.version, 5.0)
    # As if the server had seen a later time.
    server.do("HINCRBY", state, "latest", step * 1000)
    seen = await store.look(NAME)
    assert seen.token is None
    assert seen.leased_for == 0
    # The holder may still put its token, because no other process has taken the lease.
    assert fence is not None
    assert await store.put(NAME, fence, TOKEN)
    assert (await store.look(NAME)).token is not None


@pytest.mark.parametrize("latest", ["", "nan", "-5", "1e400", "0x10"])
async def test_a_time_that_is_none(store: RedisStore, server: Valkey, latest: str) -> None:
    """It counts for nothing, and is replaced."""
    await put(store)
    state = f"tas:{{{NAME}}}:state"
    server.do("HSET", state, "latest", latest)
    assert (await store.look(NAME)).token is not None
    assert server.do("HGET", state, "latest").isdigit()


async def test_a_clock_that_is_corrected_a_little(store: RedisStore, server: Valkey) -> None:
    """A step of less than a second is no reason to ask the endpoint."""
    await put(store)
    server.do("HINCRBY", f"tas:{{{NAME}}}:state", "latest", 500)
    assert (await store.look(NAME)).token is not None


@pytest.mark.parametrize(
    ("claimed_ago", "age"), [(0, 10), (1000, 1000), (-1000, 10), (5000, 5000), (None, 10)]
)
async def test_a_token_is_as_old_as_its_lease(
    store: RedisStore, server: Valkey, claimed_ago: int | None, age: float
) -> None:
    """However long a put was on its way, the token has lived since its lease was claimed."""
    seen = await store.look(NAME)
    fence = await store.claim(NAME, "me", seen.version, 5.0)
    assert fence is not None
    state = f"tas:{{{NAME}}}:state"
    if claimed_ago is None:
        server.do("HSET", state, "claimed", "nan")
    else:
        server.do("HINCRBY", state, "claimed", -claimed_ago * 1000)
    assert await store.put(NAME, fence, TOKEN)
    token = (await store.look(NAME)).token
    if age > TOKEN.lifetime:
        assert token is None
    else:
        assert token is not None
        assert age <= token.age < age + 60


@pytest.mark.parametrize("age", [3600.0, 1e9, math.inf])
async def test_a_token_that_is_over_is_not_kept(store: RedisStore, age: float) -> None:
    """A token that arrives after its life leaves nothing but the end of its lease."""
    fence = await put(store, StoredToken("late", MARK, 3600.0, age))
    seen = await store.look(NAME)
    assert seen == Look(fence)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, -1.0])
async def test_no_time_at_all_is_no_error(store: RedisStore, seconds: float) -> None:
    """Spans of no length are as short as the server can make them."""
    seen = await store.look(NAME)
    fence = await store.claim(NAME, "me", seen.version, seconds)
    assert fence is not None
    assert await store.renew(NAME, fence, seconds)
    await store.drop(NAME, MARK, seconds)
    await store.release(NAME, fence, "failure", seconds)
    failure = (await store.look(NAME)).failure
    assert failure is not None
    assert failure.pause == 0.0


async def test_a_token_may_live_for_longer_than_a_day(store: RedisStore, server: Valkey) -> None:
    """The version outlives a token of 68 years too."""
    await put(store, StoredToken("long", MARK, 2.0**31, 0.0))
    keys = [f"tas:{{{NAME}}}:{key}" for key in ("state", "token")]
    version, token = (server.do("PTTL", key) for key in keys)
    assert version > token + DAY - 60_000
    seen = await store.look(NAME)
    assert seen.token is not None
    assert seen.token.lifetime == 2.0**31


# What a server can lose


async def test_a_flush_takes_no_version_back(store: RedisStore, server: Valkey) -> None:
    """After all is lost the version is no less, and who held a lease before puts nothing."""
    fence = await put(store)
    late = await store.claim(NAME, "late", fence, 5.0)
    assert late is not None
    server.do("FLUSHALL")
    assert not await store.put(NAME, late, TOKEN)
    assert not await store.renew(NAME, late, 5.0)
    await store.release(NAME, late, "a failure", 3.0)
    seen = await store.look(NAME)
    assert seen.version >= late
    assert seen == Look(seen.version)


@pytest.mark.parametrize("lost", ["state", "token", "lease", "failure"])
async def test_any_key_may_be_lost_alone(store: RedisStore, server: Valkey, lost: str) -> None:
    """A server that throws out single keys is understood, and the next token is kept."""
    fence = await put(store)
    await store.claim(NAME, "gone", fence, 5.0)
    server.do("DEL", f"tas:{{{NAME}}}:{lost}")
    seen = await store.look(NAME)
    assert seen.version > fence
    assert (seen.token is None) == (lost == "token")
    server.do("DEL", f"tas:{{{NAME}}}:lease")
    await put(store, attrs.evolve(TOKEN, record="new"))
    seen = await store.look(NAME)
    assert seen.token is not None
    assert seen.token.record == "new"


async def test_dropping_outlives_the_loss_of_the_version(store: RedisStore, server: Valkey) -> None:
    """Where the version was thrown out, a drop of the current token counts all the same."""
    fence = await put(store)
    server.do("DEL", f"tas:{{{NAME}}}:state")
    await store.drop(NAME, MARK, 60.0)
    seen = await store.look(NAME, [MARK])
    assert seen.version > fence
    assert seen.token is None
    assert seen.dead == {MARK}


# What somebody else may have put there

GARBAGE = {
    "string": "SET KEY garbage",
    "bytes": "SET KEY \udcff\udcfe",
    "list": "RPUSH KEY garbage",
    "set": "SADD KEY garbage",
    "stream": "XADD KEY * record garbage",
    "hash": "HSET KEY garbage garbage",
    "fields": "HSET KEY version v owner o record r mark m lifetime l fence f",
    "numbers": "HSET KEY version -1 record r mark m lifetime -1 fence -1",
    "large numbers": f"HSET KEY version {'9' * 30} record r mark m lifetime 9e999 fence {'9' * 30}",
    "no numbers": "HSET KEY version nan record r mark m lifetime nan fence \u0663",
}


@pytest.mark.parametrize("key", ["state", "token", "lease", "failure", f"dead:{MARK}"])
@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("lasts", [True, False])
async def test_garbage_makes_way(
    store: RedisStore, server: Valkey, key: str, kind: str, lasts: bool
) -> None:
    """Whatever lies at a key, nobody waits for it, and the next token takes its place."""
    where = f"tas:{{{NAME}}}:{key}"
    command = GARBAGE[kind].replace("KEY", where).encode("utf-8", "surrogateescape")
    server.do(*command.split(b" "))
    if not lasts:
        server.do("PEXPIRE", where, 600_000)
    seen = await store.look(NAME, [MARK])
    if lasts or key != "token":
        assert seen.token is None
    if key == "lease" and (kind not in ("string", "bytes") or lasts):
        assert not seen.leased_for
    server.do("DEL", f"tas:{{{NAME}}}:lease")
    fence = await store.claim(NAME, "me", seen.version, 5.0)
    assert fence is not None
    assert fence > seen.version
    assert await store.put(NAME, fence, TOKEN)
    seen = await store.look(NAME, [MARK])
    assert seen.token is not None
    assert attrs.evolve(seen.token, age=10.0) == TOKEN
    assert seen == Look(fence, seen.token)
    await store.drop(NAME, MARK, 60.0)
    assert (await store.look(NAME, [MARK])).dead == {MARK}


async def test_a_record_is_kept_as_it_is(store: RedisStore) -> None:
    """Characters beyond ASCII, of control and of NUL come back, and so do long records."""
    record = 'ü\0"\r\n\u2028😀' * 20_000
    await put(store, StoredToken(record, MARK, 60.0, 0.0))
    token = (await store.look(NAME)).token
    assert token is not None
    assert token.record == record


# News


async def test_news_are_a_put_a_release_and_a_drop(store: RedisStore) -> None:
    """Who listens is told when a lease ends, and when a token is dropped."""
    async with store.listen(NAME) as wait_for_news:
        fence = await put(store)
        await wait_for_news()
        fence = await store.claim(NAME, "me", fence, 5.0) or 0
        await store.release(NAME, fence)
        await wait_for_news()
        await store.drop(NAME, MARK, 60.0)
        await wait_for_news()
        await store.drop(NAME, "unknown", 60.0)
        await wait_for_news()


async def test_nothing_is_no_news(store: RedisStore) -> None:
    """Another token's news, a claim, and what is refused wake nobody."""
    fence = await put(store)
    async with store.listen(NAME) as wait_for_news:
        await put(store, name="other")
        assert not await store.put(NAME, fence, TOKEN)
        assert await store.claim(NAME, "me", fence, 5.0)
        await store.release(NAME, fence)
        # Who is told of this is told of what came before it.
        async with store.listen("other") as wait_for_other_news:
            await store.drop("other", MARK, 60.0)
            await wait_for_other_news()
        with trio.move_on_after(0.2) as limit:
            await wait_for_news()
        assert limit.cancelled_caught


async def test_news_between_two_waits_are_kept(store: RedisStore) -> None:
    """What happens while nobody waits is told to the next who does, once."""
    async with store.listen(NAME) as wait_for_news:
        await store.drop(NAME, MARK, 60.0)
        await store.drop(NAME, MARK, 60.0)
        async with store.listen(NAME) as wait_too:
            await store.drop(NAME, MARK, 60.0)
            await wait_too()
        await wait_for_news()
        with trio.move_on_after(0.2) as limit:
            await wait_for_news()
        assert limit.cancelled_caught
        await store.drop(NAME, MARK, 60.0)
        await wait_for_news()


class _OurOwnError(Exception):
    pass


async def test_what_a_listening_block_raises_comes_out_as_itself(
    store: RedisStore, server: Valkey
) -> None:
    """An error of the block is in no group, also where the connection is lost as well."""
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
    """A cancellation ends it, also where the server hangs, and leaves no connection."""
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


async def test_a_lost_connection_ends_the_wait(store: RedisStore, server: Valkey) -> None:
    """Where the server goes, who waits for news learns it at once, and each time."""
    async with store.listen(NAME) as wait_for_news:
        server.stop()
        for _ in range(2):
            with pytest.raises(StoreError, match="the connection was lost"):
                await wait_for_news()
    with pytest.raises(StoreError, match="ConnectionRefusedError"):
        async with store.listen(NAME):
            pytest.fail("nobody is there to listen to")


async def test_a_server_that_hangs_up_on_a_listener_is_noticed(
    store: RedisStore, server: Valkey
) -> None:
    """A connection that the server alone ends is lost as well."""
    async with store.listen(NAME) as wait_for_news:
        server.do("CLIENT", "KILL", "TYPE", "pubsub")
        with pytest.raises(StoreError, match="the connection was lost"):
            await wait_for_news()


async def test_a_server_that_hangs_is_noticed_by_a_listener(
    store: RedisStore, server: Valkey
) -> None:
    """Who waits for news of a server that is there and says nothing learns it in the end."""
    async with store.listen(NAME) as wait_for_news:
        server.pause()
        with trio.fail_after(60), pytest.raises(StoreError, match="is not heard"):
            await wait_for_news()
        with trio.fail_after(60), pytest.raises(StoreError):
            async with store.listen(NAME):
                pytest.fail("nobody has answered")


async def test_a_listener_keeps_one_connection_and_a_question_none(
    store: RedisStore, server: Valkey
) -> None:
    """What listens has one connection while it does; a store that is not open keeps none."""
    await server.has_clients(0)
    async with store.listen(NAME):
        await put(store)
        await server.has_clients(1)
        assert b" sub=2 " in server.do("CLIENT", "LIST", "TYPE", "pubsub")
    await server.has_clients(0)


# Connections that are kept


def greetings(server: Valkey) -> int:
    """Return how many connections clients have made."""
    found = re.search(rb"cmdstat_hello:calls=(\d+)", server.do("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_an_open_store_keeps_one_connection(store: RedisStore, server: Valkey) -> None:
    """However many questions there are, also at once, one connection stays until the end."""
    await store.open()
    for number in range(3):
        await put(store, name=f"name-{number}")
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
    """The connection is kept until the last one closes the store, who may be cancelled."""
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
    """Who is cancelled leaves no answer to the next one, and the others are not disturbed."""
    await store.open()
    fence = await put(store)
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
    """A server that has hung up between two questions is asked by a new connection."""
    await store.open()
    await put(store)
    if how == "restart":
        server.stop()
        server.start()
    else:
        server.do("CLIENT", "KILL", "TYPE", "normal")
    await store.look(NAME)
    await server.has_clients(1)
    await store.aclose()


async def test_a_kept_connection_ends_when_nobody_asks(
    store: RedisStore, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while without a question the connection is closed, and the next one makes one."""
    monkeypatch.setattr(_coredis, "KEPT", 0.2)
    await store.open()
    await store.look(NAME)
    with trio.fail_after(PATIENCE):
        await server.has_clients(0)
    await store.look(NAME)
    await store.aclose()


async def test_a_program_that_leaves_its_store_open(store: RedisStore, server: Valkey) -> None:
    """Without an end, the connection ends with the run of Trio; the next run has its own."""

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
    """A store that is open in several runs of Trio has a connection in each of them."""
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


# What it is


def test_a_store_shows_where_it_is_and_no_more(tmp_path: Path) -> None:
    """The repr has host and port, and neither user nor password."""
    key = b"0123456789abcdef0123456789abcdef"
    assert repr(RedisStore("redis://me:pass@cache")) == "<RedisStore at cache:6379>"
    assert repr(RedisStore("redis://[::1]:1/3")) == "<RedisStore at [::1]:1>"
    assert repr(RedisStore(f"unix://:pass@{tmp_path}/s")) == f"<RedisStore at {tmp_path}/s>"
    sealed = RedisStore("redis://cache", encryption_key=key)
    assert repr(sealed) == "<RedisStore at cache:6379, sealed>"


def test_a_store_is_not_pickled() -> None:
    """A pickle would write the password down."""
    with pytest.raises(TypeError, match="RedisStore cannot be pickled"):
        pickle.dumps(RedisStore("redis://cache"))


@pytest.mark.parametrize("missing", ["coredis", "cryptography"])
def test_what_is_not_installed_is_told_with_the_way_there(missing: str) -> None:
    """Without the extra, all else can be imported, and a store says how to get it."""
    program = f"""
import sys
sys.modules[{missing!r}] = None
from trio_anon_session.stores import RedisStore, SharedTokenManager
try:
    RedisStore("redis://cache", encryption_key=bytes(32))
except ImportError as error:
    print(type(error).__name__, error.name, error, error.__context__)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == (
        f"ImportError {missing} RedisStore needs {missing}: "
        "pip install 'trio_anon_session[redis]' None\n"
    )


def test_no_store_imports_what_it_does_not_need() -> None:
    """Who has a store in memory loads neither coredis nor cryptography."""
    program = """
import sys
from trio_anon_session.stores import MemoryStore, RedisStore
MemoryStore()
print([name for name in ("coredis", "cryptography", "anyio") if name in sys.modules])
RedisStore("redis://cache")
print([name for name in ("coredis", "cryptography") if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[1:] == ["['coredis']"]
    assert "coredis" not in ran.stdout.splitlines()[0]


# Trying a server out


@pytest.mark.parametrize(
    ("rights", "deafness"),
    [
        ("allchannels +publish +subscribe", None),
        ("allchannels +subscribe", "answers NOPERM"),
        ("allchannels +publish", "answers NOPERM"),
        ("resetchannels +publish +subscribe", "answers NOPERM"),
    ],
)
async def test_a_server_is_tried_out(server: Valkey, rights: str, deafness: str | None) -> None:
    """A claim, a put and a drop, and whether its news are heard."""
    commands = "+eval +type +del +hget +hset +hdel +set +exists +pttl +pexpire +time +ping"
    server.do("ACL", "SETUSER", "tas", "reset", "on", ">secret", "~tas:*", *commands.split())
    server.do("ACL", "SETUSER", "tas", *rights.split())
    store = RedisStore(server.url.replace("//", "//tas:secret@"))
    async with SharedTokenManager(FakeTokenManager(make_config()), store) as manager:
        said = await manager.check_store()
    assert (said is None) is (deafness is None)
    assert deafness is None or deafness in str(said)


async def test_a_server_without_a_right_is_tried_out(server: Valkey) -> None:
    """What it does not do is an error in words that may be shown."""
    server.do("ACL", "SETUSER", "tas", "reset", "on", ">secret", "~tas:*", "+ping")
    store = RedisStore(server.url.replace("//", "//tas:secret@"))
    async with SharedTokenManager(FakeTokenManager(make_config()), store) as manager:
        with pytest.raises(StoreError, match="NOPERM"):
            await manager.check_store()
