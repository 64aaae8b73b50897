"""Events of the session's task and of token requests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tools.exploring.promises import BrokenPromiseError
from tools.lifecycle.answers import FAILURES, token_named
from tools.lifecycle.callers import check_error
from tools.lifecycle.facts import Gone
from tools.lifecycle.looks import wrong_start
from trio_anon_session import (
    TokenInfo,
    TokenRequestError,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from tools.lifecycle.world import World
    from trio_anon_session._lifecycle import Conclusion
    from trio_anon_session._rounds import Failure

PROMISES = {"expired": 6, "revoked": 18, "dropped": 17, "rejected": 13, "local": 13, "bad": 12}
"""The promise that the machine breaks if it accepts an answer with this problem."""


def timer(world: World) -> str:
    """Run the loop of the session's task once, until it sleeps again."""
    facts, machine, at = world.facts, world.machine, world.at()
    can_go = machine.callers_can_go(at)
    if can_go != (bool(facts.callers) and facts.usable() is not None):
        raise BrokenPromiseError(10, f"callers_can_go returned {can_go}")
    if can_go:
        facts.wake_callers()
    else:
        ends = facts.ends_waits()
        if machine.end_waits(at) != ends:
            raise BrokenPromiseError(12, f"end_waits returned {not ends}")
        if ends:
            facts.end_waits()
    wanted = facts.wants_request()
    request = machine.start_request(at)
    if (request is not None) != wanted:
        raise wrong_start(facts, is_started=request is not None)
    if request is not None:
        if request.options is not facts.expected_options():
            raise BrokenPromiseError(8, "the request has the options of another caller")
        facts.request, facts.is_sent, facts.is_discarded = request, False, False
        facts.revoked_at = -math.inf
    world.is_rung = False
    world.sleeps_until = machine.wake_at(at)
    if world.sleeps_until <= facts.now:
        raise BrokenPromiseError(7, "the session does not sleep, but has nothing to do")
    if world.sleeps_until > facts.must_look_by():
        promise = 3 if facts.usable() else 10
        raise BrokenPromiseError(
            promise,
            f"the session sleeps until {world.sleeps_until:g}, "
            f"but must look at {facts.must_look_by():g}",
        )
    if world.sleeps_until < facts.may_look_at():
        raise BrokenPromiseError(
            7,
            f"the session sleeps until {world.sleeps_until:g}, "
            f"but has nothing to do before {facts.may_look_at():g}",
        )
    return "starts a request" if request is not None else "starts nothing"


def send(world: World) -> str:
    """Let the task of a request run."""
    facts = world.facts
    assert facts.request is not None
    expected = not (facts.is_discarded or facts.is_closed)
    if world.machine.send(facts.request, world.at()) != expected:
        raise BrokenPromiseError(19 if facts.is_closed else 17, f"send returned {not expected}")
    if not expected:
        facts.request = None
        world.is_rung = True
        return "not sent"
    facts.is_sent = True
    facts.sent_at, facts.sent_by_wall = facts.now, facts.wall
    return "sent"


def answer(world: World, kind: str, name: str = "", sent_at: str = "") -> str:
    """Let the answer to the request arrive."""
    facts = world.facts
    request = facts.request
    assert request is not None
    answer = FAILURES[kind] if kind in FAILURES else _token(world, name, sent_at)
    problem = kind if kind in FAILURES else facts.problem_with(answer)  # type: ignore[arg-type]
    returned = world.machine.conclude(request, answer, world.at())
    facts.request = None
    facts.is_sent = False
    if not facts.is_closed:
        world.is_rung = True
        facts.wake_callers()
    _check_revocation(world, answer, returned)
    if facts.is_closed:
        if returned[:-1] != (None, False, False, None):
            raise BrokenPromiseError(19, f"a closed session used the answer: {kind}")
        return "after the end"
    if problem is not None:
        _check_failure(world, answer, problem, returned)
        return f"failure: {problem}"
    assert isinstance(answer, TokenInfo)
    return _check_success(world, answer, returned)


