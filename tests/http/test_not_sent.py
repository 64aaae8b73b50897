"""Tests of requests without a token: log and response have the reason."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import FakeTokenManager, make_config
from tests.http.kit import Recorder, auth_of, client_of, invalid_token
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import ModuleType

    from trio.testing import MockClock

TOKEN_NOT_SENT = "trio_anon_session.token_not_sent"
DEFAULTS = "https://api.box.com and https://upload.box.com"
ELSEWHERE = "https://api.example"


@asynccontextmanager
async def open_client(
    http: ModuleType, origins: Iterable[str] | None = None, *answers: Any, **settings: Any
) -> AsyncIterator[tuple[AnonymousSession, Any]]:
    """Open a session with its default API root, and a client that accepts every host."""
    config = make_config()
    async with (
        AnonymousSession(config, FakeTokenManager(config)) as session,
        client_of(
            http, auth_of(http, session, origins), Recorder(http, *answers), **settings
        ) as client,
    ):
        yield session, client


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the texts of all warnings, after checking that they are of this library."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {record.name for record in records} <= {"trio_anon_session"}
    assert {record.levelname for record in records} <= {"WARNING"}
    return [record.getMessage() for record in records]


async def test_a_request_without_a_token_is_logged(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the origin, allowed origins and settings; the response has the reason."""
    async with open_client(http, None, http.Response(401)) as (session, client):
        answer = await client.get(f"{ELSEWHERE}/2.0/files/1")
        assert session.statistics().grants == 0

    assert (answer.status_code, answer.request.headers.get("Authorization")) == (401, None)
    assert warnings_in(caplog) == [
        "a request to https://api.example is sent without the token: SessionAuth sends the token "
        f"only to {DEFAULTS}. To send the token to https://api.example, set api_root_url "
        "(BOX_API_ROOT_URL) to it, or list it in session.auth(origins=[...])."
    ]
    assert answer.extensions[TOKEN_NOT_SENT] == (
        "https://api.example is not an allowed origin: SessionAuth sends the token only to "
        f"{DEFAULTS}"
    )


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        ([], "only to no origin."),
        (["https://[2001:DB8::1]:8443"], "only to https://[2001:db8::1]:8443."),
        (["https://b.example", "https://a.example"], "https://a.example and https://b.example."),
        (
            [f"https://a{number}.example" for number in range(5)],
            "https://a3.example and https://a4.example.",
        ),
        (
            [f"https://a{number}.example" for number in range(900)],
            "https://a100.example, https://a101.example and 895 more.",
        ),
    ],
    ids=["0", "1", "2", "5", "900"],
)
async def test_the_allowed_origins_are_listed(
    http: ModuleType,
    origins: Iterable[str],
    words: str,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning lists the first five origins of ``origins``, and names this setting."""
    async with open_client(http, origins) as (_, client):
        await client.get(ELSEWHERE)
    [text] = warnings_in(caplog)
    assert words in text
    assert len(text) < 500
    assert "session.auth(origins=[...])" in text
    assert "api_root_url" not in text


async def test_a_warning_comes_once_per_origin(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each origin is logged once, however it is spelled; each response has the reason.

    A request to an allowed origin causes no warning, and its response has no reason.
    """
    urls = [ELSEWHERE, "https://API.example:443/b?c=d", "https://api.example:8443", ELSEWHERE]
    async with open_client(http) as (session, client):
        answer = await client.get("https://api.box.com/2.0/files/1")
        assert TOKEN_NOT_SENT not in answer.extensions
        assert warnings_in(caplog) == []
        answers = [await client.get(url) for url in urls]
        assert len(warnings_in(caplog)) == 2
        # Another auth remembers its own warnings.
        await client.get(ELSEWHERE, auth=auth_of(http, session))
        assert len(warnings_in(caplog)) == 3
    assert all(TOKEN_NOT_SENT in answer.extensions for answer in answers)


async def test_a_hundred_origins_are_logged_at_most(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An auth logs at most 100 origins, but each response has the reason."""
    async with open_client(http) as (_, client):
        for number in range(150):
            answer = await client.get(f"https://a{number}.example")
            assert f"a{number}.example" in answer.extensions[TOKEN_NOT_SENT]
    assert len(warnings_in(caplog)) == 100


async def test_a_request_with_its_own_credentials_is_not_logged(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A request with its own Authorization header is not logged; the response has the reason."""
    async with open_client(http) as (_, client):
        answer = await client.get(ELSEWHERE, headers={"Authorization": "Basic mine"})
        assert warnings_in(caplog) == []
        assert TOKEN_NOT_SENT in answer.extensions
        await client.get(ELSEWHERE)
        assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hunter2@api.example/hunter2?a=hunter2#hunter2", "https://api.example"),
        ("http://api.box.com/hunter2", "http://api.box.com"),
        ("ftp://me:hunter2@files.example/hunter2", "ftp://files.example"),
        ("ftp://localhost/hunter2", "ftp://localhost"),
        ("http://127.0.0.1:8080/hunter2", "http://127.0.0.1:8080"),
        ("wss://api.box.com/", "wss://api.box.com"),
        ("mailto:hunter2@example.org", "a URL without a host"),
        ("data:,hunter2", "a URL without a host"),
        ("https:hunter2", "a URL without a host"),
        ("http://1.2.3.4.5/", "http://1.2.3.4.5"),
        ("https://a%0ab.example/", "https://a%0ab.example"),
        ("https://bücher.example:99999/", "https://xn--bcher-kva.example:99999"),
        (f"https://{'a.' * 2000}example/", f"https://{'a.' * 146}..."),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_strange_urls(
    http: ModuleType,
    url: str,
    shown: str,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Strange URLs do not make the auth raise, and no user, password, path or query is shown."""
    recorder = Recorder(http)
    async with open_client(http) as (session, _):
        # This client has no base URL, because a base URL would make the URLs absolute.
        async with http.AsyncClient(auth=auth_of(http, session), transport=recorder) as client:
            response = await client.send(http.Request("GET", url))
    [text] = warnings_in(caplog)
    reason = response.extensions[TOKEN_NOT_SENT]
    assert recorder.tokens == [None]
    assert text.startswith(
        f"a request to {shown} is sent without the token: SessionAuth sends the token only "
    )
    assert reason.startswith(f"{shown} is not an allowed origin: SessionAuth sends the token only ")
    assert "hunter2" not in text + reason
    may_be_listed = shown.startswith(("https://", "http://127.0.0.1"))
    assert ("api_root_url" in text) == may_be_listed
    assert ("Use an https URL" in text) == (not may_be_listed)


async def test_a_broken_log_does_not_fail_the_request(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If a log filter raises, requests still succeed, and responses have the reason."""
    logger = logging.getLogger("trio_anon_session")

    def broken(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    async def rows() -> AsyncIterator[bytes]:
        yield b"1,2,3"

    async with open_client(http, None, http.Response(401), invalid_token(http)) as (_, client):
        logger.addFilter(broken)
        try:
            answer = await client.get(ELSEWHERE)
            upload = await client.post("https://api.box.com/2.0/files/content", content=rows())
        finally:
            logger.removeFilter(broken)
    assert TOKEN_NOT_SENT in answer.extensions
    assert "trio_anon_session.not_replayed" in upload.extensions


async def test_a_redirect_that_loses_the_token(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A 401 after a redirect to another origin has the reason, and is not logged."""
    moved = http.Response(302, headers={"Location": f"{ELSEWHERE}/b"})
    async with open_client(http, None, moved, http.Response(401), follow_redirects=True) as (
        session,
        client,
    ):
        answer = await client.get("https://api.box.com/a")
        assert session.statistics().invalidations == 0
    assert (answer.status_code, str(answer.url)) == (401, f"{ELSEWHERE}/b")
    assert answer.extensions[TOKEN_NOT_SENT].startswith("the token was removed from the request")
    assert warnings_in(caplog) == []
