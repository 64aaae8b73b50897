"""Share one token between the processes of one machine, and count the token requests.

    pip install -e '../..[testing,redis]'
    python fleet.py
    python fleet.py --kill
    python fleet.py --restart
    python fleet.py --revoke

Each command starts the embedded token server on loopback, and several processes in which many
tasks ask for the token all the time. The processes share it through a Valkey that the program
starts (it needs ``valkey-server`` or ``redis-server``), then through a SQLite file, then not at
all. ``--store`` chooses other stores. The table shows the grants that the token server counted.

``--kill`` kills (SIGKILL) the process that holds the lease, once during the life of each token,
and starts another one. ``--restart`` restarts Valkey, which loses its data: once while all
processes have a token, and once while one of them requests the next. ``--revoke`` measures how
long other processes use a token after one process has revoked or invalidated it.

``--round-trip`` adds latency, in seconds, to the Valkey that the program starts, as if it ran in
another region.

Exit code 1 if a task got no token, or if there were more grants than allowed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio
from distance import open_relay
from driving import Fleet, FleetError, Size
from own_valkey import Valkey, find_server

from trio_anon_session.stores import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

DROPS = 5
"""How often a token is revoked, and how often one is invalidated."""
DROPS_LIFETIME = 600.0
"""Lifetime of tokens in this mode, in seconds, so that none expires."""
SLOW = 0.7
"""Seconds until the endpoint answers, if Valkey restarts during the request."""
DOWN = 0.5
"""Seconds between the stop and the start of Valkey."""
LIFETIME = 6.0
"""Lifetime of tokens in seconds, by default."""
LIFETIME_OF_A_RESTART = 12.0
"""Lifetime of tokens if Valkey restarts: a process waits for it while its token lasts."""
LIMIT = 600.0
"""Seconds after which a run fails."""

Act = Callable[[Fleet, int], Awaitable[None]]
"""A function that is called in the life of each token, with its number."""


@attrs.frozen
class Way:
    """One way to share a token.

    Attributes:
        name: the name in the table.
        store: the store of the processes: ``redis://...``, ``sqlite:PATH`` or ``none``.
        valkey: the server, if this program has started it.
    """

    name: str
    store: str
    valkey: Valkey | None = None

    @property
    def is_shared(self) -> bool:
        """Whether the processes use a store."""
        return self.store != "none"


@attrs.frozen
class Run:
    """A run over the lives of a few tokens, and its limits.

    Attributes:
        name: the name in the table.
        store: the store of the processes.
        extra_grants: how many grants are allowed in addition to one for each life.
        act: called in each life.
        delay: seconds until the token endpoint answers.
        hanging: number of requests that get no answer: the first, the third, and so on.
    """

    name: str
    store: str
    extra_grants: int = 0
    act: Act | None = None
    delay: float = 0.0
    hanging: int = 0


async def run_lives(size: Size, lives: int, run: Run) -> Fleet:
    """Run a fleet until each process has had this number of tokens, and return the fleet."""
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            fleet = Fleet(nursery, size, run.store)
            await fleet.start(run.delay, run.hanging)
            for life in range(1, lives + 1):
                if run.act is not None:
                    await run.act(fleet, life)
                await fleet.hear_until(partial(fleet.have_all_had, life))
            await fleet.stop()
    return fleet


async def kill_holder(fleet: Fleet, _life: int) -> None:
    """Kill the process that requests the next token."""
    await fleet.wait_for_request()
    await fleet.kill(await fleet.find_holder())


async def restart(
    valkey: Valkey, in_life: int, while_asking: bool, fleet: Fleet, life: int
) -> None:
    """Restart Valkey in one life, between token requests or during one."""
    if life != in_life:
        return
    if while_asking:
        await fleet.wait_for_request()
    await valkey.stop()
    await trio.sleep(DOWN)
    await valkey.start()


async def run_drops(size: Size, store: str) -> tuple[Fleet, dict[str, list[float]]]:
    """Revoke some tokens, and invalidate others.

    Returns:
        The fleet, and for both ways the seconds until the last other process stopped using the
        token.
    """
    took: dict[str, list[float]] = {"revoke": [], "invalidate": []}
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            fleet = Fleet(nursery, size, store)
            await fleet.start()
            await fleet.hear_until(partial(fleet.have_all_had, 1))
            for number in range(DROPS * len(took)):
                how = list(took)[number % len(took)]
                worker = fleet.workers[number % len(fleet.workers)]
                await worker.child.say(do=how)
                await fleet.hear_until(partial(fleet.have_all_had, number + 2))
                last = max(each.before_until for each in fleet.workers if each is not worker)
                took[how].append(max(0.0, last - worker.dropped_at))
            await fleet.stop()
    return fleet, took


# Output


def print_cells(*cells: object) -> None:
    """Print a line of a table without buffering."""
    first, *rest = map(str, cells)
    print(first.ljust(26) + "".join(cell.rjust(10) for cell in rest), flush=True)


def problems_of(name: str, fleet: Fleet, grants_at_most: int) -> list[str]:
    """Return what is wrong, in words."""
    problems = [f"a task got no token: {error}" for error in fleet.failed]
    assert fleet.grants is not None
    if fleet.grants > grants_at_most:
        problems.append(f"{fleet.grants} grants, at most {grants_at_most} expected")
    if fleet.came_back:
        problems.append("a process used an older token again")
    return [f"{name}: {problem}" for problem in problems]


def print_log(logs: Sequence[tuple[str, Fleet]]) -> None:
    """Print the log messages of the processes."""
    for name, fleet in logs:
        for message, count in fleet.logged.items():
            print(f"{name}, {count} x: {message}")


async def show_lives(size: Size, lives: int, runs: Sequence[Run]) -> list[str]:
    """Do all runs, print their results, and return what is wrong, in words."""
    problems, logs = [], []
    print_cells("", "processes", "tasks", "lives", "kills", "grants", "gets", "failed", "held for")
    for run in runs:
        fleet = await run_lives(size, lives, run)
        logs.append((run.name, fleet))
        had = max(len(worker.tokens) for worker in fleet.workers)
        print_cells(
            run.name,
            size.processes,
            size.processes * size.tasks,
            had,
            fleet.kills,
            fleet.grants,
            f"{sum(worker.gets or 0 for worker in fleet.workers):,}",
            len(fleet.failed),
            f"{max(worker.longest_hold for worker in fleet.workers):.3f} s",
        )
        each = size.processes if run.store == "none" else 1
        problems += problems_of(run.name, fleet, had * each + run.extra_grants)
    print_log(logs)
    return problems


async def show_drops(size: Size, ways: Sequence[Way]) -> list[str]:
    """Drop tokens in each way, print how long it took, and return what is wrong, in words."""
    size = attrs.evolve(size, lifetime=DROPS_LIFETIME)
    problems, logs = [], []
    print_cells("", "dropped by", "times", "median", "longest")
    for way in ways:
        fleet, took = await run_drops(size, way.store)
        logs.append((way.name, fleet))
        for how, seconds in took.items():
            median, longest = statistics.median(seconds), max(seconds)
            print_cells(way.name, how, len(seconds), f"{median:.3f} s", f"{longest:.3f} s")
        problems += problems_of(way.name, fleet, 1 + DROPS * len(took))
    print_log(logs)
    return problems


# The command line


async def find_ways(stores: Sequence[str], round_trip: float, stack: AsyncExitStack) -> list[Way]:
    """Return the ways that the command line names, and print which are not available.

    Args:
        stores: the stores of the command line.
        round_trip: latency to the program's own Valkey and back, in seconds.
        stack: closes the stores.
    """
    ways = []
    for store in stores:
        if store == "valkey":
            program = find_server()
            if program is None:
                print("no valkey-server or redis-server on the PATH: there is no run with Valkey")
            elif find_spec("coredis") is None:
                print("coredis is not installed: there is no run with Valkey")
            else:
                valkey = await stack.enter_async_context(Valkey(program))
                url = valkey.url
                if round_trip:
                    port = await stack.enter_async_context(open_relay(valkey.port, round_trip))
                    url = f"redis://127.0.0.1:{port}/0"
                ways.append(Way("Valkey", url, valkey))
        elif store == "sqlite":
            folder = tempfile.mkdtemp()
            stack.callback(shutil.rmtree, folder)
            ways.append(Way("SQLite", f"sqlite:{Path(folder, 'tokens.db')}"))
        elif store == "none":
            ways.append(Way("no store", store))
        else:
            ways.append(Way(store.partition(":")[0], store))
    return ways


def plan(wishes: argparse.Namespace, ways: Sequence[Way]) -> list[Run]:
    """Return the runs that the command line asks for."""
    shared = [way for way in ways if way.is_shared]
    if wishes.kill:
        kills = wishes.lives
        return [Run(way.name, way.store, kills, kill_holder, hanging=kills) for way in shared]
    if not wishes.restart:
        return [Run(way.name, way.store) for way in ways]
    runs = []
    for way in shared:
        if way.valkey is not None:
            act = partial(restart, way.valkey, wishes.lives // 2 + 1)
            runs += [
                Run(f"{way.name}, between grants", way.store, 0, partial(act, False)),
                # The process that sent this request cannot store its token, so others send one.
                Run(f"{way.name}, during a grant", way.store, 1, partial(act, True), delay=SLOW),
            ]
    return runs


async def main(wishes: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code."""
    size = Size(wishes.processes, wishes.tasks, wishes.lifetime)
    async with AsyncExitStack() as stack:
        stores = wishes.store or ["valkey", "sqlite", "none"]
        ways = await find_ways(stores, wishes.round_trip, stack)
        try:
            if wishes.revoke:
                problems = await show_drops(size, [way for way in ways if way.is_shared])
            else:
                problems = await show_lives(size, wishes.lives, plan(wishes, ways))
        except* (FleetError, StoreError) as errors:
            problems = [str(error) for error in errors.exceptions]
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="One token for a fleet of processes.")
    parser.add_argument("--processes", type=int, default=8, help="2 or more")
    parser.add_argument("--tasks", type=int, default=50, help="in each process")
    parser.add_argument("--lives", type=int, default=5, help="tokens that each process sees")
    parser.add_argument(
        "--lifetime",
        type=float,
        help=f"seconds a token lives; {LIFETIME:g}, or {LIFETIME_OF_A_RESTART:g} for --restart",
    )
    parser.add_argument(
        "--store",
        action="append",
        help="valkey or sqlite (started for the run), redis://..., sqlite:PATH or none; repeatable",
    )
    parser.add_argument(
        "--round-trip",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="latency to the program's own Valkey and back; 0 by default",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--kill", action="store_true", help="kill the process that holds the lease")
    mode.add_argument("--restart", action="store_true", help="restart the program's own Valkey")
    mode.add_argument("--revoke", action="store_true", help="revoke tokens, and measure")
    wishes = parser.parse_args(arguments)
    if wishes.lifetime is None:
        wishes.lifetime = LIFETIME_OF_A_RESTART if wishes.restart else LIFETIME
    if wishes.processes < 2:
        parser.error(f"--processes must be 2 or more, got {wishes.processes}")
    return wishes


if __name__ == "__main__":
    sys.exit(trio.run(main, parse()))
