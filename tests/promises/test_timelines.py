"""Promises 1 to 20 on random timelines."""

from __future__ import annotations

from hypothesis import example, given

from trio_anon_session.testing.strategies import (
    TICK,
    Answer,
    Get,
    Invalidate,
    Revoke,
    SetWall,
    Suspend,
    Timeline,
    run_timeline,
    timelines,
)


@given(timeline=timelines())
# A report between the decision to send a request and the request itself.
@example(
    Timeline(
        actions=[*[Get(at=0.0)] * 5, Invalidate(at=3000.0)],
        leaves_at=3001.0,
        seed=2,
    )
)
# The same, with a getter that needs another request.
@example(
    Timeline(
        actions=[Get(at=0.0), Invalidate(at=3000.0), Get(at=3000.0)],
        leaves_at=3090.0,
        seed=2,
    )
)
# The session ends at the same moment.
@example(Timeline(actions=[Get(at=1.0)], leaves_at=1.0, leaves_by="cancel", seed=1))
# A suspend while waiting getters wake up: some have their token, and the others must wait again.
@example(
    Timeline(
        actions=[Get(at=0.0, count=20), Suspend(at=0.0, passes=9, seconds=4000.0)],
        leaves_at=70.0,
    )
)
# A round fails, and no pause follows.
@example(
    Timeline(
        answers=[Answer(kind="unavailable", latency=1.5, retry_after=0.0)],
        max_retries=0,
        refresh="on_request",
        actions=[Get(at=0.0)],
        leaves_at=100.0,
    )
)
# An attempt ends when the session is already parked, and a getter comes in the pause after it.
@example(
    Timeline(
        lifetime=100.0,
        answers=[Answer()],
        then=Answer(kind="hang"),
        idle_timeout=6.0,
        stale_buffer=0.0,
        expired_buffer=0.0,
        max_retries=0,
        retry_interval=16.0,
        max_retry_interval=8.0,
        request_timeout=20.0,
        actions=[Get(at=0.0), Get(at=99.0), Get(at=123.0)],
        leaves_at=140.0,
    )
)
# Ten attempts fail in the background, and a getter comes in the pause after them. A round has two
# attempts.
@example(
    Timeline(
        answers=[Answer()],
        then=Answer(kind="unavailable", retry_after=60.0),
        max_retries=1,
        actions=[Get(at=0.0), Get(at=3571.0)],
        leaves_at=3700.0,
    )
)
# A nowait getter in a cancelled scope still reads the session, and keeps it from parking.
@example(
    Timeline(
        lifetime=22.0,
        answers=[Answer(), Answer(latency=30.0)],
        actions=[Get(at=0.0), Get(at=21.0, ask="nowait", gives_up=0.0)],
        leaves_at=134.0,
        expired_buffer=1.0,
        idle_timeout=22.0,
        max_retries=0,
        retry_interval=1.0,
    )
)
# The wall clock ran ahead, and is corrected while a getter waits.
@example(
    Timeline(
        answers=[Answer()],
        then=Answer(kind="unavailable"),
        refresh="on_request",
        strategy=(60.0,),
        max_retries=50,
        actions=[
            Get(at=0.0),
            SetWall(at=10.0, by=7200.0),
            Get(at=10.0, passes=1),
            SetWall(at=11.0, by=-7200.0),
        ],
        leaves_at=1000.0,
    )
)
# Two revocations are sent at the same moment, and reach the server in the opposite order.
@example(
    Timeline(
        lifetime=2.0,
        answers=[Answer(), Answer(latency=29.9990234375)],
        revocations=[Answer(kind="unavailable", retry_after=5.0)],
        actions=[
            Get(at=1.0),
            Invalidate(at=3.0),
            Invalidate(at=3.5),
            *[Get(at=31.9990234375)] * 2,
            Get(at=31.9990234375, count=2),
            Revoke(at=31.9990234375),
        ],
        leaves_at=94.9990234375,
        seed=1,
    )
)
# The server grants a token again before it has processed the token's revocation.
@example(
    Timeline(
        lifetime=30.0,
        answers=[Answer(), Answer(latency=4.0)],
        revocations=[Answer(kind="hang")],
        actions=[Get(at=0.0), Revoke(at=16.0)],
        leaves_at=60.0,
        reuses_tokens=True,
    )
)
# A second call joins a revocation at the moment at which the revocation fails.
@example(
    Timeline(
        revocations=[Answer(kind="rejected", latency=0.5)],
        actions=[Get(at=0.0), Revoke(at=1.5), Revoke(at=1.0)],
        leaves_at=2.0,
    )
)
# A revocation begins at the moment of a crash, before the session has noticed the crash.
@example(
    Timeline(
        answers=[Answer(kind="crash", latency=1.0)],
        actions=[Get(at=0.0, count=4), Revoke(at=1.0)],
        leaves_at=20.0,
        seed=1,
    )
)
# Changes of the wall clock make a token EXPIRED and then STALE again at one moment.
@example(
    Timeline(
        lifetime=2.0,
        actions=[
            Get(at=0.0),
            Suspend(at=5.0),
            Get(at=5.0),
            Invalidate(at=5.0),
            Get(at=5.0),
            Get(at=4.0),
            Invalidate(at=0.0),
            Get(at=5.0),
            SetWall(at=5.0, by=-60.0),
            Get(at=5.0, ask="nowait", count=20),
        ],
        leaves_at=65.0,
        seed=1,
        refresh="on_request",
    )
)
# A suspend is hidden, because the wall clock is set back.
@example(
    Timeline(
        actions=[
            Get(at=0.0),
            Get(at=1.0),
            Suspend(at=1.0, seconds=3600.0),
            SetWall(at=1.0, by=-60.0),
        ],
        leaves_at=1.0 + TICK,
    )
)
def test_promises_01_to_20_hold_on_every_timeline(timeline: Timeline) -> None:
    """On random timelines, the referee finds no broken promise."""
    run_timeline(timeline)
