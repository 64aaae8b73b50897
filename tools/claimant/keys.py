"""Keys of states. States with the same key behave in the same way, so only one is explored.

A key omits what makes no difference, so that the number of keys is finite:

- Times are relative to now, in quarters of a second. Times in the distant past, on which no
  decision depends, have the same value.
- Versions, fences and orders of leases are replaced by their rank. The rank shows whether two of
  them are consecutive.
- Tokens are numbered in the order of the key. Expired tokens that no process can find are omitted.
- Processes are interchangeable, so they are sorted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tools.claimant.bounds import CONFIRM_AFTER, GAP, LONGEST_PAUSE
from tools.claimant.encoding import ALWAYS, FAR, NEVER, NONE, Key, code, since
from tools.claimant.snapshots import ENTRY, KNOWN_TOKENS
from tools.claimant.world import FAILED, Call
from trio_anon_session import TokenInfo
from trio_anon_session._dropped import DroppedTokens
from trio_anon_session.stores._claimant import Claimant, Question
from trio_anon_session.stores._entry import Entry
from trio_anon_session.stores._known import KnownTokens
from trio_anon_session.stores._protocol import Look, StoredToken

if TYPE_CHECKING:
    from tools.claimant.world import Lane, Process, World

_USED = {
    Claimant: {"_config", "_draw", "_failure_met", "_schedule", "_sent_at", "known"},
    KnownTokens: {*KNOWN_TOKENS},
    DroppedTokens: {"_drops", "_forgotten_until", "_limit"},
    Question: {"awaited", "give_up_at", "last_at", "missed", "version", "was_overtaken"},
    Entry: {"version", "token", "lease", "failure", "dead"},
}
"""The slots of each part of the machine that the key contains, or that never change."""


def _check_slots() -> None:
    found: dict[type, set[str]] = {
        Claimant: {*Claimant.__slots__},
        DroppedTokens: {*DroppedTokens.__slots__},
        Question: {*Question.__slots__},
    }
    found |= {KnownTokens: {*vars(KnownTokens(1.0))}, Entry: {*ENTRY}}
    if found != _USED:
        raise LookupError(f"the slots in tools/claimant/keys.py must match the machine: {found}")


_check_slots()


def key_of(world: World) -> bytes:
    """Return the key of a world's state."""
    key = Key(world)
    parts, referee = key.parts, world.referee
    parts += (world.faults, world.drops, world.cancels, world.failures, world.looks)
    parts += (world.is_down, referee.needs, world.asks or 0)
    if world.bounds.early and (world.faults or world.drops):
        parts.append(min(world.tokens, 2))
    if world.faults < world.bounds.faults:
        parts.append(referee.was_set)
    key.time(referee.pause_until, 0.0)
    present = _present(world, key)
    for entry in (world.entry, world.copy):
        if entry is None:
            parts.append(NONE)
        else:
            _add_entry(key, entry)
    for kept in (referee.kept, world.copy_kept):
        if kept is None:
            parts.append(NONE)
        else:
            key.name(kept[0])
            key.order(kept[1])
            key.time(kept[2], 0.0)
    for process in sorted(world.processes, key=_signature):
        _add_process(key, process, present)
    if world.bounds.same:
        key.name(f"t{world.tokens}")
    return key.finish()


def _signature(process: Process) -> tuple[object, ...]:
    """Return the sort key of a process, which does not depend on the order of processes."""
    lanes = process.lanes
    return (
        process.is_stopped,
        *(lane.step for lane in lanes),
        *(lane.call is not None and lane.call.is_done for lane in lanes),
        process.sent_at,
        process.held is None,
        0.0 if process.held is None else process.held.sent_at,
    )


def _present(world: World, key: Key) -> set[str]:
    """Return the names of the tokens that a process can still receive, at any age."""
    found = {
        key.marks.get(entry.token.mark, "")
        for entry in (world.entry, world.copy)
        if entry is not None and entry.token is not None
    }
    for process in world.processes:
        if isinstance(process.outcome, TokenInfo):
            found.add(process.outcome.access_token)
        for lane in process.lanes:
            call = lane.call
            if call is not None and isinstance(call.reply, Look) and call.reply.token is not None:
                found.add(key.marks.get(call.reply.token.mark, ""))
    if key.has_drops:
        facts, now = world.referee.facts, world.now
        found.update(
            name
            for name, fact in facts.items()
            if fact.dropped_at is not None and fact.ends_at > now
        )
        if world.drops:
            found.update(
                process.held.access_token
                for process in world.processes
                if process.held is not None and process.held.expires_at > now
            )
    return found


