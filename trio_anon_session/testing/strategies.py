"""Hypothesis strategies that draw timelines, and `run_timeline`, which runs and checks them.

A property test of this library's promises::

    @given(timelines())
    def test_every_promise(timeline):
        run_timeline(timeline)

A property test of your own program::

    @given(timelines(actions=False, faults=False))
    def test_my_program(timeline):
        run_timeline(timeline, program=my_program)

Leave out ``faults=False`` when your program handles the session's errors.

Timelines are valid and plain data: a failing one is printed completely, and you can paste
it into ``@example``. Needs the extra ``testing``.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
from hypothesis import strategies as st

from ._timelines.draws import TICK, Strategy, among, lists_up_to, moments_about, seconds_up_to
from ._timelines.run import (
    BrokenPromiseError,
    BrokenTimelineError,
    Crash,
    OddError,
    Outcome,
    Program,
    RefusedTokenError,
    run_timeline,
)
from ._timelines.timeline import (
    PASSING_KINDS,
    Action,
    Answer,
    Ask,
    Get,
    Invalidate,
    Kill,
    Moment,
    Revoke,
    SetWall,
    Suspend,
    Timeline,
)

__all__ = [
    "PASSING_KINDS",
    "TICK",
    "Action",
    "Answer",
    "Ask",
    "BrokenPromiseError",
    "BrokenTimelineError",
    "Crash",
    "Get",
    "Invalidate",
    "Kill",
    "Moment",
    "OddError",
    "Outcome",
    "Program",
    "RefusedTokenError",
    "Revoke",
    "SetWall",
    "Suspend",
    "Timeline",
    "answers",
    "buffers",
    "latencies",
    "lifetimes",
    "run_timeline",
    "seeds",
    "timelines",
]

_LIVES_AHEAD = 4
_A_MINUTE = 60.0
_FIELDS = frozenset(field.name for field in attrs.fields(Timeline))


def lifetimes(stale_buffer: float = 600.0, expired_buffer: float = 30.0) -> Strategy[float]:
    """Draw lifetimes: an hour, zero, a second, days, and values near the buffers.

    Args:
        stale_buffer: ``stale_buffer`` of the session.
        expired_buffer: ``expired_buffer`` of the session.
    """
    edges = [stale_buffer, expired_buffer, stale_buffer + expired_buffer]
    # Below these lifetimes, the session limits the buffers to a share of the lifetime.
    edges += [2 * stale_buffer, 4 * expired_buffer]
    around = [max(0.0, edge + step) for edge in edges for step in (0.0, TICK, -TICK, 1.0, -1.0)]
    return st.one_of(
        st.sampled_from([3600.0, 60.0, 1.0, 2.0, 4.0, 86400.0, 172800.0, 0.5, 0.0]),
        st.sampled_from(sorted(set(around))),
        st.integers(1, 7200).map(float),
    )


def buffers() -> Strategy[float]:
    """Draw buffers: zero, short, long, longer than most lifetimes."""
    return st.one_of(st.sampled_from([0.0, 1.0, 30.0, 600.0, 3600.0]), seconds_up_to(1000))


def latencies(
    request_timeout: float = 30.0, lifetime: float = 3600.0, stale_buffer: float = 600.0
) -> Strategy[float]:
    """Draw latencies of responses: zero, short, near the timeout, near a lifetime.

    Args:
        request_timeout: ``request_timeout`` of the session.
        lifetime: lifetime of its tokens.
        stale_buffer: ``stale_buffer`` of the session.
    """
    edges = [request_timeout, lifetime, lifetime / 4 * 3, min(stale_buffer, lifetime / 2)]
    around = [max(0.0, edge + step) for edge in edges for step in (0.0, TICK, -TICK)]
    quick = st.sampled_from([0.0, 1.0, TICK, 0.5])
    return among(quick, quick, st.sampled_from(around), seconds_up_to(10))


def answers(latency: Strategy[float] | None = None) -> Strategy[Answer]:
    """Draw answers to token requests: more tokens than faults, more temporary faults than others.

    Args:
        latency: latency of the answers; by default :func:`latencies`.
    """
    latency = latencies() if latency is None else latency
    lifetime = among(st.none(), st.none(), lifetimes())
    good = st.builds(Answer, latency=latency, lifetime=lifetime)
    failure = _failures(latency)
    crash = st.builds(Answer, kind=st.just("crash"), latency=latency)
    # A crash ends the run, so few are drawn.
    return among(*[good] * 6, *[failure] * 5, crash)


def _failures(latency: Strategy[float]) -> Strategy[Answer]:
    with_retry_after = st.builds(
        Answer,
        kind=st.sampled_from(["unavailable", "rate limited"]),
        latency=latency,
        retry_after=st.one_of(st.sampled_from([0.0, 1.0, 5.0, 600.0]), seconds_up_to(100)),
    )
    passing = st.builds(Answer, kind=st.sampled_from(PASSING_KINDS), latency=latency)
    lasting = st.builds(Answer, kind=st.sampled_from(["rejected", "refused"]), latency=latency)
    return among(with_retry_after, passing, passing, lasting)


def _answer_lists(answer: Strategy[Answer]) -> Strategy[tuple[Answer, ...]]:
    # Most events can happen only after a first token.
    after_a_good_one = lists_up_to(answer, 4).map(lambda rest: (Answer(), *rest))
    none: Strategy[tuple[Answer, ...]] = st.just(())
    return st.one_of(none, lists_up_to(answer, 5).map(tuple), after_a_good_one)


def seeds() -> Strategy[int]:
    """Draw seeds of the task order; 0 is the order in which tasks started."""
    return st.integers(0, 2**16)


def timelines(*, actions: bool = True, faults: bool = True, **fields: Any) -> Strategy[Timeline]:
    """Draw timelines.

    Args:
        actions: whether to draw actions. Use False to test your own program, which then makes
            the calls; tokens live for at least a minute, unless you set the lifetime.
        faults: whether to draw faults. If False, each token request succeeds well before its
            timeout.
        **fields: fields of :class:`Timeline` that are not drawn: values or strategies.

    Raises:
        TypeError: ``actions`` or ``faults`` is not a bool, or a name in ``fields`` is not a field.
    """
    for name, value in (("actions", actions), ("faults", faults)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    for name in fields:
        if name not in _FIELDS:
            raise TypeError(f"{name} must be a field of Timeline")
    values = {n: v for n, v in fields.items() if not isinstance(v, st.SearchStrategy)}
    # Check the values here, so that an error does not wait until an example is drawn.
    Timeline(**values)
    return _timelines(actions=actions, faults=faults, fields=fields)


_SETTINGS: dict[str, Strategy[Any]] = {
    "stale_buffer": buffers(),
    "expired_buffer": buffers(),
    "refresh_jitter": st.sampled_from([1.0, 100.0, 1e5]),
    "max_retries": st.sampled_from([0, 1, 2]),
    "retry_interval": st.sampled_from([0.5, 8.0]),
    "max_retry_interval": st.sampled_from([8.0, 300.0]),
    "request_timeout": st.sampled_from([1.0, 5.0]),
    "max_wait": st.sampled_from([None, 1.0, 5.0]),
    "min_refresh_interval": st.sampled_from([0.25, 5.0, 30.0]),
    "revoke_on_exit": st.just(True),
    "shutdown_timeout": st.just(1.0),
    "reuses_tokens": st.just(True),
    "strategy": st.lists(
        st.one_of(st.sampled_from([0.0, 1.0, 10.0, 100.0]), st.none()), max_size=3
    ).map(tuple),
    "leaves_by": st.sampled_from(["raise", "cancel"]),
    "seed": seeds(),
}
_DEFAULTS = {field.name: field.default for field in attrs.fields(Timeline)}
_VARIED = st.sets(st.sampled_from(sorted(_SETTINGS)), max_size=5)


# Hypothesis examines each new strategy, which takes longer than to draw from it. Most timelines
# have the same buffers and timeouts.
_cached = functools.lru_cache(maxsize=256)
_lifetimes = _cached(lifetimes)
_latencies = _cached(latencies)
_answers = _cached(answers)
_failures_of = _cached(_failures)
_lists_of = _cached(_answer_lists)


@st.composite
def _timelines(draw: st.DrawFn, *, actions: bool, faults: bool, fields: dict[str, Any]) -> Timeline:
    drawn: dict[str, Any] = {}

    def draw_field(name: str, strategy: Strategy[Any]) -> Any:
        given = fields.get(name, strategy)
        drawn[name] = draw(given) if isinstance(given, st.SearchStrategy) else given
        return drawn[name]

    draw_field("refresh", st.sampled_from(["eager", "on_request"]))
    # Few settings vary at a time, so that a failing example is easy to read.
    varied = draw(_VARIED)
    for name, strategy in _SETTINGS.items():
        draw_field(name, strategy if name in varied else st.just(_DEFAULTS[name]))
    lives = _lifetimes(drawn["stale_buffer"], drawn["expired_buffer"])
    if not actions:
        # A program may run for hours; tokens of one second would need thousands of requests.
        lives = lives.map(lambda life: life and max(life, _A_MINUTE))
    if not faults:
        # A lifetime of 0 is a fault.
        lives = lives.map(lambda life: life or _A_MINUTE)
    lifetime = draw_field("lifetime", lives)
    idle = [max(1.0, lifetime / share) for share in (1, 2, 4)]
    draw_field("idle_timeout", st.sampled_from([None, None, None, None, *idle, 10.0]))
    latency = _latencies(drawn["request_timeout"], lifetime, drawn["stale_buffer"])
    if not faults:
        quick = min(drawn["request_timeout"], lifetime) / 8
        latency = st.sampled_from([0.0, min(TICK, quick), quick])
    good, failure = st.builds(Answer, latency=latency), _failures_of(latency)
    if not faults:
        answer = last = good
    elif actions:
        answer, last = _answers(latency), failure
    else:
        # The endpoint must recover, so that the program gets tokens.
        answer, last = st.one_of(good, failure), good
    draw_field("answers", _lists_of(answer))
    draw_field("then", among(st.just(Answer()), st.just(Answer()), answer, last))
    if not actions:
        for name in fields.keys() - drawn.keys():
            draw_field(name, st.nothing())
        return Timeline(**drawn)
    start = draw(st.sampled_from([0.0, 0.0, 1.0]))
    edges = [edge for edge in _edges(drawn, start) if edge <= _horizon(drawn)]
    moment = moments_about(edges)
    # Actions at the same moment find race conditions.
    meetings = st.sampled_from(draw(st.lists(moment, min_size=1, max_size=3)))
    moment = among(meetings, meetings, moment)
    late = st.just(edges[-1] + 60.0)
    draw_field("leaves_at", among(moment.map(lambda at: at + TICK), moment, late, late, late))
    draw_field("actions", _actions(start, moment, lifetime))
    draw_field("revocations", _REVOCATIONS if faults else st.just(()))
    return Timeline(**drawn)


def _horizon(drawn: dict[str, Any]) -> float:
    """Return the time of the last drawn moment: at most a few days or 100 short lifetimes."""
    then: Answer = drawn["then"]
    lifetime: float = drawn["lifetime"] if then.lifetime is None else then.lifetime
    return min(200_000.0, max(60.0, 100.0 * lifetime))


def _edges(drawn: dict[str, Any], start: float) -> list[float]:
    """Return the moments at which the session should act, from the first getter on."""
    edges = [start]
    sent_at = start
    given: tuple[Answer, ...] = (*drawn["answers"], *(drawn["then"],) * 3)
    for answer in given[:_LIVES_AHEAD]:
        lifetime = drawn["lifetime"] if answer.lifetime is None else answer.lifetime
        takes = drawn["request_timeout"] if answer.kind == "hang" else answer.latency
        takes = min(takes, drawn["request_timeout"])
        came_at = sent_at + takes
        edges += [sent_at + takes / 2, came_at]
        if answer.kind == "token" and lifetime > 0:
            expires_at = sent_at + lifetime - min(drawn["expired_buffer"], lifetime / 4)
            stale_at = sent_at + lifetime - min(drawn["stale_buffer"], lifetime / 2)
            edges += [min(stale_at, expires_at), expires_at, sent_at + lifetime]
            follows_at = stale_at if drawn["refresh"] == "eager" else expires_at
        else:
            pause = drawn["retry_interval"] if answer.retry_after is None else answer.retry_after
            follows_at = came_at + min(pause, drawn["max_retry_interval"])
        sent_at = max(follows_at, sent_at + drawn["min_refresh_interval"], came_at)
    return sorted(set(edges))


def _actions(
    start: float, moment: Strategy[float], lifetime: float
) -> Strategy[tuple[Action, ...]]:
    passes = among(st.just(0), st.just(0), st.integers(0, 40))
    when = {"at": moment, "passes": passes}
    gives_up = among(
        st.none(),
        st.none(),
        st.just(0.0),
        st.just("at release"),
        st.sampled_from([TICK, 1.0]),
        moment,
    )
    get = st.builds(
        Get,
        **when,
        ask=st.sampled_from(["get", "nowait", "exchange", "use"]),
        count=st.sampled_from([1, 1, 2, 20]),
        gives_up=gives_up,
        gives_up_passes=passes,
    )
    report = st.builds(Invalidate, **when, age=st.sampled_from([0, 0, 0, 1, 2, 99]))
    revoke = st.builds(
        Revoke, **when, gives_up=st.one_of(st.none(), st.sampled_from([0.0, TICK, 1.0]))
    )
    usual: list[Strategy[Any]] = [*[get] * 4, report, report, revoke, st.builds(Kill, **when)]
    away = st.sampled_from([60.0, 1.0, 3600.0, 86400.0, lifetime, lifetime / 2])
    suspend = st.builds(Suspend, **when, seconds=away)
    set_wall = st.builds(SetWall, **when, by=st.one_of(away, away.map(lambda by: -by)))
    stays = st.none()
    first = st.builds(
        Get,
        at=st.just(start),
        count=st.sampled_from([1, 2, 20]),
        gives_up=among(stays, stays, stays, stays, gives_up),
    ).map(lambda get: (get,))

    def list_of(*kinds: Strategy[Any]) -> Strategy[tuple[Action, ...]]:
        more = lists_up_to(among(*kinds), 12).map(tuple)
        return st.builds(lambda one, more: one + more, first, more)

    # Few timelines move the wall clock, because those need another clock than the rest.
    return among(list_of(*usual), list_of(*usual), list_of(*usual, suspend, set_wall))


# Keep these latencies shorter than the timeout: exactly at the timeout, success and failure are
# both correct.
_REVOCATIONS: Strategy[tuple[Answer, ...]] = st.lists(
    st.builds(
        Answer,
        kind=st.sampled_from(["token", "unavailable", "rejected", "hang", "raises"]),
        latency=st.sampled_from([0.0, 0.5]),
        retry_after=st.sampled_from([None, None, 1.0, 5.0]),
    ),
    max_size=3,
).map(tuple)
