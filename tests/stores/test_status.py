"""Tests of what a shared token manager reports about its store, and of `check_store`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import make_config
from tests.lazy import an_async_function
from trio_anon_session import TokenInfo, TokenUnavailableError
from trio_anon_session._secrets import fingerprint
from trio_anon_session.stores import (
    Look,
    MemoryStore,
    SharedTokenManager,
    StoredToken,
    StoreError,
    StoreStatus,
)
from trio_anon_session.stores._records import mark_of, name_of, token_record

from .faulty import EVERYTHING, WRITES, FaultyStore, make_source

if TYPE_CHECKING:
    from trio.testing import MockClock

CONFIG = make_config()


async def claim(store: MemoryStore, owner: str) -> int:
    """Take the lease of the config's token, and return its fence."""
    name = name_of(CONFIG)
    fence = await store.claim(name, owner, (await store.look(name)).version, 5.0)
    assert fence is not None
    return fence


async def test_a_token_and_its_owner(autojump_clock: MockClock) -> None:
    """A status shows the owner and the age of a token, but only a fingerprint of it."""
    source, store = make_source(), MemoryStore()
    async with SharedTokenManager(source, store) as one:
        assert await one.look_at_store() == StoreStatus()
        token = await one.get_tokens_client_credentials_grant()
    await trio.sleep(7)
    other = SharedTokenManager(source, store)
    seen = await other.look_at_store()
    assert seen == StoreStatus(
        fingerprint=fingerprint(token.access_token),
        granted_by=one.owner,
        lifetime=3600.0,
        age=7.0,
    )
    assert re.fullmatch(r"[^/]+/\d+/[0-9a-f]{8}", one.owner)
    assert one.owner != other.owner
    assert token.access_token not in repr(seen)


async def test_a_lease_and_a_pause(autojump_clock: MockClock) -> None:
    """A status shows which process has the lease, and after a failure its text and pause."""
    source, store = make_source(latency=1.0), MemoryStore()
    source.outcomes = [TokenUnavailableError("too many", status_code=429, retry_after=30.0)]

    async def ask() -> None:
        with pytest.raises(TokenUnavailableError):
            await one.get_tokens_client_credentials_grant()

    other = SharedTokenManager(source, store)
    async with SharedTokenManager(source, store) as one, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        assert await other.look_at_store() == StoreStatus(leased_by=one.owner, leased_for=4.5)
    assert await other.look_at_store() == StoreStatus(failure="too many", failures=1, pause=30.0)


@pytest.mark.parametrize(
    "record",
    [
        "nonsense",
        '{"purpose": "another", "owner": "somebody"}',
        token_record(TokenInfo.from_answer("t", 100.0, 0.0, CONFIG), CONFIG, "x"),
    ],
    ids=["garbage", "foreign", "under another mark"],
)
async def test_the_status_of_an_invalid_record(autojump_clock: MockClock, record: str) -> None:
    """A status shows no token if the record is garbage, or for another purpose or mark."""
    store = MemoryStore()
    token = StoredToken(record, mark_of("another"), 100.0, 0.0)
    assert await store.put(name_of(CONFIG), await claim(store, "x"), token)
    assert await SharedTokenManager(make_source(), store).look_at_store() == StoreStatus()


async def test_an_owner_with_control_characters(autojump_clock: MockClock) -> None:
    """A status masks the name of an owner that contains terminal control characters."""
    store = MemoryStore()
    await claim(store, "\x1b[31m" + "x" * 1000)
    manager = SharedTokenManager(make_source(), store)
    assert (await manager.look_at_store()).leased_by == "***"


async def test_trouble(autojump_clock: MockClock) -> None:
    """`trouble` has the text of the log; a store that fails hides missing notifications."""
    store = FaultyStore()
    manager = SharedTokenManager(make_source(), store)
    assert manager.trouble is None
    store.fails, store.error = {"look", "listen"}, OSError("with a secret in it")
    with pytest.raises(StoreError, match=r"^OSError$"):
        await manager.look_at_store()
    trouble = (
        "the token store fails (OSError): until it answers again, this process gets its own tokens"
    )
    assert manager.trouble == trouble
    async with manager:
        manager.on_drop(print)
        await trio.sleep(3)
        assert manager.trouble == trouble
        store.fails, store.error = {"listen"}, StoreError("nothing to hear")
        await trio.sleep(3)
        assert manager.trouble == (
            "the token store sends no notifications (nothing to hear): this process polls it"
        )


