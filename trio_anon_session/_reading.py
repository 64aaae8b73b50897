"""Reading a response within limits, whatever the server and the transport do.

How it works
    `Body` makes the decisions without I/O: it counts and decompresses the pieces, and refuses a
    body that is too large. `read_body` waits for the pieces. A transport may never make a
    checkpoint, so `read_body` makes one every few pieces. There, the time limit applies and other
    tasks run.
"""

from __future__ import annotations

import zlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    import httpx

BODY_LIMIT = 2**20
"""The most bytes of a body, as it is sent and decompressed. golang/oauth2 has the same limit."""
PIECE_LIMIT = 2**14
"""The most pieces of a body. 1 MiB in the smallest TCP packets has a tenth as many."""
CHECKPOINT_INTERVAL = 64
"""Pieces between two checkpoints. h11 returns each chunk as a piece, even one of a single byte."""

_ZLIB_PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})
_HEADER_LIMIT = 1_000
"""The most characters of a header that are read."""
_HEADERS = frozenset(
    {b"box-request-id", b"content-encoding", b"content-type", b"date", b"retry-after"}
)


class Body:
    """The part of a body that has been read so far.

    Args:
        packing: the ``Content-Encoding`` of the response; empty if the body is decompressed.

    Attributes:
        content: the decompressed body.
        refusal: the text why the body is refused, or None.
    """

    def __init__(self, packing: str) -> None:
        self.content = bytearray()
        self.refusal: str | None = None
        self._packing = packing.strip().lower()
        # httpx would expand a zip bomb without a limit, so this class decompresses the body itself.
        is_zlib = self._packing in _ZLIB_PACKINGS
        self._unpacker = zlib.decompressobj(wbits=47) if is_zlib else None
        self._size = 0
        self._pieces = 0

    @property
    def is_endless(self) -> bool:
        """Whether the server still sends data long after the body was refused."""
        return self._size > 2 * BODY_LIMIT or self._pieces > 2 * PIECE_LIMIT

    @property
    def is_due_for_checkpoint(self) -> bool:
        """Whether the reader should make a checkpoint now."""
        return self._pieces % CHECKPOINT_INTERVAL == 0

    def add(self, piece: bytes) -> None:
        """Add the next piece."""
        self._size += len(piece)
        self._pieces += 1
        if self.refusal is not None:
            return
        # Counted before decompression, so that data after the end of a compressed body counts.
        if self._size > BODY_LIMIT:
            self._refuse(f"sent more than {BODY_LIMIT} bytes")
        elif self._pieces > PIECE_LIMIT:
            self._refuse(f"sent a body in more than {PIECE_LIMIT} pieces")
        elif self._unpacker is None:
            self.content += piece
        elif not self._unpacker.eof:
            self._unpack(self._unpacker, piece)

    def _unpack(self, unpacker: zlib._Decompress, piece: bytes) -> None:
        try:
            self.content += unpacker.decompress(piece, BODY_LIMIT + 1 - len(self.content))
        except zlib.error:
            self._refuse(f"sent a body that is not valid {self._packing}")
        if len(self.content) > BODY_LIMIT:
            self._refuse(f"sent more than {BODY_LIMIT} bytes after decompression")

    def _refuse(self, refusal: str) -> None:
        self.refusal = refusal
        self.content.clear()


async def read_body(response: httpx.Response, packing: str) -> Body:
    """Read a body to its end, or until it is refused, and return it.

    Args:
        response: a response of which nothing was read. One of httpx2 has the same attributes.
        packing: its ``Content-Encoding``.
    """
    # A mock transport may return a response that already has its whole content, decompressed.
    is_raw = not response.is_stream_consumed
    body = Body(packing if is_raw else "")
    # Do not use `aiter_raw`: it skips empty pieces, and would never return if all pieces are empty.
    pieces: Any = aiter(response.stream) if is_raw else response.aiter_bytes()  # type: ignore[arg-type]  # of an async client
    # The generators of httpx and httpcore are nested. `break` would leave the inner ones to the
    # garbage collector, and Trio would warn. A cancellation ends them at their next checkpoint.
    # `break` is only for a transport without checkpoints.
    with trio.CancelScope() as ending:
        async with aclosing(pieces):
            async for piece in pieces:
                body.add(piece)
                if body.refusal is not None:
                    ending.cancel()
                if body.is_endless:
                    break
                if body.is_due_for_checkpoint:
                    with trio.CancelScope(shield=ending.cancel_called):
                        await trio.lowlevel.checkpoint()
    return body


def read_headers(response: httpx.Response) -> dict[str, str]:
    """Return the headers that the token manager uses, by lower-case name."""
    # Read all of them in one pass: a response can have thousands of headers, and httpx would search
    # all of them for each name.
    return {
        name.lower().decode(): value[:_HEADER_LIMIT].decode("latin-1")
        for name, value in response.headers.raw
        if name.lower() in _HEADERS
    }
