"""Tests of promise 21 for secrets that change: the last ten secrets are hidden."""

from __future__ import annotations

import json
import logging
import random
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.authentication.kit import KINDS, Source, shown_by
from tests.helpers import run_virtually, traceback_with_locals
from tests.http.endpoint import CALLS, Endpoint, ask, open_manager
from trio_anon_session import AnonymousSession, TokenRequestError

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


def word(number: int) -> str:
    """Return a secret that would be shown as a harmless word if it were not known."""
    # It is random, because a secret also hides texts with eight of its characters in a row.
    return "".join(random.Random(number).choices(ascii_lowercase, k=16))


class Echo(Endpoint):
    """An endpoint that echoes all secrets that it has seen.

    Args:
        status: the status of its answers.
    """

    def __init__(self, status: int = 400) -> None:
        super().__init__(self._echo)
        self.status = status
        self.seen: list[str] = []

    async def _echo(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(shown_by(request))
        said = " ".join(["harmless", *self.seen])
        fields = {"error": "invalid_request", "error_description": said, "request_id": said}
        return httpx.Response(self.status, json=fields, headers={"Box-Request-Id": self.seen[-1]})


def everything_of(error: TokenRequestError) -> str:
    """Return all texts of an error."""
    facts = {name: str(value) for name, value in vars(error).items()}
    return json.dumps(facts) + "".join(traceback_with_locals(error))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_ten_secrets_are_scrubbed(
    autojump_clock: MockClock, tmp_path: Path, kind: str, call: str
) -> None:
    """Ten secrets that the server echoes are hidden, including the old ones."""
    source = Source(kind, tmp_path)
    echo = Echo()
    async with open_manager(echo, source.config()) as manager:
        for number in range(10):
            source.put(word(number))
            with pytest.raises(TokenRequestError, match="harmless") as caught:
                await ask(manager, call)
            shown = everything_of(caught.value)
            assert not [secret for secret in echo.seen if secret in shown]
    assert len(echo.seen) == 10


async def test_the_secret_in_use_is_never_forgotten(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The last use of a secret decides whether it is one of the last ten, not its first use."""
    source = Source("plain callable", tmp_path)
    echo = Echo()
    async with open_manager(echo, source.config()) as manager:
        for number in [*range(9), 0, *range(10, 19)]:
            source.put(word(number))
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager)
    shown = everything_of(caught.value)
    assert word(0) not in shown
    # Older secrets are forgotten.
    assert word(1) in shown


@pytest.mark.parametrize("kind", KINDS)
async def test_no_log_and_no_event_shows_an_old_secret(
    autojump_clock: MockClock, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Log records at any level and events show neither the old secret nor the new one."""
    caplog.set_level(logging.DEBUG)
    source = Source(kind, tmp_path, word(1))
    events: list[Any] = []
    echo = Echo(status=503)
    async with open_manager(echo, source.config(max_retries=1)) as manager:
        async with AnonymousSession(manager.config, manager, observers=[events.append]) as session:
            for number in (2, 3):
                with pytest.raises(TokenRequestError):
                    await session.get_access_token()
                source.put(word(number))
                await trio.sleep(100.0)
            statistics = repr(session.statistics())
    assert {word(1), word(2)} <= {*echo.seen}
    shown = caplog.text + repr(events) + statistics
    assert "harmless" in shown
    assert not [secret for secret in echo.seen if secret in shown]


CONSONANTS = "bcdfghjklmnpqrstvwxyz"
LONG = "".join(random.Random(0).choices(CONSONANTS, k=600))


@given(
    secret=st.text(st.sampled_from(CONSONANTS), min_size=1, max_size=900),
    start=st.integers(0, 900),
    kind=st.sampled_from(KINDS),
)
@example(secret=LONG, start=250, kind="plain callable")
@example(secret=f"{LONG[:256]}z", start=0, kind="async provider")
def test_a_long_secret_hides_its_parts_and_no_other_words(
    tmp_path_factory: pytest.TempPathFactory, secret: str, start: int, kind: str
) -> None:
    """Any twelve characters of a long secret are hidden, and harmless words are shown."""
    piece = secret[start : start + 12]
    # The vowels make sure that these words are no part of a secret with several letters.
    harmless = "eau z b"

    async def echo(request: httpx.Request) -> httpx.Response:
        fields = {"error": "invalid_request", "error_description": f"{harmless} {piece} {harmless}"}
        return httpx.Response(400, json=fields)

    async def attempt() -> None:
        source = Source(kind, tmp_path_factory.getbasetemp(), secret)
        async with open_manager(Endpoint(echo), source.config()) as manager:
            with pytest.raises(TokenRequestError) as caught:
                await ask(manager)
        shown = caught.value.error_description or ""
        if len(piece) == 12:
            assert piece not in shown
        if len(secret) > 2:
            assert shown.startswith("eau")
            assert shown.endswith(harmless)

    run_virtually(attempt)
