"""Tests of a 401 whose body stalls, or whose stream never lets other tasks run."""

from __future__ import annotations

import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import httpx
import httpx2
import pytest
import trio

from tests.http.kit import INVALID_TOKEN, UNAUTHORIZED, Body, answer_with, open_answered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from trio.testing import MockClock

PLACE: ContextVar[str] = ContextVar("PLACE", default="elsewhere")


# Bodies that stall


@pytest.mark.parametrize("first", [(), (b"",), (b"", b"")])
@pytest.mark.parametrize("pause", [3.0, 1e7])
async def test_a_body_that_stalls_blocks_no_caller(
    http: ModuleType, pause: float, first: tuple[bytes, ...], autojump_clock: MockClock
) -> None:
    """After a second without a byte, the caller gets the response, and can leave it unread."""
    body = Body(*first, UNAUTHORIZED, pause=pause)
    async with open_answered(http, answer_with(http, body)) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (answer.status_code, trio.current_time(), body.read) == (401, 1.0, 0)
        assert (body.closes, body.opened, trio.current_time()) == (1, 0, 1.0)
        assert session.statistics().invalidations == 0


@pytest.mark.parametrize("pieces", [(UNAUTHORIZED,), (b"", b"a", b"b"), (b"a", b"", b"b"), ()])
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_body_that_continues_is_whole(
    http: ModuleType, pieces: tuple[bytes, ...], is_streamed: bool, autojump_clock: MockClock
) -> None:
    """If the body continues after the stall, the caller reads all of it."""
    body = Body(*pieces, pause=30.0, end=30.0)
    async with open_answered(http, answer_with(http, body)) as (session, client):
        if is_streamed:
            async with client.stream("GET", "/2.0/files/1") as answer:
                assert trio.current_time() == 1.0
                got = b"".join([piece async for piece in answer.aiter_raw()])
        else:
            answer = await client.get("/2.0/files/1")
            got = answer.content
        assert session.statistics().invalidations == 0
    assert (answer.status_code, got) == (401, b"".join(pieces))
    assert trio.current_time() == 30.0 * (len(pieces) + 1)
    assert (body.closes, body.opened) == (1, 0)


async def test_a_caller_may_read_late(http: ModuleType, autojump_clock: MockClock) -> None:
    """A caller that reads late gets the whole body, with the piece that came before."""
    body = Body(b"a", b"b", pause=3.0)
    async with open_answered(http, answer_with(http, body)) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            await trio.sleep(100.0)
            assert body.read == 1
            assert await answer.aread() == b"ab"
    assert trio.current_time() == 104.0


