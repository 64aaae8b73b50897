"""What is sent twice, to the byte, and what cannot be: then the caller is told why."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import run_virtually
from tests.http.kit import ROOT, Recorder, auth_of, client_of, dead, open_pair
from tests.http.test_origins import libraries
from trio_anon_session import TokenState
from trio_anon_session.testing import TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from trio.testing import MockClock

NOT_REPLAYED = "trio_anon_session.not_replayed"


async def chunks() -> AsyncIterator[bytes]:
    """Yield a body in two pieces."""
    yield b"one"
    yield b"two"


class Again:
    """An async iterable that can be iterated over again, which nobody can know."""

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
    """A file that has just the one method that httpx asks for."""

    def __init__(self) -> None:
        self._left = b"half"

    def read(self, _size: int = -1) -> bytes:
        data, self._left = self._left, b""
        return data


def moved_file() -> io.BytesIO:
    """Return a file of which some has been read."""
    file = io.BytesIO(b"from the beginning")
    file.seek(5)
    return file


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "nothing": dict,
    "json": lambda: {"json": {"a": [1, "ü"]}},
    "bytes": lambda: {"content": bytes(range(256))},
    "str": lambda: {"content": "tëxt"},
    "empty": lambda: {"content": b""},
    "form": lambda: {"data": {"a": "b", "c": ["d", "e"]}},
    "file of bytes": lambda: {"files": {"file": b"raw"}},
    "file and form": lambda: {"data": {"attributes": "{}"}, "files": {"file": ("a", b"raw")}},
    "file in memory": lambda: {"files": {"file": io.BytesIO(b"file")}},
    "file that was read": lambda: {"files": {"file": moved_file()}},
    "files": lambda: {"files": [("f", ("a", "text")), ("f", ("b", io.BytesIO(b"b"), "a/b"))]},
}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("body", BODIES)
async def test_a_body_that_is_kept_is_sent_again(
    http: ModuleType, body: str, method: str, autojump_clock: MockClock
) -> None:
    """What is sent twice is the same to the byte, and so are the headers but for the token."""
    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.request(method, "/2.0/files/content", **BODIES[body]())

        assert session.statistics().invalidations == 1
    assert answer.status_code == 200
    assert NOT_REPLAYED not in answer.extensions
    first, second = recorder.sent
    assert first.body == second.body
    assert first.authorization != second.authorization
    before, after = (
        {name: value for name, value in headers.items() if name != "authorization"}
        for headers in recorder.headers
    )
    assert before == after
    assert "transfer-encoding" not in before
    assert int(before.get("content-length", "0")) == len(first.body)


@given(
    http=libraries,
    content=st.binary(max_size=300),
    fields=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    is_file=st.booleans(),
    at=st.integers(0, 300),
)
def test_any_form_with_a_file_is_sent_again(
    http: ModuleType, content: bytes, fields: dict[str, str], is_file: bool, at: int
) -> None:
    """Whatever is in a form, it goes out twice the same, with its length."""
    recorder = Recorder(http, dead(http))
    file = io.BytesIO(content)
    file.seek(at)

    async def main() -> None:
        async with open_pair(http, TokenServer(), recorder) as (_, client):
            files = {"file": file if is_file else content}
            await client.post("/2.0/files/content", data=fields, files=files)

    run_virtually(main)
    first, second = recorder.sent
    assert first.body == second.body
    assert content in first.body
    assert [h["content-length"] for h in recorder.headers] == [str(len(first.body))] * 2


async def test_a_file_on_disk_is_sent_again(
    http: ModuleType, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A form with an open file is rewound, and need not fit into memory."""
    path = tmp_path / "upload"
    path.write_bytes(b"x" * 200_000)
    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        with path.open("rb") as file:
            answer = await client.post("/2.0/files/content", files={"file": file})

    assert answer.status_code == 200
    first, second = recorder.sent
    assert first.body == second.body
    assert first.body.count(b"x" * 200_000) == 1


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
    "one such file of two": lambda: {"files": {"a": b"a", "b": ("b", Pipe())}},
    "file that can but be read": lambda: {"files": {"file": ("a", HalfAFile())}},
    "file that is closed": lambda: {"files": {"file": ("a", closed_file())}},
}