def _token(world: World, name: str, sent_at: str) -> TokenInfo:
    facts = world.facts
    gone = facts.gone.get(name)
    match sent_at:
        case "sent":
            return token_named(name, facts.sent_at)
        case "before":
            return token_named(name, facts.sent_at - 1.0)
        case "now":
            return token_named(name, facts.now)
        case "as dropped":
            assert gone is not None
            return token_named(name, gone.sent_at)
        case _:
            assert gone is not None
            return token_named(name, gone.dropped_at - 1.0)


def _check_revocation(world: World, answer: object, returned: Conclusion) -> None:
    """Check which token the session must revoke after an answer."""
    facts = world.facts
    expected = None
    if isinstance(answer, TokenInfo):
        name = answer.access_token
        ends_now = facts.is_closed and facts.bounds.revoke_on_exit
        if ends_now or answer.sent_at <= facts.revoked_at:
            if name not in facts.under_way:
                expected = answer
                facts.under_way.add(name)
            facts.gone[name] = Gone(facts.now, answer.sent_at, is_revoked=True)
    if returned.to_revoke is not expected:
        promise = 19 if facts.is_closed else 18 if expected is None else 17
        raise BrokenPromiseError(promise, f"the session must revoke {returned.to_revoke}")


def _check_failure(world: World, answer: object, problem: str, returned: Conclusion) -> None:
    facts = world.facts
    promise = PROMISES.get(problem, 14)
    failure = returned.failure
    if failure is None or returned.token is not None or returned.is_current:
        raise BrokenPromiseError(promise, f"an answer does not count as a failure: {problem}")
    facts.fail(problem)
    _check_facts_of(world, failure)
    cause = answer if isinstance(answer, TokenRequestError) else None
    if cause is None and not isinstance(failure.error, TokenUnavailableError):
        raise BrokenPromiseError(14, f"the error is {failure.error!r}")
    if cause is not None and failure.error is not cause:
        raise BrokenPromiseError(12, "the error is not the token manager's")
    if failure.round_over:
        _check_error_of_round(world, answer, failure)


def _check_facts_of(world: World, failure: Failure) -> None:
    facts = world.facts
    if failure.round_over != facts.is_over:
        promise = 12 if failure.error.retryable else 13
        raise BrokenPromiseError(promise, f"round_over is {failure.round_over}")
    if (failure.attempts, failure.consecutive_failures) != (facts.attempts, facts.failures):
        raise BrokenPromiseError(12, f"attempts of {failure} are counted wrong")
    if failure.retry_at != facts.retry_at:
        raise BrokenPromiseError(
            11 if facts.is_over else 12,
            f"the session retries at {failure.retry_at:g}, not at {facts.retry_at:g}",
        )


def _check_error_of_round(world: World, answer: object, failure: Failure) -> None:
    """Check the error that each waiting caller gets now."""
    try:
        world.machine.rounds.raise_failure(world.facts.now)
    except TokenRequestError as error:
        check_error(world, error)
        if type(error) is not type(failure.error) or error is failure.error:
            raise BrokenPromiseError(12, "a caller gets another error") from None
        foreign = isinstance(answer, Exception)
        if error.__cause__ is not (answer if foreign else failure.error) and foreign:
            raise BrokenPromiseError(14, "the error has another cause") from None


def _check_success(world: World, token: TokenInfo, returned: Conclusion) -> str:
    facts = world.facts
    if returned.failure is not None:
        raise BrokenPromiseError(14, f"a valid answer counts as failed: {returned.failure.error}")
    facts.succeed()
    if returned.is_current != (not facts.is_discarded):
        raise BrokenPromiseError(17, f"is_current is {returned.is_current}")
    if returned.token is not token:
        raise BrokenPromiseError(17, "the session reports another token")
    if facts.is_discarded:
        return "discarded"
    is_same = facts.token is not None and facts.token.access_token == token.access_token
    if returned.is_same != is_same:
        raise BrokenPromiseError(7, f"is_same is {returned.is_same}")
    facts.get_token(token)
    return "the same token" if is_same else "a token"
