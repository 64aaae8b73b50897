"""Events that end the life of a token, or of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.exploring.promises import BrokenPromiseError
from tools.lifecycle.answers import token_named
from tools.lifecycle.facts import Gone

if TYPE_CHECKING:
    from tools.lifecycle.world import World

LATE = token_named("older", sent_at=0.0)


def late_report(world: World) -> str:
    """Let a caller report a token that is not the current one."""
    facts, machine, at = world.facts, world.machine, world.at()
    for token in (LATE, *(token_named(name, gone.sent_at) for name, gone in facts.gone.items())):
        discarded = machine.request is not None and machine.request.is_discarded
        dropped = machine.invalidate(token, at)
        if dropped is not None or machine.token is not facts.token:
            raise BrokenPromiseError(16, "a late report drops the current token")
        if machine.request is not None and machine.request.is_discarded != discarded:
            raise BrokenPromiseError(16, "a late report discards the request")
    return "nothing"


def invalidate(world: World) -> str:
    """Let a caller report the current token as invalid."""
    facts = world.facts
    assert facts.token is not None
    expected = facts.usable()
    dropped = world.machine.invalidate(facts.token, world.at())
    if dropped is not expected:
        raise BrokenPromiseError(17, f"invalidate returned {dropped}")
    if expected is None:
        return "nothing"
    facts.drop_token(is_revoked=False)
    return "dropped"


def revoke(world: World) -> str:
    """Let a caller revoke the session's token."""
    facts = world.facts
    expected = facts.token
    facts.goes_on = False
    token = world.machine.revoke(world.at())
    if token is not expected:
        raise BrokenPromiseError(18, f"revoke returned {token}")
    if facts.request is not None:
        facts.is_discarded = True
        facts.revoked_at = facts.now
    if expected is None:
        return "nothing to revoke"
    if expected.access_token in facts.under_way:
        raise BrokenPromiseError(18, "the session revokes one token twice")
    facts.under_way.add(expected.access_token)
    facts.drop_token(is_revoked=True)
    return "revokes"


def revoked(world: World, name: str) -> str:
    """Let a revocation end, successful or not."""
    facts = world.facts
    world.machine.revocation_ended(token_named(name, facts.gone[name].sent_at))
    facts.under_way.discard(name)
    return ""


def close(world: World) -> str:
    """End the session."""
    facts, machine = world.facts, world.machine
    expected = facts.token if facts.bounds.revoke_on_exit else None
    token = machine.close()
    if token is not expected:
        raise BrokenPromiseError(19, f"close returned {token}")
    if expected is not None:
        facts.under_way.add(expected.access_token)
        facts.gone[expected.access_token] = Gone(facts.now, expected.sent_at, is_revoked=True)
    facts.lose_token()
    facts.is_closed = True
    facts.wake_callers()
    return "closed" if expected is None else "closed, revokes"
