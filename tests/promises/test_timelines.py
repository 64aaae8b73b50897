"""Promises 1 to 20, on whatever timeline is drawn."""

from __future__ import annotations

from hypothesis import example, given

from trio_anon_session.testing.strategies import (
    Answer,
    Get,
    Invalidate,
    SetWall,
    Suspend,
    Timeline,
    run_timeline,
    timelines,
)


@given(timeline=timelines())
# A report in the moment between the decision for a grant and its sending.
@example(
    Timeline(actions=[Get(at=0.0), *[Get(at=0.0)] * 4, Invalidate(at=3000.0)], leaves_at=3001.0)
)
# The end in the same moment.
@example(Timeline(actions=[Get(at=1.0)], leaves_at=1.0, leaves_by="cancel"))
# A boundary that two clocks see, each with its own rounding.
@example(
    Timeline(
        lifetime=5251.0,
        answers=[Answer()],
        actions=[Get(at=1.0, count=20), SetWall(at=3422.0, by=1.0), Suspend(at=0.4384765625)],
        leaves_at=5252.0,
        seed=488,
        refresh="on_request",
        refresh_jitter=100.0,
    )
)
def test_promises_01_to_20_hold_on_every_timeline(timeline: Timeline) -> None:
    """Whatever is drawn, the referee finds no broken promise."""
    run_timeline(timeline)
