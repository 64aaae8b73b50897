"""Tests of how much of a 401's body `SessionAuth` reads, and what the caller gets of it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import run_virtually
from tests.http.kit import (
    INVALID_TOKEN,
    UNAUTHORIZED,
    Body,
    Recorder,
    answer_with,
    libraries,
    open_answered,
    open_pair,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from trio.testing import MockClock

MIB = 1024 * 1024


# The amount that is read


async def test_a_body_is_not_read_if_the_headers_are_enough(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """The body is not read if the status, the error in the challenge or a length is enough."""
    bodies = [Body(b"x", pause=1.0) for _ in range(3)]
    answers = (
        answer_with(http, bodies[0], WWW_Authenticate='Bearer error="insufficient_scope"'),
        answer_with(http, bodies[1], content_length="24"),
        answer_with(http, bodies[2], status=403),
    )
    async with open_answered(http, *answers) as (session, client):
        for body in bodies:
            async with client.stream("GET", "/2.0/files/1") as answer:
                assert (body.read, body.closes, answer.is_closed) == (0, 0, False)
            assert (body.read, body.closes, answer.is_closed) == (0, 1, True)
        assert (session.statistics().invalidations, trio.current_time()) == (0, 0.0)


async def test_one_piece_is_enough(http: ModuleType, autojump_clock: MockClock) -> None:
    """The auth reads only one piece to see that a body is not empty; the caller gets all of it."""
    body = Body(UNAUTHORIZED, b"x", b"y", pause=0.5)
    async with open_answered(http, answer_with(http, body)) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (body.read, trio.current_time(), answer.is_closed) == (1, 0.5, False)
            pieces = [piece async for piece in answer.aiter_raw()]
        assert session.statistics().invalidations == 0

    assert (pieces, trio.current_time()) == ([UNAUTHORIZED, b"x", b"y"], 1.5)
    assert (body.read, body.closes) == (3, 1)


@pytest.mark.parametrize("pieces", [(), (b"",), (b"", b"", b"")])
@pytest.mark.parametrize("headers", [{}, {"content_encoding": "gzip"}])
async def test_a_body_without_a_length_can_be_empty(
    http: ModuleType,
    headers: dict[str, Any],
    pieces: tuple[bytes, ...],
    autojump_clock: MockClock,
) -> None:
    """A body without a length, as often in HTTP/2, is empty if it ends without a byte."""
    body = Body(*pieces)
    async with open_answered(http, answer_with(http, body, **headers)) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 1
    assert (answer.status_code, body.closes, body.opened) == (200, 1, 0)
    assert answer.history[0].content == b""


@pytest.mark.parametrize(
    ("length", "is_invalid"), [("0", True), ("00", True), ("24", False), ("9" * 5000, False)]
)
@pytest.mark.parametrize("headers", [{}, {"content_encoding": "gzip"}])
async def test_a_length_is_believed(
    http: ModuleType,
    headers: dict[str, Any],
    length: str,
    is_invalid: bool,
    autojump_clock: MockClock,
) -> None:
    """Content-Length decides whether the body is empty, even if it is huge."""
    body = Body(end=100.0)
    answer = answer_with(http, body, content_length=length, **headers)
    async with open_answered(http, answer) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == (200 if is_invalid else 401)
        assert session.statistics().invalidations == is_invalid


async def test_a_length_with_chunks_is_ignored(http: ModuleType, autojump_clock: MockClock) -> None:
    """A Content-Length next to Transfer-Encoding is ignored (RFC 9112 §6.3)."""
    body = Body(UNAUTHORIZED)
    answer = answer_with(http, body, content_length="0", transfer_encoding="chunked")
    async with open_answered(http, answer) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 0
    assert (answer.status_code, answer.content) == (401, UNAUTHORIZED)


NOTHING = gzip.compress(b"", mtime=0)
BOMB = gzip.compress(gzip.compress(bytes(32 * MIB), mtime=0), mtime=0)
"""A few hundred bytes that unpack to 32 MiB."""


@asynccontextmanager
async def no_memory_used() -> AsyncIterator[None]:
    """Check that the block never allocates more than a MiB."""
    tracemalloc.start()
    try:
        yield
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", NOTHING),
        ("deflate", zlib.compress(b"")),
        ("gzip, gzip", BOMB),
        ("odd", b"odd"),
        ("gzip", b"not gzip"),
    ],
    ids=["gzip", "deflate", "bomb", "unknown", "false"],
)
@pytest.mark.parametrize("has_length", [True, False])
async def test_a_packed_body_is_not_unpacked(
    http: ModuleType, coding: str, packed: bytes, has_length: bool, autojump_clock: MockClock
) -> None:
    """A compressed body with any byte is not empty, and the caller gets it still compressed."""
    headers: Any = {"content_encoding": coding}
    if has_length:
        headers["content_length"] = str(len(packed))
    body = Body(packed[:9], packed[9:])
    async with open_answered(http, answer_with(http, body, **headers)) as (session, client):
        async with no_memory_used(), client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
            assert b"".join([piece async for piece in answer.aiter_raw()]) == packed
        assert session.statistics().invalidations == 0


async def test_a_packed_body_is_not_unpacked_for_the_history(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If the request is sent again, a compressed body of the first answer is discarded."""
    body = Body(BOMB)
    answer = answer_with(http, body, content_encoding="gzip, gzip", **INVALID_TOKEN)
    async with open_answered(http, answer) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        async with no_memory_used():
            answer = await client.get("/2.0/files/1")
    assert (answer.status_code, answer.history[0].content) == (200, b"")
    assert (body.closes, body.opened) == (1, 0)


