"""Reports of drops and looks, as in `StoreLink` and `Watch`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tools.claimant.bounds import ABOUT_TO_END, CONFIRM_AFTER, POLL_INTERVAL
from tools.claimant.calls import fails, name_of_mark, receive, send, works
from tools.claimant.world import FAILED, mark_of_name
from tools.exploring.promises import BrokenPromiseError
from trio_anon_session.stores._protocol import Look

if TYPE_CHECKING:
    from tools.claimant.world import Call, Lane, Process, World


def report_drops(world: World, process: Process, lane: Lane, then: str) -> bool:
    """Begin to report drops. Return whether there is nothing left to report."""
    lane.then = then
    if process.reporter:
        lane.step = "lock"
        process.queue += (lane.name,)
        return False
    known = process.claimant.known
    known.forget_the_old(world.at())
    may_report = process.report_at <= world.now
    lane.expects = frozenset(_to_report(world, process)) if may_report else frozenset()
    process.reporter = lane.name
    lane.todo = tuple(known.untold)
    return _report_next(world, process, lane)


def _to_report(world: World, process: Process) -> list[str]:
    """Return the names of the dropped tokens that must be reported to the store now."""
    facts = world.referee.facts
    return [
        name
        for name, looks in process.knows.items()
        if looks > 1 and facts[name].ends_at - world.now > ABOUT_TO_END
    ]


def _report_next(world: World, process: Process, lane: Lane) -> bool:
    known = process.claimant.known
    while lane.todo:
        if process.report_at > world.now:
            break
        mark, *rest = lane.todo
        lane.todo = tuple(rest)
        if mark in known.untold:
            lane.step = "report"
            send(world, process, lane, "drop", mark, known.left_of(mark, world.at()))
            return False
    end_report(process, lane)
    return True


def end_report(process: Process, lane: Lane) -> None:
    """Let another task report drops."""
    lane.todo = ()
    process.reporter = ""


def report_answered(world: World, process: Process, lane: Lane) -> bool:
    """Receive the answer to a report. Return whether all drops are reported."""
    call = receive(world, process, lane)
    mark = str(call.args[0])
    if call.reply is FAILED:
        fails(world, process, "write")
        process.report_at = world.now + POLL_INTERVAL
        lane.expects = frozenset()
    else:
        process.claimant.known.record_report(mark, world.at())
        process.reported_at[name_of_mark(world, mark)] = world.now
    return _report_next(world, process, lane)


def look(world: World, process: Process, lane: Lane, step: str) -> None:
    """Begin a look."""
    process.looks = min(process.looks + 1, 2)
    asked = process.claimant.known.to_ask_about(world.at())
    lane.step = step
    lane.given = process.given
    # The store need not show a drop that was reported a moment ago.
    lane.knew = frozenset(
        name
        for name in process.knows
        if process.reported_at.get(name, -math.inf) + CONFIRM_AFTER <= world.now
    )
    send(world, process, lane, "look", *asked, asked=asked)


def looked(world: World, process: Process, lane: Lane) -> tuple[Look, float] | None:
    """Receive the answer to a look. Return it with its start time, or None if it failed."""
    call = receive(world, process, lane)
    given, knew = lane.given, lane.knew
    lane.given = lane.knew = lane.expects = frozenset()
    if call.reply is FAILED:
        fails(world, process, "read")
        return None
    works(process, "read")
    assert isinstance(call.reply, Look)
    assert call.asked is not None
    dropped = process.claimant.see(call.reply, call.sent_at, call.asked, world.at())
    names = {token.access_token for token in dropped}
    _check(world, process, call, (given, knew), names)
    if process.held is not None and process.held.access_token in names:
        process.held = None
    return call.reply, call.sent_at


def _check(
    world: World,
    process: Process,
    call: Call,
    before: tuple[frozenset[str], frozenset[str]],
    reported: set[str],
) -> None:
    """Check which drops a look reports, and record what the process knows from now on."""
    facts, shown = world.referee.facts, call.shown
    for name in reported:
        held, fact = process.held, facts[name]
        # The server may have issued the token again to another process, and this process has the
        # old one.
        kept = world.referee.kept
        is_newest = held is not None and held.access_token == name and held.sent_at == fact.sent_at
        if fact.dropped_at is None and is_newest and kept and kept[:2] == (name, process.order):
            raise BrokenPromiseError(2, f"a look reports {name}, which no process has dropped")
    process.given -= reported
    if shown is not None:
        _note(world, process, before, reported, shown)
    else:
        # The store lost drops after this answer, and the process cannot know that.
        assert isinstance(call.reply, Look)
        for name in process.knows:
            if mark_of_name(name) in call.reply.dead:
                process.knows[name] = 0
    for name in reported:
        if facts[name].dropped_at is not None:
            process.knows[name] = 0
            process.reported_at.pop(name, None)


def _note(
    world: World,
    process: Process,
    before: tuple[frozenset[str], frozenset[str]],
    reported: set[str],
    shown: tuple[frozenset[str], str | None],
) -> None:
    """Record what the process could learn from a look."""
    facts, (dead, stored), (given, knew) = world.referee.facts, shown, before
    now = world.now
    for name in (dead & given) - reported - process.knows.keys():
        fact = facts[name]
        # If the token was issued again after the look began, it is newer than the drop.
        if name in process.given and fact.dropped_at is not None and fact.ends_at > now:
            raise BrokenPromiseError(2, f"a look of {process.name} does not report {name}")
    learned = {name for name in dead if facts[name].dropped_at is not None}
    process.seen_dead |= learned
    for name in process.knows:
        if name in dead:
            process.knows[name] = 0
        # A look that began before the report says nothing about the drop.
        elif process.knows[name] < 2 and name in knew:
            process.knows[name] += 2 if name == stored else 1


# The watch


def watch(world: World, process: Process) -> None:
    """Begin a look of the watch, after a report of drops."""
    process.has_news = False
    if report_drops(world, process, process.watching, "look"):
        watch_on(world, process)


def watch_on(world: World, process: Process) -> None:
    """Continue after the report of drops."""
    lane = process.watching
    if lane.then == "look":
        look(world, process, lane, "look")
    else:
        wake(world, process)


def watch_receives(world: World, process: Process) -> str:
    """Receive the answer to a look of the watch."""
    lane = process.watching
    seen = looked(world, process, lane)
    if seen is None:
        process.has_news = True
        lane.rest()
        return "fails"
    if lane.step == "look" and process.claimant.known.missing:
        lane.step = "pause"
        return "misses a drop"
    if lane.step == "look again":
        if report_drops(world, process, lane, "end"):
            wake(world, process)
    else:
        wake(world, process)
    return "looks"


def look_again(world: World, process: Process) -> None:
    """Look a second time, after a pause."""
    look(world, process, process.watching, "look again")


def wake(world: World, process: Process) -> None:
    """Wake the question, if it waits for a notification."""
    process.watching.rest()
    if process.asking.step == "wait":
        process.wait_until = world.now
