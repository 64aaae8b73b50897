"""`StartedBody`: the body of an answer of which a 401's beginning may have been read already.

Nothing here reads without a limit, waits for long, or leaves a generator behind.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import AsyncGenerator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

LEFTOVER_SIZE = 64 * 1024
"""Bytes; the flow reads at most so much of an answer whose request it sends again."""
LEFTOVER_TIME = 1.0
"""Seconds; the flow waits at most so long for the first byte of a body, or for its rest."""
_PIECES = 64
"""How many pieces to read at most in search of a byte, and between two checkpoints."""
_LEAST_PIECE = 64
"""Bytes; a smaller piece counts as so many, so that tiny pieces end at `LEFTOVER_SIZE` too."""
_BUFFERED_PIECES = 16 * 1024
"""More pieces than httpcore gets from a socket in one read: 64 KiB of one-byte chunks."""


class StartedBody:
    """A body whose beginning may have been read already.

    Made with a library's ``AsyncByteStream`` as a second base, see `_with_base`.

    Attributes:
        pieces: what was read, and not yet given to the reader.
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
        """The time that the whole response took, which httpx2 reads here."""
        return getattr(self._stream, "elapsed", None)

    # Not a generator: Trio would warn about one that its reader does not finish.
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
        """Return whether the body has any byte; after `LEFTOVER_TIME` assume that it has.

        A read that is cancelled closes the connection. So a system task reads the first byte,
        and goes on with that read after this method has returned.
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
                for _ in range(_PIECES):
                    piece = await anext(rest)
                    self.pieces.append(piece)
                    if piece or not look.is_wanted:
                        break
        except StopAsyncIteration:
            self.is_whole = True
        except trio.Cancelled:
            # The end of the run.
            raise
        except BaseException as error:
            # It would crash Trio here, and it belongs to the reader of the body.
            look.problem = error
        finally:
            look.done.set()

    async def finish(self) -> None:
        """Free the connection: keep a short body, and drop one that is long, slow or broken."""
        if self._rest is None:
            return
        # A body that was looked at has no byte here, and its end was read.
        if self._look is None:
            with trio.move_on_after(LEFTOVER_TIME), contextlib.suppress(self._http.RequestError):
                await self._read_rest(self._rest)
        if not self.is_whole:
            self.pieces.clear()
        await self.aclose()

    async def _read_rest(self, rest: AsyncIterator[bytes]) -> None:
        # A stream without checkpoints meets no cancellation: it needs a deadline of its own.
        deadline = trio.current_time() + LEFTOVER_TIME
        size = 0
        while size <= LEFTOVER_SIZE and trio.current_time() < deadline:
            try:
                piece = await anext(rest)
            except StopAsyncIteration:
                self.is_whole = True
                return
            self.pieces.append(piece)
            size += max(len(piece), _LEAST_PIECE)
            if len(self.pieces) % _PIECES == 0:
                await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the body and what is below it."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        # In a finally: the reader's own cancellation, or an interrupt, can be raised here as well.
        try:
            if self._look is not None:
                await self._look.stop()
            if not self.is_whole:
                await _end(rest)
        finally:
            await self._stream.aclose()


class _Look:
    """The read of a body's first byte, in a task of its own.

    Attributes:
        scope: that of the task's read.
        done: set when the task reads no more.
        is_wanted: whether the flow still waits for a byte.
        problem: what the read raised, until somebody receives it.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.is_wanted = True
        self.problem: BaseException | None = None

    def raise_problem(self) -> None:
        """Raise what the read raised, once."""
        problem, self.problem = self.problem, None
        try:
            if problem is not None:
                raise problem
        finally:
            del problem

    async def stop(self) -> None:
        """Cancel the read, and wait for its end; raise only what is not an Exception."""
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.done.wait()
        with contextlib.suppress(Exception):
            self.raise_problem()


async def _end(rest: AsyncIterator[bytes]) -> None:
    """End the generators of a body that is not read to its end.

    They are nested, and httpx 0.28 closes at most the outermost; Trio warns about the others.
    A cancelled read ends them from the inside, once the pieces in their buffers are gone.
    """
    with trio.CancelScope() as scope, contextlib.suppress(Exception):
        scope.cancel()
        for number in range(1, _BUFFERED_PIECES):
            await anext(rest)
            if number % _PIECES == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()


@functools.cache
def with_base(kind: type[Any], base: type[Any]) -> type[Any]:
    """Return a class that is both, made once."""
    return type(kind.__name__, (kind, base), {"__module__": kind.__module__})
