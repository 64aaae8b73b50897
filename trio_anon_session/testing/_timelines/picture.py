"""Pictures of a timeline, as text and as SVG.

One layout serves both drawings::

    Story ──► lines (in seconds) ──► the ones that matter ──► axis ──► Picture (in cells) ─┬─► text
                                                                                           └─► SVG

A picture is a grid of cells. The time axis is not to scale: every moment has its own column,
and the gaps grow with the logarithm of the time between, because tokens live for days and
responses take milliseconds.
"""

from __future__ import annotations

import math
import textwrap
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import accumulate, islice, pairwise, zip_longest
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .record import Attempt, GetterLine, Mark, Story, TokenLife

SpanKind = Literal[
    "coming", "fresh", "stale", "expired", "dead", "forgotten", "asking", "held", "rest"
]
SignKind = Literal[
    "sent", "arrived", "failed", "asked", "served", "nothing", "closed", "dropped", "refused",
    "happened", "goes on", "earlier",
]  # fmt: skip
Kind = SpanKind | SignKind

GLYPHS: dict[Kind, str] = {
    "coming": "·",
    "fresh": "█",
    "stale": "▓",
    "expired": "░",
    "dead": "x",
    "forgotten": "╌",
    "refused": "╢",
    "dropped": "╳",
    "asking": "─",
    "sent": "├",
    "arrived": "┤",
    "failed": "╳",
    "asked": "●",
    "held": "─",
    "served": "●",
    "nothing": "○",
    "closed": "■",
    "happened": "◆",
    "rest": "┄",
    "earlier": "…",
    "goes on": "▸",
}

WORDS: dict[Kind, str] = {
    "coming": "requested",
    "fresh": "FRESH",
    "stale": "STALE",
    "expired": "EXPIRED, still valid at the server",
    "refused": "the server rejects it from here",
    "dead": "rejected by the server, not replaced yet",
    "forgotten": "no longer used by the session",
    "dropped": "dropped",
    "failed": "failed",
    "held": "waits",
    "served": "got a token",
    "nothing": "got nothing",
    "closed": "closed",
    "goes on": "continues",
}
"""The legend of the symbols that need an explanation."""

# The width of the narrowest readable picture, in characters.
NARROWEST = 40
# With heading, axis and legend, a picture fits 40 lines.
MOST_ROWS = 18
LABEL_LEVELS = 3
HEADING_LINES = 4
LONGEST_LABEL = 24
# Rounded to microseconds, because sums of floats that should be equal can differ a little.
DIGITS = 6
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# Moments after this are written in scientific notation.
LONGEST = 1e12
SECTIONS = ("token", "request", "event", "getter")


def draw_text(story: Story, *, width: int = 100) -> str:
    """Return the picture of a timeline as text.

    Args:
        story: the events.
        width: maximum length of a line in characters; at least 40 are used.

    Returns:
        The lines, without trailing blanks.
    """
    picture = lay_out(story, cells=width)
    canvas = [
        *picture.heading_lines,
        "",
        *_axis_text(picture),
        *_rows_text(picture),
        *_pointer_text(picture),
        *textwrap.wrap(picture.remark, picture.width),
        *_legend_text(picture),
    ]
    return "\n".join(line.rstrip() for line in canvas)


# What both drawings show, in cells


@attrs.frozen(kw_only=True)
class Axis:
    """The time axis: the shown moments and their columns, both ascending."""

    moments: tuple[float, ...]
    columns: tuple[int, ...]

    def column(self, at: float) -> int:
        """Return the column of the last shown moment that is not after `at`.

        Earlier moments get column 0, later ones the column after the last.
        """
        if at > self.moments[-1]:
            return self.columns[-1] + 1
        index = bisect_right(self.moments, at) - 1
        return self.columns[index] if index >= 0 else 0

    def shows(self, at: float) -> bool:
        """Return whether a moment is in the part that is shown."""
        return self.moments[0] <= at <= self.moments[-1]