async def test_a_store_that_was_full_and_is_down(autojump_clock: MockClock) -> None:
    """A look that fails raises its own reason, and not an earlier trouble of the store."""
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


@pytest.mark.parametrize(
    ("listener", "kind"),
    [(1, "int"), (an_async_function, "an async function")],
    ids=["int", "async"],
)
def test_an_invalid_drop_listener_is_refused(listener: Any, kind: str) -> None:
    """`on_drop` raises a TypeError for a listener that is no callable, or is async."""
    manager = SharedTokenManager(make_source(), MemoryStore())
    with pytest.raises(TypeError, match=f"^listener must be a plain callable, not {kind}$"):
        manager.on_drop(listener)


async def test_a_stop_function_called_twice(autojump_clock: MockClock) -> None:
    """The second call of a stop function leaves the other registrations of its listener."""
    heard: list[TokenInfo] = []
    async with SharedTokenManager(make_source(), MemoryStore()) as manager:
        stop = manager.on_drop(heard.append)
        manager.on_drop(heard.append)
        stop()
        stop()
        token = await manager.get_tokens_client_credentials_grant()
        manager.drop(token)
        assert heard == [token]


async def test_a_stop_function_of_an_equal_listener(autojump_clock: MockClock) -> None:
    """A stop function removes its own listener, and no other one that is equal to it."""
    heard: list[str] = []

    class Equal:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 0

        def __call__(self, token: TokenInfo) -> None:
            heard.append(self.name)

    async with SharedTokenManager(make_source(), MemoryStore()) as manager:
        manager.on_drop(Equal("first"))
        stop = manager.on_drop(Equal("second"))
        stop()
        manager.drop(await manager.get_tokens_client_credentials_grant())
        assert heard == ["first"]


# Checks of a store


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"lies": {"claim": None}}, "it refuses to keep a token"),
        ({"lies": {"put": False}}, "it refuses to keep a token"),
        ({"lies": {"look": Look(7)}}, "it refuses to keep a token|it does not return the token"),
        ({"fails": {"drop"}, "error": StoreError("no drop")}, "no drop"),
        ({"fails": {"look"}}, "^OSError$"),
        ({"fails": {"drop"}}, "^OSError$"),
        ({"hangs": {"look"}}, "no answer within 10 s"),
        ({"hangs": {"listen"}}, "no answer within 10 s"),
    ],
)
async def test_check_store_reports_what_does_not_work(
    autojump_clock: MockClock, trouble: dict[str, Any], said: str
) -> None:
    """`check_store` raises an error that says what does not work, and None once all works."""
    store = FaultyStore()
    async with SharedTokenManager(make_source(), store) as manager:
        vars(store).update(trouble)
        with pytest.raises(StoreError, match=said):
            await manager.check_store()
        vars(store).update(fails=(), hangs=(), lies={})
        assert await manager.check_store() is None


async def test_check_store_uses_the_owner_of_the_manager(
    autojump_clock: MockClock,
) -> None:
    """The lease of a check has the same owner as all leases of this process."""
    owners = []

    class Watched(FaultyStore):
        async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
            owners.append(owner)
            return await super().claim(name, owner, seen, seconds)

    async with SharedTokenManager(make_source(), Watched()) as manager:
        await manager.check_store()
        await manager.get_tokens_client_credentials_grant()
        assert owners == [manager.owner] * 2


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"fails": {"listen"}, "error": StoreError("nothing to hear")}, "nothing to hear"),
        # The message of an error of another library may contain anything.
        ({"fails": {"listen"}, "error": OSError("s3cret")}, "OSError"),
        ({"hangs": {"wait"}}, "no notification of a drop within 2 s"),
    ],
    ids=["StoreError", "OSError", "silence"],
)
async def test_check_store_reports_missing_notifications(
    autojump_clock: MockClock, trouble: dict[str, Any], words: str
) -> None:
    """`check_store` returns why an otherwise working store sends no notifications."""
    store = FaultyStore()
    async with SharedTokenManager(make_source(), store) as manager:
        vars(store).update(trouble)
        assert await manager.check_store() == words
