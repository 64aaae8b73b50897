"""Whatever peers say, a session works on, shows nothing, and costs little."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings

from .lives import Life, live, lives
from .measuring import MOST, longest_step

ATTEMPTS = 12
"""Requests of a life at the most, each of which may read a body to its limits."""


@given(life=lives)
def test_promise_21_no_peer_makes_a_session_show_anything(life: Life) -> None:
    """Neither secret nor token is shown, and only errors of this library are raised."""
    cost = live(life)
    assert cost.unexpected == []
    assert cost.leaks() == {}
    assert cost.read <= ATTEMPTS * (2**21 + 2**17)


@given(life=lives)
def test_no_peer_keeps_other_tasks_waiting(life: Life) -> None:
    """No step of any task takes longer than a fixed piece of work."""
    assert longest_step(lambda steps: live(life, steps)) <= MOST


@given(life=lives)
@settings(max_examples=20)
def test_no_peer_takes_much_memory(life: Life) -> None:
    """At no moment is more kept than the limits of a body allow."""
    tracemalloc.start()
    try:
        live(life)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        live(life)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 24 * 2**20
