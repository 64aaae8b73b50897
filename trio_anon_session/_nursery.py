"""Nurseries that raise exceptions without an ``ExceptionGroup``.

A nursery that is opened in ``__aenter__`` and closed in ``__aexit__`` would wrap the exceptions of
the block in an ``ExceptionGroup``. `Background`, `end_nursery` and `raise_at_exit` avoid that.
`Unwrapped` is for a nursery that is opened and closed in the same function, as in `outcome_of`.
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
"""The exceptions that a block raises because its background tasks have ended."""


class Background:
    """The background tasks of an ``async with`` block.

    A cancellation of the block does not cancel these tasks. They end when the block is left, so
    that the cleanup in the block can still use them. If a task crashes, the block is cancelled.
    """

    __slots__ = ("_at_crash", "_is_cancelled", "_manager", "_nursery", "_scopes")

    def __init__(self) -> None:
        self._manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._at_crash: Callable[[], Awaitable[object]] | None = None
        # Each task has a shielded scope. A second nursery with one shielded scope would take 3 KB.
        self._scopes: tuple[trio.CancelScope, ...] = ()
        self._is_cancelled = False

    @property
    def is_open(self) -> bool:
        """Whether tasks can be started."""
        return self._nursery is not None

    async def open(self, at_crash: Callable[[], Awaitable[object]] | None = None) -> None:
        """Open the nursery. Not a checkpoint: an interrupt here would leave the nursery open.

        Args:
            at_crash: called after a task has crashed, before the block is cancelled. It must be
                short, and must shield itself.
        """
        self._at_crash = at_crash
        self._manager = trio.open_nursery(strict_exception_groups=True)
        self._nursery = await self._manager.__aenter__()

    def start_soon(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Start a task."""
        assert self._nursery is not None
        self._nursery.start_soon(self._run, task, *args)

    def start_long_lived(self, task: Callable[[], Awaitable[object]]) -> None:
        """Start a task that shields its waits, and that the owner ends.

        It takes 0.8 KB less than a task of `start_soon`, which matters for many sessions.
        """
        assert self._nursery is not None
        self._nursery.start_soon(task)

    def cancel(self) -> None:
        """Cancel all tasks, also those that are started later."""
        self._is_cancelled = True
        for scope in self._scopes:
            scope.cancel()

    async def close(self) -> BaseException | None:
        """Cancel all tasks, wait for their end, and return the error of one, if any."""
        self.cancel()
        assert self._manager is not None
        assert self._nursery is not None
        crash = await end_nursery(self._manager, self._nursery)
        # A nursery refers to its tasks, and their contexts refer to open objects. Without this,
        # only the garbage collector could free this cycle and the secrets in it.
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
    """Cancel a nursery's tasks, wait for them, and return the error of one, if any.

    The wait is shielded from an outer cancellation, because all tasks are cancelled already.
    """
    nursery.cancel_scope.shield = True
    nursery.cancel_scope.cancel()
    try:
        # Do not pass the block's exception, because the nursery would wrap it.
        await manager.__aexit__(None, None, None)
    except BaseExceptionGroup as group:
        return worst_of(*group.exceptions)
    return None


def worst_of(*errors: BaseException | None) -> BaseException | None:
    """Return the first error that is not an `Exception`, or else the first error, if any.

    An interrupt or a ``SystemExit`` must end the program, even if another error comes with it.
    """
    raised = [error for error in errors if error is not None]
    crashes = (error for error in raised if not isinstance(error, Exception))
    return next(crashes, raised[0] if raised else None)


def raise_at_exit(exc: BaseException | None, crash: BaseException | None) -> None:
    """Raise the exception that should leave a block, without a group. Call it in ``__aexit__``.

    It returns if the block's exception, or none, should leave the block.

    Args:
        exc: the exception of the block. If a task has crashed, a cancellation or a
            SessionClosedError does not count.
        crash: the exception of a task. It leaves the block if the block has no exception, or if
            the block's is an `Exception` and this one is not. Otherwise it is logged.
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
            # This `raise` has set the block's cancellation as the context, so restore the old
            # context.
            crash.__context__ = context
    if worst_of(own, crash) is crash:
        # Python sets the block's exception as the context.
        raise crash
    log(
        ERROR,
        "a background task raised %s too; the exception of the block propagates",
        type(crash).__name__,
    )
    if ended is not None:
        raise own


class Unwrapped:
    """A context manager that raises one exception of a nursery, as `worst_of` selects it."""

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
        # A cancellation is raised only if there is no other exception.
        error = worst_of(*_leaves(exc.split(trio.Cancelled)[1] or exc))
        assert error is not None
        # This frame becomes part of the error's traceback. If it referred to the group, which
        # refers to the error, only the garbage collector could free both.
        del exc, traceback
        context = error.__context__
        try:
            raise error
        finally:
            # This `raise` has set the group as the context, so restore the old context.
            error.__context__ = context
            del error


async def outcome_of(call: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> object:
    """Return the result of an async call, or the `Exception` that it raises.

    The call runs in its own task. Since Python 3.12, the frames of a traceback refer to the frames
    that called them, with their locals. If an object keeps such an error, they refer to each other,
    and only the garbage collector frees them and their secrets.
    """
    outcomes: list[object] = []
    with Unwrapped():
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # see above
            nursery.start_soon(_note_outcome, outcomes, call, *args)
    # Remove the result from the list, because the frames of an error refer to the list.
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
