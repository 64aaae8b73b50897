"""Processes that can be stopped between any two steps of their tasks, as by SIGSTOP.

In one Trio run, a process is the set of tasks that have it in their context. While it is stopped,
these tasks do not run, and time continues: deadlines pass, and answers arrive. The tasks notice
that when the process continues. A killed process never continues.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from trio_anon_session.testing._timelines.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Coroutine

_switch: ContextVar[Switch | None] = ContextVar("switch", default=None)


class Switch:
    """A switch that stops the tasks of one process, and lets them continue."""

    def __init__(self) -> None:
        self._resumed: trio.Event | None = None

    @property
    def is_off(self) -> bool:
        """Whether the tasks are stopped."""
        return self._resumed is not None

    def enter(self) -> None:
        """Add the current task, and those that it starts from now on, to the process."""
        _switch.set(self)

    def stop(self) -> None:
        """Stop all tasks."""
        if self._resumed is None:
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Let the tasks continue."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def wait(self) -> Coroutine[Any, Any, None] | None:
        """Return what a task must await before its next step, or None if it is not stopped."""
        return None if self._resumed is None else _wait_in_peace(self._resumed)


async def _wait_in_peace(event: trio.Event) -> None:
    # A cancellation takes effect when the process continues.
    with trio.CancelScope(shield=True):
        await event.wait()


class Stopper(trio.abc.Instrument):
    """An instrument that puts each task of a process behind the switch."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Let the task check the switch before each step."""
        switch = task.context.get(_switch)
        if switch is not None:
            # Any coroutine works, but Trio annotates the type of compiled ones.
            task.coro = _behind(switch, task.coro)  # type: ignore[assignment]


async def _behind(switch: Switch, coroutine: Coroutine[Any, Any, Any]) -> Any:
    while (wait := switch.wait()) is not None:
        await wait
    return await Turns(coroutine, switch.wait)