@attrs.frozen(kw_only=True)
class Tick:
    """A label of the axis; `level` is the number of lines between label and axis.

    The label starts at its column, or earlier at the right edge of the picture.
    """

    column: int
    start: int
    text: str
    level: int


@attrs.frozen
class Span:
    """A range of cells; `end` is exclusive."""

    start: int
    end: int
    kind: SpanKind


@attrs.frozen
class Sign:
    """A symbol in a single cell."""

    column: int
    kind: SignKind


@attrs.frozen
class Note:
    """A text in a row, starting at a cell."""

    column: int
    text: str


@attrs.frozen(kw_only=True)
class Row:
    """A row of the picture.

    Attributes:
        section: 0 for tokens, 1 for requests, 2 for other events, 3 for getters.
        label: label at the left.
        told: the row as text, for screen readers.
        spans: ranges, drawn first.
        signs: symbols, drawn over the spans.
        note: the result, as text.
        broken: whether the broken promise concerns this row.
    """

    section: int
    label: str
    told: str
    spans: tuple[Span, ...]
    signs: tuple[Sign, ...]
    note: Note
    broken: bool


@attrs.frozen(kw_only=True)
class Picture:
    """A picture, laid out in cells.

    Attributes:
        width: width of the picture.
        gutter: width of the labels; columns start at its right edge.
        heading: the broken promise, or a summary.
        axis: columns of the moments.
        cut: whether earlier moments are left out; column 0 then represents them.
        ticks: labels of the axis.
        rows: rows from top to bottom.
        breach: column of the breach, or None.
        pointer: text next to the breach.
        remark: the parts that are not shown; empty if there are none.
        legend: the symbols that need an explanation, with their texts.
    """

    width: int
    gutter: int
    heading: str
    axis: Axis
    cut: bool
    ticks: tuple[Tick, ...]
    rows: tuple[Row, ...]
    breach: int | None
    pointer: Note
    remark: str
    legend: tuple[tuple[Kind, str], ...]

    @property
    def room(self) -> int:
        """The number of cells to the right of the labels."""
        return self.width - self.gutter

    @property
    def heading_lines(self) -> list[str]:
        """The heading, wrapped and cut to the maximum number of lines."""
        return textwrap.wrap(self.heading, self.width, max_lines=HEADING_LINES, placeholder=" …")


def lay_out(story: Story, *, cells: int) -> Picture:
    """Return the layout of the picture of a story.

    Args:
        story: the events.
        cells: width of the picture; at least 40 are used.
    """
    width = max(cells, NARROWEST)
    lines = _lines(story)
    chosen = _choose(lines, story)
    gutter = _gutter(lines, width)
    room = width - gutter
    axis, cut = _axis(_moments(story, chosen), _focus(story), room - _margin(chosen, room))
    chosen = [line for line in chosen if line.broken or line.overlaps(axis)]
    kept = set(chosen)
    rest = [line for line in lines if line not in kept]
    breach = axis.column(_focus(story)) if story.breach else None
    shown = sorted([*chosen, *_rest(rest)], key=lambda line: line.section)
    rows = tuple(_row(line, axis, breach, room, gutter) for line in shown)
    return Picture(
        width=width,
        gutter=gutter,
        heading=_heading(story),
        axis=axis,
        cut=cut,
        ticks=_ticks(axis, _weights(story, chosen), room),
        rows=rows,
        breach=breach,
        pointer=_pointer(story, breach, room),
        remark=_remark(_moments(story, lines), axis),
        legend=_legend(rows),
    )


# Lines: rows before they have columns


def _rounded(at: float) -> float:
    return round(at, DIGITS)


@attrs.frozen
class _Stretch:
    start: float = attrs.field(converter=_rounded)
    end: float = attrs.field(converter=_rounded)
    kind: SpanKind


@attrs.frozen
class _Event:
    at: float = attrs.field(converter=_rounded)
    kind: SignKind


