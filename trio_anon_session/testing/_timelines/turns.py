"""Instruments of the scheduler: they count the steps of tasks, and observe each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


class Tripwire(trio.abc.Instrument):
    """An instrument that stops a run if tasks run endlessly while time stands still."""

    def __init__(self, limit: int, stop: Callable[[str], None]) -> None:
        self._limit = limit
        self._stop = stop
        self._steps = 0
        self._now = -math.inf

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        """Restart the count when time has advanced."""
        if trio.current_time() != self._now:
            self._now = trio.current_time()
            self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        """Count a step."""
        self._steps += 1
        if self._steps == self._limit:
            self._stop("tasks run in an endless loop while time stands still")


class Turns:
    """An awaitable that runs a coroutine, and calls back before each step except the first.

    If a callback returns an awaitable, the coroutine waits for it, and the callback is called
    again.

    Args:
        coroutine: the coroutine.
        before_turn: called before each step except the first.
        after_first: called after the first step, unless the coroutine ended in it.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        before_turn: Callable[[], Coroutine[Any, Any, None] | None],
        after_first: Callable[[], object] | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._before_turn = before_turn
        self._after_first = after_first

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine
        step: Callable[[Any], Any] = inner.send
        value: Any = None
        while True:
            try:
                trap = step(value)
            except StopIteration as stop:
                return stop.value
            after_first, self._after_first = self._after_first, None
            if after_first is not None:
                after_first()
            try:
                step, value = inner.send, (yield trap)
            except BaseException as error:  # noqa: ASYNC103  # raised in the coroutine
                step, value = inner.throw, error
            while (wait := self._before_turn()) is not None:
                yield from wait.__await__()
