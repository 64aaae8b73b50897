"""Tests of files that `SQLiteStore` cannot use: it raises a `StoreError` until they are usable."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.stores.kit import kept
from tests.stores.sqlite_kit import METHODS, assert_fails, opened, snapshot
from trio_anon_session.stores import Look, SQLiteStore, StoredToken, StoreError, _sqlite
from trio_anon_session.stores._access import STORE_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534


@pytest.fixture(params=["virtual", "threads"])
def clock(request: pytest.FixtureRequest) -> Any:
    """Run a test in virtual time, and in real time with threads."""
    return trio.testing.MockClock(autojump_threshold=0) if request.param == "virtual" else None


# Other files at the path


def file_as_directory(path: Path) -> Path:
    path.touch()
    return path / "tokens.db"


def text(path: Path) -> Path:
    path.write_text("the-secret-record\n" * 1000)
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
    file_as_directory: "Not a directory",
    text: "file is not a database; delete it if no other program uses it",
    other_database: "it is the database of another program; use another path",
    other_columns: "no such column: entry",
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_another_file_at_the_path(
    path: Path, trouble: Callable[[Path], Path], autojump_clock: object
) -> None:
    """Any other file at the path raises a StoreError that says why, and is not changed."""
    there = trouble(path)
    before = snapshot(path.parent)
    await assert_fails(SQLiteStore(there), TROUBLES[trouble])
    assert snapshot(path.parent) == before


async def test_a_file_that_is_usable_again(path: Path, autojump_clock: object) -> None:
    """After the other file at its path is deleted, the same store works."""
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
    """Damage a file in one of the ways of the test, and return its content."""
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
def test_a_damaged_file_is_renamed(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file is renamed: one call fails, one warning names the new path.

    The next call uses a new file.
    """

    async def use_it() -> None:
        store = SQLiteStore(path)
        with pytest.raises(StoreError, match=f"it was renamed to {path}.spoilt"):
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


# Permissions, disk space and locks


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Run the block as a user without rights, with a folder of its own."""
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
        (0o400, 0o700, "this process has no permission to read and write it"),
        (0o200, 0o700, "this process has no permission to read and write it"),
        (0o000, 0o700, "this process has no permission to read and write it"),
        (0o600, 0o500, "attempt to write a readonly database"),
        (None, 0o500, "Permission denied"),
        (None, 0o000, "Permission denied"),
    ],
)
async def test_a_file_without_rights(
    mode: int | None, folder_mode: int, said: str, autojump_clock: object
) -> None:
    """A file or folder without the needed permissions raises a StoreError until it has them."""
    with as_nobody() as folder:
        store = SQLiteStore(folder / "tokens.db")
        if mode is not None:
            # Create no entry, because reading an existing entry needs no write permission.
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


async def test_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """On a full disk, a put fails and changes nothing, looks work, and a later put succeeds."""
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


async def test_a_table_that_is_locked(
    path: Path, impatient_sqlite: None, autojump_clock: object
) -> None:
    """While another process writes, calls that write raise a StoreError, and a look works."""
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


async def test_a_file_that_is_locked(
    path: Path, impatient_sqlite: None, autojump_clock: object
) -> None:
    """While another process has locked the whole file, each call raises a StoreError."""
    store = SQLiteStore(path)
    await kept(store)
    with opened(path) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE trio_anon_session SET name = name")
        connection.execute("COMMIT")
        await assert_fails(store, "database is locked")
    await kept(store)


def test_the_busy_timeout_ends_before_the_store_timeout() -> None:
    """The timeout for other writers is shorter than the timeout of the store."""
    assert _sqlite.BUSY_TIMEOUT < STORE_TIMEOUT


# Entries


@pytest.mark.parametrize(
    "garbage",
    ["text", b"\xff\xfe the-secret-record", 7, 0.5, "[" * 100_000],
    ids=lambda garbage: repr(garbage)[:20],
)
@pytest.mark.parametrize("as_what", ["BLOB", "TEXT"])
async def test_an_entry_that_is_garbage(
    path: Path, garbage: object, as_what: str, autojump_clock: object
) -> None:
    """A look ignores garbage in an entry, and a put overwrites it."""
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


async def test_an_entry_of_a_later_version(path: Path, autojump_clock: object) -> None:
    """Calls for an entry of a later version fail, and do not change the entry."""
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
