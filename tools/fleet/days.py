"""The runs for the tables of `docs/explanation/fleet.md`, and their figures."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import TYPE_CHECKING, Literal

import attrs

from trio_anon_session.testing._timelines.timeline import Answer, Get, Revoke

from .fleets import Act, Crash, EndpointTrouble, Fleet, Flush, StoreTrouble
from .log import Asked, Failed, Got, Holds, Sent
from .referee import Tally, run_fleet
from .run import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from .run import Played

DAY = 86_400.0
GETTERS = 24
"""Callers of each session for each day, at drawn times."""
JITTER = 300.0
LATENCY = 0.25
"""Seconds until the endpoint answers."""
A_MINUTE = 60.0
"""Seconds in which all sessions have their first token."""

Kind = Literal["one store", "no store", "no store, `refresh_jitter=300`"]
KINDS: tuple[Kind, ...] = ("one store", "no store", "no store, `refresh_jitter=300`")


@attrs.frozen
class Figures:
    """The figures of a run.

    Attributes:
        sessions: number of sessions at the beginning.
        lives: tokens that followed one another, in the store or in one session.
        grants: grants that the server recorded.
        attempts: token requests.
        herd: the most token requests within a second, after all sessions have a token.
        longest_hold: the longest wait of a caller whose session has had a token, in seconds.
        failed: callers that got an error.
        questions: calls of the store by each process for each life.
    """

    sessions: int
    lives: int
    grants: int
    attempts: int
    herd: int
    longest_hold: float
    failed: int
    questions: float


def day(sessions: int, kind: Kind) -> Fleet:
    """Return a day without faults, in which all sessions begin within a second."""
    rng = random.Random(sessions)
    joins = tuple(rng.random() for _ in range(sessions))
    gets = [
        Act(who=who, what=Get(at=rng.uniform(A_MINUTE, DAY)))
        for who in range(sessions)
        for _ in range(GETTERS)
    ]
    return Fleet(
        joins=joins,
        acts=(Act(who="all", what=Get(at=1.0)), *gets),
        has_store=kind == "one store",
        refresh_jitter=JITTER if kind == KINDS[2] else 0.0,
        latency=LATENCY,
        ends_at=DAY,
        seed=1,
    )


def measure(fleet: Fleet) -> Figures:
    """Run a fleet, check it, and return its figures."""
    return count(*run_fleet(fleet))


def count(played: Played, tally: Tally) -> Figures:
    """Return the figures of a run."""
    fleet = played.fleet
    lives = tally.lives if fleet.has_store else _most_grants_of_one(played)
    sent = [e.at for e in played.log if isinstance(e.what, Sent) and e.at > A_MINUTE]
    failed = sum(isinstance(entry.what, Failed) for entry in played.log)
    questions = sum(played.questions) / len(fleet.joins) / lives
    return Figures(
        sessions=sum(at <= 1.0 for at in fleet.joins),
        lives=lives,
        grants=tally.grants,
        attempts=tally.attempts,
        herd=most_within(1.0, sent),
        longest_hold=_longest_hold(played),
        failed=failed,
        questions=questions,
    )


def most_within(seconds: float, times: list[float]) -> int:
    """Return the largest number of these sorted times within a number of seconds."""
    most = first = 0
    for number, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, number + 1 - first)
    return most


def _most_grants_of_one(played: Played) -> int:
    grants = [0] * len(played.fleet.joins)
    for entry in played.log:
        if isinstance(entry.what, Holds) and entry.what.token is not None:
            grants[entry.who] += 1
    return max(grants)


def _longest_hold(played: Played) -> float:
    asked: dict[int, float] = {}
    served_at: dict[int, float] = {}
    longest = 0.0
    for entry in played.log:
        match entry.what:
            case Asked():
                asked[entry.what.getter] = entry.at
            case Got() | Failed():
                asked_at = asked.pop(entry.what.getter)
                if asked_at >= served_at.get(entry.who, math.inf):
                    longest = max(longest, entry.at - asked_at)
                if isinstance(entry.what, Got):
                    served_at.setdefault(entry.who, entry.at)
    return longest


# Faults

HOURS = 4
SESSIONS = 20
OUTAGE = 900.0
"""Duration of a fault in seconds. It is longer than a STALE token lasts."""


def _scene(**fields: object) -> Fleet:
    """Return some hours, in which each session has a caller every five minutes."""
    rng = random.Random(0)
    joins = tuple(rng.random() for _ in range(SESSIONS))
    settings: dict[str, object] = {
        "joins": joins,
        "every": 300.0,
        "latency": LATENCY,
        "ends_at": HOURS * 3600.0,
        "seed": 1,
    }
    return Fleet(**(settings | fields))  # type: ignore[arg-type]  # as the caller names them


def _endpoint(answer: Answer, *, has_store: bool) -> Fleet:
    trouble = EndpointTrouble(at=2990.0, seconds=OUTAGE, answer=answer)
    return _scene(endpoint=(trouble,), has_store=has_store)


def killed_in_each_life() -> Fleet:
    """Return a fleet in which the process that requests the token is killed, once in each life.

    Ten seconds later another one begins in its place.
    """
    fleet = _scene()
    killed_at = 0.0
    while True:
        # Callers wait for the first grant, so the first life is not part of this run.
        after = killed_at + fleet.until_stale - A_MINUTE
        sent = [e.at for e in play(fleet).log if isinstance(e.what, Sent) and e.at > after]
        if not sent:
            return fleet
        killed_at = sent[0] + LATENCY / 2
        fleet = attrs.evolve(
            fleet,
            joins=(*fleet.joins, killed_at + 10.0),
            acts=(*fleet.acts, Act(who="holder", what=Crash(at=killed_at))),
        )


def scenes() -> dict[str, Callable[[], Fleet]]:
    """Return the faults by their description, each with a function that makes a fleet."""
    busy = Answer(kind="unavailable", retry_after=30.0)
    gone, hung = Answer(kind="cut"), Answer(kind="hang")
    made: dict[str, Callable[[], Fleet]] = {
        "none": _scene,
        "in each lifetime, the process that requests the token is killed": killed_in_each_life,
        "one session revokes the token": lambda: _scene(acts=(Act(who=3, what=Revoke(at=1000.0)),)),
        "the store loses everything": lambda: _scene(store=(Flush(at=1000.0),)),
        "the store is down": lambda: _scene(
            store=(StoreTrouble(at=2990.0, seconds=OUTAGE, kind="down"),)
        ),
        "the store hangs": lambda: _scene(
            store=(StoreTrouble(at=2990.0, seconds=OUTAGE, kind="hangs"),)
        ),
    }
    for name, answer in {
        "the endpoint answers 503, `Retry-After: 30`": busy,
        "the endpoint breaks connections": gone,
        "the endpoint hangs": hung,
    }.items():
        made[name] = partial(_endpoint, answer, has_store=True)
        made[f"{name}, no store"] = partial(_endpoint, answer, has_store=False)
    return made
