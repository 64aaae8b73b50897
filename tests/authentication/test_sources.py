"""Tests of what requests contain if secret or assertion come from a file or callable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.authentication.kit import KINDS, Judge, Source
from tests.http.endpoint import CALLS, ask, form_of, grant, open_manager
from trio_anon_session import AssertionRequest

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

CANARY = "canary-of-a-secret"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


# What is sent


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_each_request_reads_the_source(
    autojump_clock: MockClock, tmp_path: Path, kind: str, call: str
) -> None:
    """Each attempt reads the source, and its text is the only credential in the form."""
    source = Source(kind, tmp_path)
    judge = Judge("first-secret", "second-secret")
    async with open_manager(judge, source.config()) as manager:
        for text in ("first-secret", "second-secret"):
            source.put(text)
            await ask(manager, call)
    assert judge.shown == ["first-secret", "second-secret"]
    for request, text in zip(judge.requests, judge.shown, strict=True):
        sent = form_of(request)[1:]
        assert sent == (
            [
                ("client_id", "id"),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", text),
            ]
            if source.is_assertion
            else [("client_id", "id"), ("client_secret", text)]
        )


@pytest.mark.parametrize("kind", ["secret file", "plain callable", "async callable"])
async def test_basic_credentials_follow_the_source(
    autojump_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    """With client_secret_basic, the header has the secret of the source."""
    source = Source(kind, tmp_path, "s3cret")
    headers: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        headers.append(request.headers["Authorization"])
        return httpx.Response(200, json={"access_token": "token"})

    await grant(httpx.MockTransport(answer), source.config(auth_method="client_secret_basic"))
    assert headers == [httpx.BasicAuth("id", "s3cret")._auth_header]


TEXTS = {
    "\n": "text",
    "\r\n": "text",
    "\r": "text",
    "\n\n": "text\n",
    " \t": "text \t",
    "": "text",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", TEXTS)
async def test_a_line_end_is_not_sent(
    autojump_clock: MockClock, tmp_path: Path, end: str, kind: str
) -> None:
    """One line end is removed from a secret, and white space around an assertion is removed."""
    source = Source(kind, tmp_path, f"text{end}")
    expected = "text" if source.is_assertion else TEXTS[end]
    judge = Judge(expected)
    await grant(judge, source.config())
    assert judge.shown == [expected]


async def test_a_provider_knows_the_request(autojump_clock: MockClock, tmp_path: Path) -> None:
    """A provider gets client id, token URL, issuer and attempt; a new attempt is number 1."""
    source = Source("async provider", tmp_path)
    config = source.config(token_url="https://id.example/t", issuer="https://id.example/tenant")
    async with open_manager(Judge("first-secret"), config) as manager:
        await ask(manager)
        await ask(manager)
    first = AssertionRequest("id", "https://id.example/t", "https://id.example/tenant")
    assert first.attempt == 1
    assert source.requests == [first, first]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "coroutine" not in kind])
async def test_a_text_may_have_64_kibibytes(
    autojump_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    """A text of 64 KiB, the maximum, is sent."""
    text = "x" * 65_536
    judge = Judge(text)
    await grant(judge, Source(kind, tmp_path, text).config())
    assert judge.granted == 1
