"""Places where stores keep their data in tests: one class for each kind of store."""

from __future__ import annotations

import copy
import functools
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import trio

from trio_anon_session.stores import Look, MemoryStore, RedisStore, SQLiteStore
from trio_anon_session.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from pathlib import Path

    from tests.stores.valkey import Valkey
    from trio_anon_session.stores import TokenStore

PATIENCE = 60.0
"""Seconds after which a test counts as hung, also on a slow machine."""
STEP = 1 / 64
"""Seconds between two looks of `wait_until`."""


class Place(Protocol):
    """The data of one kind of store, which several store objects share like processes.

    Attributes:
        is_virtual: whether its stores work in virtual time. In both cases, what must end during a
            test has a short time, and what must last has a long time.
    """

    is_virtual: bool

    def store(self) -> TokenStore:
        """Return the store object of one more process."""
        ...

    def empty(self) -> None:
        """Lose all data."""
        ...

    def copy(self) -> Callable[[], None]:
        """Copy all data, and return a function that puts the copy back."""
        ...


class MemoryPlace:
    """A store in memory, which other processes cannot use."""

    is_virtual = True

    def __init__(self) -> None:
        self._store = MemoryStore()

    def store(self) -> MemoryStore:
        return self._store

    def empty(self) -> None:
        self._store._entries.clear()

    def copy(self) -> Callable[[], None]:
        entries = copy.deepcopy(self._store._entries)
        return lambda: setattr(self._store, "_entries", entries)


class FilePlace:
    """A file of a SQLite store."""

    def __init__(self, path: Path, *, is_virtual: bool) -> None:
        self._path = path
        self.is_virtual = is_virtual

    def store(self) -> SQLiteStore:
        return SQLiteStore(self._path)

    def empty(self) -> None:
        self._path.unlink()

    def copy(self) -> Callable[[], None]:
        with closing(sqlite3.connect(self._path)) as connection:
            data = connection.serialize()

        def put_back() -> None:
            for path in self._path.parent.glob(f"{self._path.name}*"):
                path.unlink()
            self._path.write_bytes(data)

        return put_back


class ServerPlace:
    """A Valkey or Redis server."""

    is_virtual = False

    def __init__(self, server: Valkey, *, encryption_key: bytes | None) -> None:
        self._server = server
        self._encryption_key = encryption_key

    def store(self) -> RedisStore:
        return RedisStore(self._server.url, encryption_key=self._encryption_key)

    def empty(self) -> None:
        self._server.do("FLUSHALL")

    def copy(self) -> Callable[[], None]:
        for key in self._server.key_names():
            self._server.do("COPY", key, key, "DB", 1)

        def put_back() -> None:
            self._server.do("FLUSHDB")
            self._server.do("SWAPDB", 0, 1)

        return put_back


def in_its_time(async_test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in virtual time if its place supports that, or else in real time."""

    @functools.wraps(async_test)
    def run(*, place: Place, **kwargs: object) -> None:
        async def limited() -> None:
            with trio.fail_after(PATIENCE):
                await async_test(place=place, **kwargs)

        if place.is_virtual:
            virtual_time(async_test)(place=place, **kwargs)
        else:
            trio.run(limited)

    return run


async def wait_until(
    is_so: Callable[[Look], bool], store: TokenStore, name: str, marks: Collection[str] = ()
) -> Look:
    """Look until `is_so` returns true for a look, and return that look."""
    with trio.fail_after(PATIENCE):
        while True:
            seen = await store.look(name, marks)
            if is_so(seen):
                return seen
            await trio.sleep(STEP)
