"""A process of a fleet that runs commands from stdin, and writes what happens to stdout.

    python tests/stores/working.py SETTINGS

SETTINGS is JSON: ``store`` (`open_store`), ``url`` of the token server, ``config``; ``wall``, the
seconds to add to its wall clock; ``lease`` in seconds. The process writes ``ready``, runs the
command in each line of stdin, and ends at the end of stdin.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

import trio

from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Event,
    Invalidated,
    TokenManager,
)
from trio_anon_session.stores import (
    RedisStore,
    SharedTokenManager,
    SQLiteStore,
    TokenStore,
    _access,
    _claimant,
    _link,
    _sqlite,
    _watch,
)
from trio_anon_session.testing import TokenServer

if TYPE_CHECKING:
    from types import ModuleType

PATIENT = 20.0
"""Seconds for a store to answer, in tests that do not depend on it: the machine may be busy."""
USUAL: dict[tuple[ModuleType, str], float] = {}
"""The normal timeouts, each in a variable of a module."""


def report(**what: object) -> None:
    """Write a line of JSON to stdout."""
    print(json.dumps(what), flush=True)


def open_store(where: dict[str, str]) -> TokenStore:
    """Return the store at a ``path`` or at a ``url``."""
    return SQLiteStore(where["path"]) if "path" in where else RedisStore(where["url"])


def observe(event: Event) -> None:
    """Write a line for a token that was dropped, here or in another process."""
    if isinstance(event, Invalidated):
        report(dropped=event.fingerprint)


async def get(session: AnonymousSession) -> None:
    """Get the token, and write it with times of a clock that all processes share."""
    try:
        token = await session.get_access_token()
    except AnonymousSessionError as error:
        report(got={"error": str(error)})
        return
    at = time.monotonic()
    info = session.token_info
    assert info is not None
    # Read after `at`, so that a pause of the process between the two makes `ends_at` earlier.
    ends_in = info.sent_at + info.lifetime - trio.current_time()
    report(got={"token": token, "at": at, "ends_at": at + ends_in})


async def main(settings: dict[str, Any]) -> None:
    """Run the commands from stdin until its end."""
    config = TokenServer().config(settings["url"], **settings["config"])
    store = open_store(settings["store"])
    said = b""
    async with (
        SharedTokenManager(TokenManager(config), store) as manager,
        AnonymousSession(config, manager, observers=[observe]) as session,
        trio.open_nursery() as nursery,
        # Do not use sys.stdin, because a thread would have to wait for it.
        trio.lowlevel.FdStream(os.dup(0)) as stdin,
    ):
        report(ready=os.getpid())
        while chunk := await stdin.receive_some():
            *lines, said = (said + chunk).split(b"\n")
            for line in lines:
                match json.loads(line):
                    case {"do": "get"}:
                        nursery.start_soon(get, session)
                    case {"do": "invalidate", "token": token}:
                        session.invalidate(token)
                    case {"do": "wait", "seconds": seconds}:
                        wait_for_store(settings["store"], seconds)
                        report(waits=seconds)
        nursery.cancel_scope.cancel()


class PrintingHandler(logging.Handler):
    """Writes log records to stdout."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line for one record."""
        report(logged=record.getMessage())


def set_wall_clock(by: float) -> None:
    """Change the wall clock for this process by some seconds."""
    true_time = time.time
    time.time = lambda: true_time() + by


def wait_for_store(where: dict[str, str], seconds: float) -> None:
    """Set the timeout of the store, and change the other timeouts in proportion."""
    limits = [(module, "STORE_TIMEOUT") for module in (_access, _link, _watch)]
    limits.append((_sqlite, "BUSY_TIMEOUT"))
    if "url" in where:
        # Processes with a file start sooner without it.
        from trio_anon_session.stores import _coredis

        limits += [(_coredis, "CONNECT_TIMEOUT"), (_coredis, "LISTEN_TIMEOUT")]
    for module, name in limits:
        usual = USUAL.setdefault((module, name), vars(module)[name])
        vars(module)[name] = usual * seconds / USUAL[_access, "STORE_TIMEOUT"]


def hold_the_lock(path: str) -> None:
    """Begin a write transaction in a SQLite file, and keep it until stdin ends."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    report(locked=True)
    sys.stdin.read()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    if "lock" in settings:
        hold_the_lock(settings["lock"])
    else:
        logging.basicConfig(level=logging.INFO, handlers=[PrintingHandler()])
        logging.getLogger("httpx").setLevel(logging.WARNING)
        set_wall_clock(settings.get("wall", 0.0))
        wait_for_store(settings["store"], PATIENT)
        vars(_claimant)["LEASE"] = settings.get("lease", _claimant.LEASE)
        trio.run(main, settings)
