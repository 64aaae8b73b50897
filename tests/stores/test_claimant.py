"""Tests of the claimant without a store: decisions at moments that are hard to reach with one."""

from __future__ import annotations

import math

import pytest

from tests.helpers import make_config
from trio_anon_session import TokenInfo, TokenUnavailableError
from trio_anon_session._backoff import RetrySchedule
from trio_anon_session._lifecycle import Moment
from trio_anon_session.stores import Look, StoredFailure, StoredToken
from trio_anon_session.stores._claimant import (
    LEASE,
    AskDirectly,
    Claim,
    Claimant,
    Question,
    Use,
    Wait,
)
from trio_anon_session.stores._records import failure_record, mark_of, token_record

CONFIG = make_config(request_timeout=10.0)
PATIENCE = 10.0 + LEASE


def make_claimant() -> Claimant:
    return Claimant(CONFIG, RetrySchedule(CONFIG), lambda low, _: low)


def at(now: float) -> Moment:
    return Moment(now, None)


def make_token(name: str, now: float) -> TokenInfo:
    return TokenInfo.from_answer(name, 3600.0, now, CONFIG)


def ask_and_wait(claimant: Claimant) -> Question:
    """Begin a question that waits for the lease of another process."""
    question = claimant.ask(at(0.0))
    decision = claimant.decide(question, Look(7, leased_for=LEASE), 0.0, at(0.0))
    assert isinstance(decision, Wait)
    return question


def test_a_claim_that_comes_too_late_is_no_reason_to_ask_directly() -> None:
    """If another process gets the lease first, the process waits for it, also after its patience.

    Otherwise, all waiting processes would send token requests.
    """
    claimant = make_claimant()
    question = ask_and_wait(claimant)
    # The lease ends at the last moment at which this question still waits.
    assert claimant.decide(question, Look(7), PATIENCE, at(PATIENCE)) == Claim(7)
    assert claimant.claim_failed(question, at(PATIENCE)) == Wait(0.0)
    decision = claimant.decide(question, Look(8, leased_for=LEASE), PATIENCE, at(PATIENCE))
    assert decision == Wait(LEASE)


def test_a_lease_that_no_process_gets_is_a_reason_to_ask_directly() -> None:
    """A process asks the endpoint directly if a second claim fails with the same version."""
    claimant = make_claimant()
    question = ask_and_wait(claimant)
    for now in (1.0, 2.0):
        assert claimant.decide(question, Look(7), now, at(now)) == Claim(7)
        assert claimant.claim_failed(question, at(now)) == Wait(0.0)
    question = ask_and_wait(claimant)
    for expected in (Wait, AskDirectly):
        assert claimant.decide(question, Look(7), PATIENCE, at(PATIENCE)) == Claim(7)
        assert isinstance(claimant.claim_failed(question, at(PATIENCE)), expected)


def test_the_longest_wait_ends_although_each_claim_comes_too_late() -> None:
    """A question waits for three attempts at most, even if the version has changed."""
    claimant = make_claimant()
    question = ask_and_wait(claimant)
    end = 3 * PATIENCE
    assert claimant.decide(question, Look(8), end, at(end)) == Claim(8)
    assert isinstance(claimant.claim_failed(question, at(end)), AskDirectly)


def test_a_store_is_waited_for_while_the_last_token_is_stale() -> None:
    """A process can wait for the store only while its last token is STALE and not dropped."""
    claimant = make_claimant()
    assert not claimant.can_wait_for_store(0.0, 0.0, at(0.0))
    token = make_token("a", 0.0)
    claimant.hand_out(token, at(0.0))
    moments = (token.stale_at - 1.0, token.stale_at, token.expires_at)
    waits = [claimant.can_wait_for_store(now, 0.0, at(now)) for now in moments]
    assert waits == [False, True, False]
    claimant.known.drop_here(mark_of("a"), at(token.stale_at))
    assert not claimant.can_wait_for_store(token.stale_at, 0.0, at(token.stale_at))


