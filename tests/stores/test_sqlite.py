"""What is SQLiteStore's own: its file, its threads, and the processes that share it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, traceback_with_locals
from tests.stores.places import PATIENCE, wait_until
from trio_anon_session import AnonymousSession
from trio_anon_session.stores import (
    Look,
    SharedTokenManager,
    SQLiteStore,
    StoredToken,
    StoreError,
    _clock,
    _files,
    _sqlite,
)
from trio_anon_session.stores._access import STORE_TIMEOUT
from trio_anon_session.stores._protocol import PACE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

TOKEN = StoredToken("the-secret-record", "mark", 3600.0, 0.0)
NOBODY = 65534

METHODS: dict[str, Callable[[SQLiteStore], Awaitable[object]]] = {
    "look": lambda store: store.look("name"),
    "claim": lambda store: store.claim("name", "owner", 1, 5.0),
    "renew": lambda store: store.renew("name", 1, 5.0),
    "put": lambda store: store.put("name", 1, TOKEN),
    "release": lambda store: store.release("name", 1, "failure", 1.0),
    "drop": lambda store: store.drop("name", "mark", 5.0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a file may be made."""
    return tmp_path / "tokens.db"


@pytest.fixture(params=["virtual", "threads"])
def clock(request: pytest.FixtureRequest) -> Any:
    """Run a test in virtual time, and in threads."""
    return trio.testing.MockClock(autojump_threshold=0) if request.param == "virtual" else None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for long."""
    monkeypatch.setattr(_sqlite, "BUSY_TIMEOUT", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a disk be as slow as it likes, where processes are in each other's way."""
    monkeypatch.setattr(_sqlite, "BUSY_TIMEOUT", PATIENCE / 2)


@pytest.fixture
def readable_by_default() -> Iterator[None]:
    """Let whatever does not ask for another mode make files that all may read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def opened(path: Path) -> closing[sqlite3.Connection]:
    """Return a connection of the test's own, which waits for nobody."""
    return closing(sqlite3.connect(path, timeout=0, isolation_level=None))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what is in a folder, with modes, links left out."""
    return {
        file.name: (file.stat().st_mode, file.read_bytes() if file.is_file() else b"")
        for file in folder.iterdir()
        if not file.is_symlink()
    }


async def kept(store: SQLiteStore, name: str = "name", token: StoredToken = TOKEN) -> int:
    """Put a token, and return the fence."""
    seen = await store.look(name)
    fence = await store.claim(name, "owner", seen.version, 5.0)
    assert fence is not None
    assert await store.put(name, fence, token)
    return fence


# Paths


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"tokens.db"


@pytest.mark.parametrize("wrong", [None, 3, b"tokens.db", _BytesPath(), ["tokens.db"]])
def test_what_is_no_path(wrong: Any) -> None:
    """What is no path is refused when the store is made, by its type."""
    with pytest.raises(TypeError, match=r"path: wants a str or an os.PathLike of one, not \w+$"):
        SQLiteStore(wrong)


@pytest.mark.parametrize(
    "wrong",
    ["sqlite:tokens.db", "sqlite:///tokens.db", "file:tokens.db?mode=rw", "rediss://:hush@host/0"],
)
def test_a_url_is_no_path(wrong: str) -> None:
    """What the command takes is not quietly made a file of that name, which nobody shares."""
    with pytest.raises(ValueError, match="wants a path, and no URL") as caught:
        SQLiteStore(wrong)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["", ":memory:"])
def test_a_path_without_a_file(wrong: str) -> None:
    """SQLite's names of databases that no other process can open lead to MemoryStore."""
    with pytest.raises(ValueError, match="use MemoryStore"):
        SQLiteStore(wrong)


