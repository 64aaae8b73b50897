"""A machine's time, for stores that have no clock of their own."""

from __future__ import annotations

import math
import time
from typing import NamedTuple, Self

import trio

from .._clocks import is_mocked

# Goes on while the machine is suspended, and cannot be set. Where there is none, as on
# Windows and macOS, the other one does without the first or can do both.
_BOOT_CLOCK: int = (
    getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    if hasattr(time, "CLOCK_MONOTONIC")
    else -1
)


class Moment(NamedTuple):
    """Is one moment on two clocks that all processes of a machine share."""

    wall: float
    since_boot: float

    @classmethod
    def now(cls) -> Self:
        """Return this one. In virtual time, both clocks are Trio's."""
        clock = _clock_here()
        if clock is not None and is_mocked(clock):
            return cls(clock.current_time(), clock.current_time())
        boot = time.clock_gettime(_BOOT_CLOCK) if _BOOT_CLOCK >= 0 else time.monotonic()
        return cls(time.time(), boot)


def _clock_here() -> trio.abc.Clock | None:
    """Return the run's clock; None in a thread of its own, which no run in virtual time has."""
    try:
        return trio.lowlevel.current_clock()
    except RuntimeError:
        return None


class Span(NamedTuple):
    """Is a length of time that began at a moment."""

    began: Moment
    seconds: float

    def passed(self, now: Moment) -> float:
        """Return the seconds since it began, by the clock that says more.

        Infinity if both say that it has not begun yet, as after a restart of the machine
        with its clock set back: nobody knows then.
        """
        passed = max(now.wall - self.began.wall, now.since_boot - self.began.since_boot)
        return passed if passed >= 0 else math.inf

    def left(self, now: Moment) -> float:
        """Return the seconds until it ends, and 0 from then on."""
        return max(0.0, self.seconds - self.passed(now))