async def test_a_packed_body_that_is_the_last_answer_is_whole(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If there is no other token to send, the caller gets the compressed body of the 401."""
    recorder = Recorder(
        http, answer_with(http, Body(NOTHING), content_encoding="gzip", **INVALID_TOKEN)
    )
    async with open_pair(http, TokenServer(reuses_tokens=True), recorder) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
            assert [piece async for piece in answer.aiter_raw()] == [NOTHING]


@pytest.mark.parametrize(
    ("headers", "is_invalid"),
    [
        ({}, False),
        ({"transfer_encoding": "chunked"}, False),
        ({"content_length": "24"}, False),
        ({"content_length": "0"}, True),
        (INVALID_TOKEN, True),
    ],
)
async def test_the_answer_to_head_is_judged_by_headers(
    http: ModuleType, headers: dict[str, Any], is_invalid: bool, autojump_clock: MockClock
) -> None:
    """The auth judges a 401 to HEAD by the error of its challenge, or by a length of zero."""
    async with open_answered(http, answer_with(http, Body(), **headers)) as (_, client):
        answer = await client.head("/2.0/files/1")
    assert answer.status_code == (200 if is_invalid else 401)


@given(
    http=libraries,
    pieces=st.lists(st.binary(max_size=20), max_size=12),
    is_streamed=st.booleans(),
    challenge=st.sampled_from([None, "Bearer", 'Bearer error="invalid_request"']),
    size=st.sampled_from([None, 1, 1000]),
)
def test_a_body_that_the_auth_read_is_whole(
    http: ModuleType,
    pieces: list[bytes],
    is_streamed: bool,
    challenge: str | None,
    size: int | None,
) -> None:
    """Whatever the pieces of a body, the caller gets all of a 401 of a valid token."""
    body = Body(*pieces)
    answer = answer_with(http, body)
    if challenge is not None:
        answer.headers["WWW-Authenticate"] = challenge
    is_invalid = not b"".join(pieces) and (challenge is None or "error" not in challenge)

    async def main() -> bytes:
        async with open_answered(http, answer) as (session, client):
            async with client.stream("GET", "/2.0/files/1") as got:
                if is_streamed:
                    content = b"".join([piece async for piece in got.aiter_bytes(size)])
                else:
                    content = await got.aread()
            assert is_invalid or got.elapsed.total_seconds() >= 0
            assert session.statistics().invalidations == is_invalid
        return content

    assert run_virtually(main) == (b"" if is_invalid else b"".join(pieces))
    assert (body.closes, body.opened) == (1, 0)


# Streams


async def test_a_stream_is_sent_again_and_arrives_unread(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """The first answer of a stream is read and closed; the second reaches the caller unread."""
    first, second = Body(b"dead"), Body(b"alive", b"and well", pause=3.0)
    answers = answer_with(http, first, **INVALID_TOKEN), answer_with(http, second, status=200)
    async with open_answered(http, *answers) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (answer.status_code, answer.is_closed, second.read) == (200, False, 0)
            [refused] = answer.history
            assert (refused.status_code, refused.is_closed, first.closes) == (401, True, 1)
            assert refused.content == b"dead"
            assert refused.elapsed.total_seconds() >= 0
            began = trio.current_time()
            pieces = [piece async for piece in answer.aiter_raw()]
            assert trio.current_time() == began + 6.0
    assert pieces == [b"alive", b"and well"]
    assert (second.closes, first.opened, second.opened) == (1, 0, 0)


@pytest.mark.parametrize(
    ("pieces", "pause", "seconds"),
    [
        ([b"x" * 1000] * 1000, 0.0, 0.0),
        ([b"x"] * 10, 0.3, 1.0),
        ([b"begun", b""], 10.0, 1.0),
        ([b"x" * 65_537, b"x"], 0.0, 0.0),
    ],
    ids=["huge", "drips", "hangs", "large"],
)
async def test_a_slow_or_long_body_of_a_revoked_token_is_discarded(
    http: ModuleType,
    pieces: list[bytes],
    pause: float,
    seconds: float,
    autojump_clock: MockClock,
) -> None:
    """The auth discards the body of a revoked token's 401 that is slow, or longer than 64 KiB."""
    endless = Body(*pieces, pause=pause)
    async with open_answered(http, answer_with(http, endless, **INVALID_TOKEN)) as (
        session,
        client,
    ):
        await session.get_access_token()
        await trio.sleep(10.0)
        answer = await client.get("/2.0/files/1")

    assert answer.status_code == 200
    assert trio.current_time() == 10.0 + seconds
    assert answer.history[0].content == b""
    assert (endless.closes, endless.opened) == (1, 0)
    assert endless.read <= 66


async def test_a_body_that_breaks_is_enough_for_a_replay(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If the connection breaks in the body of a revoked token's 401, the request is sent again."""

    async def breaks() -> AsyncIterator[bytes]:
        yield b"half"
        raise http.RemoteProtocolError("the peer has gone")

    answer = http.Response(401, headers=INVALID_TOKEN, content=breaks())
    async with open_answered(http, answer) as (_, client):
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, answer.history[0].content) == (200, b"")


async def test_the_connection_is_free_before_the_token_comes(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A request that waits for its second token holds no connection during this time."""
    body = Body(b"dead", pause=0.5)
    recorder = Recorder(http, answer_with(http, body, **INVALID_TOKEN))
    server = TokenServer(FaultPlan(token=[None, Fault(delay=20.0)]))
    async with open_pair(http, server, recorder) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "/2.0/files/1")
            await trio.sleep(1.0)
            assert (body.closes, session.statistics().getters_held) == (1, 1)
    assert trio.current_time() == 30.5


@pytest.mark.parametrize("reads", ["nothing", "a piece", "all", "nothing, and is cancelled"])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_stream_that_is_not_read_leaves_nothing(
    http: ModuleType, reads: str, pieces: int, autojump_clock: MockClock
) -> None:
    """If the caller does not read a 401's body, it is closed, and no generator is left."""
    body = Body(*[UNAUTHORIZED] * pieces, pause=0.5)
    async with open_answered(http, answer_with(http, body)) as (_, client):
        with trio.CancelScope() as scope:
            async with client.stream("GET", "/2.0/files/1") as answer:
                if reads == "all":
                    await answer.aread()
                elif reads == "a piece":
                    async with aclosing(answer.aiter_raw()) as raw:
                        await anext(raw)
                elif "cancelled" in reads:
                    scope.cancel()
        assert scope.cancelled_caught == scope.cancel_called
    assert (body.closes, body.opened) == (1, 0)


# Bodies that an event hook has read


@pytest.mark.parametrize(
    ("headers", "packed", "content", "is_invalid"),
    [
        ({}, b"", b"", True),
        ({}, UNAUTHORIZED, UNAUTHORIZED, False),
        ({"content_encoding": "gzip"}, NOTHING, b"", False),
    ],
    ids=["empty", "full", "unpacked to nothing"],
)
async def test_a_hook_may_have_read_the_body(
    http: ModuleType,
    headers: dict[str, Any],
    packed: bytes,
    content: bytes,
    is_invalid: bool,
    autojump_clock: MockClock,
) -> None:
    """If an event hook has read an answer, the received bytes decide, and it is not read again."""

    async def read(response: Any) -> None:
        await response.aread()

    body = Body(packed)
    async with open_answered(http, answer_with(http, body, **headers)) as (_, client):
        client.event_hooks = {"response": [read]}
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, answer.content) == (200 if is_invalid else 401, content)
    assert (body.read, body.closes) == (1, 1)


async def test_a_hook_may_have_closed_the_body(http: ModuleType, autojump_clock: MockClock) -> None:
    """An answer that an event hook has closed unread does not count as empty."""

    async def close(response: Any) -> None:
        if response.status_code == 401:
            await response.aclose()

    answers = answer_with(http, Body()), answer_with(http, Body(), **INVALID_TOKEN)
    async with open_answered(http, *answers) as (session, client):
        client.event_hooks = {"response": [close]}
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
        assert session.statistics().invalidations == 0
        # The error in the challenge decides, and then httpx tries to read the body.
        with pytest.raises(http.StreamClosed):
            await client.get("/2.0/files/1")
