"""The end of a nursery: no group, and the block's own exception.

A nursery opened in ``__aenter__`` and closed in ``__aexit__`` would wrap whatever the block
raises in an ``ExceptionGroup``. `end_nursery` and `settle` end one so that it does not;
`unwrapped` is for one that is opened and closed in the same function, as in `outcome_of`.
"""

from __future__ import annotations

from contextlib import contextmanager
from logging import ERROR
from typing import TYPE_CHECKING, TypeVarTuple

import trio

from ._errors import SessionClosedError
from ._logging import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

Ts = TypeVarTuple("Ts")

_ENDED = (trio.Cancelled, SessionClosedError)
"""What a block raises because the tasks that serve it have ended."""


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
        async with trio.open_nursery() as nursery:
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
