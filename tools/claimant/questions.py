"""The question of a session, with the steps of `SharedTokenManager`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tools.claimant import looking
from tools.claimant.bounds import GAP, POLL_INTERVAL, RECOVERY_TIME
from tools.claimant.calls import fails, receive, send, works
from tools.claimant.world import FAILED, mark_of_name
from tools.exploring.promises import BrokenPromiseError
from trio_anon_session import TokenInfo, TokenRequestError
from trio_anon_session.stores._claimant import AskDirectly, Claim, Use, Wait
from trio_anon_session.stores._protocol import StoredToken
from trio_anon_session.stores._records import token_record

if TYPE_CHECKING:
    from tools.claimant.world import Process, World
    from trio_anon_session.stores._claimant import Decision


def ask(world: World, process: Process) -> str:
    """Begin a question."""
    process.failed_at = math.inf
    process.waited = process.idled = 0
    process.failed_since = False
    return _get_shared(world, process)


def _get_shared(world: World, process: Process) -> str:
    process.question = process.claimant.ask(world.at())
    return turn(world, process)


def turn(world: World, process: Process) -> str:
    """Report drops, then look."""
    process.looks = process.fence = 0
    if looking.report_drops(world, process, process.asking, "look"):
        return after_report(world, process)
    return "reports drops"


def after_report(world: World, process: Process) -> str:
    """Continue after the report of drops."""
    looking.look(world, process, process.asking, "look")
    return "looks"


def receive_answer(world: World, process: Process) -> str:
    """Receive an answer of the store."""
    step = process.asking.step
    match step:
        case "look":
            return _decide(world, process)
        case "look again":
            return _looked_again(world, process)
        case "claim":
            return _claimed(world, process)
        case "put":
            return _put(world, process)
        case "release":
            receive(world, process, process.asking)
            assert isinstance(process.outcome, Exception)
            return _end(process, "an error")
        case _:
            assert step == "release after put"
            # The store did not keep the token, but the process can still use it.
            receive(world, process, process.asking)
            return _hand_out(world, process)


def _decide(world: World, process: Process) -> str:
    looked = looking.looked(world, process, process.asking)
    if looked is None:
        return _without_store(world, process)
    seen, asked_at = looked
    question, claimant = process.question, process.claimant
    assert question is not None
    try:
        decision = claimant.decide(question, seen, asked_at, world.at())
    except TokenRequestError:
        world.referee.gets_error(world, process)
        return _end(process, "the error of another")
    if isinstance(decision, Claim):
        process.claim = decision
        process.asking.step = "claim"
        lease, version = world.bounds.lease, decision.version
        send(world, process, process.asking, "claim", process.name, version, lease)
        return "claims"
    return _act(world, process, decision)


def _act(world: World, process: Process, decision: Decision) -> str:
    match decision:
        case Use(token):
            works(process, "write")
            process.outcome = token
            return _take(world, process)
        case Wait(seconds):
            if seconds < 0:
                raise BrokenPromiseError(4, f"{process.name} waits for {seconds} s")
            process.asking.step = "wait"
            process.wait_until = world.now + min(POLL_INTERVAL, seconds)
            return "waits"
        case _:
            assert isinstance(decision, AskDirectly)
            if process.waited >= world.bounds.turns * world.bounds.patience:
                world.referee.need()
            return _without_store(world, process)


def _take(world: World, process: Process) -> str:
    """Give the session a token, unless the token was dropped during the question."""
    token = process.outcome
    assert isinstance(token, TokenInfo)
    if process.looks > 1:
        looking.look(world, process, process.asking, "look again")
        return "looks again"
    return _give(world, process, token)


def _give(world: World, process: Process, token: TokenInfo) -> str:
    from_store = process.asking.step != "direct" and not process.fence
    world.referee.takes(world, process, token, from_store=from_store)
    process.held = token
    process.given |= {token.access_token}
    return _end(process, "a token")


def _end(process: Process, result: str) -> str:
    process.asking.rest()
    process.question = process.claim = process.outcome = None
    process.fence = process.looks = 0
    process.renews = False
    process.wait_until = -math.inf
    process.failed_at = math.inf
    process.waited = process.idled = 0
    process.failed_since = False
    return f"gets {result}" if result else ""


def _looked_again(world: World, process: Process) -> str:
    if looking.looked(world, process, process.asking) is None:
        # Let the watch look.
        process.has_news = world.bounds.watch > 0
    token = process.outcome
    assert isinstance(token, TokenInfo)
    if not process.claimant.known.is_known(mark_of_name(token.access_token)):
        process.outcome = None
        return turn(world, process)
    return _give(world, process, token)


def _claimed(world: World, process: Process) -> str:
    call = receive(world, process, process.asking)
    if call.reply is FAILED:
        fails(world, process, "write")
        return _without_store(world, process)
    if call.reply is None:
        assert process.question is not None
        decision = process.claimant.claim_failed(process.question, world.at())
        return f"is too late, {_act(world, process, decision)}"
    assert isinstance(call.reply, int)
    process.fence = call.reply
    process.renews = True
    return _request(world, process, "request")


def _request(world: World, process: Process, step: str) -> str:
    process.asking.step = step
    process.claimant.send(world.at())
    world.referee.requests(world, process, directly=step == "direct")
    return "requests"


def answered(world: World, process: Process, outcome: TokenInfo | TokenRequestError) -> str:
    """Receive the answer of the token endpoint."""
    process.renews = False
    process.outcome = outcome
    lane = process.asking
    if lane.step == "direct":
        process.claimant.hand_out(outcome, world.at())
        if isinstance(outcome, TokenInfo):
            return _give(world, process, outcome)
        return _end(process, "an error")
    if isinstance(outcome, TokenInfo):
        stored = StoredToken(
            token_record(outcome, world.config, process.name),
            mark_of_name(outcome.access_token),
            outcome.lifetime,
            world.now - outcome.sent_at,
        )
        lane.step = "put"
        send(world, process, lane, "put", process.fence, stored)
        return "puts"
    assert process.claim is not None
    record, pause = process.claimant.failure_to_leave(process.claim.failures, outcome, world.at())
    lane.step = "release"
    send(world, process, lane, "release", process.fence, record, pause)
    return "releases"


def _put(world: World, process: Process) -> str:
    call = receive(world, process, process.asking)
    if call.reply is FAILED:
        fails(world, process, "write")
        process.asking.step = "release after put"
        send(world, process, process.asking, "release", process.fence, None, 0.0)
        return "releases the lease"
    question = process.question
    assert question is not None
    if call.reply:
        works(process, "write")
        return _hand_out(world, process)
    if question.was_overtaken:
        fails(world, process, "write")
        return _hand_out(world, process)
    question.was_overtaken = True
    process.outcome = None
    return f"is overtaken, {turn(world, process)}"


def _hand_out(world: World, process: Process) -> str:
    process.claimant.hand_out(process.outcome, world.at())
    return _take(world, process)


# Without the store


def _without_store(world: World, process: Process) -> str:
    process.outcome = None
    process.failed_at = min(process.failed_at, process.trouble_at)
    at = world.at()
    if process.claimant.can_wait_for_store(process.failed_at, process.took, at):
        if world.now >= process.failed_at + RECOVERY_TIME:
            raise BrokenPromiseError(7, f"{process.name} waits for the store for too long")
        process.asking.step = "pause"
        process.wait_until = world.now + POLL_INTERVAL
        return "waits for the store"
    process.asking.step = "gap"
    process.wait_until = process.claimant.gap_ends_at
    if process.wait_until > max(world.now, process.sent_at + GAP):
        raise BrokenPromiseError(4, f"{process.name} waits for longer than the gap")
    return "will ask directly"


def wakes(world: World, process: Process) -> str:
    """Continue after a pause."""
    match process.asking.step:
        case "wait":
            return turn(world, process)
        case "pause":
            token = process.held
            if token is None or world.referee.facts[token.access_token].expires_at <= world.now:
                raise BrokenPromiseError(7, f"{process.name} has waited without a usable token")
            return _get_shared(world, process)
        case _:
            return _request(world, process, "direct")


# Cancellation


def cancel(world: World, process: Process) -> str:
    """Cancel the question, and release its lease if it has one."""
    lane, back = process.asking, process.reporting
    step, call = lane.step, lane.call
    if process.reporter == lane.name:
        looking.end_report(process, lane)
    process.queue = tuple(name for name in process.queue if name != lane.name)
    fence = process.fence
    _end(process, "")
    if step == "claim":
        back.call = call
        back.step = "abandoned"
    elif step in ("request", "put", "release"):
        # The store executes the pending call first. Without this it would be a lost write.
        back.step = "release"
        send(world, process, back, "release", fence, None, 0.0)
        return "releases the lease"
    return ""


def abandoned(world: World, process: Process) -> str:
    """Receive the answer to an abandoned claim, or to the release of its lease."""
    lane = process.reporting
    call = receive(world, process, lane)
    if lane.step == "abandoned":
        if call.reply is FAILED:
            fails(world, process, "write")
        elif call.reply is not None:
            lane.step = "release"
            send(world, process, lane, "release", call.reply, None, 0.0)
            return "releases the lease"
    lane.rest()
    return ""
