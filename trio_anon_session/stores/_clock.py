"""The clocks of one machine, for stores that have no clock."""

from __future__ import annotations

import math
import time
from typing import NamedTuple, Self

import trio

from .._clocks import is_mocked

# CLOCK_BOOTTIME also runs while the machine is suspended, and cannot be set. Windows and macOS do
# not have it. Their monotonic clock either stops during a suspend, or runs like CLOCK_BOOTTIME.
_BOOT_CLOCK: int = (
    getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    if hasattr(time, "CLOCK_MONOTONIC")
    else -1
)


class Moment(NamedTuple):
    """One moment on two clocks that all processes of a machine share."""

    wall: float
    since_boot: float

    @classmethod
    def now(cls) -> Self:
        """Return the current moment. Under `MockClock`, both clocks are Trio's."""
        clock = _clock_here()
        if clock is not None and is_mocked(clock):
            return cls(clock.current_time(), clock.current_time())
        boot = time.clock_gettime(_BOOT_CLOCK) if _BOOT_CLOCK >= 0 else time.monotonic()
        return cls(time.time(), boot)


def _clock_here() -> trio.abc.Clock | None:
    """Return the clock of the Trio run; None in a worker thread, which has no `MockClock`."""
    try:
        return trio.lowlevel.current_clock()
    except RuntimeError:
        return None


class Span(NamedTuple):
    """A duration that began at a moment."""

    began: Moment
    seconds: float

    def passed(self, now: Moment) -> float:
        """Return the seconds since it began, by the clock that shows more time.

        Return infinity if it began in the future on both clocks. This happens if the machine
        was restarted and its wall clock was set back, and the duration is then unknown.
        """
        passed = max(now.wall - self.began.wall, now.since_boot - self.began.since_boot)
        return passed if passed >= 0 else math.inf

    def left(self, now: Moment) -> float:
        """Return the seconds until it ends; 0 after that."""
        return max(0.0, self.seconds - self.passed(now))
