"""Keys of states. Two states with the same key behave alike from now on, so one is explored.

A key omits what makes no difference, so that the number of keys is finite:

- Times are relative to now on the same clock. Times in the distant past, on which no decision
  depends, have the same value.
- Of a waiting caller, only its place in the queue and its state count.
- Error objects, totals and the options of a caller are used only by the check of their event.
- After the end of the session, failed attempts and the session's sleep make no difference.
- Dropped tokens are sorted, and numbered by their place.

Every slot of the machine has an entry in a table here. A new slot without one raises an error.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from tools.lifecycle.answers import NAMES
from tools.lifecycle.bounds import EXPIRED_AGE, LONGEST_PAUSE
from trio_anon_session._dropped import DroppedTokens
from trio_anon_session._lifecycle import Caller, Lifecycle, Request
from trio_anon_session._rounds import Rounds
from trio_anon_session._secrets import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.lifecycle.facts import Facts
    from tools.lifecycle.world import World

    Encode = Callable[[Any, float], tuple[int, ...]]

_NAMES = {name: name for name in NAMES} | {digest(name): name for name in NAMES}
_NEVER, _ALWAYS = 0, 255
_NOW = 100


def _since(time: float, now: float, past: float) -> int:
    """Return a time in seconds from now. Times more than `past` seconds ago are all the same."""
    seconds = time - now
    if seconds <= -past:
        return _NOW - int(past)
    return _ALWAYS if seconds == math.inf else _NOW + int(seconds)


_IGNORED = ""
_ELSEWHERE = ""
"""The slot is encoded by `key_of` itself."""
_PLAIN = "found.{}"
_EXISTS = "found.{} is not None"
_UP_TO_2 = "min(found.{}, 2)"


def _time(past: float) -> str:
    return f"since(found.{{}}, now, {past})"


TABLES: dict[type, dict[str, str]] = {
    Lifecycle: {
        "_being_revoked": _ELSEWHERE,
        "_callers_total": _IGNORED,
        "_config": _IGNORED,
        "_dropped": _ELSEWHERE,
        "met_stale": _PLAIN,
        "_revoked": _ELSEWHERE,
        "_goes_on": _PLAIN,
        "_options": _ELSEWHERE,
        "_sent_at": _ELSEWHERE,
        "_wait_ends_at": _time(0.0),
        "_waiting": _ELSEWHERE,
        "_waits_ended": _ELSEWHERE,
        "_wall_offset": _ELSEWHERE,
        "asked_at": _ELSEWHERE,
        "fresh_until": _time(0.0),
        "fresh_until_by_wall": _ELSEWHERE,
        "is_closed": _PLAIN,
        "request": _ELSEWHERE,
        "rounds": _ELSEWHERE,
        "token": _ELSEWHERE,
    },
    Rounds: {
        "_config": _IGNORED,
        "_failed_at": _ELSEWHERE,
        "_has_succeeded": _ELSEWHERE,
        "_last_failure": _EXISTS,
        "_renewed": _PLAIN,
        "_schedule": _IGNORED,
        "attempts": _PLAIN,
        "consecutive_failures": _UP_TO_2,
        "failed": _ELSEWHERE,
        "is_over": _PLAIN,
        "retry_at": _time(0.0),
    },
    DroppedTokens: {
        "_drops": _ELSEWHERE,
        "_forgotten_until": _time(EXPIRED_AGE),
        "_limit": _IGNORED,
    },
    Request: {
        "is_discarded": _PLAIN,
        "options": _IGNORED,
        "revoked_at": _time(1.0),
        "sent_at": _time(EXPIRED_AGE),
        "wall_offset": _ELSEWHERE,
    },
    Caller: {
        "number": _IGNORED,
        "options": _IGNORED,
        "rounds_failed": _ELSEWHERE,
        "waits_ended": _ELSEWHERE,
    },
}
"""The expression that encodes each slot of the machine."""


def _encoder(kind: type) -> Encode:
    """Return a compiled function that encodes an object, because it runs a million times."""
    table = TABLES[kind]
    if unknown := {*kind.__slots__} ^ {*table}:  # type: ignore[attr-defined]
        raise LookupError(
            f"the slots of {kind.__name__} must match tools/lifecycle/keys.py: {unknown}"
        )
    parts = [part.format(slot) for slot, part in table.items() if part]
    code = f"lambda found, now: ({''.join(part + ', ' for part in parts)})"
    return cast("Encode", eval(code, {"since": _since}))


_ENCODERS = {kind: _encoder(kind) for kind in TABLES}
_LIFECYCLE, _ROUNDS, _REQUEST = (_ENCODERS[kind] for kind in (Lifecycle, Rounds, Request))


def key_of(world: World) -> bytes:
    """Return the key of a world's state."""
    facts, machine = world.facts, world.machine
    now, wall = facts.now, facts.wall
    rounds, request = machine.rounds, machine.request
    names = _names(facts)
    key: list[int] = []
    if not facts.is_closed:
        key += _LIFECYCLE(machine, now)
        key += _ROUNDS(rounds, now)
        past = facts.bounds.idle_timeout or 0.0
        key += (_since(machine.asked_at, now, past), _since(facts.asked_at, now, past))
        # The value of the options makes no difference, but a broken machine may have wrong ones.
        key.append(machine._options is facts.options)
        key.append(_since(machine._sent_at, now, facts.bounds.gap))
        key.append(world.is_rung or _since(world.sleeps_until, now, 0.0))
    token = machine.token
    if token is None:
        key.append(_NEVER)
    else:
        key += (1 + names.get(token.access_token, 99), _since(token.sent_at, now, EXPIRED_AGE))
        if now - token.sent_at < EXPIRED_AGE:
            key += (
                _offset(machine._wall_offset, now, wall),
                _offset(machine.fresh_until_by_wall - machine.fresh_until, wall, now),
            )
    # Only a running round can be forgotten.
    if rounds.attempts and not rounds.is_over and not facts.is_closed:
        key.append(_since(rounds._failed_at, now, 2 * LONGEST_PAUSE))
    if request is not None:
        key += _REQUEST(request, now)
        if now - request.sent_at < EXPIRED_AGE:
            key.append(_offset(request.wall_offset, now, wall))

    _add_drops(key, world, names)
    for caller in machine._waiting:
        seat = facts.callers[caller]
        key += (
            min(2, rounds.failed - caller.rounds_failed),
            machine._waits_ended != caller.waits_ended,
            seat.looks + 2 * seat.round_failed + 4 * seat.wait_ended,
        )
    key.append(_ALWAYS)
    _add_facts(key, facts, names)
    return bytes(key)


