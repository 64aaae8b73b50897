"""Tests of which requests are sent again, and how the caller learns why others are not."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.kit import (
    ROOT,
    Recorder,
    auth_of,
    client_of,
    invalid_token,
    open_answered,
    open_pair,
)
from trio_anon_session import TokenState
from trio_anon_session.testing import TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

    from trio.testing import MockClock

NOT_REPLAYED = "trio_anon_session.not_replayed"


async def chunks() -> AsyncIterator[bytes]:
    """Yield a body in two pieces."""
    yield b"one"
    yield b"two"


class Again:
    """An async iterable that can be iterated twice, which the auth cannot know."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return chunks()


class Pipe(io.RawIOBase):
    """A file that can be read once."""

    def __init__(self) -> None:
        self._left = b"piped"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._left = self._left, b""
        buffer[: len(data)] = data
        return len(data)


class HalfAFile:
    """A file with only the `read` method, which httpx needs."""

    def __init__(self) -> None:
        self._left = b"half"

    def read(self, _size: int = -1) -> bytes:
        data, self._left = self._left, b""
        return data


class Unknown(HalfAFile):
    """A file that can seek, but has no `closed` attribute."""

    def seekable(self) -> bool:
        return True


class Open(HalfAFile):
    """A file that is open, but has no `seekable` method."""

    closed = False


def moved_file() -> io.BytesIO:
    """Return a file that is not at its beginning."""
    file = io.BytesIO(b"from the beginning")
    file.seek(5)
    return file


BODIES: dict[str, tuple[Callable[[], dict[str, Any]], bytes]] = {
    "nothing": (dict, b""),
    "json": (lambda: {"json": [1]}, b"[1]"),
    "bytes": (lambda: {"content": bytes(range(256))}, bytes(range(256))),
    "str": (lambda: {"content": "tëxt"}, "tëxt".encode()),
    "empty": (lambda: {"content": b""}, b""),
    "form": (lambda: {"data": {"a": "b", "c": ["d", "e"]}}, b"a=b&c=d&c=e"),
    "file of bytes": (lambda: {"files": {"file": b"raw"}}, b"raw"),
    "file and form": (lambda: {"data": {"a": "{}"}, "files": {"file": ("a", b"raw")}}, b"{}"),
    "large file": (lambda: {"files": {"file": io.BytesIO(b"x" * 200_000)}}, b"x" * 200_000),
    "file that was read": (lambda: {"files": {"file": moved_file()}}, b"from the beginning"),
    "files": (lambda: {"files": [("f", "text"), ("f", ("b", io.BytesIO(b"b"), "a/b"))]}, b"text"),
}
"""For each body, a function that creates it, because files are read once, and its content."""


