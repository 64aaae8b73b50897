"""`StateView`: the states of a session, to wait for or to iterate over."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio
from trio_util import AsyncValue

from ._callables import discard_coroutine, lazy_kind
from ._errors import SessionClosedError
from ._token import TokenState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self


@final
class StateView:
    """The states of a session, with methods to wait for one, like trio-util's ``AsyncValue``.

    If a predicate raises an exception, it propagates in the task that waits with this predicate,
    also a ``KeyboardInterrupt`` or ``SystemExit``. The session and all other tasks continue.
    """

    def __init__(self, initial: TokenState | None) -> None:
        # The value is None if the session is closed.
        self._states: AsyncValue[TokenState | None] = AsyncValue(initial)

    def _set(self, state: TokenState | None) -> None:
        self._states.value = state

    @property
    def value(self) -> TokenState:
        """The last state that the session reported; EMPTY if the session is closed."""
        state: TokenState | None = self._states.value
        return state or TokenState.EMPTY

    async def wait_value(
        self, value_or_predicate: TokenState | Callable[[TokenState], bool]
    ) -> TokenState:
        """Wait until the state is this one, or until the predicate returns true for it.

        Returns:
            The state that ended the wait. The session's state may have changed since.

        Raises:
            SessionClosedError: the session is closed, or was closed during the wait.
            TypeError: ``value_or_predicate`` is neither a state nor a plain callable.
            BaseException: the predicate raised it.

        Cancellation: cancels only this wait. Always a checkpoint.
        """
        _check_wanted(value_or_predicate, "a TokenState or a callable")
        wait = _Wait(value_or_predicate)
        try:
            state: TokenState | None = await self._states.wait_value(wait.ends_with)
        finally:
            wait.raise_failure()
        if state is None:
            raise SessionClosedError
        return state

    def transitions(
        self,
        value_or_predicate: TokenState | Callable[[TokenState, TokenState], bool] | None = None,
    ) -> AsyncIterator[tuple[TokenState, TokenState]]:
        """Return an async iterator over the changes of state, as ``(new, old)``.

        The iterator misses changes that happen while the body of the loop runs, as with
        ``AsyncValue.transitions``. It raises :class:`SessionClosedError` when the session is
        closed, and each exception that the predicate raises. Each step is a checkpoint. You may
        leave the loop at any time, without cleanup.

        Args:
            value_or_predicate: selects changes to this state, or changes for which
                ``predicate(new, old)`` is true. None selects all changes.

        Raises:
            TypeError: ``value_or_predicate`` is neither a state, a plain callable nor None.
        """
        if value_or_predicate is not None:
            _check_wanted(value_or_predicate, "a TokenState, a callable or None")
        return _Transitions(self._states, value_or_predicate)


@final
class _Transitions:
    # Not an async generator, because Trio warns if a `break` leaves one unfinished.

    def __init__(
        self,
        states: AsyncValue[TokenState | None],
        wanted: TokenState | Callable[[TokenState, TokenState], bool] | None,
    ) -> None:
        self._states = states
        self._wanted = wanted

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[TokenState, TokenState]:
        if self._states.value is None:
            await trio.lowlevel.checkpoint()
            raise SessionClosedError
        wait = _Wait(self._wanted)
        try:
            new, old = await self._states.wait_transition(wait.ends_with)
        finally:
            wait.raise_failure()
        if new is None:
            raise SessionClosedError
        return new, old


def _check_wanted(wanted: object, expected: str) -> None:
    if isinstance(wanted, TokenState):
        return
    if not callable(wanted):
        raise TypeError(f"value_or_predicate must be {expected}, not {type(wanted).__name__}")
    kind = lazy_kind(wanted)
    if kind is not None:
        raise TypeError(f"value_or_predicate must be a plain callable, not {kind}")


class _Wait:
    """One wait with a user's predicate. It keeps the predicate's exception for the waiting task.

    The task that sets the state calls the predicate, and must not get its exceptions.
    """

    def __init__(self, wanted: TokenState | Callable[..., bool] | None) -> None:
        self._wanted = wanted
        self._failure: BaseException | None = None

    def ends_with(self, *states: TokenState | None) -> bool:
        if self._failure is not None:
            # The predicate has failed, and the waiting task has not run yet.
            return True
        if states[0] is None or self._wanted is None:
            return True
        if isinstance(self._wanted, TokenState):
            return states[0] is self._wanted
        try:
            answer = self._wanted(*states)
            if discard_coroutine(answer):
                self._failure = TypeError("the predicate must return a bool, not a coroutine")
            return self._failure is not None or bool(answer)
        # Catch every exception, because it would end the session's task.
        except BaseException as error:  # noqa: ASYNC103  # raised in the waiting task
            self._failure = error
        return True

    def raise_failure(self) -> None:
        """Raise the predicate's exception, if any, even if the wait was cancelled."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        try:
            raise failure
        finally:
            # Otherwise, frame and exception refer to each other until garbage collection.
            del failure
