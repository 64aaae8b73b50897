"""Row 1: subscriptions that bring no messages, although nothing fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stores.relay import Relay, open_relay
from tests.stores.valkey import run_valkey

from .scene import Lab, Line, Scene, Seconds, warned

if TYPE_CHECKING:
    from collections.abc import Callable

DROPS, PAUSE = 8, 2.0
"""Number of tokens that are dropped one after the other, and the seconds before each."""
UNIT = "s until no process uses a dropped token, at most"


async def may_not_publish(lab: Lab) -> list[Line]:
    """Drop tokens while no process may publish."""
    with run_valkey(lab.subfolder("valkey")) as valkey:
        valkey.do("ACL", "SETUSER", "default", "-publish")
        async with lab.scene(valkey.url) as scene:
            return [await _drop(scene, "the user may subscribe, but not publish")]


async def leads_elsewhere(lab: Lab) -> list[Line]:
    """Drop tokens after the store's name has moved to another server."""

    def move(relay: Relay, port: int) -> None:
        relay.target = port

    return [await _break_relay(lab, move, "the name moves, and old connections stay open")]


async def forgets(lab: Lab) -> list[Line]:
    """Drop tokens after a router has forgotten all connections."""
    return [
        await _break_relay(lab, lambda relay, _: relay.forget(), "a router forgets all connections")
    ]


async def _break_relay(lab: Lab, spoil: Callable[[Relay, int], None], what: str) -> Line:
    with (
        run_valkey(lab.subfolder("first")) as first,
        run_valkey(lab.subfolder("second")) as second,
    ):
        async with (
            open_relay(first.port) as relay,
            lab.scene(f"redis://127.0.0.1:{relay.port}") as scene,
        ):
            return await _drop(scene, what, lambda: spoil(relay, second.port))


async def _drop(scene: Scene, what: str, spoil: Callable[[], None] = lambda: None) -> Line:
    workers = await scene.start()
    spoil()
    longest = Seconds.longest(await scene.drop_often(workers, DROPS, PAUSE))
    return Line(what, str(longest), f"{UNIT}; {warned(workers)}")
