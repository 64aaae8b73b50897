"""Noise: whatever a server says, an attempt brings a token or an error that can be shown."""

from __future__ import annotations

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
    """Draw a good answer in which some pieces are other bytes, or are missing."""
    text = WHOLE
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 30, len(text))))
        text = text[:start] + draw(noise) + text[end:]
    return text


def _is_hostile(text: str) -> bool:
    """Tell whether a text has control characters, breaks of lines, or half of a character."""
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)


@given(said=st.one_of(garbled(), noise))
@virtual_time
async def test_noise_is_a_token_or_an_error(said: bytes) -> None:
    """An answer of which bytes were lost or changed is a token or an error that can be shown."""
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
        # What a log or a terminal can take.
        assert text is None or (len(text) < 1000 and not _is_hostile(text))
