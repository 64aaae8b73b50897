"""The events of a world: which are possible, and the function of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.claimant import calls, faults, looking, questions
from tools.claimant.bounds import TIMEOUT
from tools.claimant.calls import PROMPT
from tools.claimant.world import mark_of_name
from trio_anon_session import CredentialsRejectedError, TokenInfo, TokenRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.claimant.world import Lane, Process, World
    from tools.exploring.search import Event

LANES = ("asking", "watching", "reporting")
IN_REQUEST = ("request", "direct")
CANCELLED = ("look", "claim", "request", "put", "release", "wait")
"""Steps at which a question can be cancelled. All other steps behave like one of these."""


def possible_events(world: World) -> list[Event]:
    """Return every event that is possible now."""
    found: list[Event] = []
    must_wait = False
    for number, process in enumerate(world.processes):
        busy = _events_of(world, number, process, found)
        must_wait |= busy
    if not must_wait:
        found.append(("tick",))
    faults.add(world, found)
    return found


def _events_of(world: World, number: int, process: Process, found: list[Event]) -> bool:
    """Add the events of a process, and return whether one of them must come before time passes."""
    bounds, now = world.bounds, world.now
    stopped, busy = process.is_stopped, False
    for place, lane in enumerate(process.lanes):
        call = lane.call
        if call is None:
            continue
        if not call.is_done:
            found.append(("do", number, place))
        elif not stopped:
            found.append(("receive", number, place))
        busy |= not (stopped or (bounds.slow and now < call.sent_at + TIMEOUT))
    if stopped:
        return busy
    step = process.asking.step
    if step == "":
        if world.asks != 0 and (process.held is None or now >= process.held.stale_at):
            found.append(("ask", number))
    elif step in IN_REQUEST:
        found.append(("grant", number))
        if world.failures:
            found += [("fail", number, how) for how in bounds.hows]
        busy |= now >= process.sent_at + TIMEOUT
    elif step in ("wait", "pause", "gap") and now >= process.wait_until:
        found.append(("wake", number))
        busy = True
    can_report = process.reporting.step == ""
    if world.cancels and step in CANCELLED and can_report:
        found.append(("cancel", number))
    if world.drops and can_report and _can_drop(world, process):
        found.append(("drop", number))
    if bounds.watch:
        watching = process.watching.step
        known = process.claimant.known
        is_due = process.report_at <= now if known.untold else known.look_at <= now
        if world.looks and watching == "" and (process.has_news or is_due):
            found.append(("watch", number))
        elif watching == "pause":
            found.append(("watch again", number))
            busy = True
    return busy


def _can_drop(world: World, process: Process) -> bool:
    held, now = process.held, world.now
    if held is None or now >= held.expires_at or (world.bounds.early and world.tokens > 1):
        return False
    # If a token is issued again at the moment of its drop, it looks like the old one.
    return not world.bounds.same or all(each.sent_at < now for each in world.processes)


def tick(world: World) -> str:
    """Let a second pass, and renew the leases."""
    world.now += 1.0
    world.referee.passes(world)
    for process in world.processes:
        if process.renews and not process.is_stopped and not world.is_down:
            lease = world.bounds.lease
            process.renews = world.entry.renew(world.store_time(), process.fence, lease)
    return ""


def do(world: World, number: int, place: int) -> str:
    """Let the store execute the call of a process."""
    process = world.processes[number]
    lane = process.lanes[place]
    if world.is_down:
        calls.lose(lane)
    else:
        calls.do(world, process, lane)
    return ""


def receive(world: World, number: int, place: int) -> str:
    """Let a process receive the answer of the store."""
    process = world.processes[number]
    lane = process.lanes[place]
    if lane.step == "report":
        if not looking.report_answered(world, process, lane):
            return "reports drops"
        result = _after_report(world, process, lane)
        _next_reporter(world, process)
        return result
    if place == 0:
        return questions.receive_answer(world, process)
    if place == 1:
        return looking.watch_receives(world, process)
    return questions.abandoned(world, process)


def _after_report(world: World, process: Process, lane: Lane) -> str:
    if lane is process.asking:
        return questions.after_report(world, process)
    if lane is process.watching:
        looking.watch_on(world, process)
    else:
        lane.rest()
    return "has reported"


def _next_reporter(world: World, process: Process) -> None:
    """Let the next waiting task report drops."""
    while process.queue and not process.reporter:
        name, *rest = process.queue
        process.queue = tuple(rest)
        lane = process.lanes[LANES.index(name)]
        if looking.report_drops(world, process, lane, lane.then):
            _after_report(world, process, lane)


def ask(world: World, number: int) -> str:
    """Let a session without a FRESH token request one."""
    if world.asks is not None:
        world.asks -= 1
    return questions.ask(world, world.processes[number])


def grant(world: World, number: int) -> str:
    """Let the token endpoint issue a token."""
    process, referee = world.processes[number], world.referee
    bounds, sent_at = world.bounds, process.sent_at
    name, lifetime = f"t{world.tokens}", bounds.lifetime
    fact = referee.facts.get(name)
    if bounds.same and fact is not None and fact.ends_at > sent_at:
        lifetime = fact.ends_at - sent_at
    else:
        world.tokens += 1
        name = f"t{world.tokens}"
    token = TokenInfo.from_answer(name, lifetime, sent_at, world.config)
    referee.granted(world, token)
    return questions.answered(world, process, token)


def fail(world: World, number: int, how: str) -> str:
    """Let the token request fail."""
    world.failures -= 1
    world.referee.need()
    return questions.answered(world, world.processes[number], FAILURES[how])


FAILURES: dict[str, TokenRequestError] = {
    "busy": TokenRequestError("busy", status_code=503),
    "later": TokenRequestError("later", status_code=429, retry_after=2.0),
    "rejected": CredentialsRejectedError("rejected", status_code=400),
    "unreached": TokenRequestError("unreached"),
}


def wake(world: World, number: int) -> str:
    """Let a question continue after a pause."""
    return questions.wakes(world, world.processes[number])


def cancel(world: World, number: int) -> str:
    """Cancel a question."""
    process = world.processes[number]
    world.cancels -= 1
    if process.asking.step in ("claim", "request", "put", "release"):
        world.referee.need()
        world.referee.excuse(world)
    result = questions.cancel(world, process)
    _next_reporter(world, process)
    return result


def drop(world: World, number: int) -> str:
    """Let a session report its token as revoked or invalid."""
    process, referee = world.processes[number], world.referee
    token = process.held
    assert token is not None
    name = token.access_token
    world.drops -= 1
    referee.need()
    process.claimant.known.drop_here(mark_of_name(name), world.at())
    referee.facts = {
        **referee.facts,
        name: referee.facts[name]._replace(dropped_at=world.now),
    }
    process.held = None
    process.given -= {name}
    process.knows[name] = 2
    if looking.report_drops(world, process, process.reporting, "end"):
        process.reporting.rest()
    return ""


def watch(world: World, number: int) -> str:
    """Let the watch look."""
    world.looks -= 1
    looking.watch(world, world.processes[number])
    return ""


def watch_again(world: World, number: int) -> str:
    """Let the watch look a second time, because the store has lost a drop."""
    looking.look_again(world, world.processes[number])
    return ""


EVENTS: dict[str, Callable[..., str]] = {
    "tick": tick,
    "do": do,
    "receive": receive,
    "ask": ask,
    "grant": grant,
    "fail": fail,
    "wake": wake,
    "cancel": cancel,
    "drop": drop,
    "watch": watch,
    "watch again": watch_again,
    **faults.EVENTS,
}
"""Each function returns its result in a few words."""


def act(world: World, event: Event) -> str:
    """Execute an event, and return its result in a few words."""
    results = [EVENTS[str(event[0])](world, *event[1:])]
    if world.bounds.prompt:
        for number, process in enumerate(world.processes):
            for place, lane in enumerate(process.lanes):
                while lane.call is not None and lane.call.is_done and lane.call.kind in PROMPT:
                    results.append(receive(world, number, place))
    return ", ".join(filter(None, results))