@pytest.mark.parametrize(("took", "expected"), [(3.4, True), (3.6, False)])
def test_half_of_the_remaining_time_is_left_for_the_token_request(
    took: float, expected: bool
) -> None:
    """A process waits for the store only if the next try leaves enough time for the request."""
    claimant = make_claimant()
    token = make_token("a", 0.0)
    claimant.hand_out(token, at(0.0))
    now = token.expires_at - 8.0
    assert claimant.can_wait_for_store(now, took, at(now)) is expected


def look_at_token(age: float) -> Look:
    """Return a look that contains a token of this age."""
    record = token_record(make_token("a", 0.0), CONFIG, "x")
    return Look(7, token=StoredToken(record, mark_of("a"), 3600.0, age))


@pytest.mark.parametrize(
    ("age", "again", "expected"),
    [
        (100.0, False, Use),
        (100.0, True, Use),
        (3100.0, False, Use),
        (3100.0, True, Claim),
        (3580.0, False, Claim),
    ],
    ids=["FRESH", "FRESH again", "STALE", "STALE again", "EXPIRED"],
)
def test_which_token_of_the_store_is_used(
    age: float, again: bool, expected: type[Use | Claim]
) -> None:
    """A process uses a usable token of the store, unless it is STALE and already known."""
    claimant = make_claimant()
    for _ in range(1 + again):
        question = claimant.ask(at(5000.0))
        decision = claimant.decide(question, look_at_token(age), 5000.0, at(5000.0))
    assert type(decision) is expected


def test_a_token_from_the_future_is_no_younger_than_new() -> None:
    """A token with a negative age, which rounding can cause, counts as new."""
    claimant = make_claimant()
    decision = claimant.decide(claimant.ask(at(5.0)), look_at_token(-0.5), 5.0, at(5.0))
    assert isinstance(decision, Use)
    assert decision.token.sent_at == 5.0


@pytest.mark.parametrize(
    ("fence", "pause", "retry_after"),
    # A pause has this limit, whatever the store says.
    [(7, 0.0, None), (8, 1e9, CONFIG.max_retry_interval)],
    ids=["awaited", "later"],
)
def test_a_failure_of_the_awaited_attempt_or_a_later_one_ends_the_question(
    fence: int, pause: float, retry_after: float | None
) -> None:
    """A question raises the error of the attempt that held the lease, or of a later attempt."""
    claimant = make_claimant()
    question = ask_and_wait(claimant)
    error = TokenUnavailableError("no route to the endpoint")
    failure = StoredFailure(failure_record(error, 2, CONFIG), fence, pause)
    with pytest.raises(TokenUnavailableError, match="no route") as caught:
        claimant.decide(question, Look(fence, failure=failure), 1.0, at(1.0))
    assert caught.value.retry_after == retry_after


def test_a_failure_that_cannot_be_read_delays_no_token_request() -> None:
    """A process ignores the pause of a failure with an invalid record, and claims."""
    for record in ("", "garbage", "{}", '{"count": true}', '{"count": -1}', '{"count": "3"}'):
        claimant = make_claimant()
        failure = StoredFailure(record, 9, 50.0)
        decision = claimant.decide(claimant.ask(at(0.0)), Look(7, failure=failure), 0.0, at(0.0))
        assert decision == Claim(7)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_pause_of_a_fleet_is_shorter_than_that_of_a_session(failures: int) -> None:
    """Without ``Retry-After``, the fleet's pause ends before the session tries again."""
    claimant = make_claimant()
    busy = TokenUnavailableError("busy", status_code=503)
    left = [claimant.failure_to_leave(failures, busy, at(0.0)) for _ in range(100)]
    interval = CONFIG.retry_interval * 2.0**failures
    assert all(interval / 6 <= pause <= interval / 2 for _, pause in left)


