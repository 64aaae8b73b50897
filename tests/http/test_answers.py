"""What is read of a 401, how it arrives, and that its connection is free again."""

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
from tests.http.kit import DEAD, Recorder, dead, open_pair
from tests.http.test_origins import libraries
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from trio.testing import MockClock

MIB = 1024 * 1024
DEAD_TOKEN: Any = {"WWW_Authenticate": DEAD["WWW-Authenticate"]}
UNAUTHORIZED = b'{"code": "unauthorized"}'


class Body:
    """A body whose pieces come one after the other, and what was done with it.

    Attributes:
        read: how many pieces were asked for and given.
        closes: how often it was closed.
        opened: iterators that have begun and not ended.
    """

    def __init__(
        self, http: ModuleType, *pieces: bytes, forever: bytes | None = None, pause: float = 0.0
    ) -> None:
        self.pieces = list(pieces)
        self.forever = forever
        self.pause = pause
        self.read = 0
        self.closes = 0
        self.opened = 0
        self.stream: Any = type("Stream", (_Stream, http.AsyncByteStream), {})(self)

    async def give(self) -> AsyncIterator[bytes]:
        """Yield the pieces, as a transport does that waits for the network."""
        for piece in self.pieces:
            await trio.sleep(self.pause)
            self.read += 1
            yield piece
        while self.forever is not None:
            await trio.sleep(self.pause)
            self.read += 1
            yield self.forever


class _Stream:
    def __init__(self, body: Body) -> None:
        self._body = body

    # Two generators, as there are several between a client and the network.
    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._body.opened += 1
        try:
            async for piece in self._body.give():
                yield piece
        finally:
            self._body.opened -= 1

    async def aclose(self) -> None:
        self._body.closes += 1


def answer_with(http: ModuleType, body: Body, *, status: int = 401, **headers: str) -> Any:
    """Return an answer that has not been read."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.Response(status, headers=named, stream=body.stream)


# How much is read


async def test_nothing_is_read_where_the_headers_tell(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """With an error in the challenge, or a length, the body need not be looked at."""
    bodies = [Body(http, forever=b"x", pause=1.0) for _ in range(3)]
    recorder = Recorder(
        http,
        answer_with(http, bodies[0], WWW_Authenticate='Bearer error="insufficient_scope"'),
        answer_with(http, bodies[1], content_length="24"),
        answer_with(http, bodies[2], status=403),
    )
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        for body in bodies:
            async with client.stream("GET", "/2.0/files/1") as answer:
                assert (body.read, body.closes, answer.is_closed) == (0, 0, False)
            assert (body.read, body.closes, answer.is_closed) == (0, 1, True)

    assert (len(recorder.sent), trio.current_time()) == (3, 0.0)


async def test_one_piece_is_enough(http: ModuleType, autojump_clock: MockClock) -> None:
    """By its first piece a body is no empty one; the caller reads all of it."""
    body = Body(http, UNAUTHORIZED, b"x", b"y", pause=0.5)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert (body.read, trio.current_time(), answer.is_closed) == (1, 0.5, False)
            pieces = [piece async for piece in answer.aiter_raw()]
        assert session.statistics().invalidations == 0

    assert (pieces, trio.current_time()) == ([UNAUTHORIZED, b"x", b"y"], 1.5)
    assert (body.read, body.closes) == (3, 1)


async def test_a_body_without_end_is_not_read_to_it(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A body that never ends holds nobody who does not read it."""
    body = Body(http, forever=b"x" * 1000, pause=0.5)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
    assert (body.read, body.closes, body.opened, trio.current_time()) == (1, 1, 0, 0.5)


async def test_pieces_of_nothing_end_somewhere(http: ModuleType, autojump_clock: MockClock) -> None:
    """A body of empty pieces that does not end counts as not empty after 64 pieces."""
    body = Body(http, forever=b"", pause=0.01)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
        assert session.statistics().invalidations == 0
    assert (body.read, body.closes, body.opened) == (64, 1, 0)


