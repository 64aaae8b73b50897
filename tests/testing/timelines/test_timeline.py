"""Timelines as data: wrong values, equality, and reprs."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import pytest
from hypothesis import Phase, given, settings

from trio_anon_session import ConfigError
from trio_anon_session.testing import strategies
from trio_anon_session.testing.strategies import (
    Answer,
    Get,
    Invalidate,
    Kill,
    Revoke,
    SetWall,
    Suspend,
    Timeline,
    timelines,
)


@given(timeline=timelines())
def test_the_repr_of_a_timeline_is_code(timeline: Timeline) -> None:
    """The repr of a timeline is Python code for an equal one with the same hash."""
    pasted = eval(repr(timeline), vars(strategies))

    assert pasted == timeline
    assert hash(pasted) == hash(timeline)
    assert repr(pasted) == repr(timeline)


@pytest.mark.parametrize(
    "shown",
    [
        "Timeline()",
        "Timeline(lifetime=60.0, actions=(Get(at=0.0, count=2), Kill(at=1.0)), seed=1)",
        "Timeline(answers=(Answer(), Answer(kind='hang')), then=Answer(latency=1.0))",
        "Get(at=1.0, passes=2, ask='nowait', gives_up='at release', gives_up_passes=3)",
        "SetWall(at=1.0, by=-60.0)",
    ],
)
def test_reprs_leave_out_defaults(shown: str) -> None:
    """A repr leaves out fields that have their default value."""
    assert repr(eval(shown, vars(strategies))) == shown


def test_hypothesis_shows_the_short_repr() -> None:
    """Hypothesis prints a failing timeline with its short repr."""

    @settings(database=None, phases=[Phase.generate, Phase.shrink], print_blob=False)
    @given(timeline=timelines(seed=0))
    def fail(timeline: Timeline) -> None:
        raise OSError("no file")

    with pytest.raises(OSError, match="no file") as failed:
        fail()

    notes = "\n".join(failed.value.__notes__)
    assert re.search(r"^    timeline=Timeline\(.*\),$", notes, re.MULTILINE), notes
    assert "stale_buffer" not in notes


def test_lists_become_tuples() -> None:
    """Lists become tuples, and the timelines are equal."""
    written = Timeline(answers=[Answer()], actions=[Get(at=0.0)], revocations=[Answer()])

    assert written == Timeline(answers=(Answer(),), actions=(Get(at=0.0),), revocations=(Answer(),))


def test_timelines_are_frozen() -> None:
    """No field of a timeline, an answer or an action can be changed."""
    parts: list[Any] = [Timeline(), Answer(), Get(at=0.0), Invalidate(at=0.0), Kill(at=0.0)]
    for part in parts:
        for field in attrs.fields(type(part)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(part, field.name, getattr(part, field.name))


@pytest.mark.parametrize(
    "settings",
    [
        {"stale_buffer": -1.0},
        {"refresh": "sometimes"},
        {"min_refresh_interval": 0.0},
    ],
    ids=str,
)
def test_settings_are_checked_as_a_session_does(settings: dict[str, object]) -> None:
    """A setting that a session refuses raises ConfigError with the name of the setting."""
    with pytest.raises(ConfigError) as refused:
        Timeline(**settings)  # type: ignore[arg-type]

    assert refused.value.field == next(iter(settings))


def test_the_settings_are_the_sessions() -> None:
    """The config of a timeline has each setting of the timeline."""
    changed = {
        "stale_buffer": 1.5,
        "expired_buffer": 0.5,
        "refresh": "on_request",
        "refresh_jitter": 2.5,
        "idle_timeout": 3.5,
        "max_retries": 4,
        "retry_interval": 5.5,
        "max_retry_interval": 6.5,
        "request_timeout": 7.5,
        "min_refresh_interval": 8.5,
        "revoke_on_exit": True,
        "shutdown_timeout": 9.5,
    }
    config = Timeline(**changed).config()  # type: ignore[arg-type]

    assert {name: getattr(config, name) for name in changed} == changed


@pytest.mark.parametrize(
    ("strategy", "pauses"),
    [((), [None, None]), ((1.0,), [1.0, 1.0, 1.0]), ((1.0, None, 2.0), [1.0, None, 2.0, 2.0])],
)
def test_the_last_pause_of_a_strategy_is_repeated(
    strategy: tuple[float | None, ...], pauses: list[float | None]
) -> None:
    """Pauses are used in order, and the last one is repeated."""
    timeline = Timeline(strategy=strategy)

    assert [timeline.pause_of_strategy(nth) for nth, _ in enumerate(pauses, 1)] == pauses


def test_answers_come_in_order_and_then_the_last_one() -> None:
    """Requests get the listed answers in order, and then always the answer ``then``."""
    timeline = Timeline(
        answers=[Answer(latency=1.0), Answer(latency=2.0)],
        then=Answer(kind="cut"),
        revocations=[Answer(kind="hang")],
    )

    assert [timeline.answer(nth).latency for nth in range(3)] == [1.0, 2.0, 0.0]
    assert timeline.answer(9).kind == "cut"
    assert [timeline.revocation(nth).kind for nth in range(2)] == ["hang", "token"]


def test_a_moved_wall_clock_is_noticed() -> None:
    """Only a suspend and a set clock make the wall clock part from Trio's."""
    assert Timeline(actions=[Suspend(at=0.0)]).moves_wall_clock
    assert Timeline(actions=[SetWall(at=0.0, by=1.0)]).moves_wall_clock
    assert not Timeline(actions=[Get(at=0.0), Kill(at=0.0), Revoke(at=0.0)]).moves_wall_clock