def test_how_long_a_drop_counts() -> None:
    """A drop is kept until the token expires, or for the default lifetime if that is unknown."""
    known = make_claimant().known
    token = make_token("a", 0.0)
    known.hand_out(token, at(0.0))
    assert known.drop_here(mark_of("a"), at(100.0)) == [token]
    assert known.drop_here(mark_of("a stranger's"), at(100.0)) == []
    assert known.untold == [mark_of("a"), mark_of("a stranger's")]
    assert known.left_of(mark_of("a"), at(100.0)) == 3500.0
    assert known.left_of(mark_of("a stranger's"), at(100.0)) == CONFIG.default_lifetime
    # A second drop of the same token is not reported again.
    known.record_report(mark_of("a"), at(100.0))
    assert known.drop_here(mark_of("a"), at(101.0)) == []
    assert known.untold == [mark_of("a stranger's")]


def drop_and_report(claimant: Claimant, *names: str) -> None:
    """Drop tokens at second 0, and record that they were reported to the store."""
    for name in names:
        claimant.hand_out(make_token(name, -100.0), at(-100.0))
        claimant.known.drop_here(mark_of(name), at(0.0))
        claimant.known.record_report(mark_of(name), at(0.0))
    assert not claimant.known.untold


def test_a_look_from_before_a_drop_does_not_hide_that_the_store_has_lost_it() -> None:
    """The answer of a look that was sent before a drop does not count as its confirmation."""
    claimant = make_claimant()
    known = claimant.known
    claimant.hand_out(make_token("a", -100.0), at(-100.0))
    early = known.to_ask_about(at(-1.0))
    drop_and_report(claimant, "a")
    asked = known.to_ask_about(at(3.0))
    claimant.see(Look(7), 3.0, asked, at(3.0))
    assert known.missing == {mark_of("a")}
    claimant.see(Look(7), -1.0, early, at(3.1))
    assert known.missing == {mark_of("a")}
    # The process looks again immediately.
    assert known.look_at <= 3.1
    claimant.see(Look(7), 3.2, asked, at(3.2))
    assert known.untold == [mark_of("a")]
    assert known.missing == frozenset()
    # Before the drop is reported again, later looks change nothing.
    claimant.see(Look(7), 3.4, asked, at(3.4))
    assert known.untold == [mark_of("a")]


def test_a_drop_that_the_store_has_shown_is_missed_later() -> None:
    """If a store no longer shows a drop that it has shown, the drop counts as missing."""
    claimant = make_claimant()
    known = claimant.known
    drop_and_report(claimant, "a")
    # A look so soon after the report confirms nothing.
    claimant.see(Look(7), 1.0, known.to_ask_about(at(1.0)), at(1.0))
    assert known.look_at == 2.0
    claimant.see(Look(7, dead=frozenset({mark_of("a")})), 3.0, known.to_ask_about(at(3.0)), at(3.0))
    assert known.missing == frozenset()
    assert known.look_at == math.inf
    claimant.see(Look(7), 100.0, known.to_ask_about(at(100.0)), at(100.0))
    assert known.missing == {mark_of("a")}


def test_a_drop_ends_when_the_token_is_granted_again_to_another_process() -> None:
    """A drop no longer counts if the store has the same token from a later request."""
    claimant = make_claimant()
    known = claimant.known
    drop_and_report(claimant, "a")
    asked = known.to_ask_about(at(4.0))
    claimant.see(Look(7), 4.0, asked, at(4.0))
    assert known.missing == {mark_of("a")}
    claimant.see(look_at_token(1.0), 5.0, asked, at(5.0))
    assert known.left_of(mark_of("a"), at(5.0)) == 0.0
    assert known.untold == []
    assert known.missing == frozenset()


def test_only_ten_drops_wait_for_a_confirmation() -> None:
    """A look asks about ten drops at most, and the other drops cause no further look."""
    claimant = make_claimant()
    known = claimant.known
    names = [f"token-{number}" for number in range(15)]
    drop_and_report(claimant, *names)
    assert known.look_at == 2.0
    asked = known.to_ask_about(at(2.0))
    assert len(asked) == 10
    claimant.see(Look(7, dead=frozenset(asked)), 2.0, asked, at(2.1))
    assert known.look_at > 1000.0


