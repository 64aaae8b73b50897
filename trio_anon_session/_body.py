"""`StartedBody`: the body of a 401, whose first bytes the auth may have read already.

All reads have a limit of size and time, and no async generator is left unfinished.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

LEFTOVER_SIZE = 64 * 1024
"""Bytes; the most that the flow reads of a response before it sends the request again."""
LEFTOVER_TIME = 1.0
"""Seconds; the longest wait for the first byte of a body, or for its rest."""
PIECES = 64
"""The most pieces to read for the first byte, and between two checkpoints."""
LEAST_PIECE = 64
"""Bytes; a smaller piece counts as this many, so that tiny pieces reach `LEFTOVER_SIZE`, too."""
_BUFFERED_PIECES = 16 * 1024
"""More pieces than httpcore gets in one read of a socket: 64 KiB of one-byte chunks."""


class StartedBody:
    """A body whose first bytes may have been read already.

    `with_base` adds a library's ``AsyncByteStream`` as a second base class.

    Attributes:
        pieces: the pieces that were read, but not yet returned to the reader.
        is_whole: whether the end has been read.
    """

    def __init__(self, stream: Any, http: ModuleType) -> None:
        self.pieces: deque[bytes] = deque()
        self.is_whole = False
        self._stream = stream
        self._http = http
        self._rest: AsyncIterator[bytes] | None = aiter(stream)
        self._look: _Look | None = None

    @property
    def elapsed(self) -> Any:
        """The time that the whole response took. httpx2 reads this attribute."""
        return getattr(self._stream, "elapsed", None)

    # This is not a generator, because Trio warns about a generator that the reader does not finish.
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        look, rest = self._look, self._rest
        if look is not None and not self.pieces:
            await look.done.wait()
        if self.pieces:
            return self.pieces.popleft()
        if look is not None:
            self._look = None
            look.raise_problem()
        if self._rest is None:
            if rest is not None and not self.is_whole:
                raise self._http.ReadError("another task closed the response during this read")
            raise StopAsyncIteration
        try:
            return await anext(self._rest)
        except StopAsyncIteration:
            self.is_whole = True
            raise

    async def has_bytes(self) -> bool:
        """Return whether the body has any bytes; True if none came within `LEFTOVER_TIME`.

        Cancelling a read would close the connection. So a system task reads the first byte. It
        continues with that read after this method has returned.
        """
        assert self._rest is not None
        self._look = look = _Look()
        trio.lowlevel.spawn_system_task(
            self._look_for_bytes, look, self._rest, context=copy_context()
        )
        with trio.move_on_after(LEFTOVER_TIME):
            await look.done.wait()
        look.is_wanted = False
        look.raise_problem()
        return not self.is_whole or any(self.pieces)

    async def _look_for_bytes(self, look: _Look, rest: AsyncIterator[bytes]) -> None:
        try:
            with look.scope:
                for _ in range(PIECES):
                    piece = await anext(rest)
                    self.pieces.append(piece)
                    if piece or not look.is_wanted:
                        break
        except StopAsyncIteration:
            self.is_whole = True
        except trio.Cancelled:
            # The Trio run is ending.
            raise
        except BaseException as error:
            # The reader of the body raises the error. In this system task, it would crash Trio.
            look.problem = error
        finally:
            look.done.set()

    async def finish(self) -> None:
        """Free the connection. Keep a short body; drop one that is long, slow or broken."""
        assert self._rest is not None
        # If `has_bytes` was called, the body is empty here, and its end was read.
        if self._look is None:
            with trio.move_on_after(LEFTOVER_TIME), contextlib.suppress(self._http.RequestError):
                await self._read_rest(self._rest)
        if not self.is_whole:
            self.pieces.clear()
        await self.aclose()

    async def _read_rest(self, rest: AsyncIterator[bytes]) -> None:
        # A stream without checkpoints cannot be cancelled, so the loop checks a deadline.
        deadline = trio.current_time() + LEFTOVER_TIME
        size = 0
        while size <= LEFTOVER_SIZE and trio.current_time() < deadline:
            try:
                piece = await anext(rest)
            except StopAsyncIteration:
                self.is_whole = True
                return
            self.pieces.append(piece)
            size += max(len(piece), LEAST_PIECE)
            if len(self.pieces) % PIECES == 0:
                await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the body and the library's stream."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        # A cancellation or an interrupt of the reader can be raised in this block. The `finally`
        # closes the stream then, too.
        try:
            if self._look is not None:
                await self._look.stop()
            if not self.is_whole:
                await _end(rest)
        finally:
            await self._stream.aclose()


class _Look:
    """The read of a body's first byte in a system task.

    Attributes:
        scope: the cancel scope of the read.
        done: set when the task has stopped reading.
        is_wanted: whether the flow still waits for a byte.
        problem: the exception of the read, until it is raised in another task.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.is_wanted = True
        self.problem: BaseException | None = None

    def raise_problem(self) -> None:
        """Raise the exception of the read, once."""
        problem, self.problem = self.problem, None
        try:
            if problem is not None:
                raise problem
        finally:
            del problem

    async def stop(self) -> None:
        """Cancel the read, and wait for its end. Raise its error unless that is an Exception."""
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.done.wait()
        with contextlib.suppress(Exception):
            self.raise_problem()


async def _end(rest: AsyncIterator[bytes]) -> None:
    """End the async generators of a body that is not read to its end.

    The generators are nested. httpx 0.28 closes at most the outermost one, and Trio warns about
    the others. A cancelled read ends them from the inside, after the pieces in their buffers.
    """
    with trio.CancelScope() as scope, contextlib.suppress(Exception):
        scope.cancel()
        for number in range(1, _BUFFERED_PIECES):
            await anext(rest)
            if number % PIECES == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()