@attrs.frozen(kw_only=True, eq=False)
class _Line:
    """A row in seconds; a stretch without an end ends at infinity."""

    section: int
    label: str
    told: str
    stretches: tuple[_Stretch, ...] = ()
    events: tuple[_Event, ...] = ()
    note: str = ""
    broken: bool = False
    wanted: bool = False
    count: int = 1

    @property
    def moments(self) -> Iterator[float]:
        for stretch in self.stretches:
            yield stretch.start
            yield stretch.end
        for event in self.events:
            yield event.at

    @property
    def start(self) -> float:
        return min(self.moments)

    @property
    def end(self) -> float:
        return max(self.moments)

    def distance(self, at: float) -> float:
        # Earlier events explain more than later ones, so later ones count as further away.
        return max(3 * (self.start - at), at - self.end, 0.0)

    def overlaps(self, axis: Axis) -> bool:
        return self.start <= axis.moments[-1] and self.end >= axis.moments[0]


def _lines(story: Story) -> list[_Line]:
    return [
        *(_token_line(token, story) for token in story.tokens),
        *(_attempt_line(attempt, story) for attempt in story.attempts),
        *(_mark_line(text, marks) for text, marks in _same_marks(story.marks).items()),
        *(_getter_line(getters, story) for getters in _same_getters(story)),
    ]


def _token_line(token: TokenLife, story: Story) -> _Line:
    came = math.inf if token.came_at is None else token.came_at
    released = min(_or_never(token.dropped_at), _or_never(token.replaced_at))
    stretches = [_Stretch(token.sent_at, came, "coming")]
    if came < math.inf:
        stretches += _life(token, came, released)
    events = [] if token.came_at is None else [_Event(token.ends_at, "refused")]
    if token.dropped_at is not None:
        events.append(_Event(token.dropped_at, "dropped"))
    breach = story.breach
    return _Line(
        section=0,
        label=f"token {_clean(token.name)}",
        told=_told_token(token),
        stretches=tuple(stretches),
        events=tuple(events),
        note="never came" if token.came_at is None else "",
        broken=breach is not None and breach.token == token.name,
        wanted=token.name in _wanted_tokens(story),
    )


def _life(token: TokenLife, came: float, released: float) -> Iterator[_Stretch]:
    bounds = (-math.inf, token.stale_at, token.expires_at, token.ends_at)
    kinds: tuple[SpanKind, ...] = ("fresh", "stale", "expired")
    for kind, (start, end) in zip(kinds, pairwise(bounds), strict=True):
        first, last = max(start, came), min(end, released)
        if first < last:
            yield _Stretch(first, last, kind)
    if max(came, released) < token.ends_at:
        yield _Stretch(max(came, released), token.ends_at, "forgotten")
    if max(came, token.ends_at) < released:
        yield _Stretch(max(came, token.ends_at), released, "dead")


def _told_token(token: TokenLife) -> str:
    facts = [f"token {_clean(token.name)}: requested at {_spoken(token.sent_at)}"]
    for at, what in (
        (token.came_at, "came"),
        (token.stale_at, "stale"),
        (token.expires_at, "expired"),
        (token.ends_at, "rejected by the server"),
        (token.dropped_at, "dropped"),
        (token.replaced_at, "replaced"),
    ):
        if at is not None:
            facts.append(f"{what} at {_spoken(at)}")
    return ", ".join(facts)


def _wanted_tokens(story: Story) -> set[str]:
    """Return the names of the tokens that the breach concerns, also through its getter."""
    if story.breach is None:
        return set()
    names = {g.outcome for g in story.getters if g.number == story.breach.getter}
    names |= {a.outcome for a in story.attempts if a.number == story.breach.attempt}
    return names | {story.breach.token or ""}


def _attempt_line(attempt: Attempt, story: Story) -> _Line:
    ended = _or_never(attempt.ended_at)
    events = [_Event(attempt.sent_at, "sent")]
    if attempt.ended_at is not None:
        events.append(_Event(ended, "arrived" if attempt.succeeded else "failed"))
    note = _clean(attempt.outcome) if attempt.ended_at is not None else "never ended"
    return _Line(
        section=1,
        label=f"request {attempt.number}",
        told=f"request {attempt.number}: sent at {_spoken(attempt.sent_at)}, "
        + _told_end(attempt.ended_at, note),
        stretches=(_Stretch(attempt.sent_at, ended, "asking"),),
        events=tuple(events),
        note=note,
        broken=story.breach is not None and story.breach.attempt == attempt.number,
    )


