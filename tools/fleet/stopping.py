"""Processes that are stopped between any two steps of their tasks, as SIGSTOP does it.

In one Trio run, a process is the tasks that have it in their context. While it is stopped
none of them takes a step, and time goes on: deadlines pass, answers arrive, and all of it is
found when it goes on. One that is killed never does.
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
    """Stops the tasks of one process, and lets them go on."""

    def __init__(self) -> None:
        self._resumed: trio.Event | None = None

    @property
    def is_off(self) -> bool:
        """Whether they are stopped."""
        return self._resumed is not None

    def enter(self) -> None:
        """Make the current task, and those that it starts from now on, the process's."""
        _switch.set(self)

    def stop(self) -> None:
        """Let none of the tasks take a step."""
        if self._resumed is None:
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Let them go on."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def wait(self) -> Coroutine[Any, Any, None] | None:
        """Return what a task is to await before its next step, if it is stopped."""
        return None if self._resumed is None else _wait_in_peace(self._resumed)


async def _wait_in_peace(event: trio.Event) -> None:
    # What cancels a task is found when it goes on.
    with trio.CancelScope(shield=True):
        await event.wait()


class Stopper(trio.abc.Instrument):
    """Puts each task of a process behind its switch."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Have each step of the task ask the switch."""
        switch = task.context.get(_switch)
        if switch is not None:
            # A coroutine as any other; Trio names the class of those that the compiler makes.
            task.coro = _behind(switch, task.coro)  # type: ignore[assignment]


async def _behind(switch: Switch, coroutine: Coroutine[Any, Any, Any]) -> Any:
    while (wait := switch.wait()) is not None:
        await wait
    return await Turns(coroutine, switch.wait)
