"""Tests of a store's entry: as text, over time, and with the clocks of a machine."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import traceback_with_locals
from trio_anon_session.stores import StoredToken, _clock
from trio_anon_session.stores._clock import Moment, Span
from trio_anon_session.stores._entry import (
    KEPT_AFTERWARDS,
    MARKS_LIMIT,
    Entry,
    Failure,
    Lease,
    Token,
)
from trio_anon_session.stores._records import LaterFormatError

NOW = Moment(1_700_000_000.0, 5000.0)

_seconds = st.floats(0, 1e9)
_moments = st.builds(Moment, _seconds, _seconds)
_spans = st.builds(Span, _moments, _seconds)
_texts = st.text(st.characters())
_versions = st.integers(0, 2**53 - 1)
ENTRIES = st.builds(
    Entry,
    _versions,
    st.none() | st.builds(Token, _texts, _texts, _spans),
    st.none() | st.builds(Lease, _texts, _spans),
    st.none() | st.builds(Failure, _texts, _versions, _spans),
    st.dictionaries(_texts, _spans, max_size=3),
)

FULL = Entry(
    7,
    Token("record", "mark", Span(NOW, 3600.0)),
    Lease("owner", Span(NOW, 5.0)),
    Failure("failure", 6, Span(NOW, 2.0)),
    {"dead": Span(NOW, 60.0)},
)
GARBAGE = ["", "text", "null", "[]", "{}", "7", '"{}"', "[" * 100_000, "\0", "NaN"]


def _paths(value: Any, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all parts inside a JSON value."""
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    found = []
    for key, part in parts:
        found += [(*before, key), *_paths(part, (*before, key))]
    return found


PARTS = _paths(json.loads(FULL.to_json()))
WRONG_TYPES: list[Any] = [None, True, "text", "", [], [1, 2], [[1, 2], 3], {}, {"mark": 1}]
WRONG_NUMBERS: list[Any] = [0, -1, 10**400, 0.5, math.inf, -math.inf, math.nan]


def _use(entry: Entry) -> None:
    """Call each method of an entry."""
    for now in (NOW, Moment(NOW.wall + 1e9, NOW.since_boot)):
        seen = entry.look(now, ("dead", "mark"))
        assert seen.token is None or isinstance(seen.token.record + seen.token.mark, str)
        assert seen.failure is None or isinstance(seen.failure.record, str)
        assert math.isfinite(entry.useful_for(now))
        entry.drop(now, "mark", 1.0)
        fence = entry.claim(now, "owner", entry.version, 1.0)
        if fence is not None:
            assert entry.renew(now, fence, 1.0)
            assert entry.put(now, fence, StoredToken("record", "mark", 10.0, 1.0))
    Entry.from_json(entry.to_json())


@given(entry=ENTRIES)
def test_an_entry_comes_back_from_its_text(entry: Entry) -> None:
    """An entry that is written as text and read again is equal."""
    text = entry.to_json()
    assert text.isascii()
    assert Entry.from_json(text) == entry


@pytest.mark.parametrize("garbage", GARBAGE, ids=[repr(text)[:20] for text in GARBAGE])
def test_an_invalid_entry_is_rejected(garbage: str) -> None:
    """Reading invalid text raises a ValueError whose message and context do not show it."""
    with pytest.raises(ValueError, match="invalid entry") as caught:
        Entry.from_json(garbage)
    assert caught.value.__context__ is None
    assert str(caught.value) == "the store holds an invalid entry"


@pytest.mark.parametrize("path", PARTS, ids=[".".join(map(str, path)) for path in PARTS])
def test_an_entry_with_a_wrong_part(path: tuple[str | int, ...]) -> None:
    """An entry with a wrong or missing part is rejected, or all its methods work."""
    for wrong in [*WRONG_TYPES, *WRONG_NUMBERS, ...]:
        whole = json.loads(FULL.to_json())
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        if wrong is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = wrong
        try:
            entry = Entry.from_json(json.dumps(whole))
        except (ValueError, LaterFormatError):
            continue
        _use(entry)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("version",), -1),
        (("version",), 0.5),
        (("version",), 2**53),
        (("failure", "fence"), 0.5),
        (("lease", "life", 1), 2**53),
        (("lease", "life", 1), -(2**53)),
    ],
)
def test_an_entry_with_a_wrong_number(path: tuple[str | int, ...], wrong: float) -> None:
    """An entry is rejected if a number in it is too large or small, or a version is no integer."""
    whole = json.loads(FULL.to_json())
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = wrong
    with pytest.raises(ValueError, match="invalid entry"):
        Entry.from_json(json.dumps(whole))


def test_the_full_entry_can_be_used() -> None:
    """The entry from which the other tests make invalid ones is valid."""
    _use(Entry.from_json(FULL.to_json()))


def test_the_token_is_in_no_repr() -> None:
    """Neither the repr of an entry nor an error about one shows its records."""
    entry = attrs.evolve(
        FULL,
        token=Token("secret", "mark", Span(NOW, 1.0)),
        failure=Failure("secret", 1, Span(NOW, 1.0)),
    )
    assert "secret" not in repr(entry)
    with pytest.raises(ValueError, match="invalid entry") as caught:
        Entry.from_json('{"token": "secret"')
    shown = [line for line in traceback_with_locals(caught.value) if "text =" not in line]
    assert "secret" not in "".join(shown)