@pytest.mark.parametrize(
    ("asked", "header"),
    [(0.0, "0"), (5.0, "5"), (0.5, "0.5"), (600.0, "600"), (1 / 1024, "0.000977")],
)
def test_retry_after_is_a_plain_number(asked: float, header: str) -> None:
    """``Retry-After`` has whole seconds without a decimal point, and keeps their zeros."""
    fault = Answer(kind="unavailable", retry_after=asked).fault()

    assert fault is not None
    assert dict(fault.headers)["Retry-After"] == header


SECONDS, NUMBER = "must be a finite number of seconds", "must be an int"


@pytest.mark.parametrize(
    ("written", "field", "words"),
    [
        ("Get(at=-1.0)", "at", SECONDS),
        ("Kill(at=nan)", "at", SECONDS),
        ("Answer(latency=inf)", "latency", SECONDS),
        ("Answer(latency=None)", "latency", ""),
        ("Timeline(lifetime=-inf)", "lifetime", SECONDS),
        ("Timeline(lifetime='3600')", "lifetime", ""),
        ("Timeline(lifetime=True)", "lifetime", ""),
        ("Timeline(leaves_at=-1.0)", "leaves_at", SECONDS),
        ("Suspend(at=0.0, seconds=-1.0)", "seconds", SECONDS),
        ("SetWall(at=0.0, by='1')", "by", ""),
        ("Get(at=0.0, count=-1)", "count", NUMBER),
        ("Get(at=0.0, count=1.5)", "count", ""),
        ("Revoke(at=0.0, passes=-1)", "passes", NUMBER),
        ("Get(at=0.0, gives_up_passes=-1)", "gives_up_passes", NUMBER),
        ("Invalidate(at=0.0, age=-1)", "age", NUMBER),
        ("Get(at=0.0, gives_up='soon')", "gives_up", ""),
        ("Timeline(strategy=2.0)", "strategy", ""),
        ("Timeline(strategy=('2',))", "strategy", ""),
        ("Timeline(then='token')", "then", ""),
        ("Timeline(then=None)", "then", ""),
        ("Timeline(answers=Answer())", "answers", ""),
        ("Timeline(answers=[Answer])", "answers", ""),
        ("Timeline(revocations=[1])", "revocations", ""),
        ("Timeline(actions=(1,))", "actions", ""),
        ("Timeline(actions=Get(at=0.0))", "actions", ""),
        ("Timeline(seed='x')", "seed", ""),
        ("Timeline(reuses_tokens='no')", "reuses_tokens", ""),
        ("timelines(lifetime='60')", "lifetime", ""),
        ("timelines(lifetime=int)", "lifetime", ""),
    ],
)
def test_wrong_values_are_refused(written: str, field: str, words: str) -> None:
    """A wrong value raises an error with the field's name and what is expected."""
    with pytest.raises((TypeError, ValueError), match=f"^{field} {words or 'must be '}"):
        eval(written, {"nan": math.nan, "inf": math.inf} | vars(strategies))
