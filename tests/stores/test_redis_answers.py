"""Tests of the limits on what a server of `RedisStore` sends: exact, and for each answer anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio.abc import ByteStream
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import run_virtually
from trio_anon_session.stores._answers import (
    CHUNK,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_LINE,
    MAX_PAIRS,
    MAX_UNREAD,
    AnswerTooLargeError,
    LimitedStream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMITS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "depth": (MAX_DEPTH, lambda count: b"*1\r\n" * count + b":1\r\n"),
    "depth of maps": (MAX_DEPTH, lambda count: b"%1\r\n:1\r\n" * count + b":1\r\n"),
    "pairs": (MAX_PAIRS, lambda count: b"%%%d\r\n" % count + b":1\r\n:2\r\n" * count),
    "members": (MAX_PAIRS, lambda count: b"~%d\r\n" % count + b":1\r\n" * count),
    # The array is an element, too.
    "elements": (MAX_ELEMENTS, lambda count: b"*%d\r\n" % (count - 1) + b"_\r\n" * (count - 1)),
    "line": (MAX_LINE, lambda count: b"-" + b"x" * (count - 3) + b"\r\n"),
    # The line with the length has ten bytes.
    "bytes": (MAX_BYTES, lambda count: b"$%d\r\n" % (count - 10) + b"x" * (count - 10) + b"\r\n"),
}
"""Each limit, and an answer that has as much."""


class Pieces(ByteStream):
    """A stream that gives these pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next piece."""
        assert max_bytes <= CHUNK
        return next(self._pieces)

    async def send(self, item: bytes) -> None:
        """Send nothing."""

    async def send_eof(self) -> None:
        """End nothing."""

    async def aclose(self) -> None:
        """Close nothing."""


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    """Return data in pieces of a size."""
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes, size: int, unread: int = 0) -> None:
    """Read all data through the limits, in pieces."""

    async def main() -> None:
        stream = LimitedStream(Pieces(pieces_of(data, size)), lambda: unread)
        for _ in range(0, len(data), size):
            await stream.receive()

    run_virtually(main)


# An example with 20,000 elements takes 0.05 s.
@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_is_exact(name: str, data: st.DataObject) -> None:
    """Answers with as much as the limit are read, one after the other, and more is refused."""
    limit, answer = LIMITS[name]
    least = CHUNK // 2 if limit > MAX_LINE else 1
    size = data.draw(st.integers(least, CHUNK))
    read(answer(limit) * 2, size)
    with pytest.raises(AnswerTooLargeError):
        read(answer(limit) + answer(limit + 1), size)


def test_messages_that_no_task_reads() -> None:
    """The connection ends if a task has left more messages, or more bytes of them, than allowed."""
    push = b">1\r\n$1000\r\n" + b"x" * 1000 + b"\r\n"
    read(push, CHUNK, unread=MAX_UNREAD)
    with pytest.raises(AnswerTooLargeError):
        read(push, CHUNK, unread=MAX_UNREAD + 1)
    count = MAX_BYTES // len(push)
    read(push * count, CHUNK, unread=1)
    read(push * 2 * count, CHUNK, unread=0)
    with pytest.raises(AnswerTooLargeError):
        read(push * (count + 20), CHUNK, unread=1)