def _add_entry(key: Key, entry: Entry) -> None:
    parts, time = key.parts, key.world.store_time()
    key.version(entry.version)
    if entry.token is None or not (entry.token.life.left(time) or key.may_restart):
        parts.append(NONE)
    else:
        key.mark(entry.token.mark)
        key.span(entry.token.life)
    # Ignore a lease that is over, unless a process still has its fence.
    if entry.lease is None or not (entry.lease.life.left(time) or key.is_leased):
        parts.append(NONE)
    else:
        key.span(entry.lease.life)
    if entry.failure is None or entry.look(time, ()).failure is None:
        parts.append(NONE)
    else:
        parts.append(code(entry.failure.record))
        key.version(entry.failure.fence)
        key.span(entry.failure.pause)
    for mark, span in entry.dead.items():
        if span.left(time) > 0:
            key.mark(mark)
            key.span(span)
    parts.append(ALWAYS)


def _add_process(key: Key, process: Process, present: set[str]) -> None:
    parts = key.parts
    parts += (
        process.is_stopped + 2 * process.has_news + 4 * process.renews,
        code(process.reporter),
        len(process.queue),
    )
    parts += map(code, process.queue)
    key.time(process.sent_at, max(GAP, 1.0))
    if process.asking.step in ("claim", "request", "direct"):
        parts.append(process.is_excused)
    if process.trouble and key.may_wait:
        parts.append(code(process.trouble))
        key.time(process.trouble_at, 4.0)
        parts.append(round(4 * process.took))
    if process.report_at > key.now:
        key.time(process.report_at)
    for lane in process.lanes:
        _add_lane(key, process, lane, present)
    if process.is_open:
        _add_question(key, process)
    held = process.held
    if held is None or held.expires_at <= key.now:
        parts.append(NONE)
    else:
        key.time(held.stale_at, 0.0)
        if key.has_drops or key.may_wait:
            key.name(held.access_token)
    _add_known(key, process, present)


def _add_question(key: Key, process: Process) -> None:
    parts, question = key.parts, process.question
    parts.append(process.failed_since + 2 * min(process.looks, 2))
    parts += (process.waited, process.idled)
    if process.asking.step in ("wait", "pause", "gap"):
        key.time(process.wait_until, 0.0)
    if key.may_wait and process.failed_at < math.inf:
        key.time(process.failed_at, 4.0)
    if question is not None:
        key.time(question.last_at, 0.0)
        key.time(question.give_up_at, 0.0)
        key.version(question.version)
        key.version(question.awaited)
        parts.append(question.was_overtaken + 2 * (question.missed == question.version))
    if process.claim is not None:
        parts.append(process.claim.failures)
        key.version(process.fence)
        key.order(process.order)
        key.time(process.claimed_at, key.world.bounds.lifetime)
    outcome = process.outcome
    if isinstance(outcome, TokenInfo):
        key.name(outcome.access_token)
        key.time(outcome.sent_at, key.world.bounds.lifetime)
    else:
        parts.append(NONE)


def _add_lane(key: Key, process: Process, lane: Lane, present: set[str]) -> None:
    parts = key.parts
    parts.append(code(lane.step))
    if not lane.step:
        return
    parts.append(code(lane.then))
    parts.append(len(lane.todo))
    for mark in lane.todo:
        key.mark(mark)
    given, knew = lane.given & process.given & present, lane.knew & process.knows.keys()
    for names in (lane.expects, given, knew) if key.has_drops else ():
        parts.append(len(names))
        for name in sorted(names):
            key.name(name)
    if lane.call is not None:
        _add_call(key, process, lane.call, present)


