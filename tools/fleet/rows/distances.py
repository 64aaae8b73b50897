"""Rows 7 and 8: a store that is far away."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import trio

from tests.stores.relay import open_relay
from tests.stores.valkey import run_valkey

from .scene import Lab, Line, Seconds

if TYPE_CHECKING:
    from tests.stores.valkey import Valkey

    from .scene import Scene, Worker

CLAIMS = 50
SOON = 0.5
"""Seconds after a cancellation within which the lease must be released."""
FAR = 0.1
"""Seconds of a round trip for claims that are cancelled."""
ROUND_TRIPS = 0.0, 0.1, 0.3
DROPS, PAUSE = 9, 4.0


async def cancelled_claims(lab: Lab) -> list[Line]:
    """Cancel claims at many moments before the server has answered."""
    taken = left = 0
    with run_valkey(lab.subfolder("valkey")) as valkey:
        async with (
            open_relay(valkey.port, FAR) as relay,
            lab.scene(f"redis://127.0.0.1:{relay.port}") as scene,
        ):
            # Attempts never end by themselves.
            scene.server.hold_answers()
            workers = await scene.open()
            for worker in workers:
                await worker.do("ask")
            for number in range(CLAIMS):
                part = (number + 0.5) / CLAIMS
                was_taken, is_left = await _cancel(
                    valkey, scene, workers[number % len(workers)], part
                )
                taken += was_taken
                left += is_left
    what = f"{CLAIMS} claims are cancelled, {FAR * 1000:g} ms away; the server saw {taken}"
    return [Line(what, str(left), f"leases are left after {SOON:g} s")]


async def _cancel(valkey: Valkey, scene: Scene, worker: Worker, part: float) -> tuple[bool, bool]:
    """Cancel a claim after a part of its time.

    Returns:
        Whether the server gave the lease, and whether the lease remains.
    """
    valkey.do("FLUSHALL")
    # The second look takes as long as the look before the claim, and as long as the claim.
    for _ in range(2):
        await worker.do("look")
        question = await worker.receive("asked")
    state, lease = (f"tas:{{{scene.name}}}:{part}" for part in ("state", "lease"))
    version = valkey.do("HGET", state, "version")
    await worker.do("get", seconds=question * (1 + part))
    await worker.receive("asked")
    await trio.sleep(SOON)
    return valkey.do("HGET", state, "version") != version, valkey.do("PTTL", lease) > 0


async def round_trips(lab: Lab) -> list[Line]:
    """Drop tokens, and call the store, at several distances."""
    lines = []
    with run_valkey(lab.subfolder("valkey")) as valkey:
        for seconds in ROUND_TRIPS:
            valkey.do("FLUSHALL")
            async with (
                open_relay(valkey.port, seconds) as relay,
                lab.scene(f"redis://127.0.0.1:{relay.port}") as scene,
            ):
                (asker,) = await scene.open(1)
                await asker.do("ask")
                asked: list[float] = []
                for _ in range(2):
                    await asker.do("look")
                    asked.append(await asker.receive("asked"))
                workers = await scene.start()
                times = await scene.drop_often(workers, DROPS, PAUSE)
            where = f"at a round trip of {seconds * 1000:g} ms"
            lines += [
                Line(
                    f"invalidate() {where}",
                    str(Seconds.longest(times)),
                    f"s until no other process uses the token, longest of {len(times)}; "
                    f"median {statistics.median(each.value for each in times):.2f}",
                ),
                Line(f"a first store call {where}", f"{asked[0]:.2f}", "s"),
                Line(f"a later store call {where}", f"{asked[1]:.3f}", "s"),
            ]
    return lines