def _add_drops(key: list[int], world: World, names: dict[str, int]) -> None:
    """Add what the machine knows about dropped tokens."""
    facts, machine, now = world.facts, world.machine, world.facts.now
    key.append(_since(machine._dropped._forgotten_until, now, EXPIRED_AGE))
    # If no dropped token can come back, their identity makes no difference.
    if facts.bounds.all_answers:
        # Without all answers, no file is missing.
        key += (machine.rounds._has_succeeded, facts.had_token)
        key.append(len(machine._dropped._drops))
        for name, drop in machine._dropped._drops.items():
            key.append(names.get(_NAMES[name], 99))
            if not _is_revoked(facts, name):
                key.append(_since(drop.dropped_at, now, EXPIRED_AGE))
                key.append(_since(drop.sent_at, now, EXPIRED_AGE))
        for revoked in ({*machine._revoked}, {*machine._being_revoked}):
            key.append(len(revoked))
            key += sorted(names.get(_NAMES[name], 99) for name in revoked)
    key.append(_ALWAYS)


def _is_revoked(facts: Facts, name: str) -> bool:
    gone = facts.gone.get(_NAMES[name])
    return gone is not None and gone.is_revoked


def _offset(offset: float, now: float, wall: float) -> int:
    """Return how far the wall clock has been set since a request was sent."""
    return _NEVER if math.isinf(offset) else _NOW + int(offset - now + wall)


def _names(facts: Facts) -> dict[str, int]:
    """Return a number for each token, by its place."""
    names = {} if facts.token is None else {facts.token.access_token: 0}
    gone = facts.gone
    if len(gone) > 1:
        now = facts.now
        ordered = sorted(
            gone,
            key=lambda name: (
                gone[name].is_revoked,
                name in facts.under_way,
                _since(gone[name].dropped_at, now, EXPIRED_AGE),
                _since(gone[name].sent_at, now, EXPIRED_AGE),
            ),
        )
    else:
        ordered = list(gone)
    for name in ordered:
        names.setdefault(name, len(names) + 1)
    return names


def _add_facts(key: list[int], facts: Facts, names: dict[str, int]) -> None:
    """Add the facts of the referee, because a broken machine may have other facts."""
    now, wall = facts.now, facts.wall
    if facts.token is not None:
        key.append(_since(facts.born, now, EXPIRED_AGE))
        if now - facts.born < EXPIRED_AGE:
            key.append(_NOW + int(facts.born_by_wall - wall - facts.born + now))
        key.append(facts.met_stale)
    key.append(facts.is_closed)
    if not facts.is_closed:
        key += (
            _since(facts.sent_at, now, facts.bounds.gap),
            facts.attempts,
            min(facts.failures, 2),
        )
        key += (facts.is_over, facts.renewed, _since(facts.retry_at, now, 0.0))
        key += (facts.goes_on, _since(facts.wait_ends_at, now, 0.0))
        if facts.attempts and not facts.is_over:
            key.append(_since(facts.failed_at, now, 2 * LONGEST_PAUSE))
    if facts.request is not None:
        key += (1 + facts.is_sent, facts.is_discarded)
        key.append(_since(facts.revoked_at, now, 1.0))
        if facts.is_sent:
            key.append(_since(facts.sent_at, now, EXPIRED_AGE))
            if now - facts.sent_at < EXPIRED_AGE:
                key.append(_NOW + int(facts.sent_by_wall - wall - facts.sent_at + now))
    key += (_ALWAYS, len(facts.gone))
    if facts.bounds.all_answers:
        for name, gone in facts.gone.items():
            key += (names[name], gone.is_revoked, name in facts.under_way)
            if not gone.is_revoked:
                key.append(_since(gone.dropped_at, now, EXPIRED_AGE))
                key.append(_since(gone.sent_at, now, EXPIRED_AGE))
