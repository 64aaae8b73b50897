"""Trio's clocks: real time and virtual time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio


def is_mocked(clock: trio.abc.Clock) -> bool:
    """Return whether a clock's time is virtual, so that no other clock advances with it."""
    # A program that never imported trio.testing has no MockClock, and importing that module here
    # would double the time that the program takes to start.
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(clock, testing.MockClock)
