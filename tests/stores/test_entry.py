"""An entry as text, what it is worth, and the clocks of a machine."""

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
    """Return where the parts of JSON are, the whole left out."""
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
    """Do with an entry all that can be done with one."""
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
    """What was made text is the same entry when it is read."""
    text = entry.to_json()
    assert text.isascii()
    assert Entry.from_json(text) == entry


@pytest.mark.parametrize("garbage", GARBAGE, ids=[repr(text)[:20] for text in GARBAGE])
def test_what_is_no_entry(garbage: str) -> None:
    """Whatever is no entry is refused, with an error that holds nothing of it."""
    with pytest.raises(ValueError, match="invalid entry") as caught:
        Entry.from_json(garbage)
    assert caught.value.__context__ is None
    assert str(caught.value) == "the store holds an invalid entry"


@pytest.mark.parametrize("path", PARTS, ids=[".".join(map(str, path)) for path in PARTS])
def test_an_entry_with_a_wrong_part(path: tuple[str | int, ...]) -> None:
    """An entry that has anything in the place of a part is none, or one that can be used."""
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
    """A version is a whole number, and all numbers have limits."""
    whole = json.loads(FULL.to_json())
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = wrong
    with pytest.raises(ValueError, match="invalid entry"):
        Entry.from_json(json.dumps(whole))


def test_the_full_entry_can_be_used() -> None:
    """The entry of which the parts are made wrong is one itself."""
    _use(Entry.from_json(FULL.to_json()))


def test_the_token_is_in_no_repr() -> None:
    """Neither an entry nor its error shows what was put or left."""
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


def test_a_new_entry_is_past_all_that_was_lost() -> None:
    """A new entry's version is the time in microseconds, so that it grows by itself."""
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
    """An entry is of use as long as the part that lasts longest."""
    assert entry.useful_for(NOW) == seconds
    assert entry.useful_for(Moment(NOW.wall + 1.0, NOW.since_boot)) == max(0.0, seconds - 1.0)


def test_dead_marks_are_forgotten() -> None:
    """Marks that are over go with the next one that is noted."""
    entry = Entry(1)
    for second in range(100):
        entry.drop(Moment(NOW.wall + second, NOW.since_boot + second), f"mark-{second}", 3.0)
    assert list(entry.dead) == ["mark-97", "mark-98", "mark-99"]


def test_a_lease_of_which_nobody_knows_the_age() -> None:
    """A holder that outlasts the machine's clocks, as one that is moved, leaves an entry."""
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
    """A span is as long as the larger of two clocks says, and over where none can tell."""
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
    """The age that a token had when it was put counts on each of the clocks."""
    entry = Entry(1)
    fence = entry.claim(NOW, "owner", 1, 5.0)
    assert fence is not None
    assert entry.put(NOW, fence, StoredToken("record", "mark", 3600.0, 100.0))
    token = entry.look(now, ()).token
    assert token is not None
    assert token.age == 110.0


def test_a_moment_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of virtual time, a moment is the wall clock's, and that of all processes."""
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
    """An entry knows the last marks that were dropped, however many there were."""
    marks = [str(number) for number in range(MARKS_LIMIT + 5)]
    entry = Entry(1, dead={mark: Span(NOW, 1e6) for mark in marks[:MARKS_LIMIT]})
    for mark in [*marks[MARKS_LIMIT:], marks[10]]:
        entry.drop(NOW, mark, 1e6)
    assert entry.look(NOW, marks).dead == {*marks[5:]}
    assert len(entry.to_json()) < 100 * MARKS_LIMIT
