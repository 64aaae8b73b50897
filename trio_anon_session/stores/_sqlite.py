"""`SQLiteStore`, for the processes of one machine.

How this works
    A table holds one entry for each name, as text. Each request opens its own connection, and each
    change is one transaction. Opening a connection takes a tenth of a millisecond. A connection
    must not be kept: a fork would share it, and it would use a deleted or replaced file after the
    other processes use the new one.

    Any problem with the file is a `StoreError`, and the next request tries again.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import threading
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from .._clocks import is_mocked
from .._logging import log
from .._workers import in_worker
from . import _files
from ._clock import Moment
from ._entry import Entry
from ._files import UnfitError
from ._protocol import POLL_INTERVAL, StoreError
from ._records import LaterFormatError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator

    from ._protocol import Look, StoredToken

T = TypeVar("T")

BUSY_TIMEOUT = 1.5
"""Seconds that a request waits for a lock. Must be less than `STORE_TIMEOUT`."""
KEPT_AFTER_EXPIRY = 86400.0
"""Seconds for which an entry stays after its content has expired, so that its version is kept."""

_TABLE = "trio_anon_session"
_CREATE = """
    CREATE TABLE IF NOT EXISTS trio_anon_session (
        name TEXT PRIMARY KEY, entry TEXT NOT NULL, kept_until REAL NOT NULL
    )
"""
# Read the entry as bytes: for invalid UTF-8, the error of SQLite would quote the text with the
# token.
_READ = "SELECT CAST(entry AS BLOB) FROM trio_anon_session WHERE name = ?"
_WRITE = "INSERT OR REPLACE INTO trio_anon_session VALUES (?, ?, ?)"
_LIST = "SELECT name FROM sqlite_master WHERE type = 'table'"
_PRUNE = "DELETE FROM trio_anon_session WHERE kept_until < ?"

# Users pass such URLs to the command, to SQLite or to other stores, and do not mean a file of that
# name.
_URL = re.compile(r"(sqlite|file):|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SPOILT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("SQLiteStore")


class SQLiteStore:
    """A store in a file, for the processes of one machine.

    The store creates the file when needed, with mode 0600. SQLite gives the files next to it
    (``-wal``, ``-shm`` and ``-journal``) the same mode. If other users can read one of them, access
    is removed; if that fails, the file is not used. You can delete the file at any time: all
    processes continue with a new one. A corrupt file of a store is renamed to ``PATH.spoilt``, with
    a warning, and a new one takes its place.

    On POSIX, each request first checks who else can read, change or replace the files. It fails
    with a `StoreError`, and writes nothing, unless all of these are true:

    - The file and those next to it belong to this user, and are regular files.
    - Each directory and link on the path belongs to this user or to root.
    - Only their owner can write to these directories. A sticky directory such as ``/tmp`` is
      accepted above the file's own directory, but never as the directory of the file: other users
      could create a file that SQLite is about to use.

    Keep the file on a local disk: the locks of network file systems are not reliable.

    Under ``MockClock`` the store uses no threads, because the clock would jump while one works.

    Args:
        path: path of the file. A relative path refers to the current directory of this moment.

    Raises:
        TypeError: ``path`` is not a ``str`` or an ``os.PathLike`` of ``str``.
        ValueError: ``path`` is empty, ``:memory:`` or a URL, or contains a NUL character.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = _checked(path)

    def __repr__(self) -> str:
        return f"<SQLiteStore at {self._path}>"

    async def open(self) -> None:
        """See :meth:`TokenStore.open`. This store keeps nothing open."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See :meth:`TokenStore.aclose`."""
        await trio.lowlevel.checkpoint()

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """See :meth:`TokenStore.look`."""

        def look(connection: sqlite3.Connection) -> Look:
            # Reading an existing entry needs no write lock.
            entry = _read(connection, name)
            if entry is None:
                return _change(connection, name, lambda new, now: new.look(now, marks))
            return entry.look(Moment.now(), marks)

        return await self._ask(look)

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """See :meth:`TokenStore.claim`. A cancelled call takes no lease."""

        def claim(entry: Entry, now: Moment) -> int | None:
            fence = entry.claim(now, owner, seen, seconds)
            _check_cancelled()
            return fence

        return await self._do(name, claim)

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """See :meth:`TokenStore.renew`."""
        return await self._do(name, lambda entry, now: entry.renew(now, fence, seconds))

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """See :meth:`TokenStore.put`. A cancelled call may still store the token."""
        return await self._do(name, lambda entry, now: entry.put(now, fence, token))

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """See :meth:`TokenStore.release`. A cancelled call may still end the lease."""
        await self._do(name, lambda entry, now: entry.release(now, fence, failure, pause))

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """See :meth:`TokenStore.drop`. A cancelled call may still drop the token."""
        await self._do(name, lambda entry, now: entry.drop(now, mark, seconds))

    @asynccontextmanager
    # SQLite sends no notifications, so the name is not used.
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:  # noqa: ARG002
        """See :meth:`TokenStore.listen`. The function returns two to four times a second."""
        await trio.lowlevel.checkpoint()
        yield _wait_to_poll

    async def _do(self, name: str, change: Callable[[Entry, Moment], T]) -> T:
        return await self._ask(lambda connection: _change(connection, name, change))

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a thread, and return its result.

        Raises:
            StoreError: the file cannot be used, or SQLite failed.
        """
        if is_mocked(trio.lowlevel.current_clock()):
            await trio.lowlevel.checkpoint()
            return self._answer(work)
        # The limiter allows one thread. If the file system hangs, only one thread hangs, and the
        # program keeps the others, for example to look up host names. It also keeps the order.
        return await in_worker(self._answer, work, limiter=_limiter_of_this_run())

    def _answer(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with _process_lock.take(), self._connect() as connection:
                return work(connection)
        except sqlite3.Error as error:
            words = str(error)
            if getattr(error, "sqlite_errorcode", None) in _SPOILT:
                words += self._set_aside()
        except OSError as error:
            words = error.strerror or type(error).__name__
        except UnfitError as error:
            words = str(error)
        except LaterFormatError:
            words = "its entry was written by a later version of this package; upgrade this process"
        # Raised outside of the except block: the original error may show an entry.
        raise StoreError(f"{self._path}: {words}")

    def _set_aside(self) -> str:
        """Rename a corrupt file, and return the end of the error message."""
        aside = None
        with suppress(OSError, UnfitError), _process_lock.take():
            aside = _files.set_aside(self._path, _TABLE.encode())
        if aside is None:
            return "; delete it if no other program uses it"
        log(
            WARNING,
            "%s was corrupt: renamed it to %s, and a new file takes its place",
            self,
            aside,
        )
        return f"; it was renamed to {aside}"

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path, is_exposed = _files.prepare(self._path)
        # SQLite must not create a file that was deleted at this moment, because it would use the
        # umask for the mode.
        uri = f"{Path(path).as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(uri, timeout=BUSY_TIMEOUT, isolation_level=None, uri=True)
        ) as connection:
            # A power failure can lose the last changes, but no process needs them afterwards.
            connection.execute("PRAGMA synchronous = NORMAL")
            tables = {name for (name,) in connection.execute(_LIST)}
            if tables and _TABLE not in tables:
                raise UnfitError("it is the database of another program; use another path")
            if is_exposed:
                _files.make_private(path)
            if not tables:
                # This fails while another process does the same. The store works without WAL, but
                # is slower.
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_CREATE)
            yield connection


class _ProcessLock:
    """A lock: only one thread of the process uses SQLite at a time, and no fork interrupts it.

    A process loses all its locks on a file when it closes any descriptor of that file.
    `_files.prepare` closes one when it creates the file. After a fork, the child has the locks of a
    SQLite thread but not the thread. It would find the database locked indefinitely, or hang.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_stuck = False
        self._forking = threading.local()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the lock during the block."""
        lock = self._lock
        if not lock.acquire(timeout=BUSY_TIMEOUT):
            raise UnfitError(f"another thread has blocked SQLite for {BUSY_TIMEOUT:g} s")
        try:
            if self._is_stuck:
                raise UnfitError("this process was forked while SQLite was busy; restart it")
            yield
        finally:
            lock.release()

    def before_fork(self) -> None:
        """Acquire the lock, or give up after `BUSY_TIMEOUT`."""
        self._forking.has_turn = self._lock.acquire(timeout=BUSY_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        if self._forking.has_turn:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Create a new lock. If the fork did not hold the old one, refuse all later requests."""
        self._is_stuck = self._is_stuck or not self._forking.has_turn
        self._lock = threading.Lock()