def _same_marks(marks: Iterable[Mark]) -> dict[str, list[Mark]]:
    groups: dict[str, list[Mark]] = {}
    for mark in marks:
        groups.setdefault(_clean(mark.text), []).append(mark)
    return groups


def _mark_line(text: str, marks: Sequence[Mark]) -> _Line:
    times = ", ".join(_spoken(mark.at) for mark in marks)
    events = tuple(_Event(mark.at, "happened") for mark in marks)
    return _Line(section=2, label=text, told=f"{text}: {times}", events=events, count=len(marks))


def _same_getters(story: Story) -> Iterable[list[GetterLine]]:
    """Group getters that differ only in their numbers; the broken one has its own group."""
    broken = None if story.breach is None else story.breach.getter
    groups: dict[tuple[GetterLine, bool], list[GetterLine]] = {}
    for getter in story.getters:
        key = (attrs.evolve(getter, number=0), getter.number == broken)
        groups.setdefault(key, []).append(getter)
    return groups.values()


def _getter_line(getters: Sequence[GetterLine], story: Story) -> _Line:
    first = getters[0]
    ended = _or_never(first.ended_at)
    events = []
    if first.asked_at != ended:
        events.append(_Event(first.asked_at, "asked"))
    if first.ended_at is not None:
        events.append(_Event(ended, _END_SIGNS[first.kind]))
    note = _clean(first.outcome or first.kind) if first.ended_at is not None else "still waits"
    label = _getter_label(getters)
    return _Line(
        section=3,
        label=label,
        told=f"{label}: asked at {_spoken(first.asked_at)}, " + _told_end(first.ended_at, note),
        stretches=(_Stretch(first.asked_at, ended, "held"),),
        events=tuple(events),
        note=note,
        broken=story.breach is not None and first.number == story.breach.getter,
        count=len(getters),
    )


_END_SIGNS: dict[str, SignKind] = {
    "token": "served",
    "error": "failed",
    "cancelled": "nothing",
    "would block": "nothing",
    "closed": "closed",
    "held": "nothing",
}


def _getter_label(getters: Sequence[GetterLine]) -> str:
    first, last = getters[0], getters[-1]
    label = f"getter {first.number}"
    if len(getters) > 1:
        together = last.number - first.number == len(getters) - 1
        upto = f"–{last.number}" if together else "…"
        label = f"getters {first.number}{upto} ×{len(getters)}"
    return label if first.ask == "get" else f"{label} {first.ask}"


def _or_never(at: float | None) -> float:
    return math.inf if at is None else at


def _told_end(at: float | None, note: str) -> str:
    return note if at is None else f"ended at {_spoken(at)}: {note}"


