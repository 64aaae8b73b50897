"""Tests of the parser of ``WWW-Authenticate``, and of what `SessionAuth` concludes from it."""

from __future__ import annotations

import string
import sys
from logging import WARNING
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.http.kit import INVALID_TOKEN, Recorder, open_pair
from trio_anon_session import _challenges
from trio_anon_session._challenges import (
    HEADER_LIMIT,
    Challenge,
    means_invalid_token,
    parse_challenges,
)
from trio_anon_session.testing import TokenServer

if TYPE_CHECKING:
    from types import FrameType, ModuleType

    from trio.testing import MockClock

# RFC 9110 §5.6.2 and §11.2.
TCHARS = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
names = st.text(TCHARS, min_size=1, max_size=8)
values = st.one_of(
    st.sampled_from(["invalid_token", "insufficient_scope", 'Bearer error="invalid_token"', ""]),
    st.text(TCHARS + ' ",\\=äß\t', max_size=12),
)
tokens68 = st.from_regex(r"[A-Za-z0-9._~+/-]{1,8}={0,2}", fullmatch=True)
params = st.lists(
    st.tuples(st.one_of(st.sampled_from(["error", "ERROR", "realm"]), names), values),
    max_size=4,
)
schemes = st.one_of(st.sampled_from(["Bearer", "bearer", "BEARER", "Basic", "DPoP"]), names)
challenges = st.one_of(
    st.builds(Challenge, schemes, st.none(), params),
    st.builds(Challenge, schemes, tokens68, st.just([])),
)
spaces = st.text(" \t", max_size=2)


@st.composite
def rendered(draw: st.DrawFn) -> tuple[list[Challenge], str]:
    """Draw challenges, and one of the many ways to write them as a header."""
    drawn = draw(st.lists(challenges, max_size=4))
    parts = [_render(draw, challenge) for challenge in drawn]
    text = "".join(part + draw(_commas()) for part in parts)
    if text and draw(st.booleans()):
        text = text.rstrip(", \t")
    return drawn, draw(st.sampled_from(["", ",", " , ,"])) + text


@st.composite
def _commas(draw: st.DrawFn) -> str:
    """Draw a separator of two list elements; it may contain empty elements."""
    empty = "".join(draw(st.lists(st.just(",").flatmap(_padded), max_size=2)))
    return draw(spaces) + "," + empty + draw(spaces)


def _padded(text: str) -> st.SearchStrategy[str]:
    return st.builds("{}{}{}".format, spaces, st.just(text), spaces)


def _render(draw: st.DrawFn, challenge: Challenge) -> str:
    if challenge.token68 is not None:
        return f"{challenge.scheme}{draw(st.sampled_from([' ', '   ']))}{challenge.token68}"
    shown = [
        f"{name}{draw(spaces)}={draw(spaces)}{_render_value(draw, value)}"
        for name, value in challenge.params
    ]
    return f"{challenge.scheme} " + "".join(
        part + (draw(_commas()) if number < len(shown) else "")
        for number, part in enumerate(shown, start=1)
    )


def _render_value(draw: st.DrawFn, value: str) -> str:
    if value and set(value) <= set(TCHARS) and draw(st.booleans()):
        return value
    return (
        '"'
        + "".join(f"\\{char}" if char in '"\\' or draw(st.booleans()) else char for char in value)
        + '"'
    )


BASIC, BEARER = Challenge("Basic", None, [("a", "b")]), Challenge("Bearer", None, [])


@given(rendered())
@example(([Challenge("Basic", "YWJj==", []), BASIC], "Basic YWJj==, Basic a=b"))
@example(([Challenge("Basic", "YWJ=", []), BEARER], "Basic YWJ=, Bearer"))
@example(([Challenge("Negotiate", "YWJj", []), BEARER], "Negotiate YWJj, Bearer"))
@example(([BEARER, BASIC, BEARER, BEARER], "Bearer, Basic a=b, Bearer, Bearer"))
def test_challenges_survive_a_round_trip(case: tuple[list[Challenge], str]) -> None:
    """The parser returns the challenges as written, and only Bearer errors count."""
    drawn, text = case
    lowered = [
        Challenge(scheme.lower(), token68, [(name.lower(), value) for name, value in params])
        for scheme, token68, params in drawn
    ]
    assert parse_challenges(text) == lowered, text
    errors = {
        value
        for scheme, _token68, params in lowered
        for name, value in params
        if (scheme, name) == ("bearer", "error")
    }
    assert means_invalid_token(text) == ("invalid_token" in errors if errors else None)


@given(st.one_of(st.text(), st.text('Ber a=",\\\t/é\n', max_size=60)), st.integers(0, 80))
@example('Bearer error="invalid_token', 80)
@example('Bearer error="invalid_token\\', 80)
@example('=,"=\\"=', 80)
@example("\xa0=\xa0", 80)
@example("aΣb ΑΣ", 3)
def test_any_text_can_be_parsed(text: str, limit: int) -> None:
    """The parser never raises, and every name that it returns is in the text."""
    found = parse_challenges(text, limit)
    words = [word[0] for word in _challenges._LEXEME.finditer(text[:limit])]
    lowered = {word.lower() for word in words}
    for scheme, token68, params in found:
        assert scheme in lowered
        assert token68 is None or token68.rstrip("=") in words
        assert lowered >= {name for name, _ in params}
    assert means_invalid_token(text) in (True, False, None)


