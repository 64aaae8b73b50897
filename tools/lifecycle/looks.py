"""Checks of what must be true in every state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tools.exploring.promises import BrokenPromiseError
from tools.lifecycle.bounds import EXPIRED_AGE
from trio_anon_session import TokenState

if TYPE_CHECKING:
    from tools.lifecycle.facts import Facts
    from tools.lifecycle.world import World


def check_looks(world: World) -> None:
    """Compare what the machine reports about a state with the facts."""
    facts, machine, at = world.facts, world.machine, world.at()
    state = facts.state()
    if machine.state(at) is not state:
        raise BrokenPromiseError(5, f"the machine says {machine.state(at).name}, not {state.name}")
    if machine.token is not facts.token:
        raise BrokenPromiseError(17, f"the machine has {machine.token}")
    # The fast path of a cached token compares the time with two boundaries, and does not call the
    # machine.
    is_fresh = world.finds_fresh()
    if is_fresh != (state is TokenState.FRESH):
        raise BrokenPromiseError(1, f"the cached path finds the token fresh: {is_fresh}")
    left = None if facts.token is None else max(0.0, EXPIRED_AGE - facts.age())
    if machine.expires_in(at) != left:
        raise BrokenPromiseError(5, f"expires_in is {machine.expires_in(at)}, not {left}")
    if machine.is_idle(at) != facts.is_idle():
        raise BrokenPromiseError(4, f"is_idle is {machine.is_idle(at)}")
    if machine.callers_can_go(at) != (bool(facts.callers) and facts.usable() is not None):
        raise BrokenPromiseError(10, f"callers_can_go is {machine.callers_can_go(at)}")
    if machine.callers_waiting != len(facts.callers):
        raise BrokenPromiseError(10, f"callers_waiting is {machine.callers_waiting}")
    if machine.can_wait != (not facts.is_closed and not facts.is_over):
        raise BrokenPromiseError(0, f"can_wait is {machine.can_wait}")
    if machine.request_in(at) != facts.request_in():
        raise BrokenPromiseError(
            0, f"request_in is {machine.request_in(at)}, not {facts.request_in()}"
        )
    is_due = machine.due_at(at) <= facts.now
    if is_due != facts.wants_request():
        raise wrong_start(facts, is_started=is_due)
    if machine.wake_at(at) < facts.now:
        raise BrokenPromiseError(7, f"wake_at is {machine.wake_at(at):g}, in the past")
    if (machine.request is None) != (facts.request is None):
        raise BrokenPromiseError(8, f"the machine has the request {machine.request}")
    if machine.is_closed != facts.is_closed:
        raise BrokenPromiseError(19, f"is_closed is {machine.is_closed}")


def wrong_start(facts: Facts, *, is_started: bool) -> BrokenPromiseError:
    """Return the error for a request that starts at the wrong time, or does not start."""
    if not is_started:
        promise = {TokenState.STALE: 3, TokenState.EXPIRED: 4}.get(facts.state(), 10)
        if facts.failures:
            promise = 11 if facts.usable() else 12
        return BrokenPromiseError(promise, "a request is due, but the session starts none")
    if facts.is_closed:
        return BrokenPromiseError(19, "a request starts after the end")
    if facts.request is not None:
        return BrokenPromiseError(8, "a request starts while another one is in flight")
    if facts.now < facts.sent_at + facts.bounds.gap:
        return BrokenPromiseError(7, "a request starts too soon after the last one")
    if facts.now < facts.retry_at:
        return BrokenPromiseError(12, "a request starts in the pause after a failure")
    return BrokenPromiseError(
        4 if facts.is_idle() else 3, f"a request starts without need in state {facts.state().name}"
    )


def check_callers_are_served(world: World) -> None:
    """Check that every caller that waits at the gate will be woken.

    A request that has begun wakes them. The session's task wakes them if the token is usable.
    Otherwise this task must run when a request is due.
    """
    facts = world.facts
    if all(seat.looks for seat in facts.callers.values()):
        return
    if facts.is_closed:
        raise BrokenPromiseError(19, "a caller waits at the gate of a closed session")
    if any(seat.round_failed and not seat.looks for seat in facts.callers.values()):
        raise BrokenPromiseError(12, "a caller continues to wait after its round has failed")
    if any(seat.wait_ended and not seat.looks for seat in facts.callers.values()):
        raise BrokenPromiseError(12, "a caller continues to wait after its wait has ended")
    if world.task_can_run() or facts.usable() is not None:
        return
    if world.sleeps_until > facts.wait_ends_at:
        raise BrokenPromiseError(12, f"a caller waits longer than max_wait: {world.sleeps_until:g}")
    if facts.request is not None:
        return
    due_at = max(facts.now, facts.sent_at + facts.bounds.gap, facts.retry_at)
    if world.sleeps_until > due_at or facts.is_over or due_at == math.inf:
        raise BrokenPromiseError(
            10,
            f"a caller waits, and the session sleeps until {world.sleeps_until:g}; "
            f"the next request may start at {due_at:g}",
        )
