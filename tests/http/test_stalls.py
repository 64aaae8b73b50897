"""A 401 whose body stalls, or whose stream never lets other tasks run."""

from __future__ import annotations

import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import httpx
import httpx2
import pytest
import trio

from tests.http.kit import DEAD, UNAUTHORIZED, Body, answer_with, open_answered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from trio.testing import MockClock

PLACE: ContextVar[str] = ContextVar("PLACE", default="elsewhere")


# A stall


@pytest.mark.parametrize("first", [(), (b"",), (b"", b"")])
@pytest.mark.parametrize("pause", [3.0, 1e7])
async def test_a_body_that_stalls_holds_nobody(
    http: ModuleType, pause: float, first: tuple[bytes, ...], autojump_clock: MockClock
) -> None:
    """After a second without a byte the caller has the response, and can leave it unread."""
    body = Body(*first, UNAUTHORIZED, pause=pause)
    async with open_answered(http, answer_with(http, body)) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (answer.status_code, trio.current_time(), body.read) == (401, 1.0, 0)
        assert (body.closes, body.opened, trio.current_time()) == (1, 0, 1.0)
        assert session.statistics().invalidations == 0


@pytest.mark.parametrize("pieces", [(UNAUTHORIZED,), (b"", b"a", b"b"), (b"a", b"", b"b"), ()])
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_body_that_goes_on_is_whole(
    http: ModuleType, pieces: tuple[bytes, ...], is_streamed: bool, autojump_clock: MockClock
) -> None:
    """When the body goes on after the stall, the caller reads all of it."""
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


async def test_a_reader_may_come_late(http: ModuleType, autojump_clock: MockClock) -> None:
    """The caller also gets all of a body that went on before the caller reads it."""
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
    """An end within the second means an empty body."""
    async with open_answered(http, answer_with(http, Body(end=0.9))) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, trio.current_time()) == (200, 10.9)


async def test_empty_pieces_do_not_prolong_the_wait(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """The second is for all pieces together, and no piece is read after it in advance."""
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
    """What the stream raises reaches the reader of the body, without the token in our frames."""
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


async def test_a_body_that_breaks_while_nobody_reads(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If the caller does not read the body, its error is lost, unless it is not an Exception."""
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
    """A caller that gives up, while the flow or it reads, leaves at that moment."""
    body = Body(UNAUTHORIZED, pause=1e7)
    async with open_answered(http, answer_with(http, body)) as (_, client):
        with trio.move_on_after(after) as scope:
            await client.get("/2.0/files/1")
        assert scope.cancelled_caught
        assert (body.closes, body.opened, trio.current_time()) == (1, 0, after)


async def test_another_task_may_close_a_stall(http: ModuleType, autojump_clock: MockClock) -> None:
    """A reader whose response another task closes gets an error, and no short body."""
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


def test_a_response_that_nobody_closes_does_not_keep_a_run(http: ModuleType) -> None:
    """A program can end while the body of a 401 stalls that it has never closed."""
    body = Body(UNAUTHORIZED, pause=1e7)

    async def main() -> None:
        async with open_answered(http, answer_with(http, body)) as (_, client):
            await client.send(client.build_request("GET", "/2.0/files/1"), stream=True)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert body.opened == 0


async def test_a_stream_is_read_in_the_context_of_the_request(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A stream sees the context variables of the task that sent the request."""
    seen: list[str] = []

    async def look_around() -> AsyncIterator[bytes]:
        seen.append(PLACE.get())
        yield b"x"

    async with open_answered(http, http.Response(401, content=look_around())) as (_, client):
        PLACE.set("here")
        await client.get("/2.0/files/1")
    assert seen == ["here"]


# No checkpoints


class Busy(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A stream that has the next piece ready each time, and never lets another task run.

    Attributes:
        before: is called before each piece.
        read: how many pieces were given.
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


async def test_a_busy_stream_of_nothing_ends_somewhere(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Of empty pieces that are always ready, 64 are read; then the body counts as not empty."""
    busy = Busy(b"")
    async with open_answered(http, answer_with(http, busy)) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (answer.status_code, busy.read) == (401, 64)
    assert busy.closes == 1


@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 100, b"x" * 10_000], ids=len)
async def test_a_busy_stream_is_dropped(
    http: ModuleType, piece: bytes, autojump_clock: MockClock
) -> None:
    """The rest of a revoked token's 401 has a limit in bytes and pieces, and other tasks run."""
    longest = since = 0

    def count() -> None:
        nonlocal longest
        longest = max(longest, busy.read - since)

    busy = Busy(piece, count)
    async with open_answered(http, answer_with(http, busy, **DEAD)) as (session, client):
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


async def test_a_busy_stream_that_takes_its_time_is_dropped(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A second is the limit also for a stream that never meets a cancellation."""
    times: list[float] = []

    def take_time() -> None:
        # Skip the reads that end the stream: they are cancelled.
        if trio.current_effective_deadline() > 0:
            times.append(trio.current_time())
            autojump_clock.jump(0.3)

    busy = Busy(b"x", take_time)
    async with open_answered(http, answer_with(http, busy, **DEAD)) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, busy.closes) == (200, 1)
    assert times == pytest.approx([10.0, 10.3, 10.6, 10.9])


async def test_a_short_body_in_many_pieces_is_kept(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A body of a thousand small pieces is short enough to be kept for the history."""
    body = Body(*[b"x"] * 1000)
    async with open_answered(http, answer_with(http, body, **DEAD)) as (_, client):
        answer = await client.get("/2.0/files/1")
    assert answer.history[0].content == b"x" * 1000
