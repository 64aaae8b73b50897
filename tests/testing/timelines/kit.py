"""Helpers for the tests that run a timeline."""

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
    """Return the happenings of a kind in the log."""
    return [entry.what for entry in outcome.log if isinstance(entry.what, kind)]


def global_state() -> tuple[object, ...]:
    """Return the global state, which a run may change but must restore."""
    core: Any = trio._core._run
    return random.getstate(), time.time, core._r, core._ALLOW_DETERMINISTIC_SCHEDULING
