"""Tests of `RedisStore` with a real server: its keys, their expiry, lost data and garbage."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session.stores import Look, RedisStore, SharedTokenManager, StoredToken, StoreError
from trio_anon_session.stores._lua import DAY

from .kit import LONG, MARK, NAME, TOKEN, claimed, kept

if TYPE_CHECKING:
    from pathlib import Path

    from .valkey import Valkey

pytestmark = pytest.mark.slow

STATE, TOKEN_KEY, LEASE = (f"tas:{{{NAME}}}:{part}" for part in ("state", "token", "lease"))


@pytest.fixture
def store(server: Valkey) -> RedisStore:
    """Return a store on this test's server."""
    return RedisStore(server.url)


# Time limits


@pytest.mark.quick
async def test_every_key_ends_by_itself(store: RedisStore, server: Valkey) -> None:
    """Every key expires, and the key with the version does so a day after all others."""
    await store.release(NAME, await claimed(store), "a failure", 3.0)
    await store.drop(NAME, "mark-2", 60.0)
    await claimed(store)
    assert len(server.key_names()) == 4
    await kept(store, "other")
    left = {key: server.do("PTTL", key) for key in server.key_names()}
    assert len(left) == 6
    assert min(left.values()) > 0
    for name in (NAME, "other"):
        mine = {key: ttl for key, ttl in left.items() if f"{{{name}}}".encode() in key}
        version = mine.pop(f"tas:{{{name}}}:state".encode())
        assert version > max(mine.values()) + DAY - 60_000


async def test_a_token_lives_as_long_as_its_key(store: RedisStore, server: Valkey) -> None:
    """The age of a token is its lifetime minus the remaining time of its key."""
    await kept(store, token=attrs.evolve(TOKEN, age=100.0))
    assert 1000 * (LONG - 200) < server.do("PTTL", TOKEN_KEY) <= 1000 * (LONG - 100)
    server.do("PEXPIRE", TOKEN_KEY, 600_000)
    token = (await store.look(NAME)).token
    assert token is not None
    assert LONG - 600.0 <= token.age < LONG - 540.0
    assert attrs.evolve(token, age=0.0) == TOKEN


async def test_a_token_with_more_life_left_than_it_had(store: RedisStore, server: Valkey) -> None:
    """A look ignores a token whose key lasts longer than its lifetime, and a claim succeeds."""
    await kept(store)
    server.do("PEXPIRE", TOKEN_KEY, int(1000 * LONG) + 1000)
    assert (await store.look(NAME)).token is None
    await claimed(store)


@pytest.mark.parametrize("step", [10, 10**9])
async def test_a_clock_that_is_set_back(store: RedisStore, server: Valkey, step: int) -> None:
    """If the server's clock was set back, a look shows neither token nor lease, once."""
    await kept(store)
    fence = await claimed(store)
    # Pretend that the server has seen a later time. The script may have kept an earlier one.
    now, _ = server.do("TIME")
    server.do("HSET", STATE, "latest", (int(now) + step) * 1000)
    seen = await store.look(NAME)
    assert seen.token is None
    assert seen.leased_for == 0
    # The holder may still put its token, because no other process has taken the lease.
    assert await store.put(NAME, fence, TOKEN)
    assert (await store.look(NAME)).token is not None


@pytest.mark.parametrize("latest", ["", "nan", "-5", "1e400", "0x10"])
async def test_a_latest_time_that_is_invalid(
    store: RedisStore, server: Valkey, latest: str
) -> None:
    """A latest time that is no valid number is ignored and replaced."""
    await kept(store)
    server.do("HSET", STATE, "latest", latest)
    assert (await store.look(NAME)).token is not None
    assert server.do("HGET", STATE, "latest").isdigit()


async def test_a_clock_that_is_corrected_a_little(store: RedisStore, server: Valkey) -> None:
    """A token stays usable if the server's clock goes back by less than a second."""
    await kept(store)
    server.do("HINCRBY", STATE, "latest", 500)
    assert (await store.look(NAME)).token is not None