async def test_a_body_that_ends_in_time_is_empty(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A body that ends within a second without a byte is empty."""
    async with open_answered(http, answer_with(http, Body(end=0.9))) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, trio.current_time()) == (200, 10.9)


async def test_empty_pieces_do_not_prolong_the_wait(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """The second is the limit for all pieces together, and the auth reads no piece after it."""
    body = Body(b"", b"", b"", b"", b"a", pause=0.4)
    async with open_answered(http, answer_with(http, body)) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert trio.current_time() == 1.0
            await trio.sleep(60.0)
            assert body.read == 3
            assert await answer.aread() == b"a"


class OddError(BaseException):
    """An error that is not an ``Exception``."""


async def breaks(pause: float, error: BaseException) -> AsyncIterator[bytes]:
    """Raise an error after a pause."""
    await trio.sleep(pause)
    raise error
    yield b""


@pytest.mark.parametrize("is_library", [True, False])
@pytest.mark.parametrize("pause", [0.5, 3.0])
async def test_a_body_that_breaks_after_a_stall(
    http: ModuleType, pause: float, is_library: bool, autojump_clock: MockClock
) -> None:
    """An exception of the stream reaches the caller, and our frames do not contain the token."""
    error: Any = http.ReadError("it broke") if is_library else OddError("it broke")
    broken = http.Response(401, content=breaks(pause, error))
    async with open_answered(http, broken) as (session, client):
        token = await session.get_access_token()
        request = client.build_request("GET", "/2.0/files/1")
        with pytest.raises(type(error)) as caught:
            answer = await client.send(request, stream=True)
            assert (trio.current_time(), pause) == (1.0, 3.0)
            try:
                await answer.aread()
            finally:
                await answer.aclose()
    assert caught.value is error
    assert not is_library or caught.value.request is request
    summary = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in summary.stack if frame.filename.endswith(("_flow.py", "_body.py"))]
    assert ours
    assert token not in repr([frame.locals for frame in ours])


async def test_a_body_that_breaks_unread(http: ModuleType, autojump_clock: MockClock) -> None:
    """If the caller does not read the body, its error is ignored, unless it is not an Exception."""
    errors = [http.ReadError("it broke"), OddError("it broke")]
    answers = [http.Response(401, content=breaks(3.0, error)) for error in errors]
    async with open_answered(http, *answers) as (_, client):
        async with client.stream("GET", "/2.0/files/1"):
            await trio.sleep(10.0)
        with pytest.raises(OddError):
            async with client.stream("GET", "/2.0/files/1"):
                await trio.sleep(10.0)


@pytest.mark.parametrize("after", [0.5, 5.0])
async def test_a_reader_of_a_stall_can_be_cancelled(
    http: ModuleType, after: float, autojump_clock: MockClock
) -> None:
    """A request that is cancelled during a stall ends at that moment, and closes the body."""
    body = Body(UNAUTHORIZED, pause=1e7)
    async with open_answered(http, answer_with(http, body)) as (_, client):
        with trio.move_on_after(after) as scope:
            await client.get("/2.0/files/1")
        assert scope.cancelled_caught
        assert (body.closes, body.opened, trio.current_time()) == (1, 0, after)


async def test_another_task_closes_a_stalled_response(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If another task closes the response, the task that reads it gets an error, no short body."""
    body = Body(UNAUTHORIZED, pause=1e7)
    async with open_answered(http, answer_with(http, body)) as (_, client):
        answer = await client.send(client.build_request("GET", "/2.0/files/1"), stream=True)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def close() -> None:
                await trio.sleep(10.0)
                await answer.aclose()

            with pytest.raises(http.ReadError, match="another task closed the response"):
                await answer.aread()
    assert (body.closes, body.opened) == (1, 0)


def test_an_unclosed_response_does_not_keep_the_run_alive(http: ModuleType) -> None:
    """A program can end although it has not closed a 401 whose body stalls."""
    body = Body(UNAUTHORIZED, pause=1e7)

    async def main() -> None:
        async with open_answered(http, answer_with(http, body)) as (_, client):
            await client.send(client.build_request("GET", "/2.0/files/1"), stream=True)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert body.opened == 0


async def test_a_stream_is_read_in_the_context_of_the_request(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A stream runs with the context variables of the task that sent the request."""
    seen: list[str] = []

    async def look_around() -> AsyncIterator[bytes]:
        seen.append(PLACE.get())
        yield b"x"

    async with open_answered(http, http.Response(401, content=look_around())) as (_, client):
        PLACE.set("here")
        await client.get("/2.0/files/1")
    assert seen == ["here"]


# Streams without checkpoints


class Busy(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A stream whose next piece is always ready, without a checkpoint.

    Attributes:
        before: a callable that runs before each piece.
        read: how many pieces were read.
        closes: how often it was closed.
    """

    def __init__(self, piece: bytes, before: Callable[[], object] = bool) -> None:
        self._piece = piece
        self.before = before
        self.read = 0
        self.closes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.before()
        self.read += 1
        return self._piece

    async def aclose(self) -> None:
        self.closes += 1


async def test_a_busy_stream_of_empty_pieces_counts_as_not_empty(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """After 64 empty pieces that are always ready, the body counts as not empty."""
    busy = Busy(b"")
    async with open_answered(http, answer_with(http, busy)) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (answer.status_code, busy.read) == (401, 64)
    assert busy.closes == 1


@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 100, b"x" * 10_000], ids=len)
async def test_a_busy_stream_is_limited(
    http: ModuleType, piece: bytes, autojump_clock: MockClock
) -> None:
    """A revoked token's 401 is read only to a limit of bytes and pieces, and other tasks run."""
    longest = since = 0

    def count() -> None:
        nonlocal longest
        longest = max(longest, busy.read - since)

    busy = Busy(piece, count)
    async with open_answered(http, answer_with(http, busy, **INVALID_TOKEN)) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def take_turns() -> None:
                nonlocal since
                while True:
                    await trio.lowlevel.checkpoint()
                    since = busy.read

            answer = await client.get("/2.0/files/1")
            nursery.cancel_scope.cancel()
    assert (answer.status_code, answer.history[0].content, busy.closes) == (200, b"", 1)
    # This counts the pieces that were read, and those that were read to end the stream.
    assert busy.read <= 1025 + 16 * 1024
    # Trio runs ready tasks in any order, so two stretches can follow each other.
    assert longest <= 4 * 64


async def test_a_slow_busy_stream_is_limited(http: ModuleType, autojump_clock: MockClock) -> None:
    """After a second, the auth stops reading even a stream that has no checkpoint."""
    times: list[float] = []

    def take_time() -> None:
        # Skip the reads that end the stream: they are cancelled.
        if trio.current_effective_deadline() > 0:
            times.append(trio.current_time())
            autojump_clock.jump(0.3)

    busy = Busy(b"x", take_time)
    async with open_answered(http, answer_with(http, busy, **INVALID_TOKEN)) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, busy.closes) == (200, 1)
    assert times == pytest.approx([10.0, 10.3, 10.6, 10.9])


async def test_a_short_body_in_many_pieces_is_kept(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """The history has the body of the first 401, even if it came in a thousand small pieces."""
    body = Body(*[b"x"] * 1000)
    async with open_answered(http, answer_with(http, body, **INVALID_TOKEN)) as (_, client):
        answer = await client.get("/2.0/files/1")
    assert answer.history[0].content == b"x" * 1000
