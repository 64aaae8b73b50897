"""Nurseries whose exceptions come without a group.

A nursery opened in ``__aenter__`` and closed in ``__aexit__`` would wrap whatever the block
raises in an ``ExceptionGroup``. `Background`, `end_nursery` and `settle` end one so that it does
not. `Unwrapped` is for one that is opened and closed in the same function, as in `outcome_of`.
"""

from __future__ import annotations

from logging import ERROR
from typing import TYPE_CHECKING, TypeVarTuple

import trio

from ._errors import SessionClosedError
from ._logging import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

Ts = TypeVarTuple("Ts")

_ENDED = (trio.Cancelled, SessionClosedError)
"""What a block raises because the tasks that serve it have ended."""


class Background:
    """The tasks that serve an ``async with`` block.

    What cancels the block does not cancel them: they end when the block is left, so that the
    block's own cleanup can still use what they provide. If one of them crashes, the block is
    cancelled.
    """

    __slots__ = ("_at_crash", "_is_cancelled", "_manager", "_nursery", "_scopes")

    def __init__(self) -> None:
        self._manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._at_crash: Callable[[], Awaitable[object]] | None = None
        # Each task has a shielded scope. A second nursery, shielded as a whole, would take 3 KB.
        self._scopes: tuple[trio.CancelScope, ...] = ()
        self._is_cancelled = False

    @property
    def is_open(self) -> bool:
        """Whether tasks can be started."""
        return self._nursery is not None

    async def open(self, at_crash: Callable[[], Awaitable[object]]) -> None:
        """Begin. This is no checkpoint: an interrupt here would leave a nursery open.

        Args:
            at_crash: called when a task has crashed, before that cancels the block. It must be
                short, and shield itself.
        """
        self._at_crash = at_crash
        self._manager = trio.open_nursery(strict_exception_groups=True)
        self._nursery = await self._manager.__aenter__()

    def start_soon(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Start a task."""
        assert self._nursery is not None
        self._nursery.start_soon(self._run, task, *args)

    def start_long_lived(self, task: Callable[[], Awaitable[object]]) -> None:
        """Start a task that shields its own waits, and that the owner ends.

        It takes 0.8 KB less than another one, which counts in a program with many sessions.
        """
        assert self._nursery is not None
        self._nursery.start_soon(task)

    def cancel(self) -> None:
        """Cancel all tasks, and those that are started later."""
        self._is_cancelled = True
        for scope in self._scopes:
            scope.cancel()

    async def close(self) -> BaseException | None:
        """Cancel all tasks, wait for their end, and return what one of them raised, if any."""
        self.cancel()
        assert self._manager is not None
        assert self._nursery is not None
        crash = await end_nursery(self._manager, self._nursery)
        # Nurseries know tasks, whose contexts know what is open in them. In such a circle all of
        # that, secrets too, would be left to the garbage collector.
        self._manager = self._nursery = self._at_crash = None
        return crash

    async def _run(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        scope = trio.CancelScope(shield=True)
        self._scopes = (*self._scopes, scope)
        if self._is_cancelled:
            scope.cancel()
        try:
            with scope:
                await task(*args)
        except BaseException:
            if self._at_crash is not None:
                await self._at_crash()  # noqa: ASYNC102  # shields itself
            raise
        finally:
            self._scopes = tuple(other for other in self._scopes if other is not scope)


async def end_nursery(
    manager: AbstractAsyncContextManager[trio.Nursery], nursery: trio.Nursery
) -> BaseException | None:
    """Cancel a nursery's tasks, wait for them, and return what one of them raised, if any.

    An outer cancellation waits too: it has nothing to add.
    """
    nursery.cancel_scope.shield = True
    nursery.cancel_scope.cancel()
    try:
        # It is not shown the block's exception, which it would wrap.
        await manager.__aexit__(None, None, None)
    except BaseExceptionGroup as group:
        return worst_of(*group.exceptions)
    return None


def worst_of(*errors: BaseException | None) -> BaseException | None:
    """Return the first crash that is not an `Exception`, or else the first error, if any.

    A program that is interrupted or told to exit must not go on because something else failed
    as well.
    """
    raised = [error for error in errors if error is not None]
    crashes = (error for error in raised if not isinstance(error, Exception))
    return next(crashes, raised[0] if raised else None)


def settle(exc: BaseException | None, crash: BaseException | None) -> None:
    """Decide at the end of ``__aexit__`` which exception leaves the block, without a group.

    Args:
        exc: the block's own. That it was cancelled, or met a closed session, does not
            count where a task crashed.
        crash: the task's. It is logged where the block has an exception of its own, unless the
            block's is an `Exception` and the task's is not: then that one leaves the block.

    Returns where nothing needs to be raised: the block's exception, if any, goes on.
    """
    if crash is None:
        return
    ended: BaseException | None = None
    own = exc
    if isinstance(exc, _ENDED):
        own = None
    elif isinstance(exc, BaseExceptionGroup):
        ended, own = exc.split(_ENDED)
    if own is None:
        context = crash.__context__
        try:
            raise crash
        finally:
            # Being raised here has made the block's cancellation its context.
            crash.__context__ = context
    if worst_of(own, crash) is crash:
        # Python makes the block's exception its context.
        raise crash
    log(
        ERROR,
        "a background task raised %s too; the exception of the block propagates",
        type(crash).__name__,
    )
    if ended is not None:
        raise own


class Unwrapped:
    """Raises what was raised first in a nursery, as `worst_of` judges, without the group."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(exc, BaseExceptionGroup):
            return
        # A cancellation counts least, and follows the rules of Trio.
        error = worst_of(*_leaves(exc.split(trio.Cancelled)[1] or exc))
        assert error is not None
        # This frame becomes a part of the error's traceback. If it held the group, it would hold
        # the error, and both would be left to the garbage collector.
        del exc, traceback
        context = error.__context__
        try:
            raise error
        finally:
            # Being raised here has made the group its context.
            error.__context__ = context
            del error


async def outcome_of(call: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> object:
    """Return what an async call returns, or the `Exception` that it raises.

    The call runs in a task of its own. Since Python 3.12 the frames of a traceback hold the
    frames that called them, with their locals: an error that an object keeps would hold that
    object, and both would be left for the garbage collector, with every secret they know.
    """
    outcomes: list[object] = []
    with Unwrapped():
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # see above
            nursery.start_soon(_note_outcome, outcomes, call, *args)
    # Taken out of the list, which the frames of the error hold.
    return outcomes.pop()


async def _note_outcome(
    outcomes: list[object], call: Callable[[*Ts], Awaitable[object]], *args: *Ts
) -> None:
    try:
        outcomes.append(await call(*args))
    except Exception as error:
        outcomes.append(error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
