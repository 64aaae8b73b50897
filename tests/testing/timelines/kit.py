"""What the tests of running a timeline have in common."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import trio

from trio_anon_session.testing.strategies import Timeline

if TYPE_CHECKING:
    from trio_anon_session.testing.strategies import Outcome

IDLE = Timeline(leaves_at=10.0)


def seen(outcome: Outcome, kind: type[Any]) -> list[Any]:
    """Return what was seen of a kind."""
    return [entry.what for entry in outcome.log if isinstance(entry.what, kind)]


def global_state() -> tuple[object, ...]:
    """Return what a run may change while it lasts, but must leave as it was."""
    core: Any = trio._core._run
    return random.getstate(), time.time, core._r, core._ALLOW_DETERMINISTIC_SCHEDULING
