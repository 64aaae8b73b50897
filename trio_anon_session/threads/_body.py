"""`StartedSyncBody`: `StartedBody` for a synchronous client.

A read in a thread cannot be cancelled. So the read timeout of the client limits each read, where
`StartedBody` has its own limit.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Self

from .._body import LEAST_PIECE, LEFTOVER_SIZE, LEFTOVER_TIME, PIECES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class StartedSyncBody:
    """A body whose first bytes may have been read already.

    `with_base` adds a library's ``SyncByteStream`` as a second base class. The async methods never
    suspend: `ThreadFlow` shares the code that calls them.

    Attributes:
        pieces: the pieces that were read, but not yet returned to the reader.
        is_whole: whether the end has been read.
    """

    def __init__(self, stream: Any, http: ModuleType) -> None:
        self.pieces: deque[bytes] = deque()
        self.is_whole = False
        self._stream = stream
        self._http = http
        self._rest: Iterator[bytes] | None = iter(stream)

    @property
    def elapsed(self) -> Any:
        """The time that the whole response took. httpx2 reads this attribute."""
        return getattr(self._stream, "elapsed", None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self.pieces:
            return self.pieces.popleft()
        if self._rest is None:
            raise StopIteration
        try:
            return next(self._rest)
        except StopIteration:
            self.is_whole = True
            raise

    async def has_bytes(self) -> bool:
        """Return whether the body has any bytes; True after many empty pieces."""
        for _ in range(PIECES):
            if self._read() or self.is_whole:
                break
        return not self.is_whole or any(self.pieces)

    async def finish(self) -> None:
        """Free the connection. Keep a short body; drop one that is long, slow or broken."""
        with contextlib.suppress(self._http.RequestError):
            deadline = time.monotonic() + LEFTOVER_TIME
            size = 0
            while size <= LEFTOVER_SIZE and time.monotonic() < deadline and not self.is_whole:
                size += max(self._read(), LEAST_PIECE)
        if not self.is_whole:
            self.pieces.clear()
        self.close()

    def _read(self) -> int:
        """Read one piece and return its size."""
        assert self._rest is not None
        try:
            piece = next(self._rest)
        except StopIteration:
            self.is_whole = True
            return 0
        self.pieces.append(piece)
        return len(piece)

    def close(self) -> None:
        """Close the body and the library's stream."""
        rest, self._rest = self._rest, None
        try:
            if isinstance(rest, Generator):
                rest.close()
        finally:
            self._stream.close()
