"""Tests of reading an answer within limits."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Self

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_anon_session._reading import (
    BODY_LIMIT,
    CHECKPOINT_INTERVAL,
    PIECE_LIMIT,
    Body,
    read_body,
    read_headers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "X-GZip ": gzip.compress,
    "deflate": zlib.compress,
}


def _cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@given(st.binary(max_size=500), st.sampled_from(sorted(PACKINGS)), st.integers(1, 100), st.binary())
def test_a_body_is_put_together(content: bytes, packing: str, size: int, more: bytes) -> None:
    """A body is the same in any pieces, and bytes after a compressed one are ignored."""
    body = Body(packing)
    for piece in _cut(PACKINGS[packing](content), size):
        body.add(piece)
    if "g" in packing or "deflate" in packing:
        body.add(more)
    assert body.refusal is None
    assert body.content == content


@pytest.mark.parametrize("size", [1000, 65536, BODY_LIMIT + 1])
@pytest.mark.parametrize(
    "raw",
    [
        b"x" * (BODY_LIMIT + 1),
        gzip.compress(b"{}") + b"x" * BODY_LIMIT,
        gzip.compress(b"{}") + b"\0" * BODY_LIMIT,
        gzip.compress(b" " * (BODY_LIMIT + 1)),
        gzip.compress(b" " * 50 * BODY_LIMIT),
    ],
    ids=["plain", "after the end", "zeros after the end", "one too many", "bomb"],
)
def test_bytes_are_limited_as_sent_and_unpacked(raw: bytes, size: int) -> None:
    """One byte above the limit is refused, sent or unpacked, and the body is not kept."""
    body = Body("gzip" if raw.startswith(b"\x1f\x8b") else "")
    for piece in _cut(raw, size):
        body.add(piece)
    assert f"sent more than {BODY_LIMIT} bytes" in str(body.refusal)
    assert not body.content


def test_bytes_after_a_packed_body_are_not_kept() -> None:
    """Bytes after the end of a compressed body take no memory."""
    body = Body("gzip")
    body.add(gzip.compress(b"{}"))
    tracemalloc.start()
    try:
        for _ in range(500):
            body.add(bytes(1000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body.content == b"{}"
    assert kept < 50_000


def test_pieces_are_limited() -> None:
    """A body may have as many pieces as the limit, and one more is refused."""
    body = Body("")
    for _ in range(PIECE_LIMIT):
        body.add(b"x")
    assert (body.refusal, len(body.content)) == (None, PIECE_LIMIT)
    body.add(b"")
    assert body.refusal == f"sent a body in more than {PIECE_LIMIT} pieces"


class Endless(httpx.AsyncByteStream):
    """A body without end, from a transport that has no checkpoint."""

    def __init__(self, piece: bytes) -> None:
        self._piece = piece
        self.pieces = 0
        self.closed = False

    # This is not a generator, because Trio would have to finish it.
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.pieces += 1
        return self._piece

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("packing", "piece"), [("", b""), ("gzip", b"x" * 1000), ("", b"x" * 2**17), ("", b"x" * 2**24)]
)
async def test_a_body_without_end_or_checkpoint(packing: str, piece: bytes) -> None:
    """Reading from a transport that never waits ends after a limited number of bytes and pieces."""
    stream = Endless(piece)
    body = await read_body(httpx.Response(200, stream=stream), packing)
    assert body.refusal
    assert stream.pieces <= 2 * PIECE_LIMIT + 1
    assert stream.pieces * len(piece) <= 2 * BODY_LIMIT + len(piece)


async def test_other_tasks_run_during_reading() -> None:
    """Between two checkpoints, only a limited number of pieces is read, even after a refusal."""
    stream, seen = Endless(b"x"), [0]

    async def look() -> None:
        while not stream.closed:
            seen.append(stream.pieces)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        response = httpx.Response(200, stream=stream)
        await read_body(response, "")
        await response.aclose()
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert stream.pieces > PIECE_LIMIT
    assert max(steps) <= 2 * CHECKPOINT_INTERVAL


async def test_a_limit_ends_a_body_that_never_waits(autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled scope ends the reading, although the transport has no checkpoint."""
    stream = Endless(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await read_body(httpx.Response(200, stream=stream), "")
    assert scope.cancelled_caught
    assert stream.pieces == CHECKPOINT_INTERVAL


def test_headers() -> None:
    """Only the headers that the package uses are returned, each with at most 1,000 characters."""
    response = httpx.Response(
        503,
        headers=[
            (b"RETRY-AFTER", b"7"),
            (b"Box-Request-Id", b"x" * 5000),
            (b"Date", "ü".encode()),
            (b"A", b"b"),
        ],
    )
    assert read_headers(response) == {
        "retry-after": "7",
        "box-request-id": "x" * 1000,
        "date": "Ã¼",
    }
