"""Tests of `SQLiteStore`: its path, file modes, kept data, clocks and threads."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config
from tests.stores.kit import TOKEN, claimed, kept
from tests.stores.places import PATIENCE
from tests.stores.sqlite_kit import METHODS, mode_of, opened, snapshot
from trio_anon_session import AnonymousSession
from trio_anon_session.stores import (
    SharedTokenManager,
    SQLiteStore,
    StoredToken,
    StoreError,
    _clock,
    _files,
    _sqlite,
)
from trio_anon_session.stores._protocol import POLL_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def readable_by_default() -> Iterator[None]:
    """Set a umask with which new files are readable and writable for all users by default."""
    before = os.umask(0)
    yield
    os.umask(before)


# Paths


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"tokens.db"


@pytest.mark.parametrize("wrong", [None, 3, b"tokens.db", _BytesPath(), ["tokens.db"]])
def test_a_store_path_of_a_wrong_type(wrong: Any) -> None:
    """A path of a wrong type raises a TypeError when the store is created."""
    with pytest.raises(TypeError, match=r"path must be a str or an os.PathLike of str, not \w+$"):
        SQLiteStore(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        # The command accepts these values. The store must not create a file of that name.
        ("sqlite:tokens.db", "must be a path, not a URL"),
        ("sqlite:///tokens.db", "must be a path, not a URL"),
        ("file:tokens.db?mode=rw", "must be a path, not a URL"),
        ("rediss://:hush@host/0", "must be a path, not a URL"),
        # With these names, SQLite opens a database that no other process can open.
        ("", "use MemoryStore"),
        (":memory:", "use MemoryStore"),
        ("tokens\0.db", "path must not contain a NUL"),
    ],
)
def test_a_path_that_no_file_can_have(wrong: str, said: str) -> None:
    """A path that other processes cannot open raises a ValueError when the store is created."""
    with pytest.raises(ValueError, match=said) as caught:
        SQLiteStore(wrong)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a b", "100%", "what?mode=ro", "a#b", "file:x", "ключ🔑", "\udcff", "%2e", "'\"", ":"]
)
async def test_names_of_files(tmp_path: Path, name: str, autojump_clock: object) -> None:
    """A file can have any name, also with special characters of a URI or invalid UTF-8."""
    await kept(SQLiteStore(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    assert (await SQLiteStore(str(tmp_path / name)).look("name")).token is not None


async def test_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """A relative path is relative to the working directory at the creation of the store."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("tokens.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    await kept(store)
    assert (tmp_path / "tokens.db").exists()


async def test_a_store_is_a_path(path: Path, autojump_clock: object) -> None:
    """The repr of a store shows its path, and a store can be pickled."""
    store = SQLiteStore(path)
    await kept(store)
    assert repr(store) == f"<SQLiteStore at {path}>"
    assert (await pickle.loads(pickle.dumps(store)).look("name")).token is not None


# Modes


async def test_only_the_owner_can_read_the_files(
    path: Path, readable_by_default: None, autojump_clock: object
) -> None:
    """Only the owner can read the file of the store and the files next to it."""
    await kept(SQLiteStore(path))
    assert mode_of(path) == 0o600
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        await kept(SQLiteStore(path))
        modes = {file.name: mode_of(file) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["tokens.db", "tokens.db-wal", "tokens.db-shm"], 0o600)


def test_the_file_is_made_for_its_owner(path: Path, readable_by_default: None) -> None:
    """The file is private from its creation, before SQLite opens it."""
    assert _files.prepare(str(path)) == (os.path.realpath(path), False)
    assert mode_of(path) == 0o600