@pytest.mark.parametrize(
    ("claimed_ago", "age"), [(500, 500), (-1000, 10), (5000, 5000), (None, 10)]
)
async def test_a_token_is_as_old_as_its_lease(
    store: RedisStore, server: Valkey, claimed_ago: int | None, age: float
) -> None:
    """The age of a token is at least the time since its lease was claimed."""
    fence = await claimed(store)
    if claimed_ago is None:
        server.do("HSET", STATE, "claimed", "nan")
    else:
        server.do("HINCRBY", STATE, "claimed", -claimed_ago * 1000)
    assert await store.put(NAME, fence, attrs.evolve(TOKEN, age=10.0))
    token = (await store.look(NAME)).token
    if age > TOKEN.lifetime:
        assert token is None
    else:
        assert token is not None
        assert age <= token.age < age + 60


@pytest.mark.parametrize("age", [LONG, math.inf])
async def test_a_token_that_is_over_is_not_kept(store: RedisStore, age: float) -> None:
    """A put of an expired token ends the lease, and keeps no token."""
    fence = await kept(store, token=attrs.evolve(TOKEN, age=age))
    assert await store.look(NAME) == Look(fence)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, -1.0])
async def test_no_time_at_all_is_no_error(store: RedisStore, seconds: float) -> None:
    """Times of zero or less raise no error, and count as the shortest possible time."""
    fence = await claimed(store, seconds=seconds)
    assert await store.renew(NAME, fence, seconds)
    await store.drop(NAME, MARK, seconds)
    await store.release(NAME, fence, "failure", seconds)
    failure = (await store.look(NAME)).failure
    assert failure is not None
    assert failure.pause == 0.0


async def test_a_token_may_live_for_longer_than_a_day(store: RedisStore, server: Valkey) -> None:
    """The key with the version lasts a day longer than a token of 68 years, too."""
    await kept(store, token=StoredToken("long", MARK, 2.0**31, 0.0))
    version, token = (server.do("PTTL", key) for key in (STATE, TOKEN_KEY))
    assert version > token + DAY - 60_000
    seen = await store.look(NAME)
    assert seen.token is not None
    assert seen.token.lifetime == 2.0**31


# Lost data


@pytest.mark.parametrize("lost", ["state", "token", "lease", "failure"])
async def test_any_single_key_may_be_lost(store: RedisStore, server: Valkey, lost: str) -> None:
    """After the loss of any single key, the version grows, and the next token is kept."""
    fence = await kept(store)
    await claimed(store)
    server.do("DEL", f"tas:{{{NAME}}}:{lost}")
    seen = await store.look(NAME)
    assert seen.version > fence
    assert (seen.token is None) == (lost == "token")
    server.do("DEL", LEASE)
    await kept(store, token=attrs.evolve(TOKEN, record="new"))
    seen = await store.look(NAME)
    assert seen.token is not None
    assert seen.token.record == "new"


async def test_dropping_outlives_the_loss_of_the_version(store: RedisStore, server: Valkey) -> None:
    """A drop of the current token works although the key with the version was lost."""
    fence = await kept(store)
    server.do("DEL", STATE)
    await store.drop(NAME, MARK, 60.0)
    seen = await store.look(NAME, [MARK])
    assert seen == Look(seen.version, dead=frozenset({MARK}))
    assert seen.version > fence


