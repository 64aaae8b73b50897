"""`SQLiteStore`: for the processes of one machine.

How this works
    A table has, for each name, an entry as text. Each question has a connection of its own, and
    each change is one transaction. A connection that is kept would be another process's after a
    fork, and would go on with a file that was deleted or replaced, where all others have the new
    one; to open one takes a tenth of a millisecond.

    Whatever is wrong with the file is a `StoreError`, and the next question tries again.
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
from . import _files
from ._clock import Moment
from ._entry import Entry
from ._files import UnfitError
from ._protocol import PACE, StoreError
from ._records import LaterFormatError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator

    from ._protocol import Look, StoredToken

T = TypeVar("T")

BUSY_TIMEOUT = 1.5
"""Seconds for which others may keep a question waiting; fewer than a store has for its answer."""
KEPT_USELESS = 86400.0
"""Seconds for which an entry outlives all that is in it, so that who is late finds its version."""

_TABLE = "trio_anon_session"
_CREATE = """
    CREATE TABLE IF NOT EXISTS trio_anon_session (
        name TEXT PRIMARY KEY, entry TEXT NOT NULL, kept_until REAL NOT NULL
    )
"""
# As bytes: where they are no UTF-8, SQLite's error quotes them, and the token with them.
_READ = "SELECT CAST(entry AS BLOB) FROM trio_anon_session WHERE name = ?"
_WRITE = "INSERT OR REPLACE INTO trio_anon_session VALUES (?, ?, ?)"
_LIST = "SELECT name FROM sqlite_master WHERE type = 'table'"
_PRUNE = "DELETE FROM trio_anon_session WHERE kept_until < ?"

# As the command takes them, SQLite itself, or other stores. A file of such a name is nobody's wish.
_URL = re.compile(r"(sqlite|file):|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SPOILT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("SQLiteStore")


class SQLiteStore:
    """Keeps tokens in a file, for the processes of one machine.

    The store creates the file when needed, with mode 0600. SQLite gives the files next to it
    (``-wal``, ``-shm`` and ``-journal``) the same mode. If other users can read one of them, access
    is removed; if that fails, the file is not used. You can delete the file at any time: all
    processes continue with a new one. A spoilt file of a store is renamed to ``PATH.spoilt``, with
    a warning, and a new one takes its place.

    On POSIX, each question first checks who else can read, change or replace the files. It fails
    with a `StoreError`, and writes nothing, if one of these is not true:

    - The file and those next to it belong to this user, and are regular files.
    - Each directory and link on the path belongs to this user or to root.
    - Only their owner can write to these directories. A sticky directory such as ``/tmp`` is
      accepted above the file's own directory, but never as the directory of the file: other users
      could create a file that SQLite is about to use.

    Keep the file on a local disk: the locks of network file systems are not reliable.

    In virtual time no threads are used: the clock would jump while one works.

    Args:
        path: of the file. A relative one counts from where the process is now.

    Raises:
        TypeError: the path is none.
        ValueError: the path is a URL, or one that no file can have.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = _checked(path)

    def __repr__(self) -> str:
        return f"<SQLiteStore at {self._path}>"

    async def open(self) -> None:
        """See :meth:`TokenStore.open`. There is nothing to keep open."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See :meth:`TokenStore.aclose`."""
        await trio.lowlevel.checkpoint()

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """See :meth:`TokenStore.look`."""

        def look(connection: sqlite3.Connection) -> Look:
            # Who finds something does not wait for those who write.
            entry = _read(connection, name)
            if entry is None:
                return _change(connection, name, lambda new, now: new.look(now, marks))
            return entry.look(Moment.now(), marks)

        return await self._ask(look)

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """See :meth:`TokenStore.claim`. One that is cancelled takes no lease."""

        def claim(entry: Entry, now: Moment) -> int | None:
            fence = entry.claim(now, owner, seen, seconds)
            _check_awaited()
            return fence

        return await self._do(name, claim)

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """See :meth:`TokenStore.renew`."""
        return await self._do(name, lambda entry, now: entry.renew(now, fence, seconds))

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """See :meth:`TokenStore.put`. One that is cancelled may be done all the same."""
        return await self._do(name, lambda entry, now: entry.put(now, fence, token))

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """See :meth:`TokenStore.release`. One that is cancelled may be done all the same."""
        await self._do(name, lambda entry, now: entry.release(now, fence, failure, pause))

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """See :meth:`TokenStore.drop`. One that is cancelled may be done all the same."""
        await self._do(name, lambda entry, now: entry.drop(now, mark, seconds))

    @asynccontextmanager
    # Nothing tells of one name or another.
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:  # noqa: ARG002
        """See :meth:`TokenStore.listen`. It is time to look two to four times a second."""
        await trio.lowlevel.checkpoint()
        yield _pace

    async def _do(self, name: str, change: Callable[[Entry, Moment], T]) -> T:
        return await self._ask(lambda connection: _change(connection, name, change))

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have work done in a thread.

        Raises:
            StoreError: it is not.
        """
        if is_mocked(trio.lowlevel.current_clock()):
            await trio.lowlevel.checkpoint()
            return self._answer(work)
        # A file system may hang for as long as it likes, and then for one thread alone: a program
        # needs its threads, to look up names for example. And what is asked stays in order.
        return await trio.to_thread.run_sync(
            self._answer, work, abandon_on_cancel=True, limiter=_limiter_of_this_run()
        )

    def _answer(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with _turns.take(), self._connect() as connection:
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
        # Outside of the except block: nothing that hangs on this one shows an entry.
        raise StoreError(f"{self._path}: {words}")

    def _set_aside(self) -> str:
        """Make way for a new file, and return what was done about a spoilt one."""
        aside = None
        with suppress(OSError, UnfitError), _turns.take():
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
        # A file that is deleted at this moment is not to be made by SQLite, which asks the umask
        # who may read it.
        uri = f"{Path(path).as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(uri, timeout=BUSY_TIMEOUT, isolation_level=None, uri=True)
        ) as connection:
            # What is lost with the machine's power was nobody's any more.
            connection.execute("PRAGMA synchronous = NORMAL")
            tables = {name for (name,) in connection.execute(_LIST)}
            if tables and _TABLE not in tables:
                raise UnfitError("it is the database of another program; use another path")
            if is_exposed:
                _files.make_private(path)
            if not tables:
                # Refused while another process does the same. All works without, but slower.
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_CREATE)
            yield connection


class _Turns:
    """Lets one thread of a process at a time work with files of SQLite, and no fork come between.

    A process gives up all its locks on a file when it closes any descriptor of it, and one is
    closed where the file is made. A fork leaves the child with what a thread had locked in
    SQLite, and without the thread: it would find the database locked for ever, or hang.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_stuck = False
        self._forking = threading.local()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for a turn, which lasts as long as the block."""
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
        """Wait until nobody works, but no longer than for a turn."""
        self._forking.has_turn = self._lock.acquire(timeout=BUSY_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Let the others go on."""
        if self._forking.has_turn:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, if that is possible."""
        self._is_stuck = self._is_stuck or not self._forking.has_turn
        self._lock = threading.Lock()


_turns = _Turns()

# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_turns.before_fork,
        after_in_parent=_turns.after_fork_in_parent,
        after_in_child=_turns.after_fork_in_child,
    )


def _limiter_of_this_run() -> trio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _limiter.set(limiter)
        return limiter


def _read(connection: sqlite3.Connection, name: str) -> Entry | None:
    """Return what is kept under a name; None where that is nothing, or garbage."""
    for (text,) in connection.execute(_READ, (name,)):
        with suppress(ValueError):
            return Entry.from_json(text.decode())
    return None


def _change(connection: sqlite3.Connection, name: str, change: Callable[[Entry, Moment], T]) -> T:
    """Change an entry as a whole, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    # Not before: it may have taken a while to get here.
    now = Moment.now()
    entry = _read(connection, name) or Entry.new(now)
    answer = change(entry, now)
    kept_until = now.wall + entry.useful_for(now) + KEPT_USELESS
    connection.execute(_PRUNE, (now.wall,))
    connection.execute(_WRITE, (name, entry.to_json(), kept_until))
    connection.execute("COMMIT")
    return answer


def _check_awaited() -> None:
    """Raise Cancelled in a thread that nobody waits for any more.

    A lease of which nobody knows would keep all others waiting.
    """
    # What has no thread of its own, as in virtual time, is not left alone.
    with suppress(RuntimeError):
        trio.from_thread.check_cancelled()


async def _pace() -> None:
    await trio.sleep(random.uniform(0.5, 1.0) * PACE)


def _checked(path: str | os.PathLike[str]) -> str:
    """Return a path as text that is the same in each directory."""
    given = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(given, str):
        raise TypeError(f"path must be a str or an os.PathLike of str, not {type(path).__name__}")
    if given in ("", ":memory:"):
        raise ValueError(f"path must be the path of a file, got {given!r}; or use MemoryStore()")
    if _URL.match(given):
        # Not quoted: there may be a password in it.
        raise ValueError("path must be a path, not a URL: pass only the PATH of sqlite:PATH")
    if "\0" in given:
        raise ValueError("path must not contain a NUL character")
    return os.path.abspath(given)
