"""`fleets()`, which draws fleets."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from trio_anon_session.testing._timelines.draws import (
    TICK,
    Strategy,
    among,
    lists_up_to,
    moments_about,
)
from trio_anon_session.testing._timelines.timeline import Answer, Get, Invalidate, Kill, Revoke
from trio_anon_session.testing.strategies import seeds

from .fleets import Act, Crash, EndpointTrouble, Fleet, Flush, Leave, Stop, StoreTrouble
from .referee import LEASE, SOON, SPREAD

LIVES = 3
"""Lives of tokens that a fleet runs for, before the time in which it must share one again."""


@st.composite
def fleets(draw: st.DrawFn, *, troubles: bool = True) -> Fleet:
    """Draw a fleet with a store.

    Args:
        troubles: whether there are faults, and processes stop, die, leave or drop tokens.
    """
    lifetime = draw(among(st.just(3600.0), st.just(3600.0), st.sampled_from([60.0, 900.0])))
    latency = draw(st.sampled_from([0.0, 0.0, TICK, 0.5, 1.0, 8.0]))
    lives = Fleet(lifetime=lifetime)
    until_stale, window = lives.until_stale, lives.until_expired - lives.until_stale
    edges = {0.0}
    for sent_at in (until_stale * number for number in range(LIVES)):
        edges |= {sent_at + step for step in (0.0, latency / 2, latency, LEASE / 3, LEASE, SOON)}
        edges |= {sent_at + until_stale + SPREAD * window, sent_at + until_stale + window}
    moment = moments_about(sorted(edges))
    # Events at the same moment, or just after each other, cause races.
    meeting = st.sampled_from(draw(st.lists(moment, min_size=1, max_size=2)))
    after = st.builds(
        lambda at, step: at + step,
        meeting,
        st.sampled_from([TICK, SOON, SOON + TICK, LEASE, LEASE + TICK]),
    )
    moment = among(meeting, meeting, after, moment)
    first = st.lists(st.sampled_from([0.0, 0.0, TICK, 1.0]), min_size=2, max_size=4)
    joins = [*draw(first), *draw(lists_up_to(moment, 2))]
    numbers = st.integers(0, len(joins) - 1)
    drawn: dict[str, Any] = {}
    if troubles:
        drawn["endpoint"] = draw(_few(_endpoint_troubles(moment)))
        drawn["store"] = draw(_few(_store_troubles(moment, numbers)))
    return Fleet(
        joins=tuple(joins),
        every=draw(st.sampled_from([lifetime / 8, lifetime, None])),
        acts=draw(_acts(moment, numbers, lifetime, troubles=troubles)),
        latency=latency,
        store_latency=draw(st.sampled_from([0.0, 0.0, TICK, 0.125])),
        lifetime=lifetime,
        refresh_jitter=draw(st.sampled_from([0.0, 0.0, 0.0, 100.0])),
        ends_at=(LIVES + 2) * until_stale + window + 1.0,
        seed=draw(seeds()),
        **drawn,
    )


def _few(element: Strategy[Any]) -> Strategy[tuple[Any, ...]]:
    none: Strategy[tuple[Any, ...]] = st.just(())
    return among(none, none, st.lists(element, min_size=1, max_size=3).map(tuple))


def _acts(
    moment: Strategy[float], numbers: Strategy[int], lifetime: float, *, troubles: bool
) -> Strategy[tuple[Act, ...]]:
    when = {"at": moment, "passes": among(st.just(0), st.just(0), st.integers(0, 40))}
    everybody = st.just("all")
    get = st.builds(
        Act,
        who=among(everybody, everybody, numbers),
        what=st.builds(
            Get,
            **when,
            ask=st.sampled_from(["get", "get", "use", "exchange", "nowait"]),
            count=st.sampled_from([1, 1, 2]),
            gives_up=among(st.none(), st.none(), st.sampled_from([0.0, TICK, 1.0])),
        ),
    )
    begin = st.just((Act(who="all", what=Get(at=TICK)),))
    if not troubles:
        return st.builds(lambda one, more: (*one, *more), begin, lists_up_to(get, 8))
    whoever = among(st.just("holder"), numbers)
    away = st.sampled_from(
        [1.0, LEASE * 2 / 3, LEASE - TICK, LEASE, LEASE + TICK, 20.0, 90.0, lifetime / 4, lifetime]
    )

    def of(who: Strategy[Any], what: Strategy[Any]) -> Strategy[Act]:
        return st.builds(Act, who=who, what=what)

    invalidate = of(
        among(numbers, everybody),
        st.builds(Invalidate, **when, age=st.sampled_from([0, 0, 0, 1])),
    )
    act = among(
        *[get] * 4,
        *[invalidate] * 2,
        of(numbers, st.builds(Revoke, **when)),
        *[of(whoever, st.builds(Stop, **when, seconds=away))] * 2,
        *[of(whoever, st.builds(Crash, **when))] * 2,
        of(numbers, st.builds(Leave, **when)),
        of(st.just(0), st.builds(Kill, **when)),
    )
    return st.builds(lambda one, more: (*one, *more), begin, lists_up_to(act, 10))


# During the longest span, a token of an hour becomes STALE and expires. Each second costs a look or
# an attempt.
_SPANS = st.sampled_from([TICK, 0.5, 2.0, LEASE, 30.0, 60.0, 700.0])


def _endpoint_troubles(moment: Strategy[float]) -> Strategy[EndpointTrouble]:
    told_to_wait = st.builds(
        Answer,
        kind=st.sampled_from(["unavailable", "rate limited"]),
        latency=st.sampled_from([0.0, 0.5]),
        retry_after=st.sampled_from([None, 0.0, 1.0, 5.0, 40.0, 600.0]),
    )
    other = st.builds(
        Answer,
        kind=st.sampled_from(["hang", "cut", "malformed", "rejected"]),
        latency=st.sampled_from([0.0, 0.5]),
    )
    # These latencies are up to the timeout, and longer.
    slow = st.builds(Answer, latency=st.sampled_from([4.0, 20.0, 30.0 - TICK, 30.0 + TICK]))
    return st.builds(
        EndpointTrouble,
        at=moment,
        seconds=_SPANS,
        answer=among(told_to_wait, told_to_wait, other, slow),
    )


def _store_troubles(
    moment: Strategy[float], numbers: Strategy[int]
) -> Strategy[StoreTrouble | Flush]:
    span = {
        "at": moment,
        "seconds": _SPANS,
        "who": among(st.just(()), st.lists(numbers, min_size=1, max_size=2).map(tuple)),
    }
    trouble = st.builds(StoreTrouble, **span, kind=st.sampled_from(["down", "hangs", "read-only"]))
    slow = st.builds(
        StoreTrouble,
        **span,
        kind=st.just("slow"),
        latency=st.sampled_from([0.25, 1.0, 2.0 - TICK, 2.0, 3.0, 8.0]),
    )
    return among(trouble, slow, slow, st.builds(Flush, at=moment))