def _clean(text: str) -> str:
    """Return a text as one line without characters that XML forbids."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _label(at: float) -> str:
    """Return the shortest text of a moment."""
    if abs(at) >= LONGEST:
        return f"{at:g}"
    if at < DAY:
        return _plain(at)
    days, seconds = divmod(at, DAY)
    hours, seconds = divmod(seconds, HOUR)
    minutes, seconds = divmod(seconds, MINUTE)
    parts = zip((days, hours, minutes, seconds), "dhms", strict=True)
    return "".join(f"{_plain(number)}{unit}" for number, unit in parts if number)


def _plain(number: float) -> str:
    text = f"{number:.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _spoken(at: float) -> str:
    text = _label(at)
    return text if text[-1].isalpha() else f"{text} s"


# The choice of lines and moments


def _horizon(story: Story) -> float:
    """Return the moment of the last event; boundaries of tokens may be later."""
    times: list[float | None] = [story.ends_at]
    for token in story.tokens:
        times += token.sent_at, token.came_at, token.dropped_at, token.replaced_at
    for attempt in story.attempts:
        times += attempt.sent_at, attempt.ended_at
    for getter in story.getters:
        times += getter.asked_at, getter.ended_at
    times += (mark.at for mark in story.marks)
    if story.breach is not None:
        times.append(story.breach.at)
    return _rounded(max(at for at in times if at is not None and math.isfinite(at)))


def _focus(story: Story) -> float:
    return _rounded(story.breach.at) if story.breach is not None else _horizon(story)


def _moments(story: Story, lines: Iterable[_Line]) -> list[float]:
    horizon = _horizon(story)
    moments = {0.0, _rounded(story.ends_at), _focus(story)}
    for line in lines:
        moments.update(at for at in line.moments if at <= horizon and math.isfinite(at))
    return sorted(moments)


def _choose(lines: Iterable[_Line], story: Story) -> list[_Line]:
    """Return the lines nearest to the breach or the end, from all sections in turn."""
    focus = _focus(story)

    def rank(line: _Line) -> tuple[bool, bool, float, float]:
        return not line.broken, not line.wanted, line.distance(focus), abs(focus - line.start)

    sections: list[list[_Line]] = [[] for _ in SECTIONS]
    for line in sorted(lines, key=rank):
        sections[line.section].append(line)
    turns = (line for turn in zip_longest(*sections) for line in turn if line is not None)
    chosen = set(islice(turns, MOST_ROWS))
    return [line for line in lines if line in chosen]


def _rest(lines: Iterable[_Line]) -> Iterator[_Line]:
    """Return a summary of the lines that are not shown, for each section."""
    for section, noun in enumerate(SECTIONS):
        members = [line for line in lines if line.section == section]
        if members:
            yield _sum_up(section, noun, members)


def _sum_up(section: int, noun: str, lines: Sequence[_Line]) -> _Line:
    outcomes: Counter[str] = Counter()
    for line in lines:
        outcomes[line.note] += line.count
    del outcomes[""]
    said = [f"{count} {note}" for note, count in outcomes.most_common(2)]
    said += ["…"] * (len(outcomes) > len(said))
    label = f"+{_plural(sum(line.count for line in lines), noun)}"
    stretch = _Stretch(min(line.start for line in lines), max(line.end for line in lines), "rest")
    return _Line(
        section=section,
        label=label,
        told=", ".join([f"{label} without a row", *said]),
        stretches=(stretch,),
        note=", ".join(said),
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# Axis


def _axis(moments: Sequence[float], focus: float, room: int) -> tuple[Axis, bool]:
    """Return the axis; if there are too many moments, with those nearest before the focus."""
    cut = len(moments) > room
    if cut:
        room -= 1
        # Some moments after the focus show how the run continued.
        after = bisect_left(moments, focus) + 1 + room // 4
        end = min(max(after, room), len(moments))
        moments = moments[end - room : end]
    cut = cut and end > room
    columns = _columns(moments, room)
    return Axis(moments=tuple(moments), columns=tuple(c + cut for c in columns)), cut


def _columns(moments: Sequence[float], room: int) -> list[int]:
    """Return the columns of the moments, spaced by the logarithms of the gaps."""
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    if not gaps:
        return [0]
    # If there is room, keep a cell between two moments, so that the span is visible.
    least = 2 if 2 * len(gaps) < room else 1
    weights = [1 + math.log10(gap / min(gaps)) for gap in gaps]
    spare = room - 1 - least * len(gaps)
    sums = accumulate(weights, initial=0.0)
    return [least * i + int(spare * total / sum(weights)) for i, total in enumerate(sums)]


def _weights(story: Story, lines: Iterable[_Line]) -> dict[float, int]:
    """Return the priorities of the moments' labels; 0 is the highest."""
    weights = {0.0: 2, _rounded(story.ends_at): 2}
    by_section = 2, 5, 4, 3
    for line in lines:
        weight = 1 if line.broken else by_section[line.section]
        for at in line.moments:
            weights[at] = min(weight, weights.get(at, weight))
    return weights | ({_focus(story): 0} if story.breach else {})


