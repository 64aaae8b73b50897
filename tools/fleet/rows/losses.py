"""Row 2: a store that loses a drop.

One process is stopped while the token is dropped, so that it gets no message. After the store has
lost the drop, that process continues, and a new process starts.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import trio

from tests.stores.relay import open_relay
from tests.stores.valkey import PATIENCE, Valkey, run_valkey

from .scene import Lab, Line, Scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LATER = 3.0
"""Seconds after a drop from which the processes no longer expect the store to confirm it."""
UNIT = "s after the loss a process uses the dropped token, at most"


async def flushed(lab: Lab) -> list[Line]:
    """Delete all data, immediately after the drop and later."""
    lines = []
    for what, pause in (("right after a drop", 0.0), (f"{LATER:g} s after a drop", LATER)):
        with run_valkey(lab.subfolder(f"flushed-{pause:g}")) as valkey:
            async with lab.scene(valkey.url) as scene:

                def lose(valkey: Valkey = valkey) -> None:
                    valkey.do("FLUSHALL")

                lines.append(await _lose(scene, f"FLUSHALL {what}", lose, pause=pause))
    return lines


async def restarted(lab: Lab) -> list[Line]:
    """Restart a server that saves nothing."""
    with run_valkey(lab.subfolder("restarted")) as valkey:
        async with lab.scene(valkey.url) as scene:
            return [await _lose(scene, "restart without persistence", lambda: _restart(valkey))]


async def old_dump(lab: Lab) -> list[Line]:
    """Restart a server from what it saved before the drop."""
    with run_valkey(lab.subfolder("dumped")) as valkey:
        async with lab.scene(valkey.url) as scene:

            def save() -> None:
                valkey.do("SAVE")

            what = "restart from a dump that is older than the drop"
            return [await _lose(scene, what, lambda: _restart(valkey), before=save)]


def _restart(valkey: Valkey) -> None:
    valkey.stop()
    valkey.start()


async def lagging_replica(lab: Lab) -> list[Line]:
    """Promote a replica that the drop has not reached."""
    with run_valkey(lab.subfolder("primary"), "--repl-diskless-sync-delay", "0") as primary:
        async with open_relay(primary.port) as replication, open_relay(primary.port) as relay:
            source = "--replicaof", "127.0.0.1", str(replication.port)
            with run_valkey(lab.subfolder("replica"), *source) as replica:

                def promote() -> None:
                    relay.target = replica.port
                    primary.stop()
                    replica.do("REPLICAOF", "NO", "ONE")

                async with lab.scene(f"redis://127.0.0.1:{relay.port}") as scene:
                    await scene.start(1)
                    with trio.fail_after(PATIENCE):
                        while not replica.key_names():  # noqa: ASYNC110  # no event to wait for
                            await trio.sleep(0.01)
                    what = "promotion of a replica that the drop has not reached"
                    return [await _lose(scene, what, promote, before=replication.forget)]


async def old_file(lab: Lab) -> list[Line]:
    """Restore an older copy of a file."""
    path = lab.subfolder("sqlite") / "tokens.db"
    copy = path.with_name("copy.db")
    async with lab.scene(f"sqlite:{path}") as scene:
        return [
            await _lose(
                scene,
                "an old file of SQLite is put back",
                lambda: _put_back(copy, path),
                before=lambda: _copy(path, copy),
            )
        ]


def _copy(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.chmod(0o600)


def _put_back(copy: Path, path: Path) -> None:
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    os.replace(copy, path)


async def _lose(
    scene: Scene,
    what: str,
    lose: Callable[[], None],
    *,
    before: Callable[[], None] = lambda: None,
    pause: float = 0.0,
) -> Line:
    """Drop a token, lose the drop, and measure how long processes use the token.

    Args:
        scene: the scene.
        what: the description of the loss.
        lose: causes the loss.
        before: called before the drop.
        pause: seconds from the drop to the loss.
    """
    first, second, stopped = workers = await scene.start()
    (newcomer,) = await scene.open(1)
    before()
    dead = first.tokens[-1]
    await stopped.child.pause()
    await first.drop(dead)
    await scene.each([first, second], lambda worker: worker.leaves(dead))
    await trio.sleep(pause)
    lose()
    lost_at = time.monotonic()
    stopped.child.resume()
    await newcomer.do("begin")
    old = await scene.last_use(dead, workers, lost_at)
    new = await scene.last_use(dead, [newcomer], lost_at)
    return Line(what, str(max(old, new, key=lambda each: each.value)), f"{UNIT}; a new one {new}")
