"""Clocks: whether time is virtual."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio


def is_mocked(clock: trio.abc.Clock) -> bool:
    """Return whether time is virtual, so that no other clock goes along with it."""
    # A program that has not imported trio.testing has no MockClock. To import it here would
    # double the time that such a program takes to start.
    testing = sys.modules.get("trio.testing")
    return testing is not None and isinstance(clock, testing.MockClock)