@pytest.mark.parametrize("body", GONE)
async def test_a_body_that_is_gone_is_not_sent_again(
    http: ModuleType, body: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The 401 is the answer, which says why; the token is dropped, and the next request is well."""
    recorder = Recorder(http, dead(http))
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
    [record] = [r for r in caplog.records if r.name == "trio_anon_session" and r.levelno > 10]
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "POST to http://localhost met a dead token, and is not sent again: "
        "its body cannot be sent twice",
    )


async def test_the_log_shows_an_origin_alone(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """No path, query, user or token is in the record, and an IPv6 host is in brackets."""
    recorder = Recorder(http, dead(http))
    async with open_test_session() as session:
        token = await session.get_access_token()
        auth = auth_of(http, session, ["https://[2001:DB8::1]:8443"])
        async with client_of(http, auth, recorder) as client:
            await client.put(
                "https://me:hunter2@[2001:db8:0::1]:8443/private?q=private#private",
                content=chunks(),
            )

    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("PUT to https://[2001:db8::1]:8443 met a dead token")
    for hidden in (token, "private", "hunter2", "me:"):
        assert hidden not in record.getMessage()


async def test_a_body_that_is_read_first_is_sent_again(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Reading the request into memory makes a body from an iterator one that is kept."""
    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        request = client.build_request("POST", "/2.0/files/content", content=chunks())
        await request.aread()
        answer = await client.send(request)

    assert answer.status_code == 200
    assert [sent.body for sent in recorder.sent] == [b"onetwo"] * 2


async def test_a_stream_of_somebody_elses_is_not_sent_again(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A stream of a class that is not the library's own is taken for one that is gone."""

    class Own(http.AsyncByteStream, http.SyncByteStream):  # type: ignore[misc,name-defined]  # a class of either library
        fields = ()

        def __iter__(self) -> Iterator[bytes]:
            yield b"own"

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"own"

    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.send(http.Request("POST", f"{ROOT}/2.0/x", stream=Own()))

    assert (answer.status_code, len(recorder.sent)) == (401, 1)
    assert NOT_REPLAYED in answer.extensions


async def test_a_token_that_comes_again_is_said_too(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the new token is the old one, log and response say that this is why."""
    recorder = Recorder(http, then=dead)
    async with open_pair(http, TokenServer(reuses_tokens=True), recorder) as (_, client):
        answer = await client.get("/2.0/files/1")

    assert (answer.status_code, len(recorder.sent)) == (401, 1)
    assert answer.extensions[NOT_REPLAYED] == "the new token is the same"
    assert "GET to http://localhost met a dead token" in caplog.text


@pytest.mark.parametrize("answer", ["permission", "fine", "dead twice"])
async def test_other_answers_say_nothing(
    http: ModuleType, answer: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The mark is on no other response, also not on the 401 that came after a replay."""
    answers = {
        "permission": [http.Response(401, json={})],
        "fine": [],
        "dead twice": [dead(http), dead(http)],
    }
    recorder = Recorder(http, *answers[answer])
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        response = await client.get("/2.0/files/1")

    assert NOT_REPLAYED not in response.extensions
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_hundred_uploads_make_one_grant(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Requests whose bodies are gone drop the token as others do: once for all of them."""
    server = TokenServer(resource_latency=1.0)
    statuses: list[int] = []

    async def upload(client: Any) -> None:
        response = await client.post("/2.0/files/content", content=chunks())
        statuses.append(response.status_code)

    async with open_pair(http, server) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        server.revoke_all()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(upload, client)
        assert session.statistics().invalidations == 1
        await upload(client)
    assert statuses == [401] * 100 + [200]
    assert server.grants == 2
