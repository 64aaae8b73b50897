"""The pictures of a timeline: two complete examples, and properties of all pictures.

The first example shows an outage, the second a broken promise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_anon_session.testing._timelines.picture import (
    GLYPHS,
    NARROWEST,
    Picture,
    draw_text,
    lay_out,
)
from trio_anon_session.testing._timelines.record import (
    Attempt,
    Breach,
    GetterLine,
    Mark,
    Story,
    TokenLife,
)
from trio_anon_session.testing._timelines.svg import draw_svg

if TYPE_CHECKING:
    from collections.abc import Callable

SCREEN = 40
ROOMY = 100
SVG = "{http://www.w3.org/2000/svg}"


def life(
    name: str,
    sent_at: float,
    came_at: float | None,
    *,
    lifetime: float = 3600.0,
    dropped_at: float | None = None,
    replaced_at: float | None = None,
) -> TokenLife:
    """Make a life with the usual buffers: stale after five sixths, expired 30 s before the end."""
    return TokenLife(
        name=name,
        sent_at=sent_at,
        came_at=came_at,
        stale_at=sent_at + lifetime - min(600.0, lifetime / 2),
        expires_at=sent_at + lifetime - min(30.0, lifetime / 4),
        ends_at=sent_at + lifetime,
        dropped_at=dropped_at,
        replaced_at=replaced_at,
    )


def grant(number: int, sent_at: float, ended_at: float | None, outcome: str) -> Attempt:
    """Make a token request; an outcome of one letter is a token."""
    return Attempt(
        number=number,
        sent_at=sent_at,
        ended_at=ended_at,
        outcome=outcome,
        succeeded=len(outcome) == 1,
    )


def get(
    number: int, asked_at: float, ended_at: float | None, outcome: str = "A", **fields: Any
) -> GetterLine:
    """Make a getter, by default one that got a token."""
    line = GetterLine(
        number=number,
        ask="get",
        asked_at=asked_at,
        ended_at=ended_at,
        kind="token",
        outcome=outcome,
    )
    return attrs.evolve(line, **fields)


FIRST = grant(1, 0.0, 0.05, "A")


# Whole pictures

OUTAGE = Story(
    tokens=(life("A", 0.0, 0.2, replaced_at=3690.2), life("B", 3690.0, 3690.2)),
    attempts=(
        grant(1, 0.0, 0.2, "A"),
        grant(2, 3000.0, 3000.1, "503"),
        grant(3, 3590.0, 3620.0, "timeout"),
        grant(4, 3690.0, 3690.2, "B"),
    ),
    getters=(
        *(get(number, 0.0, 0.2) for number in (1, 2, 3)),
        get(4, 3100.0, 3100.0),
        get(5, 3580.0, 3690.2, "B"),
        get(6, 3580.0, 3620.0, "TokenUnavailableError", kind="error"),
        get(7, 3600.0, 3605.0, "gave up", kind="cancelled", ask="use"),
        get(8, 3600.0, 3600.0, "would block", kind="would block", ask="nowait"),
        get(9, 3750.0, 3800.0, "closed", kind="closed", ask="exchange"),
    ),
    marks=(Mark(at=3800.0, text="left"),),
    ends_at=3800.0,
)

RACE = Story(
    tokens=(
        life("A", 0.0, 0.05, dropped_at=3000.2),
        life("B", 3000.0, 3000.5, replaced_at=3001.3),
        life("C", 3001.2, 3001.3),
    ),
    attempts=(
        FIRST,
        grant(2, 3000.0, 3000.5, "B"),
        grant(3, 3001.2, 3001.3, "C"),
        grant(4, 3005.0, None, ""),
    ),
    getters=(
        get(1, 3000.1, 3000.1),
        get(2, 3000.3, 3000.5, "B"),
        get(3, 3000.3, 3000.5, "B"),
        get(4, 3000.3, None, "", kind="held"),
        get(5, 3000.8, 3001.3, "C"),
    ),
    marks=(Mark(at=3000.2, text="invalidate A"),),
    ends_at=3010.0,
    breach=Breach(
        promise=17,
        at=3000.5,
        text="A was dropped at 3000.2 s, the grant of B was sent before, and getter 2 got B",
        getter=2,
        token="B",
    ),
)


def test_an_outage_with_held_getters() -> None:
    assert (
        draw_text(OUTAGE, width=90)
        == """\