def test_a_drop_that_ends_soon_needs_no_confirmation() -> None:
    """No look asks about a drop that the store may forget before it can confirm it."""
    claimant = make_claimant()
    known = claimant.known
    claimant.hand_out(TokenInfo.from_answer("a", 6.0, 0.0, CONFIG), at(0.0))
    known.drop_here(mark_of("a"), at(0.0))
    known.record_report(mark_of("a"), at(0.0))
    asked = known.to_ask_about(at(2.0))
    assert asked == {}
    claimant.see(Look(7), 2.0, asked, at(2.1))
    assert known.look_at > 1000.0


def test_a_drop_needs_no_report_and_no_confirmation_after_its_token_has_expired() -> None:
    """Drops are forgotten when their tokens have expired."""
    claimant = make_claimant()
    known = claimant.known
    drop_and_report(claimant, "a")
    known.drop_here(mark_of("b"), at(0.0))
    known.forget_the_old(at(3499.0))
    assert known.look_at == 2.0
    assert known.untold == [mark_of("b")]
    known.forget_the_old(at(3600.0))
    assert known.look_at == math.inf
    assert known.untold == []


def test_a_token_that_arrives_after_its_drop_can_be_dropped_again() -> None:
    """A token that a request from before its drop brings again can be dropped again."""
    known = make_claimant().known
    known.hand_out(make_token("a", 0.0), at(0.0))
    known.drop_here(mark_of("a"), at(101.0))
    known.record_report(mark_of("a"), at(101.0))
    token = make_token("a", 100.0)
    known.hand_out(token, at(102.0))
    assert known.drop_here(mark_of("a"), at(103.0)) == [token]
    assert known.untold == [mark_of("a")]


def test_a_look_asks_about_the_ten_tokens_that_were_used_last() -> None:
    """A look asks about the ten last used tokens; using a token again moves it to the end."""
    known = make_claimant().known
    for name in [*"abcdefghij", "a", "k"]:
        known.hand_out(make_token(name, 0.0), at(0.0))
    assert known.to_ask_about(at(0.0)).keys() == {mark_of(name) for name in "acdefghijk"}


# Suspends

WALL = 1_700_000_000.0


@pytest.mark.parametrize(
    ("now", "suspended", "left"),
    [
        (2999.0, 0.0, 0.0),
        (3000.0, 0.0, 570.0),
        (3569.0, 0.0, 1.0),
        (3570.0, 0.0, 0.0),
        (2000.0, 1000.0, 570.0),
        (3000.0, 100.0, 470.0),
        (3000.0, 1000.0, 0.0),
        (3000.0, -100.0, 570.0),
    ],
)
def test_how_long_the_last_token_is_stale(now: float, suspended: float, left: float) -> None:
    """The time of a suspend counts as age, and a wall clock that is set back changes nothing."""
    known = make_claimant().known
    assert known.stale_for(Moment(now, WALL + now)) == 0.0
    known.hand_out(make_token("a", 0.0), Moment(0.0, WALL))
    assert known.stale_for(Moment(now, WALL + now + suspended)) == left


@pytest.mark.parametrize(
    ("stored_at", "suspended", "older_by"),
    [(0.0, 0.0, 0.0), (-100.0, 0.0, 0.0), (0.0, 100.0, 0.0), (-100.0, 60.0, 60.0)],
)
def test_a_token_is_older_after_a_suspend(
    stored_at: float, suspended: float, older_by: float
) -> None:
    """A known token stays the same object, unless both a suspend and the store make it older."""
    known = make_claimant().known
    token = make_token("a", 0.0)
    known.hand_out(token, Moment(0.0, WALL))
    found = known.get(mark_of("a"), stored_at, Moment(10.0, WALL + 10.0 + suspended))
    assert found is not None
    assert found.sent_at == -older_by
    assert (found is token) is (older_by == 0.0)
