"""Rows 3 and 9a: a cluster that breaks, and one that moves keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.stores.cluster import owner_of, run_cluster, slot_of, wait_for_cluster

from .scene import LIFE, SHORT, Lab, Line, warned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.stores.valkey import Valkey

    from .scene import Scene, Worker

LIVES = 6
"""Number of lives of tokens that are counted after the fault."""
HALF_WAY = 0.7
"""Seconds in which each server has a part of the keys; a call waits for one second."""
STABLE = 0.3
"""Seconds between two such times."""


async def dies(lab: Lab) -> list[Line]:
    """Kill the server that the URL names, and pause the one that has the keys."""
    options = "--cluster-require-full-coverage", "no"
    with run_cluster(lab.folder, *options, count=3) as servers:
        await wait_for_cluster(*servers)
        async with lab.scene("", lifetime=LIFE) as scene:
            keys = owner_of(slot_of(servers[0], scene.name), servers)
            named, other = (server for server in servers if server is not keys)
            scene.store = named.url
            workers = await scene.start(**SHORT)
            await scene.live(workers, 1)
            named.stop()
            keys.pause()
            # This is longer than the time until a token is STALE.
            await trio.sleep(LIFE * 2 / 3)
            keys.resume()
            before = await scene.tally(workers)
            await scene.live(workers, LIVES)
            after = await scene.tally(workers)
            what = "the URL's node dies, and the keys' node pauses once"
            several = f"{named.url},127.0.0.1:{other.port}"
            return [
                Line(what, str(after - before), "grants / lives afterwards"),
                Line(what, str(after), "grants / lives in total"),
                await _start_another(scene, workers, several),
            ]


async def _start_another(scene: Scene, workers: Sequence[Worker], url: str) -> Line:
    (newcomer,) = await scene.open(1, url, **SHORT)
    await newcomer.do("begin")
    if await newcomer.child.receive("token") is None:
        figure = "no: the URL is refused"
    else:
        await scene.live([*workers, newcomer], 2)
        is_shared = any(newcomer.tokens[0] in worker.tokens for worker in workers)
        figure = "yes" if is_shared else "no"
    return Line("a new process whose URL names two servers", figure, "gets the shared token")


async def moves(lab: Lab) -> list[Line]:
    """Move the keys between two servers all the time, and leave them half-way at the end."""
    with run_cluster(lab.folder) as servers:
        await wait_for_cluster(*servers)
        async with lab.scene("", lifetime=LIFE) as scene:
            slot = slot_of(servers[0], scene.name)
            source = owner_of(slot, servers)
            (target,) = (server for server in servers if server is not source)
            scene.store = source.url
            workers = await scene.start(**SHORT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_keep_moving, slot, source, target)
                await scene.live(workers, LIVES)
                moving = await scene.tally(workers)
                nursery.cancel_scope.cancel()
            # The last move may have gone in either direction.
            _begin(slot, *_by_keys(slot, source, target))
            before = await scene.tally(workers)
            await scene.live(workers, LIVES)
            stuck = await scene.tally(workers) - before
            unit = "grants / lives"
            return [
                Line(
                    f"the keys move; half-way for {HALF_WAY:g} s of each second", str(moving), unit
                ),
                Line("the keys stay half-way", str(stuck), f"{unit}; {warned(workers)}"),
            ]


def _by_keys(slot: int, *servers: Valkey) -> list[Valkey]:
    """Return the servers, the one that has more keys first."""
    return sorted(servers, key=lambda server: -server.do("CLUSTER", "COUNTKEYSINSLOT", slot))


async def _keep_moving(slot: int, source: Valkey, target: Valkey) -> None:
    while True:
        _begin(slot, source, target)
        try:
            await trio.sleep(HALF_WAY)
        finally:
            _finish(slot, source, target)
        await trio.sleep(STABLE)
        source, target = target, source


def _begin(slot: int, source: Valkey, target: Valkey) -> None:
    """Move the half of the keys."""
    ids = [server.do("CLUSTER", "MYID") for server in (source, target)]
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    keys = source.do("CLUSTER", "GETKEYSINSLOT", slot, 100)
    _move(keys[: (len(keys) + 1) // 2], source, target)


def _finish(slot: int, source: Valkey, target: Valkey) -> None:
    """Move the other half."""
    _move(source.do("CLUSTER", "GETKEYSINSLOT", slot, 100), source, target)
    number = target.do("CLUSTER", "MYID")
    for server in (target, source):
        server.do("CLUSTER", "SETSLOT", slot, "NODE", number)


def _move(keys: Sequence[bytes], source: Valkey, target: Valkey) -> None:
    for key in keys:
        source.do("MIGRATE", "127.0.0.1", target.port, key, 0, 1000)