def _add_call(key: Key, process: Process, call: Call, present: set[str]) -> None:
    parts = key.parts
    parts += (code(call.kind), call.is_done)
    key.time(call.sent_at, key.world.bounds.lifetime)
    for arg in call.args[:2]:
        if isinstance(arg, StoredToken):
            key.mark(arg.mark)
            parts.append(round(4 * min(arg.age, FAR)))
        elif isinstance(arg, int):
            key.version(arg)
        elif isinstance(arg, float):
            parts.append(round(4 * max(0.0, min(arg, FAR))))
        elif call.kind == "drop":
            key.mark(str(arg))
        elif arg is not None and call.kind == "release":
            parts.append(code(str(arg)))
    if call.kind == "release":
        parts.append(round(4 * float(call.args[2])))  # type: ignore[arg-type]
    if call.asked is not None and key.has_drops:
        handed_out = process.claimant.known._handed_out
        for mark, token in call.asked.items():
            if key.marks.get(mark) not in present:
                continue
            key.mark(mark)
            known = handed_out.get(mark)
            parts.append(0 if token is None else 1 + (known is not None and known.token is token))
    parts.append(ALWAYS)
    if not call.is_done:
        return
    reply = call.reply
    if isinstance(reply, Look):
        _add_look(key, reply)
        if not key.has_drops or call.shown is None:
            return
        for name in sorted(call.shown[0]):
            key.name(name)
        parts.append(ALWAYS)
        key.name(call.shown[1])
    elif reply is FAILED:
        parts.append(ALWAYS)
    elif isinstance(reply, bool) or reply is None:
        parts.append(bool(reply))
    else:
        assert isinstance(reply, int)
        key.version(reply)


def _add_look(key: Key, look: Look) -> None:
    parts = key.parts
    key.version(look.version)
    parts.append(round(4 * min(look.leased_for, FAR)))
    if look.token is None:
        parts.append(NONE)
    else:
        key.mark(look.token.mark)
        parts.append(round(4 * min(look.token.age, FAR)))
    if look.failure is None:
        parts.append(NONE)
    else:
        parts.append(code(look.failure.record))
        key.version(look.failure.fence)
        parts.append(round(4 * look.failure.pause))
    for mark in sorted(look.dead):
        key.mark(mark)
    parts.append(ALWAYS)


def _add_known(key: Key, process: Process, present: set[str]) -> None:
    parts, claimant, now = key.parts, process.claimant, key.now
    known, world = claimant.known, key.world
    fence, met_at = claimant._failure_met
    if fence and (world.entry.failure is not None or world.copy is not None):
        key.version(fence)
        key.time(met_at, LONGEST_PAUSE)
    for mark, handed in known._handed_out.items():
        token = handed.token
        name = token.access_token
        if (key.may_wait and mark == known._last) or name in present:
            key.mark(mark)
            key.time(token.sent_at)
            parts.append(mark == known._last)
    if not key.has_drops:
        return
    parts.append(ALWAYS)
    for mark, drop in known._dropped._drops.items():
        if drop.ends_at <= now and key.marks.get(mark) not in present:
            continue
        key.mark(mark)
        key.time(drop.dropped_at)
        parts.append(NEVER if math.isinf(drop.sent_at) else since(drop.sent_at, now))
        key.time(drop.ends_at)
        parts.append((mark in known.missing) + 2 * (mark in known.untold))
        _add_reported_at(key, known._reported_at.get(mark))
    parts += (ALWAYS, len(known.untold))
    facts = world.referee.facts
    for name in sorted(process.seen_dead):
        if name in facts and facts[name].ends_at > now:
            key.name(name)
    parts.append(ALWAYS)
    for name, looks in sorted(process.knows.items()):
        if name in facts and facts[name].ends_at > now:
            key.name(name)
            parts.append(looks)
            _add_reported_at(key, process.reported_at.get(name))
    parts.append(ALWAYS)
    for name in sorted(process.given & present):
        key.name(name)
    parts.append(ALWAYS)


def _add_reported_at(key: Key, reported_at: float | None) -> None:
    if reported_at is None:
        key.parts.append(NONE)
    elif math.isinf(reported_at):
        key.parts.append(NEVER)
    else:
        key.time(reported_at, CONFIRM_AFTER)
