"""`Gate`, where callers wait for a token, and `Alarm`, which wakes the session's task."""

from __future__ import annotations

import trio
from trio.lowlevel import enable_ki_protection

CONDITIONS = 8
"""The number of conditions at which callers wait.

A lock lets one task pass for each batch of tasks that Trio runs. Compared with a bare event,
releasing 10,000 callers takes 2.1 times as long with one condition, 1.85 with four and 1.8 with
eight. More conditions do not help.
"""
PORTION = 64
"""The most callers to wake together at one condition. Waking 100,000 together takes 30 ms."""


class Gate:
    """The place where callers wait for a token.

    It consists of a few conditions. No task holds their locks during I/O. So a cancelled caller
    waits only until it gets the lock, not for the token endpoint.
    """

    __slots__ = ("_conditions",)

    def __init__(self) -> None:
        # Conditions exist only while callers wait. This saves memory in a program with thousands of
        # sessions.
        self._conditions: tuple[trio.Condition, ...] = ()

    def condition_of(self, number: int) -> trio.Condition:
        """Return the condition for a caller, which must use it before its next checkpoint.

        Args:
            number: the number of the caller, which selects the condition.
        """
        if not self._conditions:
            self._conditions = tuple(trio.Condition() for _ in range(CONDITIONS))
        return self._conditions[number % CONDITIONS]

    @enable_ki_protection
    async def wake_all(self) -> None:
        """Wake all waiting callers, and return after each has looked again."""
        conditions = self._conditions
        # The shield is necessary because every caller must wake up. It is short, because tasks hold
        # the locks only for a moment.
        with trio.CancelScope(shield=True):
            longest = max((each.statistics().tasks_waiting for each in conditions), default=0)
            for _ in range(0, longest, PORTION):
                # This task gets each lock only after the callers that it has woken, because they
                # queue for the lock first.
                for condition in conditions:
                    async with condition:
                        condition.notify(PORTION)
            for condition in conditions:
                async with condition:
                    pass
        if not any(map(_is_in_use, self._conditions)):
            self._conditions = ()


def _is_in_use(condition: trio.Condition) -> bool:
    use = condition.statistics()
    return use.lock_statistics.locked or use.tasks_waiting > 0


# Without this protection, an interrupt could leave the lock taken, and all other tasks would hang.
@enable_ki_protection
async def lock(condition: trio.Condition) -> bool:
    """Take a condition's lock. Return whether this was a checkpoint, because it was not free."""
    try:
        condition.acquire_nowait()
        return False
    except trio.WouldBlock:
        pass
    # Wait outside of the except block, so that an error raised here has no WouldBlock as its
    # context.
    await condition.acquire()
    return True


class Alarm:
    """The sleep of the session's task, which other tasks can end."""

    __slots__ = ("_is_ringing", "_sleep")

    def __init__(self) -> None:
        self._sleep = trio.CancelScope()
        self._is_ringing = False

    def until(self, time: float) -> trio.CancelScope:
        """Return the cancel scope for the sleep. It ends at this time, or when the alarm rings.

        The scope is shielded, so only the alarm ends the task's sleep early.
        """
        self._sleep = trio.CancelScope(deadline=time, shield=True)
        self._is_ringing = False
        return self._sleep

    def ring(self) -> None:
        """Wake the task if it sleeps. Otherwise it checks the lifecycle before its next sleep."""
        # Thousands of callers may ring before the task wakes up, and one cancellation is enough.
        if not self._is_ringing:
            self._is_ringing = True
            self._sleep.cancel()

    def ring_for(self, time: float) -> None:
        """Wake the task if it would sleep beyond this time."""
        if time < self._sleep.deadline:
            self.ring()