def _ticks(axis: Axis, weights: dict[float, int], room: int) -> tuple[Tick, ...]:
    """Return the labels that fit without overlapping, placed in the order of priority."""
    columns = dict(zip(axis.moments, axis.columns, strict=True))
    taken = [[False] * (room + 1) for _ in range(LABEL_LEVELS)]
    ticks = []
    for at in sorted(columns, key=lambda at: (weights.get(at, len(SECTIONS) + 2), at)):
        tick = _tick(columns[at], _label(at), taken, room)
        if tick is not None:
            ticks.append(tick)
    return tuple(sorted(ticks, key=lambda tick: tick.column))


def _tick(column: int, text: str, taken: list[list[bool]], room: int) -> Tick | None:
    """Return a label and reserve its cells, or None if it does not fit."""
    start = max(min(column, room - len(text)), 0)
    end = start + len(text)
    for level, cells in enumerate(taken):
        if not any(cells[max(start - 1, 0) : end + 1]):
            cells[start:end] = [True] * len(text)
            for lower in taken[:level]:
                lower[column] = True
            return Tick(column=column, start=start, text=text, level=level)
        if any(cells[max(column - 1, 0) : column + 2]):
            return None
    return None


# Rows


def _gutter(lines: Iterable[_Line], width: int) -> int:
    """Return the width of the labels, with a flag before and a blank after them."""
    longest = max((len(line.label) for line in lines), default=0)
    # The summaries of lines that are not shown also have labels.
    return 3 + min(max(longest, len("+9999 requests")), LONGEST_LABEL, width // 3)


def _margin(lines: Iterable[_Line], room: int) -> int:
    """Return the number of cells reserved at the right for notes and labels."""
    longest = max((len(line.note) for line in lines), default=0)
    return min(max(longest + 3, len("3000.001")), room // 3)


def _row(line: _Line, axis: Axis, breach: int | None, room: int, gutter: int) -> Row:
    spans = tuple(_spans(line.stretches, axis))
    signs = (*_signs(line, axis),)
    columns = [c for span in spans for c in (span.start, span.end - 1)]
    columns += [sign.column for sign in signs]
    return Row(
        section=line.section,
        label=_shortened(line.label, gutter - 3),
        told=line.told,
        spans=spans,
        signs=signs,
        note=_note(line.note, min(columns, default=0), max(columns, default=0), breach, room),
        broken=line.broken,
    )


def _spans(stretches: Iterable[_Stretch], axis: Axis) -> Iterator[Span]:
    for stretch in stretches:
        if stretch.kind in _QUIET and stretch.start == axis.moments[-1]:
            continue
        start, end = axis.column(stretch.start), axis.column(stretch.end)
        if stretch.kind == "rest":
            end = max(end, start + 1)
        if start < end:
            yield Span(start, end, stretch.kind)


def _signs(line: _Line, axis: Axis) -> Iterator[Sign]:
    first, last = axis.moments[0], axis.moments[-1]
    for event in line.events:
        if axis.shows(event.at):
            yield Sign(axis.column(event.at), event.kind)
    if line.start < first:
        yield Sign(0, "earlier")
    if any(s.start <= last < s.end and s.kind not in _QUIET for s in line.stretches):
        yield Sign(axis.columns[-1] + 1, "goes on")


_QUIET = ("dead", "forgotten", "rest")


def _note(text: str, start: int, end: int, breach: int | None, room: int) -> Note:
    """Return a note after its row's end that does not cross the breach, if possible."""
    column = end + 2
    if breach is not None and end < breach <= end + 2 + len(text):
        column = breach + 2
    if column + len(text) > room and start > len(text):
        return Note(start - 1 - len(text), text)
    if column + len(text) > room:
        column = end + 2
    return Note(column, _shortened(text, room - column))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


# Words


def _heading(story: Story) -> str:
    breach = story.breach
    if breach is not None:
        promise = "" if breach.promise is None else f"promise {breach.promise} "
        return f"{promise}broken at {_spoken(_focus(story))}: {_clean(breach.text)}"
    counts = (len(story.tokens), "token"), (len(story.attempts), "request")
    said = [_plural(*count) for count in (*counts, (len(story.getters), "getter"))]
    return f"{', '.join(said)} in {_spoken(_horizon(story))}"


def _pointer(story: Story, breach: int | None, room: int) -> Note:
    if breach is None or story.breach is None:
        return Note(0, "")
    promise = "" if story.breach.promise is None else f"promise {story.breach.promise} "
    return _note(f"{promise}broken here, at {_spoken(_focus(story))}", breach, breach, None, room)


def _remark(moments: Iterable[float], axis: Axis) -> str:
    earlier = sum(at < axis.moments[0] for at in moments)
    later = sum(at > axis.moments[-1] for at in moments)
    said = [
        f"{_plural(count, f'{which} moment')}"
        for count, which in ((earlier, "earlier"), (later, "later"))
        if count
    ]
    return f"not shown: {', '.join(said)}" if said else ""


def _legend(rows: Iterable[Row]) -> tuple[tuple[Kind, str], ...]:
    used: set[Kind] = set()
    for row in rows:
        used.update(span.kind for span in row.spans)
        used.update(sign.kind for sign in row.signs)
    return tuple((kind, words) for kind, words in WORDS.items() if kind in used)


# Text


def _axis_text(picture: Picture) -> Iterator[str]:
    for level in reversed(range(LABEL_LEVELS)):
        cells = [" "] * picture.room
        for tick in picture.ticks:
            if tick.level > level:
                cells[tick.column] = "│"
            elif tick.level == level:
                _write(cells, tick.start, tick.text)
        if any(tick.level >= level for tick in picture.ticks):
            yield " " * picture.gutter + "".join(cells)
    cells = list("─" * (picture.axis.columns[-1] + 1))
    for tick in picture.ticks:
        cells[tick.column] = "┴"
    if picture.cut:
        cells[0] = GLYPHS["earlier"]
    if picture.breach is not None:
        cells[picture.breach] = "▼"
    yield _in_gutter("seconds", picture) + "".join(cells)


def _in_gutter(label: str, picture: Picture, flag: str = " ") -> str:
    return f"{flag} {label}".ljust(picture.gutter)


def _rows_text(picture: Picture) -> Iterator[str]:
    section = -1
    for row in picture.rows:
        if section not in (-1, row.section):
            yield " " * picture.gutter + "".join(_blank_cells(picture))
        section = row.section
        flag = "▶" if row.broken else " "
        yield _in_gutter(row.label, picture, flag) + "".join(_row_cells(row, picture))


def _blank_cells(picture: Picture) -> list[str]:
    cells = [" "] * picture.room
    if picture.breach is not None:
        cells[picture.breach] = "│"
    return cells


def _row_cells(row: Row, picture: Picture) -> list[str]:
    cells = _blank_cells(picture)
    for span in row.spans:
        for column in range(span.start, span.end):
            cells[column] = _glyph(span.kind, crossed=column == picture.breach)
    for sign in row.signs:
        cells[sign.column] = GLYPHS[sign.kind]
    _write(cells, row.note.column, row.note.text)
    return cells


def _glyph(kind: SpanKind, *, crossed: bool) -> str:
    glyph = GLYPHS[kind]
    if not crossed:
        return glyph
    return "┼" if glyph == "─" else "│"


def _write(cells: list[str], column: int, text: str) -> None:
    cells[column : column + len(text)] = text


def _pointer_text(picture: Picture) -> Iterator[str]:
    if picture.breach is not None:
        cells = _blank_cells(picture)
        cells[picture.breach] = "▲"
        _write(cells, picture.pointer.column, picture.pointer.text)
        yield " " * picture.gutter + "".join(cells)


def _legend_text(picture: Picture) -> Iterator[str]:
    """Return the lines of the legend; a line break inside an entry is a last resort."""
    entries = [f"{GLYPHS[kind]} {words}" for kind, words in picture.legend]
    glued = "   ".join(entry.replace(" ", _GLUE) for entry in [*entries, "gaps are not to scale"])
    yield ""
    for line in textwrap.wrap(glued, picture.width):
        yield line.replace(_GLUE, " ")


_GLUE = "\0"
