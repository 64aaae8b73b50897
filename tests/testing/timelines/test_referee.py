"""The referee finds each kind of breach, in logs that were changed.

Each row of the table has a timeline, a change to its log, and the breach that the referee must
find: the promise, the time, a part of the text, and the getter, attempt or token.
"""

from __future__ import annotations

import ast
import functools
import inspect
import traceback
from typing import NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_anon_session import (
    MalformedTokenResponseError,
    RevocationError,
    SessionClosedError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing._timelines import referee
from trio_anon_session.testing._timelines.log import (
    Asked,
    Blocked,
    Came,
    CutOff,
    Decided,
    Failed,
    GaveUp,
    Got,
    Killed,
    Left,
    Presented,
    Reported,
    RevocationCame,
    RevocationSent,
    RevokeEnded,
    Sent,
    Stopped,
)
from trio_anon_session.testing._timelines.picture import draw_text
from trio_anon_session.testing._timelines.referee import judge
from trio_anon_session.testing._timelines.story import make_story
from trio_anon_session.testing.strategies import (
    Answer,
    Get,
    Invalidate,
    Outcome,
    Revoke,
    SetWall,
    Suspend,
    Timeline,
    run_timeline,
    timelines,
)

from .tampering import (
    Tampering,
    add,
    answer_with_token_of,
    change,
    change_error,
    change_statistics,
    change_token,
    drop,
    drop_between,
    hand_out,
    keep_reported_token,
    lose_revocation,
    move,
    put_after,
    replace,
    revoke_again,
    share_error,
)

# Real events

FIRST = Get(at=0.0)

CALM = Timeline(
    actions=[FIRST, Get(at=5.0), Get(at=6.0, ask="nowait"), Get(at=7.0, ask="use")], leaves_at=20.0
)
SLOW = Timeline(
    then=Answer(latency=2.0),
    actions=[FIRST, Get(at=1.0), Get(at=1.25, gives_up=0.25)],
    leaves_at=20.0,
)
CLOSED_WHILE_DECIDED = Timeline(
    actions=(Get(at=0.0), Get(at=3000.0)), leaves_at=3000.0, leaves_by="cancel"
)
CLOSED_WHILE_HELD = Timeline(then=Answer(latency=10.0), actions=[FIRST], leaves_at=5.0)
RAISES = Timeline(actions=[FIRST], leaves_at=5.0, leaves_by="raise")
CRASH = Timeline(then=Answer(kind="crash", latency=1.0), actions=[FIRST], leaves_at=5.0)
REVOKED_ON_EXIT = Timeline(
    actions=[FIRST], leaves_at=5.0, revoke_on_exit=True, revocations=[Answer(kind="hang")]
)

EAGER = Timeline(actions=[FIRST, Get(at=3100.0)], leaves_at=3300.0)
ON_REQUEST = Timeline(actions=[FIRST, Get(at=3100.0)], leaves_at=3700.0, refresh="on_request")
NOT_ASKED = Timeline(actions=[FIRST], leaves_at=3700.0, refresh="on_request")
PARKED = Timeline(actions=[FIRST], leaves_at=3300.0, idle_timeout=100.0)
OUTAGE = Timeline(
    answers=[Answer()],
    then=Answer(kind="unavailable", retry_after=60.0),
    actions=[FIRST],
    leaves_at=3700.0,
)
OUTAGE_ON_REQUEST = attrs.evolve(
    OUTAGE, actions=[FIRST, Get(at=3100.0)], leaves_at=3300.0, refresh="on_request"
)
TOKEN_LATE = Timeline(
    lifetime=20.0, answers=[Answer()], then=Answer(latency=16.0), actions=[FIRST], leaves_at=27.0
)
SUSPENDED = Timeline(
    actions=[FIRST, Suspend(at=10.0, seconds=3599.0)], leaves_at=30.0, refresh="on_request"
)
SUSPENDED_EAGER = Timeline(actions=[FIRST, Suspend(at=10.0, seconds=3100.0)], leaves_at=100.0)
SET_FORWARD = Timeline(
    actions=[FIRST, SetWall(at=10.0, by=3599.0)], leaves_at=30.0, refresh="on_request"
)

REPORTED = Timeline(actions=[FIRST, Invalidate(at=10.0)], leaves_at=20.0)
REPORTED_SOON = Timeline(actions=[FIRST, Invalidate(at=0.5), Get(at=0.5)], leaves_at=20.0)
REPORTED_LATE = Timeline(
    actions=[FIRST, Invalidate(at=10.0), Get(at=10.0), Invalidate(at=11.0, age=1)], leaves_at=20.0
)

LATER = Answer(kind="unavailable", retry_after=5.0)
FAILED_ONCE = Timeline(answers=[LATER], actions=[FIRST], leaves_at=20.0)
ROUND = Timeline(
    then=LATER, max_retries=1, actions=[Get(at=0.0, count=2), Get(at=6.0)], leaves_at=9.0
)
REJECTED = attrs.evolve(ROUND, then=Answer(kind="rejected"), leaves_at=0.75, actions=[FIRST])
HANGS = Timeline(then=Answer(kind="hang"), actions=[FIRST], max_wait=None, leaves_at=40.0)
WAITS = attrs.evolve(HANGS, actions=[Get(at=0.0, count=2)], max_wait=5.0)
NO_LIFETIME = Timeline(answers=[Answer(kind="bad lifetime")], actions=[FIRST], leaves_at=20.0)

REVOKED = Timeline(
    actions=[FIRST, Revoke(at=10.0)], revocations=[Answer(latency=0.5)], leaves_at=20.0
)
REVOKED_IN_FLIGHT = Timeline(
    then=Answer(latency=2.0), actions=[FIRST, Revoke(at=1.0)], leaves_at=20.0
)
LEFT_WHILE_REVOKING = Timeline(
    actions=[FIRST, Revoke(at=10.0)], revocations=[Answer(kind="hang")], leaves_at=20.0
)

REVOKED_AGAIN = Timeline(
    actions=[FIRST, Revoke(at=10.0)],
    revocations=[Answer(kind="unavailable", retry_after=5.0)],
    leaves_at=20.0,
)
REVOKED_TOO_LATE = Timeline(actions=[FIRST, Revoke(at=30.0)], leaves_at=20.0)
REVOKED_AT_THE_END = Timeline(actions=[FIRST], leaves_at=5.0, revoke_on_exit=True)
CANCELLED = Timeline(actions=[FIRST], leaves_at=5.0, leaves_by="cancel")

ENDINGS = Got | Failed | Blocked | GaveUp | RevokeEnded
UNKNOWN = "a token that was never issued"
UNAVAILABLE = TokenUnavailableError("no")

late_turn = move(Decided, 1, by=0.5) | move(Got, 1, by=0.5)
refuse_in_round = add(1.0, Asked(9, "get"), Decided(9), Failed(9, UNAVAILABLE))
refuse_after_end = add(25.0, Asked(99, "nowait"), Decided(99), Blocked(99))
fail_otherwise = change(Failed, error=UNAVAILABLE)
cancel_revocation = change(RevocationCame, answer=None, succeeded=False)
lose_second_revocation = drop(RevocationSent, 1) | drop(RevocationCame, 1) | drop(RevokeEnded)

# Expected judgements


class Row(NamedTuple):
    """A timeline, a change to its log, and the verdict that the referee must give."""

    timeline: Timeline
    tampering: Tampering
    promise: int
    at: float
    says: str
    getter: int | None = None
    attempt: int | None = None
    token: str | None = None


GETTERS = [
    Row(CALM, change(Presented, verdict="expired"), 1, 7.0, "refused the token", getter=4),
    Row(SLOW, drop(GaveUp), 9, 1.5, "did not end immediately", getter=3),
    Row(CALM, replace(Got, 1, GaveUp(2)), 9, 5.0, "but was not cancelled", getter=2),
    Row(CALM, late_turn, 2, 5.0, "did not run", getter=2),
    Row(EAGER, hand_out(3200.0), 1, 3200.0, "is not the current token", getter=99, token="A"),
    Row(CALM, move(Got, 1, by=0.5), 2, 5.0, "waited although", getter=2),
    Row(CALM, replace(Got, 2, Blocked(3)), 2, 6.0, "did not get the usable token", getter=3),
    Row(SLOW, move(Got, 0, by=0.25), 10, 2.0, "although there is a new token", getter=1),
    Row(ROUND, move(Failed, 0, by=0.25), 10, 5.0, "although its round has failed", getter=1),
    Row(ROUND, move(Failed, 2, by=0.25), 12, 6.0, "waits during the pause", getter=3),
    Row(WAITS, move(Failed, 0, by=0.25), 12, 5.0, "although others stopped waiting", getter=1),
    Row(WAITS, drop(Failed) | drop(Failed), 12, 5.0, "longer than max_wait", getter=1),
    Row(ROUND, put_after(Decided, 2, Killed()), 12, 6.0, "waits during the pause", getter=3),
    Row(ROUND, refuse_in_round, 12, 1.0, "outside the pause", getter=9),
    Row(ROUND, move(Failed, 0, by=-4.0), 12, 1.0, "before the end of a round", getter=1),
    Row(CALM, change(Got, 1, token="forged"), 1, 5.0, "that no response contained", getter=2),
    Row(NOT_ASKED, hand_out(3570.0), 1, 3570.0, "a getter got A", getter=99, token="A"),
    Row(TOKEN_LATE, hand_out(26.0, nth=1), 1, 26.0, "B 1 s after", getter=99, token="B"),
    Row(SUSPENDED, hand_out(11.0), 5, 11.0, "a getter got A 40 s after", getter=99, token="A"),
    Row(SET_FORWARD, hand_out(11.0), 5, 11.0, "a getter got A 40 s after", getter=99, token="A"),
    Row(
        REPORTED, hand_out(11.0), 17, 11.0, "requested before the invalidate", getter=99, token="A"
    ),
    Row(REVOKED, hand_out(11.0), 18, 11.0, "requested before the revoke", getter=99, token="A"),
    Row(CALM, replace(Got, 1, Failed(2, UNAVAILABLE)), 11, 5.0, "the token is usable", getter=2),
]

ERRORS = [
    Row(ROUND, change(Failed, error=ValueError("odd")), 14, 5.0, "got ValueError", getter=1),
    Row(
        ROUND,
        change_error(kind=MalformedTokenResponseError),
        14,
        5.0,
        "got MalformedTokenResponseError, not TokenUnavailableError",
        getter=1,
    ),
    Row(
        REJECTED,
        change_error(kind=TokenUnavailableError),
        13,
        0.0,
        "got TokenUnavailableError, not CredentialsRejectedError",
        getter=1,
    ),
    Row(ROUND, share_error, 12, 5.0, "the same exception object", getter=2),
    Row(ROUND, change_error(cause=OSError("no")), 12, 5.0, "has another cause", getter=1),
    Row(ROUND, change_error(attempts=1), 12, 5.0, "has attempts=1, not 2", getter=1),
    Row(ROUND, change_error(retry_after=4.0), 12, 5.0, "says to retry at 9 s", getter=1),
    Row(ROUND, change_error(2, retry_after=5.0), 12, 6.0, "says to retry at 11 s", getter=3),
    Row(ROUND, change_error(retry_after=None), 12, 5.0, "says to retry at nan s", getter=1),
]

REQUESTS = [
    Row(SLOW, add(1.0, Sent(2, "token")), 8, 1.0, "in flight", attempt=2),
    Row(
        REPORTED_SOON, move(Sent, 1, by=-0.25), 7, 0.75, "0.75 s after the previous one", attempt=2
    ),
    Row(FAILED_ONCE, move(Sent, 1, by=-1.0), 12, 4.0, "1 s too early", attempt=2),
    Row(REPORTED, add(11.0, Sent(2, "token")), 16, 11.0, "although no getter waits", attempt=2),
    Row(CALM, add(8.0, Sent(2, "token")), 3, 8.0, "the token is FRESH", attempt=2),
    Row(PARKED, add(3001.0, Sent(2, "token")), 4, 3001.0, "is parked", attempt=2),
    Row(
        NOT_ASKED, add(3001.0, Sent(2, "token")), 3, 3001.0, "although no getter called", attempt=2
    ),
    Row(
        NOT_ASKED, add(3600.0, Sent(2, "token")), 3, 3600.0, "although no getter called", attempt=2
    ),
    Row(HANGS, move(Came, by=0.25), 12, 30.25, "longer than request_timeout", attempt=1),
    Row(CLOSED_WHILE_HELD, move(CutOff, by=-1.0), 9, 4.0, "was cancelled", attempt=1),
    Row(NO_LIFETIME, answer_with_token_of(1), 7, 0.0, "without a valid lifetime", attempt=1),
    Row(CALM, change_token(expires_at=3600.0), 1, 0.0, "expires at 3600", attempt=1, token="A"),
    Row(CALM, change_token(stale_at=3001.0), 3, 0.0, "STALE from 3001", attempt=1, token="A"),
    Row(CALM, change_token(stale_at=2999.0), 3, 0.0, "STALE from 2999", attempt=1, token="A"),
    Row(
        CALM, drop_between(0.0, 20.0) | drop(Sent) | drop(Came) | drop(Got), 10, 0.0, "getters wait"
    ),
    Row(REPORTED_SOON, drop(Sent, 1) | drop(Came, 1) | drop(Got, 1), 10, 1.0, "getters wait"),
    Row(FAILED_ONCE, drop(Sent, 1) | drop(Came, 1) | drop(Got), 12, 5.0, "getters wait"),
    Row(EAGER, drop(Sent, 1) | drop(Came, 1), 3, 3000.0, "STALE, and the session is eager"),
    Row(ON_REQUEST, drop(Sent, 1) | drop(Came, 1), 3, 3100.0, "got the STALE token"),
    Row(OUTAGE_ON_REQUEST, drop_between(3100.0, 3300.0), 11, 3160.0, "got the STALE token"),
    Row(OUTAGE, drop_between(3000.0, 3700.0), 11, 3060.0, "STALE, and the session is eager"),
    Row(OUTAGE, drop_between(3610.0, 3700.0), 4, 3660.0, "EXPIRED, and the session is not parked"),
    Row(SUSPENDED_EAGER, drop_between(10.0, 100.0), 5, 70.0, "STALE, and the session is eager"),
]

REPORTS = [
    Row(REPORTED, change(Reported, before=None), 17, 10.0, "holds nothing, not A"),
    Row(REPORTED, change(Reported, before="x"), 17, 10.0, "holds a token that was never issued"),
    Row(REPORTED, keep_reported_token, 17, 10.0, "was not dropped", token="A"),
    Row(
        REPORTED_LATE,
        change(Reported, 1, after=None),
        16,
        11.0,
        "a late invalidate of A",
        token="B",
    ),
    Row(REVOKED, lose_revocation, 18, 10.0, "A is not revoked", token="A"),
    Row(REVOKED_IN_FLIGHT, lose_revocation, 17, 2.0, "A is not revoked", token="A"),
    Row(REVOKED, revoke_again, 18, 11.0, "A is revoked again", token="A"),
    Row(CALM, add(11.0, RevocationSent(1, "x")), 18, 11.0, "revoked again", token=UNKNOWN),
    Row(REVOKED_AGAIN, move(RevocationSent, 1, by=-1.0), 18, 14.0, "1 s too early", token="A"),
    Row(
        REVOKED_AGAIN, lose_second_revocation, 18, 15.0, "revocation of A is not retried", token="A"
    ),
    Row(REVOKED, cancel_revocation, 18, 10.5, "of A was cancelled", token="A"),
    Row(REVOKED, move(RevokeEnded, by=0.25), 18, 10.5, "without a revocation"),
    Row(REVOKED, move(RevokeEnded, by=-0.25), 18, 10.25, "although the token may be valid"),
    Row(REVOKED, change(RevokeEnded, outcome="cancelled"), 18, 10.5, "but was not cancelled"),
    Row(
        REVOKED,
        change(RevokeEnded, outcome=SessionClosedError()),
        19,
        10.5,
        "raised SessionClosedError",
    ),
    Row(
        REVOKED,
        change(RevokeEnded, outcome=RevocationError("no")),
        18,
        10.5,
        "no round of attempts failed",
    ),
    Row(REVOKED, change(RevokeEnded, outcome=OSError("no")), 18, 10.5, "raised OSError"),
    Row(LEFT_WHILE_REVOKING, drop(RevokeEnded), 19, 20.0, "did not end"),
]

ENDS = [
    Row(CLOSED_WHILE_HELD, move(Failed, by=0.25), 19, 5.0, "still waits after", getter=1),
    Row(CRASH, drop(Failed), 19, 1.0, "still waits after", getter=1),
    Row(CLOSED_WHILE_DECIDED, drop(Got, 1), 19, 3000.0, "still waits after", getter=2),
    Row(CLOSED_WHILE_HELD, replace(Failed, 0, Got(1, "x")), 19, 5.0, "got a token", getter=1),
    Row(CLOSED_WHILE_HELD, fail_otherwise, 19, 5.0, "after the session was closed", getter=1),
    Row(
        CALM,
        replace(Got, 1, Failed(2, SessionClosedError())),
        19,
        5.0,
        "from an open session",
        getter=2,
    ),
    Row(CLOSED_WHILE_HELD, add(5.0, Sent(2, "token")), 19, 5.0, "was closed", attempt=2),
    Row(CALM, move(Left, by=0.25), 19, 20.25, "took 0.25 s"),
    Row(REVOKED_ON_EXIT, move(Left, by=0.25), 19, 10.25, "took 5.25 s"),
    Row(CALM, change(Left, error=OSError("no")), 20, 20.0, "raised OSError('no')"),
    Row(RAISES, change(Left, error=None), 20, 5.0, "raised None"),
    Row(CRASH, change(Left, error=None), 14, 1.0, "raised None"),
    Row(
        SLOW, add(1.75, Stopped("a task waits indefinitely")), 10, 1.75, "a getter waits", getter=1
    ),
    Row(CALM, add(8.0, Stopped("a task waits indefinitely")), 10, 8.0, "a task waits"),
    Row(CALM, refuse_after_end, 19, 25.0, "got no SessionClosedError", getter=99),
    Row(REVOKED_TOO_LATE, change(RevokeEnded, outcome="well"), 19, 30.0, "ended with 'well'"),
    Row(CALM, add(20.0, RevocationSent(1, "x")), 19, 20.0, "without a reason", token=UNKNOWN),
    Row(REVOKED_AT_THE_END, lose_revocation, 19, 5.0, "A was not revoked at the end", token="A"),
    Row(CLOSED_WHILE_HELD, drop(CutOff), 19, 5.0, "continues after", attempt=1),
    Row(CANCELLED, change(Left, was_swallowed=True), 20, 5.0, "did not raise"),
    Row(CALM, drop(Left), 19, 20.0, "did not end"),
    Row(CALM, add(8.0, Stopped("tasks run in an endless loop")), 7, 8.0, "endless loop"),
]

STATISTICS = [
    Row(CALM, change_statistics(**{name: wrong}), promise, 20.0, f"statistics().{name} is {wrong}")
    for promise, name, wrong in (
        (11, "grants", 2),
        (11, "failures", 1),
        (11, "consecutive_failures", 1),
        (10, "getters_held", 1),
        (10, "getters_held_total", 9),
        (16, "invalidations", 1),
        (7, "same_token_answers", 1),
        (1, "state", TokenState.STALE),
    )
]

ROWS = GETTERS + ERRORS + REQUESTS + REPORTS + ENDS + STATISTICS


@functools.cache
def outcome_of(timeline: Timeline) -> Outcome:
    """Run each timeline once."""
    return run_timeline(timeline)


@pytest.mark.parametrize(
    "row", ROWS, ids=[f"row {nth}, {row.says}" for nth, row in enumerate(ROWS, 1)]
)
def test_the_referee_names_the_broken_promise(row: Row) -> None:
    """In the changed log, the referee finds the breach of the row."""
    log = outcome_of(row.timeline).log
    assert judge(row.timeline, log) is None

    breach = judge(row.timeline, row.tampering(log))

    assert breach is not None
    assert row.says in breach.text
    assert breach.promise == row.promise
    assert breach.at == pytest.approx(row.at)
    assert (breach.getter, breach.attempt, breach.token) == (row.getter, row.attempt, row.token)


def test_every_breach_can_be_drawn() -> None:
    """The picture of each breach of the table names the broken promise."""
    for row in ROWS:
        outcome = outcome_of(row.timeline)
        log = row.tampering(outcome.log)
        story = make_story(
            row.timeline, log, outcome.server, judge(row.timeline, log), program=False
        )

        assert f"promise {row.promise} broken" in draw_text(story)


def test_every_breach_has_a_row() -> None:
    """The table reaches each line at which the referee can report a broken promise."""
    places = {
        range(call.lineno, (call.end_lineno or 0) + 1)
        for call in ast.walk(ast.parse(inspect.getsource(referee)))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "broken"
    }
    assert len(places) > 50

    reached = {line_that_names_the_breach(row) for row in ROWS}

    assert [place for place in places if not reached & {*place}] == []


def line_that_names_the_breach(row: Row) -> int:
    with pytest.raises(referee._BrokenError) as broken:
        referee._Referee(row.timeline, row.tampering(outcome_of(row.timeline).log)).run()
    # The last frame is `broken`, which raises all errors.
    frames = traceback.extract_tb(broken.tb)
    assert frames[-1].name == "broken"
    return frames[-2].lineno or 0


@given(timeline=timelines(), data=st.data())
def test_a_call_that_never_ends_is_a_breach(timeline: Timeline, data: st.DataObject) -> None:
    """On each drawn timeline, a getter or a revocation that never ends is a breach."""
    log = run_timeline(timeline).log
    ends = [index for index, entry in enumerate(log) if isinstance(entry.what, ENDINGS)]
    left_out = data.draw(st.sampled_from(ends))

    assert judge(timeline, log[:left_out] + log[left_out + 1 :]) is not None
