"""Rows 9b, 9c and 9d: a later version, a damaged file, and processes that are killed."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import trio

from tests.stores.valkey import run_valkey
from trio_anon_session.stores._records import mark_of

from .scene import LIFE, SHORT, Lab, Line, Seconds, warned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.stores.valkey import Valkey

    from .scene import Scene, Worker

LIVES = 4
KILLS = 20
SOON = 0.5
"""Seconds after a kill in which a drop arrives, if it arrives."""
LATER_RECORD = json.dumps({"format": 99, "something": "that this version cannot read"})


async def later_version(lab: Lab) -> list[Line]:
    """Put the record of a later version into the store, and start processes that cannot read it."""
    with run_valkey(lab.subfolder("valkey")) as valkey:
        async with lab.scene(valkey.url) as scene:
            await scene.start(1)
            key = f"tas:{{{scene.name}}}:token"
            valkey.do("HSET", key, "record", LATER_RECORD)
            workers = await scene.start()
            is_left = valkey.do("HGET", key, "record") == LATER_RECORD.encode()
            grants = scene.server.grants - 1
    figure = "unchanged" if is_left else "overwritten"
    unit = f"{len(workers)} new processes, {grants} grants; {warned(workers)}"
    return [Line("the store has a record of a later version", figure, unit)]


async def spoilt_file(lab: Lab) -> list[Line]:
    """Overwrite the beginning of the file, and the whole file, with nonsense."""
    lines = []
    for what, size in (("the beginning of the file is damaged", 100), ("all of it", 100_000)):
        path = lab.subfolder(f"sqlite-{size}") / "tokens.db"
        async with lab.scene(f"sqlite:{path}", lifetime=LIFE) as scene:
            workers = await scene.start(**SHORT)
            with path.open("r+b") as file:
                file.write(b"?" * size)
            spoilt_at = time.monotonic()
            with trio.move_on_after(lab.limit) as limit:
                while not _has_token(path):  # noqa: ASYNC110  # no event to wait for
                    await trio.sleep(0.02)
            recovered = Seconds(time.monotonic() - spoilt_at, limit.cancelled_caught)
            before = await scene.tally(workers)
            await scene.live(workers, LIVES)
            counted = await scene.tally(workers) - before
        unit = f"s until a file has a token again; {warned(workers)}"
        lines += [
            Line(what, str(recovered), unit),
            Line(what, str(counted), "grants / lives afterwards"),
        ]
    return lines


def _has_token(path: Path) -> bool:
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db,
    ):
        for (entry,) in db.execute("SELECT entry FROM trio_anon_session"):
            return json.loads(entry)["token"] is not None
    return False


async def killed_after_drop(lab: Lab) -> list[Line]:
    """Kill processes right after they have dropped a token."""
    lines = []
    with run_valkey(lab.subfolder("valkey")) as valkey:
        async with lab.scene(valkey.url) as scene:
            others = await scene.start(2)
            for by, what in (
                (_kill_itself, "invalidate(), and the process kills itself in the same step"),
                (_kill, "invalidate(), and the process is killed when it reports that"),
            ):
                reached = [await _drop_and_kill(valkey, scene, others, by) for _ in range(KILLS)]
                lines.append(Line(what, f"{sum(reached)}", f"of {KILLS} drops reach the others"))
            lines.append(await _find_out(scene, others))
    return lines


async def _drop_and_kill(
    valkey: Valkey,
    scene: Scene,
    others: list[Worker],
    kill: Callable[[Worker, str], Awaitable[None]],
) -> bool:
    """Start a process that drops the token and is killed. Return whether the store has the drop."""
    (worker,) = await scene.start(1)
    token = worker.tokens[-1]
    await kill(worker, token)
    await trio.sleep(SOON)
    has_arrived: int = valkey.do("EXISTS", f"tas:{{{scene.name}}}:dead:{mark_of(token)}")
    if has_arrived:
        await scene.each(others, lambda other: other.leaves(token))
    return bool(has_arrived)


async def _kill_itself(worker: Worker, token: str) -> None:
    await worker.do("invalidate", token=token, die=True)
    await worker.child.process.wait()


async def _kill(worker: Worker, token: str) -> None:
    await worker.drop(token)
    await worker.child.kill()


async def _find_out(scene: Scene, workers: list[Worker]) -> Line:
    """Let one process make a request with a token that is revoked at the server."""
    (dead,) = {worker.tokens[-1] for worker in workers}
    scene.server.revoke(dead)
    used_at = time.monotonic()
    await workers[0].do("use")
    last = await scene.last_use(dead, workers, used_at)
    assert await workers[0].receive("used") == 200
    what = "the drop was lost, and another process makes a request with the token"
    return Line(what, str(last), "s until no process uses it; at most until its end")
