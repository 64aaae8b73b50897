"""Trio's clocks: real time and virtual time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio


def is_mocked(clock: trio.abc.Clock) -> bool:
    """Return whether a clock is a MockClock, whose virtual time no other clock follows."""
    # A program that has not imported trio.testing has no MockClock. Importing it here would double
    # the start time of the program.
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(clock, testing.MockClock)