_process_lock = _ProcessLock()

# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process_lock.before_fork,
        after_in_parent=_process_lock.after_fork_in_parent,
        after_in_child=_process_lock.after_fork_in_child,
    )


def _limiter_of_this_run() -> trio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _limiter.set(limiter)
        return limiter


def _read(connection: sqlite3.Connection, name: str) -> Entry | None:
    """Return the entry of a name; None if it is missing or invalid."""
    for (text,) in connection.execute(_READ, (name,)):
        with suppress(ValueError):
            return Entry.from_json(text.decode())
    return None


def _change(connection: sqlite3.Connection, name: str, change: Callable[[Entry, Moment], T]) -> T:
    """Change an entry in one transaction, and return the result of `change`."""
    connection.execute("BEGIN IMMEDIATE")
    # Read the clock after BEGIN, which may have waited for a lock.
    now = Moment.now()
    entry = _read(connection, name) or Entry.new(now)
    answer = change(entry, now)
    kept_until = now.wall + entry.useful_for(now) + KEPT_AFTER_EXPIRY
    connection.execute(_PRUNE, (now.wall,))
    connection.execute(_WRITE, (name, entry.to_json(), kept_until))
    connection.execute("COMMIT")
    return answer


def _check_cancelled() -> None:
    """Raise Cancelled in a thread whose caller was cancelled.

    No process would release the lease, and all others would wait for its end.
    """
    # Under MockClock there is no thread, and the call cannot be abandoned.
    with suppress(RuntimeError):
        trio.from_thread.check_cancelled()


async def _wait_to_poll() -> None:
    await trio.sleep(random.uniform(0.5, 1.0) * POLL_INTERVAL)


def _checked(path: str | os.PathLike[str]) -> str:
    """Return the absolute path."""
    given = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(given, str):
        raise TypeError(f"path must be a str or an os.PathLike of str, not {type(path).__name__}")
    if given in ("", ":memory:"):
        raise ValueError(f"path must be the path of a file, got {given!r}; or use MemoryStore()")
    if _URL.match(given):
        # Do not quote the URL, because it may contain a password.
        raise ValueError("path must be a path, not a URL: pass only the PATH of sqlite:PATH")
    if "\0" in given:
        raise ValueError("path must not contain a NUL character")
    return os.path.abspath(given)
