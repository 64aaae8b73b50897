"""Calls of the store: sent by a process, executed by the store, and answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tools.claimant.world import FAILED, Call, mark_of_name
from tools.exploring.promises import BrokenPromiseError

if TYPE_CHECKING:
    from tools.claimant.world import Lane, Process, World
    from trio_anon_session.stores._known import Asked
    from trio_anon_session.stores._protocol import StoredToken

READS = ("look",)
PROMPT = ("put", "release", "drop")
"""Calls that are answered immediately if `Bounds.prompt` is set. They are last steps."""


def send(
    world: World,
    process: Process,
    lane: Lane,
    kind: str,
    *args: object,
    asked: Asked | None = None,
) -> None:
    """Send a call."""
    lane.call = Call(kind, args, asked, world.now)
    if world.is_down:
        lose(lane)
    elif not world.bounds.halves:
        do(world, process, lane)


def lose(lane: Lane) -> None:
    """Lose a call: the store never executes it, and the process gets an error."""
    assert lane.call is not None
    lane.call = lane.call._replace(is_done=True, reply=FAILED)


def do(world: World, process: Process, lane: Lane) -> None:
    """Let the store execute a call."""
    call = lane.call
    assert call is not None
    if call.kind == "look":
        lane.call = _look(world, process, lane, call)
        return
    reply = getattr(world.entry, call.kind)(world.store_time(), *call.args)
    lane.call = call._replace(is_done=True, reply=reply)
    referee = world.referee
    match call.kind:
        case "claim" if reply is not None:
            referee.orders += 1
            process.order = referee.orders
            process.claimed_at = world.now
            process.is_excused = False
        case "put" if reply:
            stored = cast("StoredToken", call.args[1])
            name = name_of_mark(world, stored.mark)
            referee.keeps(world, process, name)
            # The token is valid again, even if it was issued before the drop.
            referee.forgets(world, name)
        case "release":
            _released(world, call)
        case "drop":
            referee.drops(name_of_mark(world, str(call.args[0])))
            referee.excuse(world)
    if call.kind == "drop":
        news(world)


def news(world: World) -> None:
    """Let the watches look. Without drops no promise depends on their looks."""
    if world.bounds.watch and world.drops < world.bounds.drops:
        for process in world.processes:
            process.has_news = True


def _released(world: World, call: Call) -> None:
    failure, entry = call.args[1], world.entry.failure
    if failure is None or entry is None or entry.fence != call.args[0]:
        return
    world.referee.pause_until = world.now + cast("float", call.args[2])
    for process in world.processes:
        process.failed_since = True


def _look(world: World, process: Process, lane: Lane, call: Call) -> Call:
    entry, time = world.entry, world.store_time()
    before = (entry.version, entry.token, entry.lease, entry.failure, dict(entry.dead))
    reply = entry.look(time, cast("tuple[str, ...]", call.args))
    if before != (entry.version, entry.token, entry.lease, entry.failure, entry.dead):
        raise BrokenPromiseError(7, "a look changes the store")
    names = world.referee.facts
    shown = entry.look(time, [mark_of_name(name) for name in names])
    dead = frozenset(name for name in names if mark_of_name(name) in shown.dead)
    if lost := lane.expects - dead:
        raise BrokenPromiseError(3, f"{process.name} does not report {min(lost)} again")
    stored = None if shown.token is None else name_of_mark(world, shown.token.mark)
    return call._replace(is_done=True, reply=reply, shown=(dead, stored))


def name_of_mark(world: World, mark: str) -> str:
    """Return the name of a token."""
    return next(name for name in world.referee.facts if mark_of_name(name) == mark)


def receive(world: World, process: Process, lane: Lane) -> Call:
    """Let a process receive the answer, and return the call with the answer."""
    call = lane.call
    assert call is not None
    lane.call = None
    if call.reply is FAILED:
        process.took = world.now - call.sent_at
    return call


def fails(world: World, process: Process, doing: str) -> None:
    """Record that the store failed, like `StoreAccess.record_failure`."""
    is_news = not process.trouble
    if process.trouble != "read":
        process.trouble = doing
    if is_news:
        process.trouble_at = world.now


def works(process: Process, doing: str) -> None:
    """Record that the store works, like `StoreAccess.record_success`."""
    if process.trouble == doing:
        process.trouble = ""
        process.trouble_at = float("-inf")
