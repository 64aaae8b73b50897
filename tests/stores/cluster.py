"""A cluster of real servers, to which the test assigns the slots."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import trio

from tests.ports import server_port

from .valkey import PATIENCE, Valkey, run_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SLOTS = 16384
"""The number of slots of a cluster."""


@contextmanager
def run_cluster(folder: Path, *options: str, count: int = 2) -> Iterator[tuple[Valkey, ...]]:
    """Run `count` servers, each with an equal share of the slots."""
    with ExitStack() as stack:
        servers, buses = [], []
        for nth in range(count):
            bus = stack.enter_context(server_port())
            place = folder / str(nth)
            place.mkdir()
            own = "--cluster-enabled", "yes", "--cluster-port", str(bus)
            servers.append(stack.enter_context(run_valkey(place, *own, *options)))
            buses.append(bus)
        for nth, server in enumerate(servers):
            slots = range(SLOTS * nth // count, SLOTS * (nth + 1) // count)
            server.do("CLUSTER", "ADDSLOTS", *slots)
            # Otherwise, two servers may take the same epoch, and need some time to agree.
            server.do("CLUSTER", "SET-CONFIG-EPOCH", nth + 1)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            servers[0].do("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        yield tuple(servers)


async def wait_for_cluster(*servers: Valkey) -> None:
    """Wait until the servers of a cluster know each other."""
    for server in servers:
        with server.connect() as connection, trio.fail_after(PATIENCE):
            while b"cluster_state:ok" not in connection.do("CLUSTER", "INFO"):  # noqa: ASYNC110  # servers send no event for it
                await trio.sleep(0.01)


def slot_of(server: Valkey, store_name: str) -> int:
    """Return the slot of a name's keys."""
    slot: int = server.do("CLUSTER", "KEYSLOT", f"tas:{{{store_name}}}:token")
    return slot


def owner_of(slot: int, servers: Sequence[Valkey]) -> Valkey:
    """Return the server that got a slot at the start."""
    count = len(servers)
    return next(each for nth, each in enumerate(servers) if slot < SLOTS * (nth + 1) // count)