@pytest.mark.parametrize("body", BODIES)
async def test_a_body_in_memory_or_file_is_sent_again(
    http: ModuleType, body: str, autojump_clock: MockClock
) -> None:
    """Both requests have the same body, and the same headers except for the token."""
    make, content = BODIES[body]
    recorder = Recorder(http, invalid_token(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.post("/2.0/files/content?a=b", **make())

        assert session.statistics().invalidations == 1
    assert answer.status_code == 200
    assert NOT_REPLAYED not in answer.extensions
    assert recorder.tokens[0] != recorder.tokens[1]
    for sent in recorder.sent:
        del sent.headers["authorization"]
    first, second = recorder.sent
    assert first == second
    assert (first.method, first.url) == ("POST", f"{ROOT}/2.0/files/content?a=b")
    assert content in first.body
    assert "transfer-encoding" not in first.headers
    assert int(first.headers.get("content-length", "0")) == len(first.body)


def closed_file() -> io.BytesIO:
    """Return a file that is closed once it has been read."""

    class ClosesItself(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                self.close()
            return data

    return ClosesItself(b"closed")


GONE: dict[str, Callable[[], dict[str, Any]]] = {
    "async generator": lambda: {"content": chunks()},
    "async iterable": lambda: {"content": Again()},
    "file that cannot be rewound": lambda: {"files": {"file": ("a", Pipe())}},
    "one of two files cannot be rewound": lambda: {"files": {"a": b"a", "b": ("b", Pipe())}},
    "file with only a read method": lambda: {"files": {"file": ("a", HalfAFile())}},
    "file without a closed attribute": lambda: {"files": {"file": ("a", Unknown())}},
    "file without a seekable method": lambda: {"files": {"file": ("a", Open())}},
    "file that is closed": lambda: {"files": {"file": ("a", closed_file())}},
}


@pytest.mark.parametrize("body", GONE)
async def test_a_body_that_cannot_be_sent_twice(
    http: ModuleType, body: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the 401 and the reason, and the next request has a new token."""
    recorder = Recorder(http, invalid_token(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.post("/2.0/files/content?a=b", **GONE[body]())

        assert session.state is TokenState.EMPTY
        assert (session.statistics().invalidations, session.statistics().grants) == (1, 1)
        again = await client.get("/2.0/files/1")

    assert (answer.status_code, again.status_code) == (401, 200)
    assert answer.extensions[NOT_REPLAYED] == "its body cannot be sent twice"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert len(recorder.sent) == 2
    assert len(set(recorder.tokens)) == 2
    dropped, record = (
        r for r in caplog.records if r.name == "trio_anon_session" and r.levelno > logging.DEBUG
    )
    assert dropped.getMessage().endswith("which was reported invalid")
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "the token of a POST to http://localhost is invalid, and the request is not sent again: "
        "its body cannot be sent twice",
    )


async def test_the_log_shows_only_the_origin(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The record shows no path, query, user or token, and an IPv6 host is in brackets."""
    async with open_test_session() as session:
        token = await session.get_access_token()
        auth = auth_of(http, session, ["https://[2001:DB8::1]:8443"])
        async with client_of(http, auth, Recorder(http, invalid_token(http))) as client:
            await client.put(
                "https://me:hunter2@[2001:db8:0::1]:8443/private?q=private#private",
                content=chunks(),
            )

    _, record = (r for r in caplog.records if r.levelno == logging.WARNING)
    assert record.getMessage().startswith("the token of a PUT to https://[2001:db8::1]:8443 is ")
    for hidden in (token, "private", "hunter2", "me:"):
        assert hidden not in record.getMessage()


async def test_a_body_that_is_read_first_is_sent_again(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If the program reads an iterator's body into the request first, it can be sent again."""
    recorder = Recorder(http, invalid_token(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        request = client.build_request("POST", "/2.0/files/content", content=chunks())
        await request.aread()
        answer = await client.send(request)

    assert answer.status_code == 200
    assert [sent.body for sent in recorder.sent] == [b"onetwo"] * 2


async def test_a_stream_of_another_class_is_not_sent_again(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A stream of a class that is not the library's own cannot be sent again."""

    class Own(http.AsyncByteStream, http.SyncByteStream):  # type: ignore[misc,name-defined]  # a class of either library
        fields = ()

        def __iter__(self) -> Iterator[bytes]:
            yield b"own"

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"own"

    async with open_answered(http, invalid_token(http)) as (_, client):
        answer = await client.send(http.Request("POST", f"{ROOT}/2.0/x", stream=Own()))

    assert answer.status_code == 401
    assert answer.extensions[NOT_REPLAYED] == "its body cannot be sent twice"


async def test_a_token_that_comes_again_is_not_sent_again(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the new token is the same as the old one, log and response have this reason."""
    server = TokenServer(reuses_tokens=True)
    recorder = Recorder(http, then=invalid_token)
    async with open_pair(http, server, recorder) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 1

    assert (answer.status_code, len(recorder.sent), server.grants) == (401, 1, 2)
    assert answer.extensions[NOT_REPLAYED] == "the new token is the same"
    assert "the token of a GET to http://localhost is invalid" in caplog.text


async def test_a_replay_is_not_replayed(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets a second 401 in a row without a reason. Both tokens are logged as invalid."""
    recorder = Recorder(http, then=invalid_token)
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().grants == 2

    assert (answer.status_code, len(recorder.sent)) == (401, 2)
    assert NOT_REPLAYED not in answer.extensions
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == session.statistics().invalidations
    assert all(text.endswith("which was reported invalid") for text in warnings)
