"""`StateView`: a session's states, to wait for and to iterate over."""

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
    """Lets tasks follow the states of a session, as trio-util's ``AsyncValue`` does.

    If a predicate raises, the exception propagates in the task that waits with it, even a
    ``KeyboardInterrupt`` or ``SystemExit``. The session and the other waiting tasks go on.
    """

    def __init__(self, initial: TokenState | None) -> None:
        # None once the session is closed.
        self._states: AsyncValue[TokenState | None] = AsyncValue(initial)

    def _set(self, state: TokenState | None) -> None:
        self._states.value = state

    @property
    def value(self) -> TokenState:
        """The state that was noticed last; EMPTY when the session is closed."""
        state: TokenState | None = self._states.value
        return state or TokenState.EMPTY

    async def wait_value(
        self, value_or_predicate: TokenState | Callable[[TokenState], bool]
    ) -> TokenState:
        """Wait until the state is this one, or until the predicate is true of it.

        Returns:
            The state that ended the wait; it may have changed since.

        Raises:
            SessionClosedError: the session is closed, or was while waiting.
            TypeError: ``value_or_predicate`` is neither a state nor a plain callable.
            BaseException: the predicate raised it.

        Cancellation: leaves nothing behind. Always a checkpoint.
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
        """Iterate over the changes of state, as ``(new, old)``.

        Args:
            value_or_predicate: only changes to this state, or those for which
                ``predicate(new, old)`` is true; all without it.

        Changes that happen while the loop's body is busy are missed, as with
        ``AsyncValue.transitions``. The loop raises :class:`SessionClosedError` when the
        session is closed, and what the predicate raised. Each step is a checkpoint; breaking
        off leaves nothing behind.

        Raises:
            TypeError: ``value_or_predicate`` is neither a state, a plain callable nor None.
        """
        if value_or_predicate is not None:
            _check_wanted(value_or_predicate, "a TokenState, a callable or None")
        return _Transitions(self._states, value_or_predicate)


@final
class _Transitions:
    # Not an async generator: Trio warns of each one that a `break` leaves unfinished.

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
    """Asks a user's predicate where the states are set, and keeps what it raises from there."""

    def __init__(self, wanted: TokenState | Callable[..., bool] | None) -> None:
        self._wanted = wanted
        self._failure: BaseException | None = None

    def ends_with(self, *states: TokenState | None) -> bool:
        if self._failure is not None:
            # The waiting task has yet to run.
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
        # Not only an Exception: the session's task runs the predicate, and would end with it.
        except BaseException as error:  # noqa: ASYNC103  # raised in the waiting task
            self._failure = error
        return True

    def raise_failure(self) -> None:
        """Raise what the predicate raised, also in place of a cancellation of the wait."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        try:
            raise failure
        finally:
            # A frame and an exception that hold each other are left to the collector.
            del failure