@pytest.mark.parametrize(
    ("header", "is_invalid"),
    [
        ("", None),
        ("Bearer", None),
        ('Bearer realm="Service"', None),
        ('error="invalid_token"', None),
        ('Bearer realm="x" error="invalid_token"', True),
        ('Basic realm="x" Bearer error="invalid_token"', True),
        ("Basic YWJj==, Bearer error=invalid_token", True),
        ("Negotiate, Bearer error=invalid_token", True),
        ("Bearer , error=invalid_token", True),
        ('Bearer "x" error=invalid_token', True),
        ("Bearer a=b = error=invalid_token", True),
        ('Bearer error="inv\\alid_\\token"', True),
        ('Bearer error="invalid_request", Bearer error="invalid_token"', True),
        ('Bearer error="invalid_token", Bearer error="invalid_request"', True),
        ('Bearer error="Invalid_Token"', False),
        ("Bearer error='invalid_token'", False),
        ('Bearer error="invalid_token extra"', False),
        ('Bearer error=""', False),
        ('Bearer error_uri="error=invalid_token"', None),
        ('Bearer realm="a\\", error=\\"invalid_token"', None),
        ('DPoP error="invalid_token"', None),
        ('DPoP error="invalid_token", Bearer error="insufficient_scope"', False),
        ('Basic realm="Bearer error=invalid_token", Bearer realm="x"', None),
        ("XBearer error=invalid_token", None),
        # The limit cuts off the value, so its end is unknown.
        ("Bearer error=".ljust(HEADER_LIMIT - 13) + "invalid_tokens", None),
        ("Bearer error=".ljust(HEADER_LIMIT - 14) + "invalid_token, b=c", True),
        ('Bearer error="invalid_token", error_description="' + "x" * 9000, True),
    ],
)
def test_what_a_challenge_means(header: str, is_invalid: bool | None) -> None:
    """These challenges of servers, or texts like them, mean an invalid token or do not."""
    assert means_invalid_token(header) == is_invalid


def _count_lines(text: str) -> int:
    """Return how many lines of the parser run for a text."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != _challenges.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse_challenges(text, len(text))
    finally:
        sys.settrace(before)
    return count


MOTIFS = ["a", "a ", "a=", "a=b", "a=b,", "=", ",", '"', '"a', '\\"', 'a="', "a /", "a =", " "]


@pytest.mark.parametrize("start", ["", "Bearer ", 'Bearer a="', "Bearer a"])
@pytest.mark.parametrize("motif", MOTIFS)
def test_the_work_grows_with_the_length(motif: str, start: str) -> None:
    """Text of ten times the length takes at most ten times the steps, and no character is lost."""
    short, long = start + motif * 200, start + motif * 2000
    for text in (short, long):
        assert "".join(found[0] for found in _challenges._LEXEME.finditer(text)) == text
    assert _count_lines(long) <= 10 * _count_lines(short)


def test_the_parser_stops_at_the_limit() -> None:
    """Of a header of a megabyte, the parser reads at most the first 8 KiB."""
    assert len(parse_challenges("a " * 500_000)) <= HEADER_LIMIT / 2


# Through SessionAuth

BOX = INVALID_TOKEN["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("status", "lines", "body", "is_invalid"),
    [
        (401, [BOX], b"", True),
        (401, ['Bearer error="invalid_token"'], b"{}", True),
        (401, ['DPoP error="use_dpop_nonce"', 'Bearer error="invalid_token"'], b"x", True),
        (401, ['Basic realm="\\"error=no\\"", Bearer error=invalid_token'], b"x", True),
        (401, [], b"", True),
        (401, ['Bearer realm="Service"'], b"", True),
        (401, ['DPoP error="use_dpop_nonce"'], b"", True),
        (401, ['Basic realm="error=insufficient_scope"'], b"", True),
        (401, [], b"no", False),
        (401, ['Bearer realm="a, error=invalid_token"'], b"x", False),
        (401, ['DPoP error="invalid_token"'], b"x", False),
        (401, ['Bearer error="insufficient_scope"', 'DPoP error="invalid_token"'], b"", False),
        (403, [], b"", False),
        (403, [BOX], b"", False),
        (400, [BOX], b"", False),
        (407, [BOX], b"", False),
        (500, [], b"", False),
        (200, [BOX], b"", False),
    ],
)
async def test_what_an_answer_means(
    http: ModuleType,
    status: int,
    lines: list[str],
    body: bytes,
    is_invalid: bool,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A 401 drops the token if a Bearer error says so, or if it has no error and no body."""
    headers = [("WWW-Authenticate", line) for line in lines]
    recorder = Recorder(http, http.Response(status, headers=headers, content=body))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/files/1")
        statistics = session.statistics()

    assert (statistics.invalidations, statistics.grants) == ((1, 2) if is_invalid else (0, 1))
    assert len(recorder.sent) == len(set(recorder.tokens)) == statistics.grants
    if is_invalid:
        assert (answer.status_code, answer.history[0].content) == (200, body)
    else:
        assert (answer.status_code, answer.content) == (status, body)
    assert not any(key.startswith("trio_anon_session") for key in answer.extensions)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= WARNING]
    assert len(warnings) == is_invalid
    assert all(text.endswith("which was reported invalid") for text in warnings)
