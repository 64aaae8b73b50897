"""Reading an answer within limits, whatever the server and the transport do.

How this works
    `Body` decides, without I/O: it counts what comes, unpacks it, and says when it is too
    much. `read_body` waits for the pieces. A transport need not make a checkpoint itself, so
    `read_body` makes one every few pieces; there the time limit and other tasks have their turn.
"""

from __future__ import annotations

import zlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    import httpx

BODY_LIMIT = 2**20
"""Bytes of a body, both as it is sent and unpacked; golang/oauth2 has the same limit."""
PIECE_LIMIT = 2**14
"""Pieces of a body. A mebibyte in the smallest packets of TCP has a tenth as many."""
CHECKPOINT_INTERVAL = 64
"""Pieces between two checkpoints: h11 makes a piece of each chunk, and a chunk can be one byte."""

_ZLIB_PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})
_HEADER_LIMIT = 1_000
"""Characters of a header that are looked at."""
_HEADERS = frozenset(
    {b"box-request-id", b"content-encoding", b"content-type", b"date", b"retry-after"}
)


class Body:
    """What has come of a body so far.

    Args:
        packing: the answer's ``Content-Encoding``; empty where the body is unpacked already.

    Attributes:
        content: the body, unpacked.
        refusal: in words why the body is refused, or None.
    """

    def __init__(self, packing: str) -> None:
        self.content = bytearray()
        self.refusal: str | None = None
        self._packing = packing.strip().lower()
        # Unpacked here, since httpx would unpack a bomb before anyone could count it.
        is_zlib = self._packing in _ZLIB_PACKINGS
        self._unpacker = zlib.decompressobj(wbits=47) if is_zlib else None
        self._size = 0
        self._pieces = 0

    @property
    def is_endless(self) -> bool:
        """Whether the peer goes on long after the body was refused."""
        return self._size > 2 * BODY_LIMIT or self._pieces > 2 * PIECE_LIMIT

    @property
    def is_due_for_checkpoint(self) -> bool:
        """Whether it is time for other tasks."""
        return self._pieces % CHECKPOINT_INTERVAL == 0

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        self._size += len(piece)
        self._pieces += 1
        if self.refusal is not None:
            return
        # Before it is unpacked: what comes after the end of a packed body counts as well.
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
    """Return a body that was read to its end, or that is refused.

    Args:
        response: an answer of which nothing was read.
        packing: its ``Content-Encoding``.
    """
    # A response that a fake transport has made whole is unpacked already.
    is_raw = not response.is_stream_consumed
    body = Body(packing if is_raw else "")
    # Not `aiter_raw`, which passes over empty pieces, and so never ends where all are empty.
    pieces: Any = aiter(response.stream) if is_raw else response.aiter_bytes()  # type: ignore[arg-type]  # of an async client
    # The generators of httpx and httpcore stand one in another, and `break` would leave the
    # inner ones to the garbage collector, of which Trio warns. A cancellation ends them at
    # their next checkpoint. Only a transport that makes none is left with `break`.
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
    """Return the headers that are of use here, by their names in lower case."""
    # In one pass: an answer can have thousands, and httpx looks at all of them for each name.
    return {
        name.lower().decode(): value[:_HEADER_LIMIT].decode("latin-1")
        for name, value in response.headers.raw
        if name.lower() in _HEADERS
    }
