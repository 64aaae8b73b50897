"""Promises 11 to 15: what happens when the endpoint fails."""

from __future__ import annotations

import itertools
import logging
import math
import random
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, run_virtually, start_getters
from tests.lazy import an_async_function
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    RefreshFailed,
    SessionClosedError,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = {
    "503": Fault.server_error(503),
    "429": Fault.rate_limited("3"),
    "rejected": Fault.refusal("invalid_client", "The client credentials are invalid"),
    "scope": Fault.refusal("invalid_scope", "An unsupported scope was requested."),
    "hang": Fault.hang(),
    "html": Fault(body=b"<html>"),
    "cut": Fault(cut="before_headers"),
    "redirect": Fault.redirect("https://elsewhere.example/"),
}


# 11


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("refresh", ["eager", "on_request"])
async def test_promise_11_no_getter_sees_an_error_while_the_token_is_usable(
    autojump_clock: MockClock,
    fault: Fault,
    refresh: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Background failures of any kind are logged, counted and retried, and nobody is told."""
    server = TokenServer(FaultPlan(token=[None], token_then=fault), lifetime=3600.0)
    async with open_test_session(server, refresh=refresh) as session:
        token = await session.exchange_token("x")
        while trio.current_time() < token.expires_at - 10.0:
            assert await session.get_access_token() == token.access_token
            await trio.sleep(10.0)
        # An attempt that ends just now has ended for both then.
        await wait_all_tasks_blocked()
        seen = session.statistics()
        ended = len(server.token_requests()) - server.in_flight
        assert seen.failures == seen.consecutive_failures == ended - 1
        # Never given up for good: about one attempt a minute until the end.
        assert seen.failures >= 5
        assert seen.last_error
        assert any(record.levelno >= logging.WARNING for record in caplog.records)
        server.faults = FaultPlan()
        # An attempt that hangs at the time, and the longest pause after it.
        await trio.sleep_until(token.expires_at + 30.0 + 60.0)
        assert await session.get_access_token() != token.access_token
        assert session.statistics().consecutive_failures == 0


async def test_promise_11_background_retries_back_off(autojump_clock: MockClock) -> None:
    """The pauses of background retries double up to the cap, counted since the success."""
    config = make_config()
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        manager.outcomes = [CredentialsRejectedError("no") for _ in range(12)]
        await trio.sleep(3000.0 + 520.0)
        pauses = [later - earlier for earlier, later in itertools.pairwise(manager.sent[1:])]
        for n, pause in enumerate(pauses, 1):
            assert min(2**n / 2, 60.0) <= pause + 1e-6
            assert pause <= min(2**n * 1.5, 60.0) + 1e-6
        assert len(pauses) >= 8


# 12


@given(
    max_retries=st.integers(0, 6),
    interval=st.floats(1.0, 10.0),
    cap=st.floats(1.0, 100.0),
    count=st.integers(1, 5),
)
def test_promise_12_held_getters_wait_through_a_round(
    max_retries: int, interval: float, cap: float, count: int
) -> None:
    """A round has 1 + max_retries attempts, with doubling, jittered, capped pauses."""

    async def main() -> None:
        plan = FaultPlan(token_then=Fault.server_error(503))
        server = TokenServer(plan)
        async with open_test_session(
            server, max_retries=max_retries, retry_interval=interval, max_retry_interval=cap
        ) as session:
            async with trio.open_nursery() as nursery:
                getters = start_getters(nursery, session, count)
            times = [request.at for request in server.token_requests()]
            assert len(times) == 1 + max_retries
            for n, (earlier, later) in enumerate(itertools.pairwise(times), 1):
                base = interval * 2 ** (n - 1)
                shortest = max(1.0, min(base / 2, cap))
                longest = max(1.0, min(base * 1.5, cap))
                assert shortest - 1e-6 <= later - earlier <= longest + 1e-6
            errors = [getter.error for getter in getters]
            assert len({id(error) for error in errors}) == count
            assert len({id(error.__cause__) for error in errors if error}) == 1
            for error in errors:
                assert isinstance(error, TokenUnavailableError)
                assert error.__cause__ is not None
                assert error.attempts == 1 + max_retries
                assert error.status_code == 503

    run_virtually(main)


async def test_promise_12_a_getter_between_two_attempts_joins_the_round(
    autojump_clock: MockClock,
) -> None:
    """A late getter waits for the attempts that are left, and is told with the others."""
    config = make_config(max_retries=3, retry_strategy=lambda attempt, error: 10.0)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError("down") for _ in range(4)]
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            early = start_getters(nursery, session, 1)[0]
            await trio.sleep(25.0)
            late = start_getters(nursery, session, 1)[0]
        assert [at - start for at in manager.sent] == [0.0, 10.0, 20.0, 30.0]
        assert early.ended_at == late.ended_at == start + 30.0
        assert isinstance(late.error, TokenUnavailableError)
        assert late.error is not early.error


async def test_promise_12_a_joined_round_may_succeed(autojump_clock: MockClock) -> None:
    """Getters held through failing attempts all get the token of the one that succeeds."""
    server = TokenServer(FaultPlan(token=[Fault.server_error(500), Fault.hang(), None]))
    async with open_test_session(server, request_timeout=5.0) as session:
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 100)
        # The server made one for the request that it never answered, too.
        assert {getter.token for getter in getters} == {list(server.tokens)[-1]}
        assert len(server.token_requests()) == 3


async def test_promise_12_in_the_pause_after_a_failed_round_getters_are_told_at_once(
    autojump_clock: MockClock,
) -> None:
    """They get the same facts, with the time until the session tries again; then a new round."""
    config = make_config(max_retries=1, retry_interval=4.0, max_retry_interval=8.0)
    manager = FakeTokenManager(config)
    down = TokenUnavailableError("down", status_code=503, request_id="r-1")
    manager.outcomes = [down] * 3
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(TokenUnavailableError) as first:
            await session.get_access_token()
        pause = first.value.retry_after
        assert pause is not None
        assert 4.0 <= pause <= 8.0
        told_at = trio.current_time()
        for _ in range(1000):
            with pytest.raises(TokenUnavailableError) as later:
                await session.get_access_token()
            assert trio.current_time() == told_at
            assert later.value.retry_after == pause
            assert later.value.__cause__ is down
            assert (later.value.status_code, later.value.request_id) == (503, "r-1")
        await trio.sleep(pause - 0.5)
        with pytest.raises(TokenUnavailableError) as last:
            await session.get_access_token()
        assert last.value.retry_after == pytest.approx(0.5)
        assert len(manager.sent) == 2
        await trio.sleep(0.5)
        assert await session.get_access_token() == "token-1"
        assert len(manager.sent) == 4


async def test_promise_12_pauses_are_jittered(autojump_clock: MockClock) -> None:
    """Sessions that fail together do not come back together."""
    pauses = set()
    for _ in range(20):
        manager = FakeTokenManager(make_config())
        manager.outcomes = [TokenUnavailableError("down")]
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            pauses.add(manager.sent[1] - manager.sent[0])
    assert len(pauses) == 20
    assert 1.0 <= min(pauses) < 1.7
    assert 2.3 < max(pauses) <= 3.0


async def test_promise_12_retry_after_knows_of_the_gap_between_grants(
    autojump_clock: MockClock,
) -> None:
    """What a getter is told is when the session really tries again."""
    config = make_config(max_retries=0, min_refresh_interval=30.0)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError("down", retry_after=0.0)]
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(TokenUnavailableError) as caught:
            await session.get_access_token()
        assert caught.value.retry_after == 30.0
        with pytest.raises(TokenUnavailableError):
            await session.get_access_token()
        await trio.sleep(30.0)
        assert await session.get_access_token() == "token-1"
        assert manager.sent[1] - manager.sent[0] == 30.0


@pytest.mark.parametrize(
    ("header", "pause"),
    [("7", 7.0), ("0", 1.0), ("100000", 60.0), ("9" * 400, 60.0)],
)
async def test_promise_12_retry_after_in_seconds_is_honoured(
    autojump_clock: MockClock, header: str, pause: float
) -> None:
    """``Retry-After`` takes the place of the schedule, within the cap and the gap."""
    server = TokenServer(FaultPlan(token=[Fault.rate_limited(header)]))
    async with open_test_session(server) as session:
        await session.get_access_token()
        first, second = (request.at for request in server.token_requests())
        assert second - first == pause


async def test_promise_12_retry_after_as_a_date_is_measured_by_the_answers_own_clock(
    autojump_clock: MockClock,
) -> None:
    """A date is taken against the answer's ``Date``, however wrong that server's clock is."""
    fault = Fault(
        status=503,
        headers={
            "Date": formatdate(1_000_000.0, usegmt=True),
            "Retry-After": formatdate(1_000_023.0, usegmt=True),
        },
    )
    server = TokenServer(FaultPlan(token=[fault]))
    async with open_test_session(server) as session:
        await session.get_access_token()
        first, second = (request.at for request in server.token_requests())
        assert second - first == 23.0


@given(
    arrivals=st.lists(st.floats(0.0, 300.0), min_size=1, max_size=40),
    seed=st.integers(0, 100),
    max_retries=st.integers(0, 3),
)
def test_promise_12_one_attempt_per_pause_however_many_ask(
    arrivals: list[float], seed: int, max_retries: int
) -> None:
    """Getters at any moment of an outage never make the endpoint see more than the schedule."""

    async def main() -> None:
        random.seed(seed)
        server = TokenServer(FaultPlan(token_then=Fault.server_error(503)))
        events: list[float] = []

        def observe(event: object) -> None:
            retry_in = getattr(event, "retry_in", None)
            if retry_in is not None:
                events.append(trio.current_time() + retry_in)

        async with open_test_session(
            server, max_retries=max_retries, observers=[observe]
        ) as session:

            async def get_at(moment: float) -> None:
                await trio.sleep_until(moment)
                with pytest.raises(TokenUnavailableError):
                    await session.get_access_token()

            async with trio.open_nursery() as nursery:
                for moment in arrivals:
                    nursery.start_soon(get_at, moment)
            sent = [request.at for request in server.token_requests()]
            assert len(sent) == len(events)
            for allowed_from, at in zip(events, sent[1:], strict=False):
                assert at >= allowed_from - 1e-9

    run_virtually(main)


async def test_promise_12_a_round_that_all_have_left_is_not_joined(
    autojump_clock: MockClock,
) -> None:
    """A getter that finds nobody waiting has a whole round before it."""
    config = make_config(max_retries=2, retry_strategy=lambda attempt, error: 10.0)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError("down") for _ in range(4)]
    async with AnonymousSession(config, manager) as session:
        with trio.move_on_after(15.0):
            await session.get_access_token()
        assert len(manager.sent) == 2
        await trio.sleep(86400.0)
        assert await session.get_access_token() == "token-1"
        assert len(manager.sent) == 5


@pytest.mark.parametrize(
    "deadline",
    [pytest.param(0.5, marks=pytest.mark.slow), pytest.param(1.0, marks=pytest.mark.slow), 7.0],
)
async def test_promise_12_impatient_getters_do_not_shorten_the_pauses(
    deadline: float, autojump_clock: MockClock
) -> None:
    """Getters with short deadlines, one after the other, cause no more attempts than one."""

    async def attempts_in_an_hour(limit: float) -> int:
        config = make_config(retry_strategy=lambda attempt, error: 2.0**attempt)
        manager = FakeTokenManager(config)
        manager.outcomes = [TokenUnavailableError("down") for _ in range(1000)]
        async with AnonymousSession(config, manager) as session:
            end = trio.current_time() + 3600.0
            while trio.current_time() < end:
                with trio.move_on_after(limit):
                    try:
                        await session.get_access_token()
                    except TokenUnavailableError:
                        await trio.sleep(0.5)
        return len(manager.sent)

    patient = await attempts_in_an_hour(math.inf)
    # The pause after a round has a jitter of half to one and a half.
    assert await attempts_in_an_hour(deadline) <= 1.5 * patient


async def test_promise_12_a_failed_round_without_a_pause_is_followed_by_nothing(
    autojump_clock: MockClock,
) -> None:
    """With a pause of 0 after a round, no attempt is made for those who were just told."""
    config = make_config(max_retries=0, refresh="on_request")
    manager = FakeTokenManager(config, latency=1.5)
    manager.outcomes = [TokenUnavailableError("later", retry_after=0.0)]
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        with pytest.raises(TokenUnavailableError):
            await session.get_access_token()
        await trio.sleep(100.0)
        assert [at - start for at in manager.sent] == [0.0]


@given(
    max_retries=st.integers(0, 4),
    failures=st.integers(1, 14),
    kind=st.sampled_from(["transient", "rejected", "both"]),
    way=st.sampled_from(["invalidate", "expire", "empty"]),
)
def test_promise_12_no_error_names_more_attempts_than_a_round_has(
    max_retries: int, failures: int, kind: str, way: str
) -> None:
    """However often the background fails, getters and observers hear of one round at most."""
    most = 1 + max_retries
    events: list[RefreshFailed] = []

    def note(event: object) -> None:
        if isinstance(event, RefreshFailed):
            events.append(event)

    def failure(number: int) -> TokenRequestError:
        if kind == "rejected" or (kind == "both" and number % 3 == 2):
            return CredentialsRejectedError("no", retry_after=10.0)
        return TokenUnavailableError("down", retry_after=10.0)

    async def main() -> None:
        config = make_config(max_retries=max_retries)
        manager = FakeTokenManager(config)
        async with AnonymousSession(config, manager, observers=[note]) as session:
            if way != "empty":
                token = await session.get_access_token()
                # STALE, and each refresh in the background fails.
                manager.outcomes = [failure(number) for number in range(100)]
                await trio.sleep(3000.0 + 10.0 * (failures - 1) + 1.0)
                assert session.statistics().consecutive_failures == failures
                if way == "invalidate":
                    session.invalidate(token)
                else:
                    await trio.sleep(570.0)
            else:
                manager.outcomes = [failure(number) for number in range(100)]
            for _ in range(3):
                with pytest.raises(TokenRequestError) as caught:
                    await session.get_access_token()
                assert 1 <= caught.value.attempts <= most
                assert caught.value.retry_after is not None
                await trio.sleep(caught.value.retry_after)
            assert session.statistics().consecutive_failures == len(events)
        assert all(1 <= event.attempt <= most for event in events)
        assert [event.consecutive_failures for event in events] == list(range(1, len(events) + 1))
        # A round that fails by its number has all of its attempts.
        if kind == "transient":
            assert {event.attempt for event in events if event.round_over} == {most}

    run_virtually(main)


# 13


async def test_promise_13_rejected_credentials_end_a_round_at_once(
    autojump_clock: MockClock,
) -> None:
    """One attempt, no waiting; the pause before the next round doubles all the same."""
    server = TokenServer(FaultPlan(token_then=FAULTS["rejected"]))
    async with open_test_session(server) as session:
        start = trio.current_time()
        pauses = []
        for attempts in range(1, 7):
            with pytest.raises(CredentialsRejectedError) as caught:
                await session.get_access_token()
            assert len(server.token_requests()) == attempts
            assert caught.value.attempts == 1
            assert caught.value.retry_after is not None
            pauses.append(caught.value.retry_after)
            await trio.sleep(caught.value.retry_after)
        assert trio.current_time() == pytest.approx(start + sum(pauses))
        for n, pause in enumerate(pauses, 1):
            assert min(2**n / 2, 60.0) <= pause + 1e-6 <= min(2**n * 1.5, 60.0) + 2e-6


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "invalid_client"),
        (400, "unauthorized_client"),
        (400, "invalid_grant"),
        (401, "anything"),
        (403, "access_denied"),
    ],
)
async def test_promise_13_these_are_rejections(
    autojump_clock: MockClock, status: int, error: str
) -> None:
    """Three codes, and two statuses with any code, mean that the client is rejected."""
    server = TokenServer(FaultPlan(token=[Fault.refusal(error, "no", status=status)]))
    async with open_test_session(server) as session:
        with pytest.raises(CredentialsRejectedError) as caught:
            await session.get_access_token()
        assert not caught.value.retryable
        assert (caught.value.status_code, caught.value.error) == (status, error)
        assert len(server.token_requests()) == 1


# 14


@pytest.mark.parametrize(
    "outcome",
    [
        ZeroDivisionError("x"),
        ExceptionGroup("several", [ValueError("x")]),
        RecursionError(),
        trio.ClosedResourceError(),
        "a token",
        None,
        object(),
        TokenRequestError("odd", retry_after="soon"),  # type: ignore[arg-type]  # nonsense is the point
        TokenRequestError("odd", retry_after=math.nan),
        TokenRequestError("odd", retry_after=-5.0),
    ],
    ids=[
        "exception",
        "group",
        "recursion",
        "closed resource",
        "str",
        "none",
        "object",
        "retry_after str",
        "retry_after nan",
        "retry_after negative",
    ],
)
async def test_promise_14_nothing_poisons_the_session(
    autojump_clock: MockClock, outcome: object
) -> None:
    """What a token manager raises or returns in place of a token passes with the next one."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config)

    async def nonsense(options: object = None) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    good = manager.get_tokens_client_credentials_grant
    manager.get_tokens_client_credentials_grant = nonsense  # type: ignore[assignment,method-assign]  # likewise
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(TokenRequestError) as caught:
            await session.get_access_token()
        assert caught.value.retryable
        if isinstance(outcome, Exception):
            assert caught.value.__cause__ is outcome
        manager.get_tokens_client_credentials_grant = good  # type: ignore[method-assign]  # as it was
        assert caught.value.retry_after is not None
        await trio.sleep(caught.value.retry_after)
        assert await session.get_access_token() == "token-1"


class _BrokenError(BaseException):
    pass


@pytest.mark.parametrize("kind", [_BrokenError, KeyboardInterrupt, SystemExit])
async def test_promise_14_a_base_exception_ends_the_session_as_itself(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    """It comes out of the block bare, and held getters elsewhere get SessionClosedError."""
    config = make_config()
    manager = FakeTokenManager(config, latency=1.0)
    broken = kind()
    manager.outcomes = [broken]
    async with trio.open_nursery() as nursery:
        with pytest.raises(kind) as caught:
            async with AnonymousSession(config, manager) as session:
                getters = start_getters(nursery, session, 3)
                await trio.sleep_forever()
        assert caught.value is broken
        assert caught.value.__context__ is caught.value.__cause__ is None
    assert {type(getter.error) for getter in getters} == {SessionClosedError}


# 15


@pytest.mark.parametrize(
    "strategy",
    [
        lambda attempt, error: 1 / 0,
        lambda attempt, error: "soon",
        lambda attempt, error: True,
        lambda attempt, error: math.nan,
        lambda attempt, error: math.inf,
        lambda attempt, error: -1.0,
        lambda attempt, error: object(),
        lambda: 1.0,
        lambda attempt, error: an_async_function(),
        lambda attempt, error: None,
    ],
    ids=[
        *("raises", "str", "bool", "nan", "inf", "negative"),
        *("object", "signature", "coroutine", "none"),
    ],
)
async def test_promise_15_a_bad_strategy_ends_the_round_and_harms_nobody(
    autojump_clock: MockClock,
    strategy: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    """The round ends at its first attempt, and the normal schedule says when the next is."""
    config = make_config(retry_strategy=strategy)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError("down")]
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(TokenUnavailableError) as caught:
            await session.get_access_token()
        assert caught.value.attempts == 1
        # To return None is a decision, not a mistake.
        assert ("retry_strategy" in caplog.text) == ("none" not in request.node.name)
        assert caught.value.retry_after is not None
        assert 1.0 <= caught.value.retry_after <= 3.0
        await trio.sleep(caught.value.retry_after)
        assert await session.get_access_token() == "token-1"


async def test_promise_15_a_strategy_overrides_the_schedule_within_the_limits(
    autojump_clock: MockClock,
) -> None:
    """It sees attempts from 1 and each error; its pauses are capped, its rounds limited."""
    seen: list[tuple[int, str]] = []

    def strategy(attempt: int, error: TokenRequestError) -> float:
        seen.append((attempt, str(error)))
        return {1: 5.0, 2: 0.0, 3: 10**400}[attempt]

    config = make_config(retry_strategy=strategy, max_retries=3)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError(f"down {n}") for n in range(1, 5)]
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        with pytest.raises(TokenUnavailableError, match="down 4"):
            await session.get_access_token()
        assert [at - start for at in manager.sent] == [0.0, 5.0, 6.0, 66.0]
        assert seen == [(1, "down 1"), (2, "down 2"), (3, "down 3")]


async def test_promise_15_a_strategy_is_not_asked_about_rejections(
    autojump_clock: MockClock,
) -> None:
    """It cannot turn a rejection into a retry, nor undercut the gap between grants."""
    asked: list[int] = []

    def strategy(attempt: int, error: TokenRequestError) -> float:
        asked.append(attempt)
        return 0.0

    config = make_config(retry_strategy=strategy, min_refresh_interval=5.0)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError("down"), CredentialsRejectedError("no")]
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(CredentialsRejectedError):
            await session.get_access_token()
        assert asked == [1]
        assert manager.sent[1] - manager.sent[0] == 5.0


async def test_promise_15_none_in_the_background_means_the_normal_schedule(
    autojump_clock: MockClock,
) -> None:
    """A strategy that gives up does not stop background retries."""
    config = make_config(retry_strategy=lambda attempt, error: None)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        manager.outcomes = [TokenUnavailableError("down") for _ in range(4)]
        await trio.sleep(3000.0 + 60.0)
        await wait_all_tasks_blocked()
        assert session.state is TokenState.FRESH
        pauses = [later - earlier for earlier, later in itertools.pairwise(manager.sent[1:])]
        for n, pause in enumerate(pauses, 1):
            assert 2**n / 2 <= pause + 1e-6 <= 2**n * 1.5 + 2e-6
