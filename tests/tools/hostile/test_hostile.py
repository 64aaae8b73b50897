"""Hostile peers: a session shows no secret, and does not use much time or memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import Phase, given, settings

from tools.hostile.lives import Life, live, lives
from tools.hostile.measuring import MOST, longest_step

pytestmark = pytest.mark.nightly

ATTEMPTS = 12
"""The maximum number of requests of a life; each may read a body to its limits."""


# Leave out the phase that explains a failure: it traces each line, which takes longer than running
# the lines.
generated = settings(phases=[Phase.explicit, Phase.reuse, Phase.generate], max_examples=30)


@generated
@given(life=lives)
def test_promise_21_no_peer_makes_a_session_show_a_secret(life: Life) -> None:
    """No secret or token is shown, only this library's errors are raised, and reads are limited."""
    cost = live(life)
    assert cost.unexpected == []
    assert cost.leaks() == {}
    assert cost.read <= ATTEMPTS * (2**21 + 2**17)


@generated
@given(life=lives)
def test_no_peer_delays_other_tasks(life: Life) -> None:
    """No step of a task takes longer than a fixed limit."""
    assert longest_step(lambda steps: live(life, steps)) <= MOST


@settings(generated, max_examples=5)
@given(life=lives)
def test_no_peer_takes_much_memory(life: Life) -> None:
    """The peak memory stays below 24 MiB."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        live(life)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 24 * 2**20
