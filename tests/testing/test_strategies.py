"""What the strategies draw: each kind of timeline, fixed fields, and limits of values."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawing import draw_each
from trio_anon_session import AnonymousSessionError, testing
from trio_anon_session.testing import strategies
from trio_anon_session.testing._timelines.timeline import AnswerKind
from trio_anon_session.testing.strategies import (
    TICK,
    Answer,
    Get,
    Invalidate,
    Kill,
    Revoke,
    SetWall,
    Suspend,
    Timeline,
    answers,
    buffers,
    latencies,
    lifetimes,
    run_timeline,
    seeds,
    timelines,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from trio_anon_session import AnonymousSession


def sample(strategy: st.SearchStrategy[Any], count: int, run: int = 0) -> list[Any]:
    """Draw `count` values, other ones in each run."""
    drawn: list[Any] = []
    draw_each(strategy, drawn.append, seed=run, count=count)
    return drawn


class Drawn:
    """The drawn examples, to which more are added until one fits."""

    BATCH, BATCHES = 30, 200

    def __init__(self, strategy: st.SearchStrategy[Any]) -> None:
        self.strategy = strategy
        self.values: list[Any] = []
        self.batches = 0

    def have(self, is_it: Callable[[Any], object]) -> bool:
        """Return whether an example fits, among those already drawn or new ones."""
        if any(map(is_it, self.values)):
            return True
        while self.batches < self.BATCHES:
            more = sample(self.strategy, self.BATCH, run=self.batches)
            self.values += more
            self.batches += 1
            if any(map(is_it, more)):
                return True
        return False


def acts(timeline: Timeline, kind: type[Any]) -> list[Any]:
    return [action for action in timeline.actions if isinstance(action, kind)]


def boundaries(timeline: Timeline) -> tuple[float, float]:
    """Return when the first token becomes STALE and EXPIRED, if it is granted immediately."""
    config, lifetime = timeline.config(), timeline.lifetime
    sent_at = timeline.actions[0].at
    expires_at = sent_at + lifetime - min(config.expired_buffer, lifetime / 4)
    stale_at = sent_at + lifetime - min(config.stale_buffer, lifetime / 2)
    return min(stale_at, expires_at), expires_at


def getters_at(timeline: Timeline, moment: float) -> bool:
    return any(get.at == moment for get in acts(timeline, Get)[1:])


def answered_with(kind: AnswerKind) -> Callable[[Timeline], bool]:
    return lambda timeline: any(answer.kind == kind for answer in timeline.answers)


def with_retry_after(seconds: float) -> Callable[[Timeline], bool]:
    return lambda timeline: any(
        answer.retry_after == seconds and answer.kind in {"unavailable", "rate limited"}
        for answer in timeline.answers
    )


REACHED: dict[str, Callable[[Timeline], object]] = {
    "no lifetime": lambda t: t.lifetime == 0,
    "a tick more than a buffer": lambda t: t.lifetime - TICK in {t.stale_buffer, t.expired_buffer},
    "a tick less than a buffer": lambda t: t.lifetime + TICK in {t.stale_buffer, t.expired_buffer},
    "tokens with different lifetimes": lambda t: any(a.lifetime is not None for a in t.answers),
    **{f"an answer: {kind}": answered_with(kind) for kind in get_args(AnswerKind)},
    **{f"Retry-After: {asked} s": with_retry_after(asked) for asked in (0.0, 1.0, 600.0)},
    "an answer at the timeout": lambda t: any(a.latency == t.request_timeout for a in t.answers),
    "an answer before the timeout": lambda t: any(
        a.latency + TICK == t.request_timeout for a in t.answers
    ),
    "an answer after the timeout": lambda t: any(
        a.latency - TICK == t.request_timeout for a in t.answers
    ),
    "an outage without end": lambda t: t.then.kind in {"unavailable", "cut", "hang"},
    "a getter after other turns of a moment": lambda t: any(get.passes for get in acts(t, Get)),
    "a crowd": lambda t: any(get.count >= 20 for get in acts(t, Get)),
    "a getter cancelled before it begins": lambda t: any(get.gives_up == 0 for get in acts(t, Get)),
    "a getter cancelled at the release": lambda t: any(
        get.gives_up == "at release" for get in acts(t, Get)
    ),
    "a getter cancelled later": lambda t: any(
        isinstance(get.gives_up, float) and get.gives_up > 0 for get in acts(t, Get)
    ),
    "a report of the current token": lambda t: any(a.age == 0 for a in acts(t, Invalidate)),
    "a report of an old token": lambda t: any(a.age == 1 for a in acts(t, Invalidate)),
    "a report of an unknown token": lambda t: any(a.age > 50 for a in acts(t, Invalidate)),
    "a revocation": lambda t: acts(t, Revoke),
    "two revocations at the same time": lambda t: (
        len({a.at for a in acts(t, Revoke)}) < len(acts(t, Revoke))
    ),
    "a revocation cancelled": lambda t: any(a.gives_up is not None for a in acts(t, Revoke)),
    "a revocation that fails": lambda t: (
        acts(t, Revoke) and any(a.kind != "token" for a in t.revocations)
    ),
    "a kill": lambda t: acts(t, Kill),
    "a suspend for a day": lambda t: any(a.seconds == 86400 for a in acts(t, Suspend)),
    "a clock set forward": lambda t: any(a.by > 0 for a in acts(t, SetWall)),
    "a clock set back": lambda t: any(a.by < 0 for a in acts(t, SetWall)),
    "an end by return": lambda t: t.leaves_by == "return",
    "an end by an exception": lambda t: t.leaves_by == "raise",
    "an end by cancellation": lambda t: t.leaves_by == "cancel",
    "an end at the moment of an action": lambda t: any(a.at == t.leaves_at for a in t.actions[1:]),
    "an end long after the last action": lambda t: t.leaves_at > max(a.at for a in t.actions) + 30,
    "refreshes on request": lambda t: t.refresh == "on_request",
    "eager refreshes": lambda t: t.refresh == "eager",
    "jitter": lambda t: t.refresh_jitter > 0,
    "more jitter than stale window": lambda t: t.refresh_jitter > t.stale_buffer,
    "parking": lambda t: t.refresh == "eager" and t.idle_timeout and t.idle_timeout < t.lifetime,
    "a strategy": lambda t: t.strategy,
    "a strategy that gives up": lambda t: t.strategy is not None and None in t.strategy,
    "no retries": lambda t: t.max_retries == 0,
    "the same token again": lambda t: t.reuses_tokens,
    "a revocation on exit": lambda t: t.revoke_on_exit,
    "tasks in order": lambda t: t.seed == 0,
    "tasks in random order": lambda t: t.seed > 0,
    "default settings": lambda t: t.config() == Timeline().config(),
}


TIMELINES = Drawn(timelines())
# Each strategy varies few fields, so that rare combinations of the others are drawn soon.
PLAIN = Drawn(
    timelines(answers=(), then=Answer(), stale_buffer=600.0, expired_buffer=30.0, leaves_at=1e6)
)
BUFFERS = Drawn(timelines(actions=False, faults=False))
STRATEGIES = Drawn(timelines(actions=False, faults=False, lifetime=3600.0))

RARE: dict[str, tuple[Drawn, Callable[[Timeline], object]]] = {
    "no stale window": (BUFFERS, lambda t: t.stale_buffer == 0),
    "a getter at the stale boundary": (PLAIN, lambda t: getters_at(t, boundaries(t)[0])),
    "a getter at the expired boundary": (PLAIN, lambda t: getters_at(t, boundaries(t)[1])),
    "a getter next to a boundary": (
        PLAIN,
        lambda t: any(getters_at(t, at + by) for at in boundaries(t) for by in (TICK, -TICK)),
    ),
    "a getter at the end of the lifetime": (
        PLAIN,
        lambda t: getters_at(t, t.actions[0].at + t.lifetime),
    ),
    "a strategy without a pause": (STRATEGIES, lambda t: t.strategy and 0.0 in t.strategy),
}


EVERYTHING = {what: (TIMELINES, is_it) for what, is_it in REACHED.items()} | RARE


@pytest.mark.slow
@pytest.mark.parametrize(("drawn", "is_it"), EVERYTHING.values(), ids=EVERYTHING)
def test_each_kind_of_timeline_is_drawn(drawn: Drawn, is_it: Callable[[Timeline], object]) -> None:
    """In at most 6000 drawn timelines, each kind occurs at least once."""
    assert drawn.have(is_it)


@pytest.mark.slow
def test_ends_of_getters() -> None:
    """In a fifth of the timelines or more, a getter gets a token; all other ends occur, too."""
    drawn = [timeline for run in range(10) for timeline in sample(timelines(), 5, run=run)]
    ends = [{getter.kind for getter in run_timeline(t).story.getters} for t in drawn]

    assert sum("token" in kinds for kinds in ends) >= len(ends) / 5
    assert set().union(*ends) >= {"token", "error", "closed", "cancelled"}


# Fixed fields


@pytest.mark.parametrize("actions", [True, False])
def test_each_field_can_be_given(*, actions: bool) -> None:
    """A field that is given as a value or as a strategy has this value in all timelines."""
    fixed: dict[str, Any] = {
        "lifetime": 60.0,
        "idle_timeout": 7.0,
        "refresh": "eager",
        "seed": 3,
        "then": Answer(kind="cut"),
        "leaves_at": 12.0,
        "answers": (Answer(kind="cut"),),
        "revocations": (Answer(kind="hang"),),
    }
    for fields in (fixed, {name: st.just(value) for name, value in fixed.items()}):
        for timeline in sample(timelines(actions=actions, **fields), 3):
            assert {name: getattr(timeline, name) for name in fixed} == fixed


@pytest.mark.parametrize("actions", [True, False])
def test_an_unknown_field_is_refused(*, actions: bool) -> None:
    """An unknown field raises TypeError with its name when the strategy is created."""
    with pytest.raises(TypeError, match="life_time"):
        timelines(actions=actions, life_time=60.0)


def test_actions_can_be_left_to_a_program() -> None:
    """With ``actions=False``, timelines have no actions, but can have answers of the server."""
    drawn = sample(timelines(actions=False), 20)

    assert {timeline.actions for timeline in drawn} == {()}
    assert any(timeline.answers for timeline in drawn)


@pytest.mark.parametrize("faults", [True, False])
def test_tokens_for_a_program_live_for_a_minute(*, faults: bool) -> None:
    """With ``actions=False``, a lifetime is at least 60 s, or 0 as a fault."""
    drawn = Drawn(timelines(actions=False, faults=faults))

    assert drawn.have(lambda timeline: timeline.lifetime == (0.0 if faults else 60.0))
    assert drawn.have(lambda timeline: timeline.lifetime > 60.0)
    lives = {timeline.lifetime for timeline in drawn.values}
    assert min(lives - {0.0} if faults else lives) >= 60.0


@pytest.mark.slow
def test_faults_can_be_left_out() -> None:
    """With ``faults=False``, the answer to each request is a token."""
    for timeline in sample(timelines(faults=False), 50):
        assert {answer.kind for answer in (*timeline.answers, timeline.then)} == {"token"}


@settings(max_examples=20)
@given(timeline=timelines(actions=False))
def test_a_careful_program_never_presents_an_expired_token(timeline: Timeline) -> None:
    """A program that uses ``session.auth()`` for each call passes on every timeline."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        for _ in range(5):
            with suppress(AnonymousSessionError):
                await client.get("/2.0/files/1", auth=session.auth())
            await trio.sleep(max(1.0, timeline.lifetime / 3))

    run_timeline(timeline, program)


