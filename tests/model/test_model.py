"""The session and its model, side by side, and whether all of the model was reached."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import REACHED, SessionMachine

if TYPE_CHECKING:
    from collections import Counter

pytestmark = pytest.mark.nightly

# About a tenth of what is reached: another Hypothesis may draw otherwise.
FLOORS = {
    # Rules.
    "get": 300,
    "exchange": 100,
    "get_and_get_again": 100,
    "get_after_failure": 10,
    "get_nowait": 90,
    "leave": 70,
    "invalidate current": 10,
    "invalidate other": 90,
    "invalidate_at_boundary": 20,
    "revoke": 100,
    "close": 10,
    "plan unavailable": 10,
    "plan rejected": 10,
    "plan malformed": 5,
    "plan lifeless": 9,
    "plan hung": 8,
    "fail_at_boundary": 10,
    "change latency": 50,
    "change lifetime": 40,
    "change revoking": 50,
    "advance": 100,
    "advance_to_event": 100,
    "advance_to_boundary": 20,
    "suspend": 60,
    "set wall back": 7,
    # States after a step, and the ways between them.
    "state EMPTY": 1000,
    "state EXPIRED": 200,
    "state FRESH": 300,
    "state STALE": 70,
    "EMPTY -> FRESH": 60,
    "EXPIRED -> EMPTY": 9,
    "EXPIRED -> FRESH": 90,
    "FRESH -> EMPTY": 10,
    "FRESH -> EXPIRED": 70,
    "FRESH -> STALE": 90,
    "STALE -> EMPTY": 10,
    "STALE -> EXPIRED": 20,
    "STALE -> FRESH": 30,
    # What happens to getters, and which failures were met in which state.
    "expired on arrival": 7,
    "held until the round failed": 70,
    "held, EMPTY": 300,
    "held, EXPIRED": 80,
    "joined a round between two attempts": 10,
    "late answer discarded": 10,
    "late answer revoked": 10,
    "late report": 100,
    "malformed, EMPTY": 10,
    "malformed, EXPIRED": 10,
    "malformed, STALE": 4,
    "parked, EXPIRED": 30,
    "parked, STALE": 2,
    "rejected, EMPTY": 4,
    "rejected, EXPIRED": 7,
    "rejected, STALE": 1,
    "revocation failed": 6,
    "revocation retried": 1,
    "told in the pause after a failed round": 90,
    "unavailable, EMPTY": 20,
    "unavailable, EXPIRED": 9,
    "unavailable, STALE": 4,
    "waiting at the end": 100,
    "woken, EXPIRED": 10,
    "woken, STALE": 2,
}


@functools.cache
def run_machine(*, shrink: bool = False) -> Counter[str]:
    """Run the machine, once in each process, and return how often what was reached."""
    run_state_machine_as_test(
        SessionMachine,
        settings=settings(
            max_examples=max(400, settings().max_examples),
            stateful_step_count=50,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking can take minutes; `python -m tests.model` does it.
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        ),
    )
    return REACHED


def test_the_session_does_as_its_model(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever users, server and clocks do, the session does what the model says, to the tick."""
    # Thousands of lines, about failures that are meant.
    caplog.set_level(logging.CRITICAL)
    run_machine()


def test_the_machine_gets_about() -> None:
    """Every rule, state and turn of the model is reached, and not just by chance."""
    reached = run_machine()
    assert {what: reached[what] for what, floor in FLOORS.items() if reached[what] < floor} == {}