2 tokens, 4 requests, 9 getters in 3800 s

                                3100       3590     3620      3750
                    0 0.2 3000  │   3570   │  3600  │   3690  │   3800
  seconds           ┴─┴───┴─────┴───┴──────┴──┴─────┴───┴─────┴───┴
  token A           ··████▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░╢xxxxxxxxxxx
  token B                                               ··█████████▸

  request 1         ├─┤ A
  request 2               ├──╳ 503
  request 3                                ├────────╳ timeout
  request 4                                             ├─┤ B

  left                                                            ◆

  getters 1–3 ×3    ●─● A
  getter 4                      ● A
  getter 5                             ●──────────────────● B
  getter 6                             ●────────────╳ TokenUnavailableError
  getter 7 use                                ●──○ gave up
  getter 8 nowait                             ○ would block
  getter 9 exchange                                           ●───■ closed

· requested   █ FRESH   ▓ STALE   ░ EXPIRED, still valid at the server
╢ the server rejects it from here   x rejected by the server, not replaced yet   ╳ failed
─ waits   ● got a token   ○ got nothing   ■ closed   ▸ continues   gaps are not to scale"""
    )


def test_a_late_answer_after_an_invalidation() -> None:
    assert (
        draw_text(RACE, width=90)
        == """\
promise 17 broken at 3000.5 s: A was dropped at 3000.2 s, the grant of B was sent before,
and getter 2 got B

                                       3000.2
                                       │   3000.3        3001.2
                 0  0.05       3000    │   │    3000.5   │   3001.3 3005   3010
  seconds        ┴──┴──────────┴───────┴───┴────▼────────┴───┴──────┴──────┴
  token A        ···███████████▓▓▓▓▓▓▓▓╳╌╌╌╌╌╌╌╌│╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
▶ token B                      ·················│████████████╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
  token C                                       │        ····███████████████▸
                                                │
  request 1      ├──┤ A                         │
  request 2                    ├────────────────┤ B
  request 3                                     │        ├───┤ C
  request 4                                     │                   ├───────▸ never ended
                                                │
  invalidate A                         ◆        │
                                                │
  getter 1                         ● A          │
▶ getter 2                                 ●────● B
  getter 3                                 ●────● B
  getter 4                                 ●────┼───────────────────────────▸ still waits
  getter 5                                      │   ●────────● C
                                                ▲ promise 17 broken here, at 3000.5 s