async def test_a_file_deleted_before_it_is_opened(
    path: Path, readable_by_default: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """If the file is deleted before SQLite opens it, the call fails, and no file is created."""
    original = _files.prepare

    def prepare_and_lose(given: str) -> tuple[str, bool]:
        prepared = original(given)
        os.unlink(path)
        return prepared

    monkeypatch.setattr(_files, "prepare", prepare_and_lose)
    with pytest.raises(StoreError, match="unable to open database file"):
        await SQLiteStore(path).look("name")
    assert os.listdir(path.parent) == []


async def test_an_empty_file_that_others_may_read(path: Path, autojump_clock: object) -> None:
    """The store uses an empty file, such as one from ``touch``, and makes it private."""
    os.close(os.open(path, os.O_CREAT, 0o644))
    await kept(SQLiteStore(path))
    assert mode_of(path) == 0o600


async def test_a_file_whose_mode_cannot_be_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """A file is not used if other users can read it and its mode cannot be changed."""
    await kept(SQLiteStore(path))
    os.chmod(path, 0o644)
    before = snapshot(path)

    def chmod(path: str, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", chmod)
    for method in METHODS.values():
        with pytest.raises(
            StoreError, match=r"other users can read .*tokens.db, and its mode cannot be"
        ):
            await method(SQLiteStore(path))
    assert snapshot(path) == before
    assert os.listdir(path.parent) == ["tokens.db"]


# Kept data


async def test_expired_entries_are_deleted(path: Path, autojump_clock: object) -> None:
    """An entry is deleted a day after its last part has expired, and not earlier."""
    store = SQLiteStore(path)
    await store.look("looked at")
    fence = await kept(store, "token", StoredToken("record", "mark", 1000.0, 0.0))
    await store.drop("dropped", "mark", 500.0)
    day = _sqlite.KEPT_AFTER_EXPIRY
    for until, names in [
        (day - 1.0, {"looked at", "token", "dropped"}),
        (day + 1.0, {"token", "dropped"}),
        (day + 501.0, {"token"}),
        (day + 999.0, {"token"}),
        (day + 1001.0, set()),
    ]:
        await trio.sleep(until - trio.current_time())
        await store.look("new")
        await store.release("new", 0)
        with opened(path) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM trio_anon_session")}
        assert found == {*names, "new"}
    assert (await store.look("token")).version > fence


# Other files in its place


async def test_a_file_that_is_deleted(path: Path, autojump_clock: object) -> None:
    """If the file is deleted, stores continue with a new one, also if the old one is still open."""
    one, another = SQLiteStore(path), SQLiteStore(path)
    fence = await kept(one)
    with opened(path) as connection:
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        await kept(one)
        assert path.with_name("tokens.db-wal").exists()
        # Wait, because the version is the time in microseconds, and must increase.
        await trio.sleep(1.0)
        os.unlink(path)
        seen = await one.look("name")
        assert seen.token is None
        assert seen.version >= fence
        await kept(one)
        assert (await another.look("name")).token is not None
    assert (await another.look("name")).token is not None
    assert mode_of(path) == 0o600


async def test_a_file_without_a_log(path: Path, autojump_clock: object) -> None:
    """The store works with a file in another journal mode."""
    await kept(SQLiteStore(path))
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    await kept(SQLiteStore(path))
    assert (await SQLiteStore(path).look("name")).token is not None


# Clocks


async def test_in_virtual_time_no_time_passes(path: Path, autojump_clock: object) -> None:
    """In virtual time, the clock does not jump during calls, and no thread is started."""
    store = SQLiteStore(path)
    threads = set(threading.enumerate())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1000.0)
        await wait_all_tasks_blocked()
        for _ in range(3):
            await kept(store)
        assert trio.current_time() == 0.0
        nursery.cancel_scope.cancel()
    # An idle worker thread of an earlier test may end at any moment.
    assert set(threading.enumerate()) <= threads


async def test_a_listener_polls_at_random_intervals(path: Path, autojump_clock: object) -> None:
    """A listener's wait ends at least twice a second, at random intervals."""
    pauses = []
    os.mkdir(path)
    async with SQLiteStore(path).listen("name") as wait_for_news:
        for _ in range(100):
            before = trio.current_time()
            await wait_for_news()
            pauses.append(trio.current_time() - before)
    assert POLL_INTERVAL / 2 <= min(pauses) < 0.6 * POLL_INTERVAL
    assert 0.9 * POLL_INTERVAL < max(pauses) <= POLL_INTERVAL <= 0.5


async def test_a_session_without_its_file(
    path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    """A session whose file is unusable gets its own tokens, and logs the reason once.

    It also logs when the store answers again.
    """
    os.mkdir(path)
    manager = FakeTokenManager(make_config(), lifetime=120.0)
    with caplog.at_level(logging.INFO, "trio_anon_session"):
        async with SharedTokenManager(manager, SQLiteStore(path)) as shared:
            async with AnonymousSession(manager.config, shared) as session:
                assert await session.get_access_token() == "token-1"
                await trio.sleep(60.0 + 10.0)
                os.rmdir(path)
                await trio.sleep(5.0)
    said = [record.getMessage() for record in caplog.records if "store" in record.getMessage()]
    assert len(said) == 2
    assert f"({path}: {path} must be a regular file, got a directory; " in said[0]
    assert said[1] == "the token store answers again"
    assert len(manager.sent) == 2


class Machine:
    """The clocks of a machine, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = 1_700_000_000.0
        self.since_boot = 5000.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(_clock, "_BOOT_CLOCK", -1)
        monkeypatch.setattr(time, "monotonic", lambda: self.since_boot)

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


async def test_ages_by_the_clocks_of_a_machine(path: Path, machine: Machine) -> None:
    """Ages follow the clock that shows more time; after a restart, they follow the wall clock."""
    store = SQLiteStore(path)
    await kept(store)
    await store.release("name", await claimed(store), "failure", 100.0)
    fence = await claimed(store, seconds=100.0)

    async def ages() -> tuple[float | None, float, float | None]:
        seen = await store.look("name")
        age = None if seen.token is None else seen.token.age
        return age, seen.leased_for, None if seen.failure is None else seen.failure.pause

    assert await ages() == (0.0, 100.0, 100.0)
    # A wall clock that is set back does not make anything younger.
    machine.wall -= 86400.0
    machine.go_on(60.0)
    assert await ages() == (60.0, 40.0, 40.0)
    machine.wall += 86400.0 + 200.0
    assert await ages() == (260.0, 0.0, 0.0)
    machine.since_boot = 20.0
    assert await ages() == (260.0, 0.0, 0.0)
    # After a restart with the wall clock set back, no clock shows how old the token is.
    machine.wall -= 86400.0
    assert await ages() == (None, 0.0, None)
    assert (await store.look("name")).version == fence
    assert await claimed(store) > fence


# Threads


async def until_a_thread_waits() -> None:
    """Wait until a task has a thread, and the thread has taken the lock of the process."""
    limiter = _sqlite._limiter_of_this_run()
    with trio.fail_after(PATIENCE):
        # Threads send no event for this.
        while not limiter.borrowed_tokens or not _sqlite._process_lock._lock.locked():  # noqa: ASYNC110
            await trio.sleep(0.001)


async def test_a_lease_begins_when_it_is_taken(path: Path, machine: Machine) -> None:
    """A lease lasts from the moment at which it is granted, also after a wait for other writers."""
    store = SQLiteStore(path)
    seen = await store.look("name")
    with opened(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.claim, "name", "owner", seen.version, 5.0)
            await until_a_thread_waits()
            machine.go_on(3.0)
            connection.execute("COMMIT")
    assert (await store.look("name")).leased_for == 5.0


@pytest.mark.parametrize("method", ["claim", "put"])
async def test_a_question_that_is_cancelled_while_others_write(path: Path, method: str) -> None:
    """While another process writes, a cancelled claim takes no lease, and a put still happens."""
    store = SQLiteStore(path)
    seen = await store.look("name")
    fence = await store.claim("name", "owner", seen.version, 1000.0)
    assert fence is not None
    if method == "claim":
        await store.release("name", fence)
    with opened(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            if method == "claim":
                nursery.start_soon(store.claim, "name", "another", fence, 1000.0)
            else:
                nursery.start_soon(store.put, "name", fence, TOKEN)
            await until_a_thread_waits()
            nursery.cancel_scope.cancel()
        connection.execute("COMMIT")
    seen = await store.look("name")
    assert (seen.version, seen.leased_for, seen.token is not None) == (fence, 0.0, method == "put")


async def test_a_file_system_that_hangs(
    path: Path, monkeypatch: pytest.MonkeyPatch, impatient_sqlite: None
) -> None:
    """A file system that hangs blocks one thread only, and no cancelled task.

    A call in another Trio run fails with a message about the blocked thread.
    """
    hangs, goes_on = threading.Event(), threading.Event()
    original = _files.prepare

    def hang(given: str) -> tuple[str, bool]:
        hangs.set()
        goes_on.wait(PATIENCE)
        return original(given)

    store = SQLiteStore(path)
    with monkeypatch.context() as patch:
        patch.setattr(_files, "prepare", hang)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.look, "name")
            assert await trio.to_thread.run_sync(hangs.wait, PATIENCE)
            nursery.cancel_scope.cancel()
        threads = threading.active_count()
        for _ in range(5):
            with trio.move_on_after(0.02) as scope:
                await store.look("name")
            assert scope.cancelled_caught
        assert threading.active_count() <= threads
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        # Another Trio run, in another thread, has its own worker thread.
        said = await trio.to_thread.run_sync(trio.run, failing_look, path)
        assert said == f"{path}: another thread has blocked SQLite for {_sqlite.BUSY_TIMEOUT:g} s"
        goes_on.set()
    with trio.fail_after(PATIENCE):
        await kept(store)


async def failing_look(path: Path) -> str:
    try:
        await SQLiteStore(path).look("name")
    except StoreError as error:
        return str(error)
    return "it works"