# Data of other programs

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
@pytest.mark.parametrize("lasts", [True, False])
async def test_garbage_is_overwritten(
    store: RedisStore, server: Valkey, key: str, lasts: bool
) -> None:
    """Garbage of any type at any key delays no process, and the next token overwrites it."""
    for kind, command in GARBAGE.items():
        where = f"tas:{{{kind}}}:{key}"
        words = command.encode("utf-8", "surrogateescape").split(b" ")
        server.do(*(where if word == b"KEY" else word for word in words))
        if not lasts:
            server.do("PEXPIRE", where, 600_000)
        seen = await store.look(kind, [MARK])
        if lasts or key != "token":
            assert seen.token is None, kind
        if key == "lease" and (kind not in ("string", "bytes") or lasts):
            assert not seen.leased_for, kind
        server.do("DEL", f"tas:{{{kind}}}:lease")
        fence = await store.claim(kind, "owner", seen.version, LONG)
        assert fence is not None, kind
        assert fence > seen.version, kind
        assert await store.put(kind, fence, TOKEN), kind
        seen = await store.look(kind, [MARK])
        assert seen.token is not None, kind
        assert seen == Look(fence, attrs.evolve(TOKEN, age=seen.token.age)), kind
        await store.drop(kind, MARK, 60.0)
        assert (await store.look(kind, [MARK])).dead == {MARK}, kind


# The store object


def test_a_store_shows_where_it_is_and_no_more(tmp_path: Path) -> None:
    """The repr shows host and port or path, but no user and password."""
    key = b"0123456789abcdef0123456789abcdef"
    assert repr(RedisStore("redis://me:pass@cache")) == "<RedisStore at cache:6379>"
    assert repr(RedisStore("redis://[::1]:1/3")) == "<RedisStore at [::1]:1>"
    assert repr(RedisStore(f"unix://:pass@{tmp_path}/s")) == f"<RedisStore at {tmp_path}/s>"
    sealed = RedisStore("redis://cache", encryption_key=key)
    assert repr(sealed) == "<RedisStore at cache:6379, sealed>"


def test_a_store_is_not_pickled() -> None:
    """Pickling a store raises a TypeError, because the pickle would contain the password."""
    with pytest.raises(TypeError, match="cannot pickle a RedisStore"):
        pickle.dumps(RedisStore("redis://cache"))


@pytest.mark.parametrize("missing", ["coredis", "cryptography"])
def test_a_missing_dependency_raises_with_how_to_install_it(missing: str) -> None:
    """If a dependency is missing, the import works, and a store's error says how to install it."""
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
    """A `MemoryStore` loads neither coredis nor cryptography, a plain `RedisStore` only coredis."""
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


@pytest.mark.usefixtures("patient_stores")
@pytest.mark.parametrize(
    ("rights", "problem"),
    [
        ("allchannels +publish +subscribe", None),
        ("allchannels +subscribe", "answers NOPERM"),
        ("allchannels +publish", "answers NOPERM"),
        ("resetchannels +publish +subscribe", "answers NOPERM"),
    ],
)
async def test_check_store_with_a_server(server: Valkey, rights: str, problem: str | None) -> None:
    """`check_store` returns which error prevents notifications, or None if they arrive."""
    commands = "+eval +type +del +hget +hset +hdel +set +exists +pttl +pexpire +time"
    store = user_with(server, f"{commands} {rights}")
    async with SharedTokenManager(FakeTokenManager(make_config()), store) as manager:
        said = await manager.check_store()
    assert (said is None) is (problem is None)
    assert problem is None or problem in str(said)


@pytest.mark.usefixtures("patient_stores")
async def test_check_store_without_a_needed_right(server: Valkey) -> None:
    """`check_store` raises a StoreError with the server's code if a needed right is missing."""
    store = user_with(server, "")
    async with SharedTokenManager(FakeTokenManager(make_config()), store) as manager:
        with pytest.raises(StoreError, match="NOPERM"):
            await manager.check_store()


def user_with(server: Valkey, rights: str) -> RedisStore:
    """Return a store that connects as a user with these rights."""
    words = f"reset on >secret ~tas:* +ping {rights}".split()
    server.do("ACL", "SETUSER", "tas", *words)
    return RedisStore(server.url.replace("//", "//tas:secret@"))
