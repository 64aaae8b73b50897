"""Helpers for tests of `SQLiteStore`: its methods, direct connections, and modes of files."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import traceback_with_locals
from tests.stores.kit import TOKEN
from tests.stores.places import PATIENCE
from trio_anon_session.stores import SQLiteStore, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

METHODS: dict[str, Callable[[SQLiteStore], Awaitable[object]]] = {
    "look": lambda store: store.look("name"),
    "claim": lambda store: store.claim("name", "owner", 1, 5.0),
    "renew": lambda store: store.renew("name", 1, 5.0),
    "put": lambda store: store.put("name", 1, TOKEN),
    "release": lambda store: store.release("name", 1, "failure", 1.0),
    "drop": lambda store: store.drop("name", "mark", 5.0),
}


def opened(path: Path) -> closing[sqlite3.Connection]:
    """Return a direct connection to the file, which does not wait for locks."""
    return closing(sqlite3.connect(path, timeout=0, isolation_level=None))


def mode_of(path: Path) -> int:
    """Return the mode of a file."""
    return stat.S_IMODE(path.stat().st_mode)


async def assert_fails(store: SQLiteStore, said: str) -> None:
    """Assert that each method raises a StoreError that matches and shows no stored data."""
    await store.open()
    for method in METHODS.values():
        with pytest.raises(StoreError, match=said) as caught, trio.fail_after(PATIENCE):
            await method(store)
        assert str(caught.value).startswith(f"{store._path}: ")
        assert caught.value.__context__ is caught.value.__cause__ is None
        assert "the-secret-record" not in "".join(traceback_with_locals(caught.value))
    async with store.listen("name"):
        pass
    await store.aclose()


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return the mode, owner, time and content of a folder and of everything below it."""
    found = dict[str, tuple[object, ...]]()
    for file in (folder, *folder.rglob("*")):
        status = file.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = file.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(file)
        found[str(file)] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
    return found