# The smaller strategies


@pytest.mark.parametrize(
    ("strategy", "values"),
    [
        (
            lifetimes(100.0, 10.0),
            [edge + by for edge in (100.0, 10.0, 110.0, 200.0, 40.0) for by in (0.0, TICK, -TICK)],
        ),
        (lifetimes(), [0.0, 1.0, 3600.0, 172800.0]),
        (latencies(20.0), [0.0, 20.0, 20.0 - TICK, 20.0 + TICK]),
        (buffers(), [0.0, 30.0, 600.0]),
        (seeds(), [0]),
    ],
    ids=["lifetimes by buffers", "lifetimes", "latencies by a timeout", "buffers", "seeds"],
)
def test_strategies_reach_their_edges(
    strategy: st.SearchStrategy[float], values: list[float]
) -> None:
    """Each strategy draws its usual values and limits, and one tick more or less than these."""
    drawn = Drawn(strategy)

    assert [value for value in values if not drawn.have(value.__eq__)] == []
    assert min(drawn.values) >= 0


def test_latencies_of_answers_can_be_given() -> None:
    """``answers`` takes all latencies from the given strategy."""
    assert {answer.latency for answer in sample(answers(st.just(2.0)), 20)} == {2.0}


def test_the_public_names_exist() -> None:
    """The module has all names of ``__all__``."""
    assert set(strategies.__all__) <= set(dir(strategies))


def test_strategies_are_imported_late() -> None:
    """``trio_anon_session.testing`` imports its strategies when a program asks for them."""
    assert testing.__getattr__("strategies") is strategies