def test_a_path_with_a_nul() -> None:
    """A path that no file can have is refused when the store is made."""
    with pytest.raises(ValueError, match="path: wants no NUL"):
        SQLiteStore("tokens\0.db")


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "100%",
        "what?mode=ro",
        "a#b",
        "a&b;c",
        "file:x",
        "ключ🔑",
        "\udcff",
        "%2e",
        "'\"",
        ":",
    ],
)
async def test_names_of_files(tmp_path: Path, name: str, autojump_clock: object) -> None:
    """A file may have any name, also one that means something in a URI, or is no UTF-8."""
    await kept(SQLiteStore(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    assert (await SQLiteStore(str(tmp_path / name)).look("name")).token is not None


async def test_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """A relative path is meant from where the process was when the store was made."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("tokens.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    await kept(store)
    assert (tmp_path / "tokens.db").exists()


async def test_a_store_is_a_path(path: Path, autojump_clock: object) -> None:
    """A store shows its path and nothing else, and can be handed to another process."""
    store = SQLiteStore(path)
    await kept(store)
    assert repr(store) == f"<SQLiteStore at {path}>"
    assert (await pickle.loads(pickle.dumps(store)).look("name")).token is not None


# Modes


async def test_the_files_are_their_owners_alone(
    path: Path, readable_by_default: None, clock: object
) -> None:
    """The file and those beside it are made so that nobody else can read them."""
    await kept(SQLiteStore(path))
    assert mode_of(path) == 0o600
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        await kept(SQLiteStore(path))
        modes = {file.name: mode_of(file) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["tokens.db", "tokens.db-wal", "tokens.db-shm"], 0o600)


def test_the_file_is_made_for_its_owner(path: Path, readable_by_default: None) -> None:
    """There is no moment in which others could open the file, before SQLite has it either."""
    assert _files.prepare(str(path)) == (os.path.realpath(path), False)
    assert mode_of(path) == 0o600


async def test_a_file_that_goes_before_it_is_opened(
    path: Path, readable_by_default: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """SQLite makes no file, which others could read."""
    original = _files.prepare

    def prepare_and_lose(given: str) -> tuple[str, bool]:
        prepared = original(given)
        os.unlink(path)
        return prepared

    monkeypatch.setattr(_files, "prepare", prepare_and_lose)
    with pytest.raises(StoreError, match="unable to open database file"):
        await SQLiteStore(path).look("name")
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
async def test_a_file_that_others_may_read(
    path: Path, readable_by_default: None, mode: int, autojump_clock: object
) -> None:
    """A file is taken from those who may read or write it, with what lies beside it."""
    await kept(SQLiteStore(path))
    with opened(path) as connection:
        os.chmod(path, mode)
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        await kept(SQLiteStore(path), token=StoredToken("record", "other mark", 3600.0, 0.0))
        modes = {mode_of(file) for file in path.parent.iterdir()}
    assert modes == {0o600}
    os.chmod(path, mode)
    await SQLiteStore(path).look("name")
    assert mode_of(path) == 0o600


async def test_an_empty_file_that_others_may_read(path: Path, autojump_clock: object) -> None:
    """An empty file, as ``touch`` makes one, becomes the store's."""
    os.close(os.open(path, os.O_CREAT, 0o644))
    await kept(SQLiteStore(path))
    assert mode_of(path) == 0o600


async def test_a_link_to_a_file_that_others_may_read(
    tmp_path: Path, path: Path, autojump_clock: object
) -> None:
    """Behind a link it is the file itself that is taken from others."""
    await kept(SQLiteStore(path))
    link = tmp_path / "link"
    link.symlink_to(path)
    with opened(path) as connection:
        os.chmod(path, 0o644)
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        os.chmod(f"{path}-wal", 0o644)
        assert (await SQLiteStore(link).look("name")).token is not None
        assert mode_of(path.with_name("tokens.db-wal")) == 0o600
    assert mode_of(path) == 0o600


async def test_a_file_that_cannot_be_taken_from_others(
    path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """A file is not used if other users can read it and its mode cannot be changed."""
    await kept(SQLiteStore(path))
    os.chmod(path, 0o644)
    before = files_in(path.parent)

    def chmod(path: str, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", chmod)
    for method in METHODS.values():
        with pytest.raises(
            StoreError, match=r"other users can read .*tokens.db, and its mode cannot be"
        ):
            await method(SQLiteStore(path))
    assert files_in(path.parent) == before


# What is wrong with a file


def missing_directory(path: Path) -> Path:
    return path / "missing" / "tokens.db"


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def file_as_directory(path: Path) -> Path:
    path.touch()
    return path / "tokens.db"


def link_to_nothing(path: Path) -> Path:
    path.symlink_to(path.with_name("missing"))
    return path


def link_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def text(path: Path) -> Path:
    path.write_text("the-secret-record\n" * 1000)
    path.chmod(0o644)
    return path


def short_text(path: Path) -> Path:
    path.write_text("text")
    path.chmod(0o644)
    return path


def other_database(path: Path) -> Path:
    with opened(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    path.chmod(0o644)
    return path


def other_columns(path: Path) -> Path:
    with opened(path) as connection:
        connection.execute("CREATE TABLE trio_anon_session (name, record)")
    path.chmod(0o600)
    return path


TROUBLES: dict[Callable[[Path], Path], str] = {
    missing_directory: "No such file or directory",
    directory: "must be a regular file, got a directory",
    file_as_directory: "Not a directory",
    link_to_nothing: "No such file or directory",
    link_to_itself: "Too many levels of symbolic links",
    pipe: "must be a regular file, got a FIFO",
    text: "file is not a database; it can be deleted, if it is no file of something else",
    short_text: "file is not a database; it can be deleted, if it is no file of something else",
    other_database: "it is a database of something else",
    other_columns: "no such column: entry",
}


async def assert_fails(store: SQLiteStore, said: str) -> None:
    """See that each method fails as it is to, and shows nothing of what is kept."""
    await store.open()
    for method in METHODS.values():
        with pytest.raises(StoreError, match=said) as caught:
            with trio.fail_after(PATIENCE):
                await method(store)
        assert str(caught.value).startswith(f"{store._path}: ")
        assert caught.value.__context__ is caught.value.__cause__ is None
        assert "the-secret-record" not in "".join(traceback_with_locals(caught.value))
    async with store.listen("name"):
        pass
    await store.aclose()


def large_file(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE trio_anon_session (name, entry, kept_until)")
        for number in range(100):
            row = f"name-{number}", "the-secret-record" * 100, 0.0
            connection.execute("INSERT INTO trio_anon_session VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")
    path.chmod(0o600)


def spoil(path: Path, how: str) -> bytes:
    """Damage a file as the test says, and return its content."""
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(path.stat().st_size // 3)
        elif how == "without a header":
            file.write(b"\0" * 100)
        else:
            file.seek(100)
            file.write(b"\xff" * 8)
    if how == "with an old log":
        log = Path(f"{path}-wal")
        log.write_bytes(b"an old log")
        log.chmod(0o600)
    return path.read_bytes()


@pytest.mark.parametrize("how", ["cut", "scribbled on", "without a header", "with an old log"])
def test_a_spoilt_file_is_set_aside(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """One question fails, one warning says where the file is now, and a new one takes its place."""

    async def use_it() -> None:
        store = SQLiteStore(path)
        with pytest.raises(StoreError, match=f"it is {path}.spoilt now"):
            await store.claim("name", "me", 1, 5.0)
        seen = await store.look("name")
        assert await store.claim("name", "me", seen.version, 5.0) is not None

    large_file(path)
    content = spoil(path, how)
    trio.run(use_it)
    assert Path(f"{path}.spoilt").read_bytes() == content
    assert b"an old log" not in b"".join(file.read_bytes() for file in path.parent.glob("*-wal"))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{path}.spoilt" in record.getMessage()


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_a_file_that_does_not_serve(
    path: Path, trouble: Callable[[Path], Path], clock: object
) -> None:
    """Whatever is in the file's place is a StoreError in words, and is left as it is."""
    there = trouble(path)
    before = files_in(path.parent)
    await assert_fails(SQLiteStore(there), TROUBLES[trouble])
    assert files_in(path.parent) == before


async def test_a_file_that_serves_again(path: Path, clock: object) -> None:
    """Once what was wrong is gone, the same store works."""
    text(path)
    store = SQLiteStore(path)
    await assert_fails(store, "file is not a database")
    os.unlink(path)
    await kept(store)
    os.unlink(path)
    os.mkdir(path)
    await assert_fails(store, "must be a regular file, got a directory")
    os.rmdir(path)
    await kept(store)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Be a user without rights, in a folder of theirs."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("mode", "folder_mode", "said"),
    [
        (0o400, 0o700, "this process may not read and write it"),
        (0o200, 0o700, "this process may not read and write it"),
        (0o000, 0o700, "this process may not read and write it"),
        (0o600, 0o500, "attempt to write a readonly database"),
        (None, 0o500, "Permission denied"),
        (None, 0o000, "Permission denied"),
    ],
)
async def test_a_file_without_rights(
    mode: int | None, folder_mode: int, said: str, clock: object
) -> None:
    """A file or folder that may not be read or written is a StoreError until it may."""
    with as_nobody() as folder:
        store = SQLiteStore(folder / "tokens.db")
        if mode is not None:
            # Without an entry: reading what is there would do.
            with opened(folder / "tokens.db") as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_sqlite._CREATE)
            (folder / "tokens.db").chmod(mode)
        folder.chmod(folder_mode)
        await assert_fails(store, said)
        folder.chmod(0o700)
        if mode is not None:
            (folder / "tokens.db").chmod(0o600)
        await kept(store)


async def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch, clock: object) -> None:
    """On a full disk nothing is changed, what is there can be read, and it works again later."""
    store = SQLiteStore(path)
    fence = await kept(store)
    connect = sqlite3.connect
    with monkeypatch.context() as patch:

        def connect_full(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)
            connection.execute("PRAGMA max_page_count = 1")
            return connection

        patch.setattr(sqlite3, "connect", connect_full)
        seen = await store.look("name")
        assert seen.token is not None
        new = await store.claim("name", "owner", fence, 5.0)
        assert new is not None
        with pytest.raises(StoreError, match="database or disk is full"):
            await store.put("name", new, StoredToken("x" * 100_000, "other mark", 3600.0, 0.0))
        seen = await store.look("name")
        assert seen.token is not None
        assert (seen.token.mark, seen.version, seen.owner) == ("mark", new, "owner")
    assert await store.put("name", new, StoredToken("x" * 100_000, "other mark", 3600.0, 0.0))


@pytest.mark.slow
def test_files_that_may_not_grow(path: Path) -> None:
    """Where the system refuses to write, in whatever words, it is a StoreError."""
    program = """
        import resource, sys, trio
        from trio_anon_session.stores import *

        async def main():
            store = SQLiteStore(sys.argv[1])
            fence = await store.claim("name", "owner", (await store.look("name")).version, 5.0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
            try:
                await store.put("name", fence, StoredToken("x" * 100_000, "mark", 3600.0, 0.0))
            except StoreError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            print(await store.put("name", fence, StoredToken("x" * 100_000, "mark", 3600.0, 0.0)))

        trio.run(main)
    """
    printed = run_program(program, path).splitlines()
    assert printed[0].startswith(f"{path}: ")
    assert printed[0].endswith(("disk I/O error", "database or disk is full"))
    assert printed[1:] == ["True"]


async def test_a_table_that_is_locked(path: Path, impatient: None, clock: object) -> None:
    """Where somebody else keeps on writing it is a StoreError, and what is there can be read."""
    store = SQLiteStore(path)
    await kept(store)
    with opened(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert (await store.look("name")).token is not None
        for name, method in METHODS.items():
            if name != "look":
                with pytest.raises(StoreError, match="database is locked"):
                    await method(store)
        connection.execute("ROLLBACK")
        await kept(store)


async def test_a_file_that_is_locked(path: Path, impatient: None, clock: object) -> None:
    """Where somebody else has all of the file for themselves it is a StoreError, not a hang."""
    store = SQLiteStore(path)
    await kept(store)
    with opened(path) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE trio_anon_session SET name = name")
        connection.execute("COMMIT")
        await assert_fails(store, "database is locked")
    await kept(store)


def test_it_says_what_keeps_it_waiting() -> None:
    """The wait for others ends before a store counts as one that does not answer."""
    assert _sqlite.BUSY_TIMEOUT < STORE_TIMEOUT


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "text",
        '{"version": 7}',
        '{"version": 7, "token": "the-secret-record"}',
        b"\xff\xfe the-secret-record",
        b"",
        7,
        0.5,
        "x" * 1_000_000,
        "[" * 100_000,
    ],
    ids=lambda garbage: repr(garbage)[:20],
)
@pytest.mark.parametrize("as_what", ["BLOB", "TEXT"])
async def test_an_entry_that_is_garbage(
    path: Path, garbage: object, as_what: str, clock: object
) -> None:
    """Garbage under a name counts as nothing, and makes way."""
    store = SQLiteStore(path)
    await kept(store, "another name")
    with opened(path) as connection:
        row = ("name", garbage, 1e12)
        connection.execute(
            f"INSERT INTO trio_anon_session VALUES (?, CAST(? AS {as_what}), ?)", row
        )
    seen = await store.look("name", ("mark",))
    assert seen == Look(seen.version)
    await kept(store)
    assert (await store.look("another name")).token is not None


async def test_an_entry_of_a_later_version(path: Path, clock: object) -> None:
    """The store does not change it, and each question fails."""
    store = SQLiteStore(path)
    await kept(store)
    entry = '{"format": 2, "version": "what it wants"}'
    with opened(path) as connection:
        connection.execute("UPDATE trio_anon_session SET entry = ?", (entry,))
    for question in (store.look("name"), store.claim("name", "me", 1, 5.0)):
        with pytest.raises(StoreError, match="written by a later version of this package"):
            await question
    with opened(path) as connection:
        assert connection.execute("SELECT entry FROM trio_anon_session").fetchall() == [(entry,)]


# What is kept


def names_in(path: Path) -> set[str]:
    with opened(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM trio_anon_session")}


async def test_entries_past_all_use(path: Path, autojump_clock: object) -> None:
    """What is of no use for a day is deleted, and nothing before."""
    store = SQLiteStore(path)
    await store.look("looked at")
    fence = await kept(store, "token", StoredToken("record", "mark", 1000.0, 0.0))
    await store.drop("dropped", "mark", 500.0)
    day = _sqlite.KEPT_USELESS
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
        assert names_in(path) == {*names, "new"}
    assert (await store.look("token")).version > fence


async def test_dead_marks_do_not_pile_up(path: Path, autojump_clock: object) -> None:
    """A token that is reported dead again and again leaves no more behind than one."""
    store = SQLiteStore(path)
    for number in range(50):
        await store.drop("name", f"mark-{number}", 10.0)
        await trio.sleep(1.0)
    with opened(path) as connection:
        ((size,),) = connection.execute("SELECT length(entry) FROM trio_anon_session")
    assert size < 2000
    assert os.stat(path).st_size < 50_000


# Other files in its place


async def test_a_file_that_is_deleted(path: Path, clock: object) -> None:
    """All go on with a new file when theirs is deleted, also where it is open elsewhere."""
    one, another = SQLiteStore(path), SQLiteStore(path)
    fence = await kept(one)
    with opened(path) as connection:
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        await kept(one)
        assert path.with_name("tokens.db-wal").exists()
        if clock is not None:
            await trio.sleep(1.0)
        os.unlink(path)
        seen = await one.look("name")
        assert seen.token is None
        assert seen.version >= fence
        await kept(one)
        assert (await another.look("name")).token is not None
    assert (await another.look("name")).token is not None
    assert mode_of(path) == 0o600


async def test_a_file_that_is_replaced(tmp_path: Path, path: Path, clock: object) -> None:
    """All go on with the file that is there by now."""
    store = SQLiteStore(path)
    await kept(store)
    await kept(SQLiteStore(tmp_path / "new"), "name", StoredToken("new", "new", 3600.0, 0.0))
    os.replace(tmp_path / "new", path)
    seen = await store.look("name")
    assert seen.token is not None
    assert seen.token.mark == "new"


async def test_a_file_without_a_log(path: Path, clock: object) -> None:
    """A file whose journal was set to another mode serves as well."""
    await kept(SQLiteStore(path))
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    await kept(SQLiteStore(path))
    assert (await SQLiteStore(path).look("name")).token is not None


# Time


async def test_in_virtual_time_no_time_passes(path: Path, autojump_clock: object) -> None:
    """In virtual time the clock does not jump while a file is worked on."""
    store = SQLiteStore(path)
    threads = set(threading.enumerate())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1000.0)
        await wait_all_tasks_blocked()
        for _ in range(10):
            await kept(store)
        assert trio.current_time() == 0.0
        nursery.cancel_scope.cancel()
    # A worker that an earlier test left idle may end at any moment.
    assert set(threading.enumerate()) <= threads


async def test_it_is_time_to_look(path: Path, autojump_clock: object) -> None:
    """Who listens looks at least twice a second, not all at once, and also in vain."""
    pauses = []
    os.mkdir(path)
    async with SQLiteStore(path).listen("name") as wait_for_news:
        for _ in range(100):
            before = trio.current_time()
            await wait_for_news()
            pauses.append(trio.current_time() - before)
    assert PACE / 2 <= min(pauses) < 0.6 * PACE
    assert 0.9 * PACE < max(pauses) <= PACE <= 0.5


async def test_sessions_share_a_token_in_virtual_time(path: Path, autojump_clock: object) -> None:
    """Sessions over one file get one token for each life, and hear of a dead one in a second."""
    managers = [FakeTokenManager(make_config(), lifetime=120.0, latency=1.0) for _ in range(3)]
    # As those of three endpoints, so that their tokens differ.
    for number, manager in enumerate(managers):
        manager.granted = 100 * number
    async with contextlib.AsyncExitStack() as stack:
        sessions = []
        for manager in managers:
            shared = SharedTokenManager(manager, SQLiteStore(path))
            await stack.enter_async_context(shared)
            session = AnonymousSession(manager.config, shared)
            sessions.append(await stack.enter_async_context(session))
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.get_access_token)
        tokens = {session.get_access_token_nowait() for session in sessions}
        assert (len(tokens), sum(len(manager.sent) for manager in managers)) == (1, 1)
        await trio.sleep(3 * 61.0 + 10.0)
        assert sum(len(manager.sent) for manager in managers) == 4
        (token,) = {await session.get_access_token() for session in sessions}
        sessions[0].invalidate(token)
        await trio.sleep(1.0)
        for session in sessions:
            with pytest.raises(trio.WouldBlock):
                session.get_access_token_nowait()
        assert token not in {await session.get_access_token() for session in sessions}
        assert sum(len(manager.sent) for manager in managers) == 5


async def test_a_session_without_its_file(
    path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    """A session whose file does not serve gets tokens of its own, and says why once."""
    os.mkdir(path)
    manager = FakeTokenManager(make_config(), lifetime=120.0)
    with caplog.at_level(logging.INFO, "trio_anon_session"):
        async with SharedTokenManager(manager, SQLiteStore(path)) as shared:
            async with AnonymousSession(manager.config, shared) as session:
                assert await session.get_access_token() == "token-1"
                await trio.sleep(3 * 60.0 + 10.0)
                os.rmdir(path)
                await trio.sleep(5.0)
    said = [record.getMessage() for record in caplog.records if "store" in record.getMessage()]
    assert len(said) == 2
    assert f"({path}: {path} must be a regular file, got a directory; " in said[0]
    assert said[1] == "the token store answers again"
    assert len(manager.sent) == 4


class Machine:
    """Is the machine's time, which a test sets."""

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


async def looked_at(store: SQLiteStore) -> tuple[float | None, float, float | None]:
    """Return a token's age, what is left of a lease, and of a pause."""
    seen = await store.look("name")
    age = None if seen.token is None else seen.token.age
    return age, seen.leased_for, None if seen.failure is None else seen.failure.pause


@pytest.fixture
async def leased(path: Path, machine: Machine) -> SQLiteStore:
    """Return a store with a token, a failure, and a lease of 100 seconds."""
    store = SQLiteStore(path)
    await kept(store, token=StoredToken("record", "mark", 3600.0, 0.0))
    seen = await store.look("name")
    fence = await store.claim("name", "owner", seen.version, 5.0)
    assert fence is not None
    await store.release("name", fence, "failure", 100.0)
    assert await store.claim("name", "owner", fence, 100.0)
    assert await looked_at(store) == (0.0, 100.0, 100.0)
    return store


async def test_ages_on_a_machine(leased: SQLiteStore, machine: Machine) -> None:
    """While both clocks go on, all is as old as they say."""
    machine.go_on(60.0)
    assert await looked_at(leased) == (60.0, 40.0, 40.0)
    machine.go_on(40.0)
    assert await looked_at(leased) == (100.0, 0.0, 0.0)
    machine.go_on(3499.0)
    assert await looked_at(leased) == (3599.0, 0.0, None)
    machine.go_on(1.0)
    assert await looked_at(leased) == (None, 0.0, None)


async def test_ages_when_the_wall_clock_is_set(leased: SQLiteStore, machine: Machine) -> None:
    """A wall clock set back makes nothing younger; one set forward makes all older."""
    machine.wall -= 86400.0
    machine.go_on(60.0)
    assert await looked_at(leased) == (60.0, 40.0, 40.0)
    machine.wall += 86400.0 + 1000.0
    assert await looked_at(leased) == (1060.0, 0.0, None)
    machine.wall += 86400.0
    assert await looked_at(leased) == (None, 0.0, None)


async def test_ages_after_a_restart_of_the_machine(leased: SQLiteStore, machine: Machine) -> None:
    """After a restart the wall clock tells how old a token is; where it cannot, there is none."""
    machine.wall += 200.0
    machine.since_boot = 20.0
    assert await looked_at(leased) == (200.0, 0.0, 0.0)
    machine.wall -= 300.0
    assert await looked_at(leased) == (None, 0.0, None)


async def test_versions_after_a_restart_of_the_machine(
    leased: SQLiteStore, machine: Machine
) -> None:
    """A restart, also with the wall clock set back, takes no version back."""
    before = (await leased.look("name")).version
    machine.wall -= 86400.0
    machine.since_boot = 20.0
    assert (await leased.look("name")).version == before
    fence = await leased.claim("name", "another", before, 5.0)
    assert fence is not None
    assert fence > before


# Threads


async def until_a_thread_waits() -> None:
    """Wait until a task is with a thread, and the thread has had time to begin."""
    limiter = _sqlite._limiter_of_this_run()
    with trio.fail_after(PATIENCE):
        # Threads tell nobody.
        while not limiter.borrowed_tokens or not _sqlite._turns._lock.locked():  # noqa: ASYNC110
            await trio.sleep(0.001)


async def test_a_lease_begins_when_it_is_taken(path: Path, machine: Machine) -> None:
    """A lease lasts from when it is taken, however long others were in the way."""
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
    """A cancelled claim takes no lease, and a cancelled put is not lost."""
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
    path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """A file system that hangs keeps one thread, nobody who is cancelled, and no other file."""
    hanging = threading.Event()
    original = _files.prepare

    def hang(given: str) -> tuple[str, bool]:
        hanging.wait(PATIENCE)
        return original(given)

    store, threads = SQLiteStore(path), threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(_files, "prepare", hang)
        for _ in range(5):
            with trio.move_on_after(0.02) as scope:
                await store.look("name")
            assert scope.cancelled_caught
        assert threading.active_count() <= threads + 1
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        # Another run of the program, in a thread of its own, has a thread of its own too.
        said = await trio.to_thread.run_sync(trio.run, failing_look, path)
        assert said == f"{path}: another thread does not come to an end with SQLite"
        hanging.set()
    with trio.fail_after(PATIENCE):
        await kept(store)


async def failing_look(path: Path) -> str:
    try:
        await SQLiteStore(path).look("name")
    except StoreError as error:
        return str(error)
    return "it works"


async def test_many_tasks_at_once(path: Path) -> None:
    """Many tasks take turns, and each question is answered."""
    store, answers = SQLiteStore(path), list[int | None]()

    async def claim(number: int, seen: int) -> None:
        answers.append(await store.claim("name", f"owner-{number}", seen, 1000.0))

    seen = await store.look("name")
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(claim, number, seen.version)
    assert len(answers) == 100
    assert answers.count(None) == 99


# Processes


def run_program(program: str, *args: object) -> str:
    """Run a program to its end, and return what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, args)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


CLAIMER = """
    import sys, trio
    from trio_anon_session.stores import SQLiteStore, _sqlite

    _sqlite.BUSY_TIMEOUT = 30.0

    async def main():
        print("ready", flush=True)
        for line in sys.stdin:
            path, seen = line.rsplit(maxsplit=1)
            store = SQLiteStore(path)
            if seen == "look":
                print((await store.look("name")).version, flush=True)
            else:
                print(await store.claim("name", sys.argv[1], int(seen), 1000.0), flush=True)

    trio.run(main)
"""


@contextmanager
def processes(count: int) -> Iterator[Callable[[Path, object], list[str]]]:
    """Start processes, and give what asks all of them the same at once."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CLAIMER), f"owner-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]

    def answers() -> list[str]:
        return [process.stdout.readline().strip() for process in started if process.stdout]

    def ask(path: Path, question: object) -> list[str]:
        for process in started:
            assert process.stdin is not None
            process.stdin.write(f"{path} {question}\n")
            process.stdin.flush()
        return answers()

    try:
        assert answers() == ["ready"] * count
        yield ask
    finally:
        for process in started:
            process.communicate(timeout=PATIENCE)
        assert [process.returncode for process in started] == [0] * count


@pytest.mark.slow
async def test_processes_that_claim_at_once(path: Path, patient: None) -> None:
    """Of several processes that claim at once exactly one gets the lease, each time."""
    store, winners = SQLiteStore(path), list[str | None]()
    with processes(4) as ask:
        for _ in range(20):
            before = await store.look("name")
            answers = await trio.to_thread.run_sync(ask, path, before.version)
            seen = await store.look("name")
            assert sorted(answers) == sorted([str(seen.version), "None", "None", "None"])
            assert seen.version > before.version
            winners.append(seen.owner)
            await store.release("name", seen.version)
    assert None not in winners


@pytest.mark.slow
def test_processes_that_make_the_file_at_once(tmp_path: Path) -> None:
    """Processes that come to a file first, all at once, find the same one, and none fails."""
    with processes(4) as ask:
        for number in range(20):
            versions = ask(tmp_path / f"{number}.db", "look")
            assert len(set(versions)) == 1
            assert int(versions[0]) > 1_700_000_000_000


@pytest.mark.slow
async def test_a_process_that_is_killed_at_work(path: Path, patient: None) -> None:
    """A process that is killed while it writes leaves a file that works as before."""
    program = """
        import sys, trio
        from trio_anon_session.stores import SQLiteStore, StoredToken, _sqlite

        _sqlite.BUSY_TIMEOUT = 30.0

        async def main():
            store = SQLiteStore(sys.argv[1])
            while True:
                seen = await store.look("name")
                fence = await store.claim("name", "owner", seen.version, 0.01)
                if fence is not None:
                    record = "x" * 100_000
                    await store.put("name", fence, StoredToken(record, "mark", 3600.0, 0.0))

        trio.run(main)
    """
    store = SQLiteStore(path)
    version = (await store.look("name")).version

    def has_grown(seen: Look) -> bool:
        return seen.version > version

    for number in range(0, 10, 3):
        command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
        async with trio.open_nursery() as nursery:
            run = functools.partial(trio.run_process, check=False)
            process: trio.Process = await nursery.start(run, command)
            await wait_until(has_grown, store, "name")
            await trio.sleep(0.001 * number)
            process.kill()
        seen = await store.look("name")
        assert has_grown(seen)
        version = seen.version
        assert seen.token is None or len(seen.token.record) == 100_000
    with opened(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    await trio.sleep(0.01)
    await kept(store)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_processes_that_are_forked_while_a_thread_works(path: Path) -> None:
    """A process that is forked at any moment can use the store, and so can the other one."""
    program = """
        import os, sys, threading, trio, warnings
        from trio_anon_session.stores import SQLiteStore, _sqlite

        _sqlite.BUSY_TIMEOUT = 30.0
        # Python warns of a fork beside threads, which is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        store = SQLiteStore(sys.argv[1])
        begun = threading.Event()

        async def write(times=None):
            while times is None or times:
                await store.drop("name", "mark", 1000.0)
                begun.set()
                times = times and times - 1

        async def child():
            with trio.fail_after(30.0):
                await write(2)

        threading.Thread(target=trio.run, args=[write], daemon=True).start()
        begun.wait(30.0)
        for _ in range(30):
            pid = os.fork()
            if not pid:
                try:
                    trio.run(child)
                except BaseException as error:
                    os.write(1, f"{error!r}\\n".encode())
                    os._exit(1)
                os._exit(0)
            os.waitpid(pid, 0)
        begun.clear()
        print("all done", begun.wait(30.0), flush=True)
        os._exit(0)
    """
    assert run_program(program, path) == "all done True\n"


async def test_a_fork_while_a_thread_hangs(
    path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None, autojump_clock: object
) -> None:
    """A process forked while a thread hangs in SQLite does without the store; the other goes on."""
    store = SQLiteStore(path)
    await kept(store)
    turns = _sqlite._Turns()
    monkeypatch.setattr(_sqlite, "_turns", turns)
    with turns.take():
        turns.before_fork()
        turns.after_fork_in_parent()
    await kept(store)
    with turns.take():
        turns.before_fork()
        turns.after_fork_in_child()
    await assert_fails(store, "this process was forked while a thread was stuck in SQLite")
    # Nor can a child of its own.
    turns.before_fork()
    turns.after_fork_in_child()
    await assert_fails(store, "this process was forked while a thread was stuck in SQLite")