def test_a_new_entry_has_a_later_version_than_lost_ones() -> None:
    """The version of a new entry is the time in microseconds, so it exceeds all lost ones."""
    assert Entry.new(NOW) == Entry(1_700_000_000_000_000)


@pytest.mark.parametrize(
    ("entry", "seconds"),
    [
        (Entry(1), 0.0),
        (attrs.evolve(FULL, failure=None), 3600.0),
        (Entry(1, lease=Lease("owner", Span(NOW, 5.0))), 5.0),
        (Entry(1, failure=Failure("failure", 1, Span(NOW, 2.0))), 2.0 + KEPT_AFTERWARDS),
        (Entry(1, dead={"mark": Span(NOW, 60.0)}), 60.0),
        (Entry(1, dead={"mark": Span(Moment(0.0, 0.0), 60.0)}), 0.0),
        (Entry(1, failure=Failure("failure", 1, Span(Moment(0.0, 0.0), 2.0))), 0.0),
    ],
)
def test_how_long_an_entry_is_of_use(entry: Entry, seconds: float) -> None:
    """An entry is useful until its last part expires."""
    assert entry.useful_for(NOW) == seconds
    assert entry.useful_for(Moment(NOW.wall + 1.0, NOW.since_boot)) == max(0.0, seconds - 1.0)


def test_dead_marks_are_forgotten() -> None:
    """A drop removes the marks that have expired."""
    entry = Entry(1)
    for second in range(100):
        entry.drop(Moment(NOW.wall + second, NOW.since_boot + second), f"mark-{second}", 3.0)
    assert list(entry.dead) == ["mark-97", "mark-98", "mark-99"]


def test_a_lease_of_unknown_age() -> None:
    """If the clocks are set back, a holder can still renew or put, and the entry stays valid."""
    before = Moment(NOW.wall - 60.0, 20.0)
    entry = Entry.from_json(FULL.to_json())
    assert entry.renew(before, 7, 5.0)
    assert entry.look(before, ()).leased_for == 5.0
    assert Entry.from_json(entry.to_json()) == entry
    entry = Entry.from_json(FULL.to_json())
    assert entry.put(before, 7, StoredToken("record", "mark", 10.0, 0.0))
    assert entry.look(before, ("dead",)).token is None
    assert Entry.from_json(entry.to_json()) == entry


@pytest.mark.parametrize(
    ("wall", "since_boot", "passed"),
    [
        pytest.param(10.0, 10.0, 10.0, id="both go on"),
        pytest.param(3600.0, 10.0, 3600.0, id="the wall clock is set forward"),
        pytest.param(-3600.0, 10.0, 10.0, id="the wall clock is set back"),
        pytest.param(60.0, -4990.0, 60.0, id="the machine is restarted"),
        pytest.param(-60.0, -4990.0, math.inf, id="it is restarted with its clock set back"),
        pytest.param(0.0, 0.0, 0.0, id="no time"),
        pytest.param(-1.0, 0.0, 0.0, id="no time, and set back"),
    ],
)
def test_time_passes_by_the_clock_that_says_more(
    wall: float, since_boot: float, passed: float
) -> None:
    """The clock that shows more time counts; a span is over if both clocks have gone back."""
    now = Moment(NOW.wall + wall, NOW.since_boot + since_boot)
    span = Span(NOW, 100.0)
    assert span.passed(now) == passed
    assert span.left(now) == max(0.0, 100.0 - passed)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(Moment(NOW.wall + 10.0, 3.0), id="the machine is restarted"),
        pytest.param(Moment(NOW.wall - 3600.0, NOW.since_boot + 10.0), id="set back"),
    ],
)
def test_a_token_keeps_its_age_on_both_clocks(now: Moment) -> None:
    """The age with which a token was put counts, whichever clock is used later."""
    entry = Entry(1)
    fence = entry.claim(NOW, "owner", 1, 5.0)
    assert fence is not None
    assert entry.put(NOW, fence, StoredToken("record", "mark", 3600.0, 100.0))
    token = entry.look(now, ()).token
    assert token is not None
    assert token.age == 110.0


def test_a_moment_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """In real time, a moment has the times of the wall clock and of the clock since boot."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    moment = Moment.now()
    assert moment.wall == 1_700_000_000.0
    # The clock that continues during a suspend is never behind the other one.
    assert moment.since_boot >= before
    monkeypatch.setattr(_clock, "_BOOT_CLOCK", -1)
    monkeypatch.setattr(time, "monotonic", lambda: 42.0)
    assert Moment.now() == (1_700_000_000.0, 42.0)


def test_marks_are_bounded() -> None:
    """An entry keeps only the last dropped marks, up to a limit."""
    marks = [str(number) for number in range(MARKS_LIMIT + 5)]
    entry = Entry(1, dead={mark: Span(NOW, 1e6) for mark in marks[:MARKS_LIMIT]})
    for mark in [*marks[MARKS_LIMIT:], marks[10]]:
        entry.drop(NOW, mark, 1e6)
    assert entry.look(NOW, marks).dead == {*marks[5:]}
    assert len(entry.to_json()) < 100 * MARKS_LIMIT
