"""Nurseries whose exceptions come without a group.

A nursery opened in ``__aenter__`` and closed in ``__aexit__`` would wrap whatever the block
raises in an ``ExceptionGroup``. `Background`, `end_nursery` and `settle` end one so that it does
not. `unwrapped` is for one that is opened and closed in the same function, as in `outcome_of`.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from logging import ERROR
from typing import TYPE_CHECKING, TypeVarTuple

import trio
from trio.lowlevel import enable_ki_protection

from ._errors import SessionClosedError
from ._logging import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

Ts = TypeVarTuple("Ts")

_ENDED = (trio.Cancelled, SessionClosedError)
"""What a block raises because the tasks that serve it have ended."""


class Background:
    """The tasks that serve an ``async with`` block.

    What cancels the block does not cancel them: they end when the block is left, so that the
    block's own cleanup can still use what they provide. If one of them crashes, the block is
    cancelled.
    """

    __slots__ = ("_first", "_is_cancelled", "_manager", "_outer", "_tasks")

    def __init__(self) -> None:
        # One nursery inside the other: the outer one reports a crash to the block, and the inner
        # one is shielded.
        self._manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._outer: trio.Nursery | None = None
        self._tasks: trio.Nursery | None = None
        # What was started before the inner one was open.
        self._first: list[Callable[[], object]] = []
        self._is_cancelled = False

    async def open(self, at_end: Callable[[], Awaitable[object]]) -> None:
        """Begin. This is no checkpoint: an interrupt here would leave a nursery open.

        Args:
            at_end: called once, when the tasks have ended, whatever the reason is. It is called
                before a crash cancels the block. It must be short, and shield itself.
        """
        self._manager = trio.open_nursery(strict_exception_groups=True)
        self._outer = await self._manager.__aenter__()
        self._outer.start_soon(self._run, at_end)

    def start_soon(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Start a task."""
        if self._tasks is None:
            self._first.append(partial(self.start_soon, task, *args))
        else:
            self._tasks.start_soon(task, *args)

    def cancel(self) -> None:
        """Cancel all tasks."""
        self._is_cancelled = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    async def close(self) -> BaseException | None:
        """Cancel all tasks, wait for their end, and return what one of them raised, if any."""
        self.cancel()
        assert self._manager is not None
        assert self._outer is not None
        crash = await end_nursery(self._manager, self._outer)
        # Nurseries know tasks, whose contexts know what is open in them. In such a circle all of
        # that, secrets too, would be left to the garbage collector.
        self._manager = self._outer = self._tasks = None
        return crash

    @enable_ki_protection
    async def _run(self, at_end: Callable[[], Awaitable[object]]) -> None:
        crash: BaseException | None = None
        try:
            async with trio.open_nursery(strict_exception_groups=True) as self._tasks:
                self._tasks.cancel_scope.shield = True
                if self._is_cancelled:
                    self._tasks.cancel_scope.cancel()
                for start in self._first:
                    start()
                self._first.clear()
                await trio.sleep_forever()
        except BaseExceptionGroup as group:
            # A group among these is the task's own.
            crash = worst_of(*group.exceptions)
        finally:
            await at_end()  # noqa: ASYNC102  # shields itself
        if crash is not None:
            try:
                raise crash
            finally:
                # A frame and an exception that hold each other are left to the collector.
                del crash


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
    log(ERROR, "a background task raised %s as well", type(crash).__name__)
    if ended is not None:
        raise own


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise what was raised first in a nursery, as `worst_of` judges, without the group."""
    error: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        # A cancellation counts least, and follows the rules of Trio.
        error = worst_of(*_leaves(group.split(trio.Cancelled)[1] or group))
    if error is not None:
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
    with unwrapped():
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