@pytest.mark.parametrize("pieces", [(), (b"",), (b"", b"", b"")])
async def test_a_body_without_a_length_can_be_empty(
    http: ModuleType, pieces: tuple[bytes, ...], autojump_clock: MockClock
) -> None:
    """Where no length is told, as often in HTTP/2, the end of the body is."""
    body = Body(http, *pieces)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 1
    assert (answer.status_code, body.closes, body.opened) == (200, 1, 0)


@pytest.mark.parametrize(
    ("length", "is_dead"), [("0", True), ("00", True), ("24", False), ("9" * 5000, False)]
)
async def test_a_length_is_believed(
    http: ModuleType, length: str, is_dead: bool, autojump_clock: MockClock
) -> None:
    """Where there is a length, it tells whether the body is empty, however large it is."""
    body = Body(http, pause=100.0)
    recorder = Recorder(http, answer_with(http, body, content_length=length))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == (200 if is_dead else 401)
        assert session.statistics().invalidations == is_dead


async def test_a_length_beside_pieces_is_not(http: ModuleType, autojump_clock: MockClock) -> None:
    """A length beside a transfer coding says nothing (RFC 9112 §6.3)."""
    body = Body(http, UNAUTHORIZED)
    answer = answer_with(http, body, content_length="0", transfer_encoding="chunked")
    async with open_pair(http, TokenServer(), Recorder(http, answer)) as (session, client):
        answer = await client.get("/2.0/files/1")
        assert session.statistics().invalidations == 0
    assert (answer.status_code, answer.content) == (401, UNAUTHORIZED)


NOTHING = gzip.compress(b"", mtime=0)
BOMB = gzip.compress(gzip.compress(bytes(32 * MIB), mtime=0), mtime=0)
"""A few hundred bytes that unpack to 32 MiB."""


@asynccontextmanager
async def no_memory_used() -> AsyncIterator[None]:
    """Check that the block has never allocated more than a MiB."""
    tracemalloc.start()
    try:
        yield
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


@pytest.mark.parametrize(
    ("coding", "packed"),
    [("gzip", NOTHING), ("deflate", zlib.compress(b"")), ("gzip, gzip", BOMB), ("odd", b"odd")],
    ids=["gzip", "deflate", "bomb", "unknown"],
)
@pytest.mark.parametrize("has_length", [True, False])
async def test_a_packed_body_is_not_unpacked(
    http: ModuleType, coding: str, packed: bytes, has_length: bool, autojump_clock: MockClock
) -> None:
    """A compressed body with any byte is not empty; the caller gets it, and may unpack it."""
    headers: Any = {"content_encoding": coding}
    if has_length:
        headers["content_length"] = str(len(packed))
    body = Body(http, packed[:9], packed[9:])
    recorder = Recorder(http, answer_with(http, body, **headers))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        async with no_memory_used(), client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
            assert b"".join([piece async for piece in answer.aiter_raw()]) == packed
        assert session.statistics().invalidations == 0


@pytest.mark.parametrize("has_length", [True, False])
async def test_an_empty_body_can_have_a_coding(
    http: ModuleType, has_length: bool, autojump_clock: MockClock
) -> None:
    """A body without any byte is empty, whatever its coding."""
    headers: Any = {"content_encoding": "gzip"}
    if has_length:
        headers["content_length"] = "0"
    recorder = Recorder(http, answer_with(http, Body(http), **headers))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, answer.history[0].content) == (200, b"")


