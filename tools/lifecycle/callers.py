"""Events of callers."""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import TYPE_CHECKING

from tools.exploring.promises import BrokenPromiseError
from trio_anon_session import (
    SessionClosedError,
    TokenInfo,
    TokenRequestError,
    TokenRequestOptions,
    TokenState,
)
from trio_anon_session._lifecycle import Lifecycle
from trio_anon_session._rounds import Rounds

if TYPE_CHECKING:
    from tools.lifecycle.world import World
    from trio_anon_session._lifecycle import Caller

OPTIONS = (TokenRequestOptions("192.0.2.1"), TokenRequestOptions("192.0.2.2"))
"""Options of callers. A caller that waits behind another has different options."""
STALE = TokenState.STALE

_machine_facts = attrgetter(
    *(slot for slot in Lifecycle.__slots__ if slot not in ("_waiting", "_wait_ends_at"))
)
_rounds_facts = attrgetter(*Rounds.__slots__)


def get(world: World, lock: str = "") -> str:
    """Let a caller ask for a token, and wait if necessary.

    If the lock of the gate is taken, the caller looks again as soon as it has the lock.
    """
    facts, machine = world.facts, world.machine
    options = _next_options(world)
    # As in the session, a caller does not look before it waits if there is no token and it can
    # wait. `AnonymousSession.exchange_token` always looks, and finds nothing here.
    if not (machine.token is None and machine.can_wait) and _take(world, options):
        return f"a {facts.state().name} token"
    world.is_rung = True
    if facts.is_closed:
        _join_closed(world, options)
        return "closed"
    facts.asked_at = facts.now
    in_pause = facts.is_in_pause()
    try:
        caller = machine.join(world.at(), options)
    except TokenRequestError as error:
        if not in_pause:
            raise BrokenPromiseError(12, "a caller gets an error after the pause") from None
        check_error(world, error)
        return "an error in the pause"
    if in_pause:
        raise BrokenPromiseError(12, "a caller waits in the pause after a failed round")
    facts.come(caller, options, looks=bool(lock))
    return "waits for the lock" if lock else "waits"


def _join_closed(world: World, options: TokenRequestOptions | None) -> None:
    """Let a caller try to wait in a closed session."""
    machine = world.machine
    before = _machine_facts(machine), _rounds_facts(machine.rounds)
    try:
        machine.join(world.at(), options)
    except SessionClosedError:
        if (_machine_facts(machine), _rounds_facts(machine.rounds)) != before:
            raise BrokenPromiseError(19, "a caller changes a closed session") from None
    else:
        raise BrokenPromiseError(19, "a caller waits in a closed session")


def nowait(world: World) -> str:
    """Let a caller ask for a token without waiting.

    It uses the cached path, like `AnonymousSession.get_access_token`. The callers of `get` do not,
    like those of `exchange_token`.
    """
    facts, machine = world.facts, world.machine
    if world.finds_fresh():
        machine.asked_at = facts.now
        _check_token(world, machine.token)
        _record_use(world, None)
        return f"a {facts.state().name} token"
    if _take(world, None):
        return f"a {facts.state().name} token"
    machine.miss(world.at())
    if not facts.is_idle():
        facts.asked_at = facts.now
    return "no token"


def _next_options(world: World) -> TokenRequestOptions:
    first = world.facts.expected_options()
    return OPTIONS[1] if first is OPTIONS[0] else OPTIONS[0]


def _take(world: World, options: TokenRequestOptions | None) -> TokenInfo | None:
    machine, at = world.machine, world.at()
    token = machine.take(at, options)
    _check_token(world, token)
    if token is not None:
        _record_use(world, options)
    if machine.met_stale:
        world.ring_for(machine.due_at(at))
    return token


def _check_token(world: World, token: TokenInfo | None) -> None:
    facts = world.facts
    expected = facts.usable()
    if token is expected:
        return
    if token is None:
        raise BrokenPromiseError(2, f"a caller gets nothing in state {facts.state().name}")
    promise = 1 if token is facts.token else 17
    raise BrokenPromiseError(promise, f"a caller gets token {token.access_token}")


def _record_use(world: World, options: TokenRequestOptions | None) -> None:
    facts = world.facts
    facts.asked_at = facts.now
    if facts.state() is STALE and not facts.met_stale:
        facts.met_stale, facts.options = True, options


def look(world: World, place: int) -> str:
    """Let a waiting caller check whether it can stop waiting."""
    facts, machine, at = world.facts, world.machine, world.at()
    caller, seat = next(itertools.islice(facts.callers.items(), place, None))
    try:
        token = machine.look(caller, at)
    except SessionClosedError:
        if not facts.is_closed:
            raise BrokenPromiseError(19, "a caller gets SessionClosedError") from None
        _leave(world, caller)
        return "closed"
    except TokenRequestError as error:
        if facts.usable() or facts.is_closed or not (seat.round_failed or seat.wait_ended):
            promise = 11 if facts.usable() else 19 if facts.is_closed else 12
            raise BrokenPromiseError(promise, f"a caller gets {error!r}") from None
        if seat.round_failed:
            check_error(world, error, attempts=False)
        else:
            _check_known(world, error)
        _leave(world, caller)
        return "the error of its round" if seat.round_failed else "what is known"
    _check_token(world, token)
    if token is not None:
        _record_use(world, caller.options)
        if machine.met_stale:
            world.ring_for(machine.wake_at(at))
        _leave(world, caller)
        return f"a {facts.state().name} token"
    if facts.is_closed or seat.round_failed or seat.wait_ended:
        raise BrokenPromiseError(
            19 if facts.is_closed else 12, "a caller continues to wait, but must get an error"
        )
    facts.callers[caller] = seat._replace(looks=False)
    world.ring_for(machine.wake_at(at))
    return "waits on"


def check_error(world: World, error: TokenRequestError, *, attempts: bool = True) -> None:
    facts = world.facts
    retry_after = max(0.0, facts.retry_at - facts.now)
    if error.retry_after != retry_after:
        raise BrokenPromiseError(
            12, f"retry_after is {error.retry_after}, not {retry_after:g}"
        ) from None
    # A caller that looks late can find that a new round has begun.
    if attempts and error.attempts != facts.attempts:
        raise BrokenPromiseError(12, f"the error names {error.attempts} attempts") from None


def _check_known(world: World, error: TokenRequestError) -> None:
    """Check the error of a caller whose wait has ended before its round."""
    facts = world.facts
    if (error.attempts, error.retry_after) != (facts.attempts, facts.next_attempt_in()):
        raise BrokenPromiseError(
            12,
            f"a caller gets {error.attempts} attempts and {error.retry_after} s, "
            f"not {facts.attempts} and {facts.next_attempt_in():g} s",
        ) from None


def _leave(world: World, caller: Caller) -> None:
    world.machine.leave(caller)
    world.facts.leave(caller)


def cancel(world: World, place: int) -> str:
    """Cancel a waiting caller."""
    machine = world.machine
    caller = next(itertools.islice(world.facts.callers, place, None))
    request = machine.request
    before = _machine_facts(machine), _rounds_facts(machine.rounds)
    discarded = request is not None and request.is_discarded
    _leave(world, caller)
    after = _machine_facts(machine), _rounds_facts(machine.rounds)
    if after != before or discarded != (request is not None and request.is_discarded):
        raise BrokenPromiseError(9, "a cancelled caller changed more than the callers")
    return ""
