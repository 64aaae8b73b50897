"""Random answers of a server: an attempt ends with a token or an error that is safe to show."""

from __future__ import annotations

import json
import math
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tools.faults.places import open_in_process
from tools.faults.rows import GOOD_BODY, HEAD, UNAVAILABLE, Row
from tools.faults.wire import Wire
from trio_anon_session import TokenManager, TokenRequestError
from trio_anon_session.testing import virtual_time

WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD_BODY) + GOOD_BODY

noise = st.binary(max_size=20)


@st.composite
def garbled(draw: st.DrawFn) -> bytes:
    """Draw a valid answer in which some bytes are changed or missing."""
    text = WHOLE
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 30, len(text))))
        text = text[:start] + draw(noise) + text[end:]
    return text


header_names = st.sampled_from(
    [
        "Content-Encoding",
        "Content-Type",
        "Date",
        "Location",
        "Retry-After",
        "Set-Cookie",
        "Transfer-Encoding",
        "WWW-Authenticate",
        "BOX-REQUEST-ID",
    ]
)
header_values = st.one_of(
    st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0")),
    st.sampled_from(
        [
            b"gzip, deflate",
            b"chunked",
            b"text/html; charset=\xff",
            b"http://[::1/",
            b"//[",
            b"\xff\xfe",
            b"a=b; expires=Wed, 99 Foo 0000 99:99:99 GMT; max-age=-1; domain=.; path=x",
            b"Wed, 21 Oct 99999 07:28:00 +9999",
            b"Thu, 01 Jan 1970 00:00:00 -2400",
            "７".encode(),
            b"1e999",
            b"0x10",
        ]
    ),
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.just("\ud800"),
    ),
    lambda values: st.one_of(
        st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=3)
    ),
    max_leaves=5,
)
fields = st.dictionaries(
    st.sampled_from(
        [
            "access_token",
            "expires_in",
            "token_type",
            "scope",
            "error",
            "error_description",
            "code",
            "message",
            "request_id",
        ]
    ),
    json_values,
)


@st.composite
def odd_answers(draw: st.DrawFn) -> bytes:
    """Draw a valid HTTP response with any status, headers and body."""
    status = draw(st.sampled_from([200, 201, 204, 304, 307, 400, 401, 403, 429, 500, 503]))
    body = draw(st.one_of(st.binary(max_size=60), fields.map(json.dumps).map(str.encode)))
    headers = draw(st.lists(st.tuples(header_names, header_values), max_size=4))
    lines = [b"HTTP/1.1 %d Said" % status, b"Connection: close"]
    lines += [name.encode() + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", body])


def _is_hostile(text: str) -> bool:
    """Return whether a text has control characters, line breaks, or a lone surrogate."""
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


async def check(said: bytes) -> None:
    """Make an attempt against a server that sends this, and check the token or the error."""
    row = Row("", UNAVAILABLE, wire=Wire(script=((0.0, said),)))
    async with open_in_process(row) as place:
        await place.begin_attempt(is_faulty=True)
        manager = TokenManager(place.config({}), http_client=place.client)
        try:
            token = await manager.get_tokens_client_credentials_grant()
        except TokenRequestError as caught:
            error = caught
        else:
            assert token.access_token.isascii()
            assert token.access_token.isprintable()
            assert 0.0 < token.lifetime < math.inf
            return
    assert error.retry_after is None or error.retry_after >= 0.0
    for text in (str(error), error.error, error.error_description, error.request_id):
        # The texts must be safe for a log and a terminal.
        assert text is None or (len(text) < 1000 and not _is_hostile(text))


@given(said=st.one_of(garbled(), noise))
@virtual_time
async def test_noise_is_a_token_or_an_error(said: bytes) -> None:
    """An answer with changed or missing bytes is a token or an error that is safe to show."""
    await check(said)


@given(said=odd_answers())
@virtual_time
async def test_odd_answer_is_a_token_or_an_error(said: bytes) -> None:
    """A response with any headers and fields is a token or an error that is safe to show."""
    await check(said)