async def test_a_packed_body_is_not_unpacked_for_the_history(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """If the request is sent again, the first answer loses a compressed body."""
    body = Body(http, BOMB)
    recorder = Recorder(http, answer_with(http, body, content_encoding="gzip, gzip", **DEAD_TOKEN))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
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
    answer = answer_with(http, Body(http, NOTHING), content_encoding="gzip", **DEAD_TOKEN)
    server = TokenServer(reuses_tokens=True)
    async with open_pair(http, server, Recorder(http, answer)) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
            assert [piece async for piece in answer.aiter_raw()] == [NOTHING]


async def test_what_cannot_be_unpacked_is_for_the_caller(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A body that is not what its header says is not empty."""
    recorder = Recorder(
        http, then=lambda http: answer_with(http, Body(http, b"odd"), content_encoding="gzip")
    )
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
            assert [piece async for piece in answer.aiter_raw()] == [b"odd"]
        assert session.statistics().invalidations == 0


async def test_the_answer_to_head_is_judged_by_headers(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """To HEAD no body says nothing: an error in the challenge does, or a length of nothing."""
    recorder = Recorder(
        http,
        answer_with(http, Body(http)),
        answer_with(http, Body(http), transfer_encoding="chunked"),
        answer_with(http, Body(http), content_length="24"),
        answer_with(http, Body(http), content_length="0"),
        http.Response(200),
        answer_with(http, Body(http), **DEAD_TOKEN),
    )
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answers = [await client.head("/2.0/files/1") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 200, 200]


@given(
    http=libraries,
    pieces=st.lists(st.binary(max_size=20), max_size=12),
    is_streamed=st.booleans(),
    challenge=st.sampled_from([None, "Bearer", 'Bearer error="invalid_request"']),
    size=st.sampled_from([None, 1, 1000]),
)
def test_a_body_that_was_looked_at_is_whole(
    http: ModuleType,
    pieces: list[bytes],
    is_streamed: bool,
    challenge: str | None,
    size: int | None,
) -> None:
    """Whatever its pieces, the caller gets a 401 that is no dead token's as it was sent."""
    body = Body(http, *pieces)
    answer = answer_with(http, body)
    if challenge is not None:
        answer.headers["WWW-Authenticate"] = challenge
    recorder = Recorder(http, answer)
    got = b""

    async def main() -> None:
        nonlocal got
        async with open_pair(http, TokenServer(), recorder) as (_, client):
            if is_streamed:
                async with client.stream("GET", "/2.0/files/1") as answer:
                    got = b"".join([piece async for piece in answer.aiter_bytes(size)])
            else:
                answer = await client.get("/2.0/files/1")
                got = answer.content
            assert answer.is_closed
            assert len(recorder.sent) == 2 or answer.elapsed.total_seconds() >= 0

    run_virtually(main)
    is_dead = not b"".join(pieces) and (challenge is None or "error" not in challenge)
    assert len(recorder.sent) == 1 + is_dead
    assert got == (b"" if is_dead else b"".join(pieces))
    assert body.opened == 0
    assert body.closes == 1


# Streams


async def test_a_stream_is_sent_again_and_arrives_unread(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """The first answer of a stream is read and closed, and the second is the caller's to read."""
    first, second = Body(http, b"dead"), Body(http, b"alive", b"and well", pause=3.0)
    recorder = Recorder(
        http, answer_with(http, first, **DEAD_TOKEN), answer_with(http, second, status=200)
    )
    async with open_pair(http, TokenServer(), recorder) as (_, client):
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
    ("body", "seconds"),
    [
        ({"forever": b"x" * 1000}, 0.0),
        ({"forever": b"x", "pause": 0.3}, 1.0),
        ({"pieces": (b"begun",), "forever": b"", "pause": 10.0}, 1.0),
        ({"pieces": (b"x" * 65_537,)}, 0.0),
    ],
    ids=["huge", "drips", "hangs", "large"],
)
async def test_the_rest_of_a_dead_answer_is_not_waited_for(
    http: ModuleType, body: dict[str, Any], seconds: float, autojump_clock: MockClock
) -> None:
    """A 401 that means a dead token, and has a body without end, is dropped after a second."""
    body = dict(body)
    endless = Body(http, *body.pop("pieces", ()), **body)
    recorder = Recorder(http, answer_with(http, endless, **DEAD_TOKEN))
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        answer = await client.get("/2.0/files/1")

    assert answer.status_code == 200
    assert trio.current_time() == 10.0 + seconds
    assert answer.history[0].content == b""
    assert (endless.closes, endless.opened) == (1, 0)
    assert endless.read <= 66


async def test_an_answer_that_breaks_is_as_good(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """Where the connection breaks in the body of a dead token's 401, the request is sent again."""

    async def breaks() -> AsyncIterator[bytes]:
        yield b"half"
        raise http.RemoteProtocolError("the peer has gone")

    recorder = Recorder(http, http.Response(401, headers=DEAD, content=breaks()))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, answer.history[0].content) == (200, b"")


async def test_the_connection_is_free_before_the_token_is_there(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A request that waits for its second token holds no connection meanwhile."""
    body = Body(http, b"dead", pause=0.5)
    recorder = Recorder(http, answer_with(http, body, **DEAD_TOKEN))
    server = TokenServer(FaultPlan(token=[None, Fault(delay=20.0)]))
    async with open_pair(http, server, recorder) as (session, client):
        await session.get_access_token()
        await trio.sleep(10.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "/2.0/files/1")
            await trio.sleep(1.0)
            assert (body.closes, session.statistics().getters_held) == (1, 1)
    assert trio.current_time() == 30.5


@pytest.mark.parametrize("reads", ["nothing", "a piece", "all"])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_stream_that_is_not_read_leaves_nothing(
    http: ModuleType, reads: str, pieces: int, autojump_clock: MockClock
) -> None:
    """A 401 that was looked at may be left unread: no generator is left behind, none warned of."""
    body = Body(http, *[UNAUTHORIZED] * pieces, pause=0.5)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        async with client.stream("GET", "/2.0/files/1") as answer:
            if reads == "all":
                await answer.aread()
            elif reads == "a piece":
                async with aclosing(answer.aiter_raw()) as raw:
                    await anext(raw)
    assert (body.closes, body.opened) == (1, 0)


async def test_a_stream_whose_reader_is_cancelled_leaves_nothing(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A reader who is cancelled leaves a 401 that was looked at closed, and is cancelled still."""
    body = Body(http, *[UNAUTHORIZED] * 3, pause=0.5)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        with trio.CancelScope() as scope:
            async with client.stream("GET", "/2.0/files/1") as answer:
                assert answer.status_code == 401
                scope.cancel()
        assert scope.cancelled_caught
    assert (body.closes, body.opened) == (1, 0)


# What others have read


@pytest.mark.parametrize(("content", "sent"), [(b"", 2), (UNAUTHORIZED, 1)])
async def test_a_hook_may_have_read_it(
    http: ModuleType, content: bytes, sent: int, autojump_clock: MockClock
) -> None:
    """An answer that an event hook has read is judged by what it read."""

    async def read(response: Any) -> None:
        await response.aread()

    body = Body(http, content)
    recorder = Recorder(http, answer_with(http, body))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        client.event_hooks = {"response": [read]}
        answer = await client.get("/2.0/files/1")
    assert len(recorder.sent) == sent
    assert answer.content == (content if sent == 1 else b"")


async def test_a_hook_that_has_unpacked_it_changes_nothing(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A compressed body that unpacks to nothing is not empty, also after a hook has read it."""

    async def read(response: Any) -> None:
        await response.aread()

    body = Body(http, NOTHING)
    recorder = Recorder(http, answer_with(http, body, content_encoding="gzip"))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        client.event_hooks = {"response": [read]}
        answer = await client.get("/2.0/files/1")
    assert (answer.status_code, answer.content, len(recorder.sent)) == (401, b"", 1)


async def test_a_hook_may_have_kept_nothing(http: ModuleType, autojump_clock: MockClock) -> None:
    """An answer that an event hook has closed unread is one of which nothing can be told."""

    async def close(response: Any) -> None:
        if response.status_code == 401:
            await response.aclose()

    recorder = Recorder(
        http, answer_with(http, Body(http)), answer_with(http, Body(http), **DEAD_TOKEN)
    )
    async with open_pair(http, TokenServer(), recorder) as (session, client):
        client.event_hooks = {"response": [close]}
        async with client.stream("GET", "/2.0/files/1") as answer:
            assert answer.status_code == 401
        assert session.statistics().invalidations == 0
        # With the error in the challenge it can be told; and httpx reads what it can.
        with pytest.raises(http.StreamClosed):
            await client.get("/2.0/files/1")


async def test_an_answer_that_is_whole_is_judged_as_it_is(
    http: ModuleType, autojump_clock: MockClock
) -> None:
    """A transport that answers with bytes has nothing to be read or closed."""
    recorder = Recorder(http, dead(http))
    async with open_pair(http, TokenServer(), recorder) as (_, client):
        answer = await client.get("/2.0/files/1")
    assert answer.status_code == 200
