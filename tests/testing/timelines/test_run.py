"""Running a timeline: runs can be repeated, actions happen, and global state is restored."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings

from trio_anon_session import TokenUnavailableError
from trio_anon_session.testing._timelines.log import (
    Asked,
    Cancelling,
    Decided,
    Failed,
    GaveUp,
    Got,
    Leaving,
    Left,
    Presented,
    Reported,
)
from trio_anon_session.testing.strategies import (
    Answer,
    Crash,
    Get,
    Invalidate,
    Kill,
    Revoke,
    Suspend,
    Timeline,
    run_timeline,
    timelines,
)

from .kit import IDLE, global_state, seen

if TYPE_CHECKING:
    import httpx

    from trio_anon_session import AnonymousSession

BUSY: dict[str, Any] = {
    "answers": [Answer(kind="unavailable"), Answer(latency=1.0)],
    "actions": [Get(at=0.0, count=3), Get(at=4.0, ask="use"), Kill(at=5.0), Invalidate(at=6.0)],
    "leaves_at": 8000.0,
    "refresh_jitter": 100.0,
}


@settings(max_examples=5)
@given(timeline=timelines())
@example(timeline=Timeline(**BUSY, seed=7))
def test_equal_timelines_run_alike(timeline: Timeline) -> None:
    """A timeline with random pauses, jitter and a drawn order of turns runs the same twice."""
    first = run_timeline(timeline)
    random.random()
    run_timeline(IDLE)
    again = run_timeline(timeline)

    assert repr(first.log) == repr(again.log)
    assert first.story == again.story
    assert first.text() == again.text()
    assert first.svg() == again.svg()


def test_the_seed_decides_the_order_of_turns() -> None:
    """With seed 0, tasks run in the order of their start; other seeds give other orders."""

    def order(seed: int) -> tuple[int, ...]:
        actions = [Get(at=float(number % 2)) for number in range(8)]
        log = run_timeline(Timeline(actions=actions, leaves_at=5.0, seed=seed)).log
        return tuple(e.what.getter for e in log if isinstance(e.what, Decided) and e.at == 1.0)

    assert order(0) == (5, 6, 7, 8)
    assert len({order(seed) for seed in range(10)}) > 5


def test_the_seed_decides_the_jitter() -> None:
    """Five seeds draw five different stale boundaries."""
    boundaries = {
        run_timeline(Timeline(**BUSY, seed=seed)).story.tokens[0].stale_at for seed in range(5)
    }
    assert len(boundaries) == 5


def test_an_empty_timeline_sends_no_request() -> None:
    """Without actions, no getter asks for a token, and no request is sent."""
    outcome = run_timeline(IDLE)

    assert [(entry.at, type(entry.what)) for entry in outcome.log] == [
        (10.0, Leaving),
        (10.0, Left),
    ]
    assert not outcome.server.requests


def test_a_token_manager_that_fails() -> None:
    """A token manager that raises or returns nonsense fails the attempt without a request."""
    outcome = run_timeline(
        Timeline(
            answers=[
                Answer(kind="raises", latency=1.0),
                Answer(kind="nonsense"),
                Answer(kind="unavailable"),
                Answer(kind="malformed"),
            ],
            max_retries=1,
            actions=[Get(at=0.0), Get(at=60.0), Get(at=120.0)],
            leaves_at=180.0,
        )
    )

    outcomes = [attempt.outcome for attempt in outcome.story.attempts]
    assert outcomes == ["raises", "nonsense", "unavailable", "malformed", "A"]
    assert outcome.story.attempts[0].ended_at == 1.0
    failed, _ = seen(outcome, Failed)
    assert isinstance(failed.error, TokenUnavailableError)
    assert "str" in str(failed.error)
    # The first two requests have not reached the server.
    assert len(outcome.server.requests) == 3


def test_a_crash_ends_the_session() -> None:
    """A BaseException of the token manager ends the block immediately, and propagates."""
    timeline = Timeline(then=Answer(kind="crash", latency=1.0), actions=[Get(at=0.0), Get(at=2.0)])
    outcome = run_timeline(timeline)

    (left,) = seen(outcome, Left)
    assert isinstance(left.error, Crash)
    assert outcome.story.ends_at == 1.0
    assert [getter.kind for getter in outcome.story.getters] == ["closed", "closed"]


def test_revocations_that_fail() -> None:
    """Revocations have their own answers, also that of a token manager that raises."""
    outcome = run_timeline(
        Timeline(
            revocations=[Answer(kind="unavailable"), Answer(kind="raises", latency=1.0)],
            actions=[Get(at=0.0), Revoke(at=1.0), Revoke(at=1.5, gives_up=0.25)],
            leaves_at=60.0,
        )
    )
    marks = [mark.text for mark in outcome.story.marks]
    assert marks == [
        "revoke A",
        "revocation of A sent",
        "revoke",
        *["revocation of A sent"] * 2,
        "the block is left",
    ]


@pytest.mark.parametrize(
    ("gives_up", "seen_of_it"),
    [
        (0.0, [Cancelling, Asked, GaveUp]),
        (1.0, [Asked, Decided, Cancelling, GaveUp]),
        ("at release", [Asked, Decided, Cancelling, GaveUp]),
        (None, [Asked, Decided, Got]),
    ],
)
def test_getters_that_give_up(gives_up: Any, seen_of_it: list[type[Any]]) -> None:
    """A getter is cancelled before it starts, while it waits, at its release, or never."""
    timeline = Timeline(
        then=Answer(latency=2.0), actions=[Get(at=0.0, gives_up=gives_up)], leaves_at=5.0
    )
    log = run_timeline(timeline).log

    of_getter = [entry for entry in log if hasattr(entry.what, "getter")]
    assert [type(entry.what) for entry in of_getter] == seen_of_it
    assert of_getter[-1].at == {None: 2.0, "at release": 2.0}.get(gives_up, gives_up)


def test_use_reports_a_revoked_token_and_asks_again() -> None:
    """A getter that uses its token does what SessionAuth does with a 401."""
    timeline = Timeline(actions=[Get(at=0.0), Kill(at=1.0), Get(at=2.0, ask="use")], leaves_at=5.0)
    outcome = run_timeline(timeline)

    (presented,) = seen(outcome, Presented)
    assert presented.verdict == "revoked"
    assert len(seen(outcome, Reported)) == 1
    tokens = [getter.outcome for getter in outcome.story.getters]
    assert tokens == ["A", "A", "B"]


@pytest.mark.parametrize("leaves_by", ["return", "raise", "cancel"])
def test_how_the_block_is_left(leaves_by: Any) -> None:
    """The block is left at ``leaves_at``, by return, by an exception, or by cancellation."""
    outcome = run_timeline(Timeline(actions=[Get(at=0.0)], leaves_at=7.0, leaves_by=leaves_by))

    (leaving,), (left,) = seen(outcome, Leaving), seen(outcome, Left)
    assert leaving.how == leaves_by
    assert (left.error is not None) == (leaves_by == "raise")
    assert left.error is left.expected
    assert outcome.log[-1].at == 7.0


async def fail(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    random.random()
    raise OSError("no file")


def test_a_run_restores_global_state() -> None:
    """After a run, also a failed one, ``random``, wall clock and task order are restored."""
    before = global_state()
    timeline = Timeline(actions=[Suspend(at=1.0)], leaves_at=5.0, seed=5)

    run_timeline(timeline)
    assert global_state() == before

    with pytest.raises(OSError, match="no file"):
        run_timeline(timeline, fail)
    assert global_state() == before
