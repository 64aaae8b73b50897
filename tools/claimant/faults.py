"""Faults of processes and of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.claimant import calls
from tools.claimant.world import FAILED, Process, copy_of
from trio_anon_session.stores._clock import Span
from trio_anon_session.stores._entry import Entry, Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.claimant.world import World
    from tools.exploring.search import Event


STOPPED = ("claim", "request", "put")
"""Steps at which a process has a lease or claims one."""


def add(world: World, found: list[Event]) -> None:
    """Add the possible faults, and the events that end them."""
    if world.is_down:
        found.append(("outage ends",))
    for number, process in enumerate(world.processes):
        if process.is_stopped:
            found.append(("continue", number))
    if not world.faults or (world.bounds.early and world.tokens > 1):
        return
    for kind in world.bounds.kinds:
        match kind:
            case "crash":
                found += [
                    (kind, number)
                    for number, process in enumerate(world.processes)
                    if any(lane.step for lane in process.lanes)
                ]
            case "stop":
                # At other steps, a stop only delays the process.
                found += [
                    (kind, number)
                    for number, process in enumerate(world.processes)
                    if process.asking.step in STOPPED
                ]
            case "lost write" | "lost answer":
                _add_losses(world, kind, found)
            case "flush" | "outage" if not world.is_down:
                found.append((kind,))
            case "restore":
                if world.copy is not None:
                    # Two leases are never taken in the same microsecond.
                    is_later = all(each.claimed_at < world.now for each in world.processes)
                    if world.copy != world.entry and is_later:
                        found.append(("restore",))
                elif not any(process.is_open for process in world.processes):
                    # Copy only between two questions.
                    found.append(("copy",))
            case "clock":
                found += [("clock", step) for step in world.bounds.clock]
            case "stuck" if not world.is_down:
                found.append((kind,))
            case "restart":
                found.append(("restart",))


def _add_losses(world: World, kind: str, found: list[Event]) -> None:
    for number, process in enumerate(world.processes):
        for place, lane in enumerate(process.lanes):
            call = lane.call
            # The store does not execute a lost call. If the store executes calls immediately, the
            # loss must come before the call.
            if call is None or call.reply is FAILED or process.is_stopped:
                continue
            # A lost look is like a lost answer to a look.
            is_write = not call.is_done and call.kind != "look"
            if call.is_done if kind == "lost answer" else is_write:
                found.append((kind, number, place))


def _comes(world: World) -> None:
    world.faults -= 1
    world.referee.need()
    world.referee.excuse(world)


def crash(world: World, number: int) -> str:
    """Let a process die, and start another one in its place."""
    _comes(world)
    world.processes[number] = Process(world.processes[number].name, world.config)
    return ""


def stop(world: World, number: int) -> str:
    """Stop a process for a while. The store still executes its calls."""
    _comes(world)
    world.processes[number].is_stopped = True
    return ""


def go_on(world: World, number: int) -> str:
    """Let a stopped process continue."""
    world.processes[number].is_stopped = False
    world.referee.excuse(world)
    # Its question may be long outdated, so it may request one more token.
    world.referee.need()
    return ""


def lost_write(world: World, number: int, place: int) -> str:
    """Lose a call before the store executes it. The process gets an error."""
    _comes(world)
    calls.lose(world.processes[number].lanes[place])
    return ""


def lost_answer(world: World, number: int, place: int) -> str:
    """Lose the answer after the store has executed the call. The process gets an error."""
    _comes(world)
    lane = world.processes[number].lanes[place]
    calls.lose(lane)
    return str(lane.call.kind) if lane.call is not None else ""


def flush(world: World) -> str:
    """Let the store lose all its data."""
    _replace(world, Entry.new(world.store_time()))
    # The version grows as if half a millisecond had passed.
    world.entry.version += 500
    world.referee.kept = None
    return ""


def copy(world: World) -> str:
    """Make a copy of the store's data."""
    world.copy, world.copy_kept = copy_of(world.entry), world.referee.kept
    return ""


def restore(world: World) -> str:
    """Restore the copy of the store's data."""
    assert world.copy is not None
    _replace(world, world.copy)
    world.referee.kept = world.copy_kept
    world.copy = world.copy_kept = None
    return ""


def _replace(world: World, entry: Entry) -> None:
    _comes(world)
    world.entry = entry
    world.referee.loses(world)
    # All connections were lost, so the watches look.
    calls.news(world)


def clock(world: World, step: float) -> str:
    """Set the store's clock."""
    _comes(world)
    world.skew += step
    world.referee.loses(world)
    return "forward" if step > 0 else "back"


def stuck(world: World) -> str:
    """Put a lease that does not end into the store."""
    _comes(world)
    world.entry.version += 1
    world.entry.lease = Lease("nobody", Span(world.store_time(), ENDLESS))
    world.referee.need(len(world.processes))
    return ""


ENDLESS = 1000.0


def restart(world: World) -> str:
    """Restart the store's machine, without loss of data."""
    _comes(world)
    world.booted_at = world.now
    world.referee.loses(world)
    return ""


def outage(world: World) -> str:
    """Let all calls of the store fail for a while."""
    _comes(world)
    world.is_down = True
    for process in world.processes:
        for lane in process.lanes:
            if lane.call is not None:
                calls.lose(lane)
    return ""


def outage_ends(world: World) -> str:
    """End an outage."""
    world.is_down = False
    # During the outage, each process may have requested its own token.
    world.referee.need(len(world.processes))
    world.referee.excuse(world)
    return ""


EVENTS: dict[str, Callable[..., str]] = {
    "crash": crash,
    "stop": stop,
    "continue": go_on,
    "lost write": lost_write,
    "lost answer": lost_answer,
    "flush": flush,
    "copy": copy,
    "restore": restore,
    "clock": clock,
    "restart": restart,
    "stuck": stuck,
    "outage": outage,
    "outage ends": outage_ends,
}
