"""Limits on what a Valkey or Redis server sends: `LimitedStream`, below coredis' parser.

coredis keeps an answer in memory until it is complete, and keeps messages that no task has read.
So the limits must apply to the bytes, before the parser gets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio.abc import ByteStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BYTES = 2**21
"""Maximum size of an answer, and of the messages that no task has read."""
MAX_ELEMENTS = 20_000
"""Maximum number of elements in an answer. The slot map of a cluster is the largest one."""
MAX_PAIRS = 64
"""Maximum length of a map or set. Python's hash tables are slow if an attacker chooses the keys."""
MAX_DEPTH = 8
"""Maximum nesting of an answer. A slot map has four levels."""
MAX_LINE = 2**14
"""Maximum length of a line, such as an error text, in bytes."""
MAX_UNREAD = 1000
"""Maximum number of messages that no task has read."""
CHUNK = 2**13
"""Maximum number of bytes that are parsed in one step. Tiny elements take most time for a byte."""


class AnswerTooLargeError(Exception):
    """Error of an answer above a limit. It ends the connection."""


class AnswerLimits:
    """Counts the bytes, elements and levels of each answer in a stream of bytes."""

    def __init__(self) -> None:
        self._line = b""
        self._skip = 0
        # For each array that is open, the number of elements that are missing.
        self._missing: list[int] = []
        self._bytes = self._elements = 0

    def feed(self, data: bytes) -> None:
        """Count the next bytes.

        Raises:
            AnswerTooLargeError: the answer is above a limit, or a length is not a number.
        """
        at = 0
        while at < len(data):
            if self._skip:
                taken = min(self._skip, len(data) - at)
                self._skip -= taken
                at += taken
                if not self._skip:
                    self._end_element()
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if len(self._line) > MAX_LINE:
                raise AnswerTooLargeError
            if self._line.endswith(b"\r\n"):
                line, self._line = self._line, b""
                self._begin_element(line)

    def _begin_element(self, line: bytes) -> None:
        self._bytes += len(line)
        self._elements += 1
        marker = line[:1]
        length = _length_of(line) if marker in b"$=*>%~" else 0
        if marker in b"$=":
            self._bytes += max(0, length)
            # The two bytes at the end are not counted.
            self._skip = length + 2 if length >= 0 else 0
        elif marker in b"%~" and length > MAX_PAIRS:
            raise AnswerTooLargeError
        if self._bytes > MAX_BYTES or self._elements > MAX_ELEMENTS:
            raise AnswerTooLargeError
        if marker in b"*>%~" and length > 0:
            if length > MAX_ELEMENTS or len(self._missing) == MAX_DEPTH:
                raise AnswerTooLargeError
            self._missing.append(2 * length if marker == b"%" else length)
        elif not self._skip:
            self._end_element()

    def _end_element(self) -> None:
        while self._missing:
            self._missing[-1] -= 1
            if self._missing[-1]:
                return
            self._missing.pop()
        self._bytes = self._elements = 0


class LimitedStream(ByteStream):
    """A stream that raises an error if the server sends too much.

    Args:
        stream: the connection.
        count_unread: returns the number of messages that no task has read.
    """

    def __init__(self, stream: ByteStream, count_unread: Callable[[], int]) -> None:
        self._stream = stream
        self._count_unread = count_unread
        self._limits = AnswerLimits()
        self._unread_bytes = 0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes.

        Raises:
            AnswerTooLargeError: an answer is above a limit.
        """
        unread = self._count_unread()
        if not unread:
            self._unread_bytes = 0
        if unread > MAX_UNREAD or self._unread_bytes > MAX_BYTES:
            raise AnswerTooLargeError
        data = await self._stream.receive(min(max_bytes, CHUNK))
        self._unread_bytes += len(data)
        self._limits.feed(data)
        return data

    async def send(self, item: bytes) -> None:
        """Send bytes."""
        await self._stream.send(item)

    async def send_eof(self) -> None:
        """End the sending side."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The attributes of the connection."""
        return self._stream.extra_attributes


def _length_of(line: bytes) -> int:
    # The parser accepts what int() accepts. Refuse the rest, so that both read the same.
    digits = line[1:-2]
    if digits == b"-1":
        return -1
    if not digits.isdigit() or len(digits) > 9:
        raise AnswerTooLargeError
    return int(digits)