· requested   █ FRESH   ▓ STALE   ╌ no longer used by the session   ╳ dropped   ─ waits
● got a token   ▸ continues   gaps are not to scale"""
    )


# Properties of every picture

# Draw days, milliseconds, and times that are close together.
times = (
    st.integers(0, 9).map(float)
    | st.integers(0, 4_000_000).map(lambda ticks: ticks / 1000)
    | st.floats(0.0, 2.0**31)
)
ends = st.none() | times
words = st.sampled_from(["A", "B", "503", "TokenUnavailableError", ""]) | st.text(max_size=50)
# Hypothesis also draws strings from loaded modules, for example the label of another row. The
# prefix prevents this.
marks = words.map("mark {}".format)


def lives(name: str) -> st.SearchStrategy[TokenLife]:
    """Draw token lives, also ones that no session can produce."""
    return st.builds(
        life,
        st.just(name),
        times,
        ends,
        lifetime=st.sampled_from([1e-3, 1.0, 3600.0, 2.0**31]),
        dropped_at=ends,
        replaced_at=ends,
    )


def numbered(most: int, part: type[Any], **fields: st.SearchStrategy[Any]) -> Any:
    """Draw at most `most` parts, numbered from 1."""
    parts = st.lists(st.builds(part, number=st.just(0), **fields), max_size=most)
    return parts.map(
        lambda drawn: tuple(attrs.evolve(each, number=nth) for nth, each in enumerate(drawn, 1))
    )


stories = st.builds(
    Story,
    tokens=st.integers(0, 8).flatmap(lambda count: st.tuples(*map(lives, "ABCDEFGH"[:count]))),
    attempts=numbered(
        8, Attempt, sent_at=times, ended_at=ends, outcome=words, succeeded=st.booleans()
    ),
    getters=numbered(
        20,
        GetterLine,
        ask=st.sampled_from(["get", "nowait", "exchange", "use"]),
        asked_at=times,
        ended_at=ends,
        kind=st.sampled_from(["token", "error", "cancelled", "would block", "closed", "held"]),
        outcome=words,
    ),
    marks=st.lists(st.builds(Mark, at=times, text=marks), max_size=8).map(tuple),
    ends_at=times,
    breach=st.none()
    | st.builds(
        Breach,
        promise=st.none() | st.integers(1, 22),
        at=times,
        text=st.text(max_size=500),
        getter=st.none() | st.integers(1, 20),
        attempt=st.none() | st.integers(1, 8),
        token=st.none() | st.sampled_from("ABC"),
    ),
)


MANY_GETTERS = Story(
    tokens=(life("A", 0.0, 0.05),),
    attempts=(FIRST,),
    getters=tuple(
        get(number, number * 3.1, number * 3.1 + number % 3) for number in range(1, 1001)
    ),
    ends_at=3500.0,
    breach=Breach(promise=2, at=2500.0, text="getter 800 waited", getter=800),
)

MANY_MOMENTS = Story(
    tokens=(life("A", 0.0, 0.05),),
    attempts=(FIRST,),
    marks=tuple(Mark(at=number * 17.5, text="suspend") for number in range(200)),
    ends_at=3600.0,
    breach=Breach(promise=None, at=2500.0, text="the program stopped"),
)

LONG_LIFE = Story(
    tokens=(life("A", 0.0, 0.001, lifetime=2.0**31), life("B" * 300, 2.0**31 - 1, 2.0**31)),
    getters=(get(1, 0.0, 0.001), get(2, 2.0**31 - 0.001, 2.0**31, "B" * 300)),
    ends_at=2.0**31,
)

widths = st.integers(-1, 300)


def every_picture(test: Callable[[Story, int], None]) -> Callable[..., None]:
    """Test a property with drawn stories and with extreme examples."""
    for story in (Story(), OUTAGE, RACE, MANY_GETTERS, MANY_MOMENTS, LONG_LIFE):
        for width in (ROOMY, NARROWEST):
            test = example(story=story, width=width)(test)
    return given(story=stories, width=widths)(test)


@every_picture
def test_no_line_is_longer_than_the_width(story: Story, width: int) -> None:
    lines = draw_text(story, width=width).split("\n")
    assert max(map(len, lines)) <= max(width, NARROWEST)
    assert lines == [line.rstrip() for line in lines]
    if width >= ROOMY:
        assert len(lines) <= SCREEN


@every_picture
def test_each_moment_has_its_own_column_in_the_order_of_time(story: Story, width: int) -> None:
    picture = lay_out(story, cells=width)
    axis = picture.axis
    assert list(axis.moments) == sorted(set(axis.moments))
    assert list(axis.columns) == sorted(set(axis.columns))
    assert len(axis.moments) == len(axis.columns)
    assert [axis.column(at) for at in axis.moments] == list(axis.columns)
    assert axis.columns[0] == picture.cut
    assert axis.columns[-1] < picture.room - 1


@every_picture
def test_all_that_is_drawn_lies_in_the_picture(story: Story, width: int) -> None:
    picture = lay_out(story, cells=width)
    for row in picture.rows:
        for span in row.spans:
            assert 0 <= span.start < span.end <= picture.room
        for sign in row.signs:
            assert 0 <= sign.column < picture.room
        assert 0 <= row.note.column <= row.note.column + len(row.note.text) <= picture.room
        assert not {sign.column for sign in row.signs} & note_columns(
            row.note.column, row.note.text
        )


def note_columns(start: int, text: str) -> set[int]:
    return set(range(start, start + len(text)))


@every_picture
def test_labels_of_moments_do_not_overlap(story: Story, width: int) -> None:
    picture = lay_out(story, cells=width)
    taken: set[tuple[int, int]] = set()
    for tick in picture.ticks:
        cells = {(tick.level, column) for column in note_columns(tick.start, tick.text)}
        cells |= {(level, tick.column) for level in range(tick.level)}
        assert not cells & taken
        taken |= cells
    if picture.breach is not None:
        assert picture.breach in {tick.column for tick in picture.ticks}


@given(story=stories)
@example(story=OUTAGE)
@example(story=MANY_GETTERS)
@example(story=MANY_MOMENTS)
def test_everything_has_a_row_or_is_counted(story: Story) -> None:
    labels = [row.label for row in lay_out(story, cells=ROOMY).rows]
    assert counted(labels, "token") == len(story.tokens)
    assert counted(labels, "request") == len(story.attempts)
    assert counted(labels, "getter") == len(story.getters)


def counted(labels: list[str], noun: str) -> int:
    """Return how many items the labels of one section stand for."""
    total = 0
    for label in labels:
        if match := re.match(rf"\+(\d+) {noun}s?$|{noun}s (?:.*) ×(\d+)|{noun} ", label):
            total += int(match[1] or match[2] or 1)
    return total


@every_picture
def test_the_breach_is_marked_at_its_column(story: Story, width: int) -> None:
    picture = lay_out(story, cells=width)
    text = draw_text(story, width=width)
    (axis,) = [line for line in text.splitlines() if line.startswith("  seconds")]
    if story.breach is None:
        assert "▼" not in axis
        return
    assert picture.breach is not None
    column = picture.gutter + picture.breach
    assert axis[column] == "▼"
    pointers = [line for line in text.splitlines() if line[column : column + 1] == "▲"]
    assert len(pointers) == 1
    assert "broken here" in pointers[0] or pointers[0].endswith("…")


@every_picture
def test_rows_of_a_breach_are_always_shown(story: Story, width: int) -> None:
    breach = story.breach
    flagged = sum(row.broken for row in lay_out(story, cells=width).rows)
    if breach is None:
        assert not flagged
        return
    assert flagged == sum(
        (
            any(getter.number == breach.getter for getter in story.getters),
            any(attempt.number == breach.attempt for attempt in story.attempts),
            any(token.name == breach.token for token in story.tokens),
        )
    )


@every_picture
def test_the_svg_has_the_same_content(story: Story, width: int) -> None:
    picture = lay_out(story, cells=max(width, NARROWEST))
    drawing = ElementTree.fromstring(draw_svg(story, width=picture.width * 8 + 32))
    assert drawing.findtext(f"{SVG}title") == picture.heading
    assert drawing.find(f"{SVG}desc") is not None
    rows = [group.get("aria-label") for group in drawing.iter(f"{SVG}g")]
    assert rows == [row.label for row in picture.rows]
    shown = [text.text or "" for text in drawing.iter(f"{SVG}text")]
    assert set(rows) | {tick.text for tick in picture.ticks} <= set(shown)
    strokes = [line for line in drawing.iter(f"{SVG}line") if line.get("class") == "breach"]
    assert [float(line.get("x1", "")) for line in strokes] == breach_x(picture)


def breach_x(picture: Picture) -> list[float]:
    if picture.breach is None:
        return []
    return [16 + (picture.gutter + picture.breach + 0.5) * 8]


# Cases


def drawn_row(story: Story, label: str, *, width: int = ROOMY) -> str:
    (row,) = [r for r in draw_text(story, width=width).splitlines() if r[2:].startswith(label)]
    return row


def test_the_nearest_moments_before_the_breach_are_kept() -> None:
    picture = lay_out(MANY_MOMENTS, cells=ROOMY)
    assert picture.cut
    assert picture.axis.shows(2500.0)
    before = sum(at < 2500.0 for at in picture.axis.moments)
    assert before > 2 * (len(picture.axis.moments) - before)
    text = draw_text(MANY_MOMENTS)
    assert re.search(r"^not shown: \d+ earlier moments, \d+ later moments$", text, re.MULTILINE)
    assert drawn_row(MANY_MOMENTS, "token A").split()[2].startswith("…███")


def test_without_a_breach_the_last_moments_are_kept() -> None:
    marks = tuple(Mark(at=float(number), text="suspend") for number in range(200))
    picture = lay_out(Story(marks=marks, ends_at=200.0), cells=ROOMY)
    assert picture.cut
    assert picture.axis.moments[-1] == 200.0
    assert "later" not in picture.remark


def test_the_rows_nearest_the_breach_are_kept() -> None:
    labels = [row.label for row in lay_out(MANY_GETTERS, cells=ROOMY).rows]
    assert {"getter 799", "getter 800", "getter 806"} <= set(labels)
    assert "getter 1" not in labels
    assert "getter 1000" not in labels


def test_the_token_that_a_broken_getter_got_is_kept() -> None:
    old = (life("A", 0.0, 0.05), *(life(f"N{number}", 5000.0, 5001.0) for number in range(30)))
    breach = Breach(promise=1, at=5002.0, text="got A", getter=1)
    story = Story(tokens=old, getters=(get(1, 5002.0, 5002.0),), ends_at=5002.0, breach=breach)
    assert "token A" in [row.label for row in lay_out(story, cells=ROOMY).rows]


def test_a_broken_getter_is_not_hidden_in_a_crowd() -> None:
    getters = tuple(get(number, 0.0, 1.0) for number in range(1, 6))
    breach = Breach(promise=8, at=1.0, text="", getter=3)
    labels = [row.label for row in lay_out(Story(getters=getters, breach=breach), cells=80).rows]
    assert labels == ["getters 1… ×4", "getter 3"]


@pytest.mark.parametrize(
    ("at", "label"),
    [
        (0.0, "0"),
        (3000.0, "3000"),
        (3000.001, "3000.001"),
        (86400.0, "1d"),
        (93600.0, "1d2h"),
        (93600.5, "1d2h0.5s"),
        (2.0**31, "24855d3h14m8s"),
        (1e300, "1e+300"),
    ],
)
def test_labels_of_moments_are_short(at: float, label: str) -> None:
    ticks = lay_out(Story(ends_at=at), cells=ROOMY).ticks
    assert ticks[-1].text == label


def test_rounding_errors_make_no_moments() -> None:
    story = Story(marks=(Mark(at=0.1 + 0.2, text="one"), Mark(at=0.3, text="two")), ends_at=0.3)
    assert lay_out(story, cells=ROOMY).axis.moments == (0.0, 0.3)


def test_a_token_that_never_came() -> None:
    story = Story(tokens=(life("A", 1.0, None),), ends_at=2.0)
    row = drawn_row(story, "token A")
    assert row.endswith("·▸ never came")
    assert GLYPHS["fresh"] not in row


def test_a_token_that_had_expired_when_it_came() -> None:
    story = Story(tokens=(life("A", 0.0, 12.0, lifetime=10.0),), ends_at=20.0)
    row = drawn_row(story, "token A")
    assert not {GLYPHS["fresh"], GLYPHS["stale"], GLYPHS["expired"]} & set(row)
    assert "╢" in row


def test_texts_are_escaped() -> None:
    nasty = "</text><script>\n\x00\ud800&\"'"
    story = Story(
        tokens=(life(nasty, 0.0, 1.0),),
        marks=(Mark(at=0.0, text=nasty),),
        breach=Breach(promise=1, at=0.0, text=nasty),
    )
    assert not list(ElementTree.fromstring(draw_svg(story)).iter(f"{SVG}script"))
    assert draw_text(story).startswith("promise 1 broken at 0 s: </text><script> &\"'\n\n")


def test_the_svg_has_no_external_resources() -> None:
    drawing = draw_svg(OUTAGE)
    assert "prefers-color-scheme: dark" in drawing
    assert drawing.count("http") == 1
    assert "url(" not in drawing
    assert 'width="960"' in drawing
