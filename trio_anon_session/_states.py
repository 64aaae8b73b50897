"""`StateView`: a session's states, to wait for and to iterate over."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio
from trio_util import AsyncValue

from ._errors import SessionClosedError
from ._token import TokenState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self


@final
class StateView:
    """Lets tasks follow the states of a session, as trio-util's ``AsyncValue`` does.

    Predicates run in the task that waits: one that raises harms nobody else.
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

        Cancellation: leaves nothing behind.
        """
        matches = _predicate(value_or_predicate)
        await trio.lowlevel.checkpoint()
        while not matches(state := self._open_value()):
            await self._states.wait_transition()
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
        session is closed. Each step is a checkpoint; breaking off leaves nothing behind.
        """
        return _Transitions(self._states, value_or_predicate)

    def _open_value(self) -> TokenState:
        state: TokenState | None = self._states.value
        if state is None:
            raise SessionClosedError
        return state


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
        while True:
            if self._states.value is None:
                raise SessionClosedError
            new, old = await self._states.wait_transition()
            if new is None or old is None:
                raise SessionClosedError
            if self._matches(new, old):
                return new, old

    def _matches(self, new: TokenState, old: TokenState) -> bool:
        if self._wanted is None or isinstance(self._wanted, TokenState):
            return self._wanted in (None, new)
        return self._wanted(new, old)


def _predicate(
    wanted: TokenState | Callable[[TokenState], bool],
) -> Callable[[TokenState], bool]:
    return (lambda state: state is wanted) if isinstance(wanted, TokenState) else wanted
