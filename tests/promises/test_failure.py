"""Promises 11 to 15: failures of the endpoint, the token manager and the retry strategy."""

from __future__ import annotations

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

from tests.authentication.signing import pem_of
from tests.helpers import FakeTokenManager, make_config, run_virtually, start_getters
from tests.http.endpoint import Endpoint, open_manager, says
from tests.lazy import an_async_function
from trio_anon_session import (
    AnonymousSession,
    AssertionFile,
    Config,
    CredentialsRejectedError,
    PrivateKeyJWT,
    SecretFile,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAULTS = {
    "503": Fault.server_error(503),
    "429": Fault.rate_limited("20"),
    "rejected": Fault.refusal("invalid_client", "The client credentials are invalid"),
    "scope": Fault.refusal("invalid_scope", "An unsupported scope was requested."),
    "hang": Fault.hang(),
    "html": Fault(body=b"<html>"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("refresh", ["eager", "on_request"])
async def test_promise_11_no_getter_sees_an_error_while_the_token_is_usable(
    autojump_clock: MockClock,
    fault: Fault,
    refresh: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Failures in the background are logged, counted and retried, and callers get the token."""
    server = TokenServer(FaultPlan(token=[None], token_then=fault), lifetime=3600.0)
    async with open_test_session(server, refresh=refresh) as session:
        token = await session.exchange_token("x")
        while trio.current_time() < token.expires_at - 10.0:
            assert await session.get_access_token() == token.access_token
            await trio.sleep(10.0)
        # An attempt may end at this moment. Wait until the server and the session have both counted
        # it.
        await wait_all_tasks_blocked()
        seen = session.statistics()
        ended = len(server.token_requests()) - server.in_flight
        assert seen.failures == seen.consecutive_failures == ended - 1
        # The session never gives up: it makes about one attempt a minute until the token expires.
        assert seen.failures >= 5
        assert seen.last_error
        assert any(record.levelno >= logging.WARNING for record in caplog.records)
        server.faults = FaultPlan()
        # Wait for an attempt that hangs now, and for the longest pause after it.
        await trio.sleep_until(token.expires_at + 30.0 + 60.0)
        assert await session.get_access_token() != token.access_token
        assert session.statistics().consecutive_failures == 0


async def test_promise_12_held_getters_wait_through_a_round(autojump_clock: MockClock) -> None:
    """A round has 1 + max_retries attempts, and each waiting caller gets its own error."""
    config = make_config(max_retries=3, retry_strategy=lambda attempt, error: 10.0)
    manager = FakeTokenManager(config)
    manager.outcomes = [
        TokenUnavailableError(f"down {number}", status_code=503) for number in range(4)
    ]
    last = manager.outcomes[-1]
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            getters = start_getters(nursery, session, 5)
            await trio.sleep(25.0)
            # This call comes between two attempts, and joins the round.
            getters += start_getters(nursery, session, 1)
        assert [at - start for at in manager.sent] == [0.0, 10.0, 20.0, 30.0]
    assert len({id(getter.error) for getter in getters}) == 6
    for getter in getters:
        assert isinstance(getter.error, TokenUnavailableError)
        assert getter.error.__cause__ is last
        assert (getter.error.attempts, getter.error.status_code) == (4, 503)
        assert getter.ended_at == start + 30.0


async def test_promise_12_waiting_callers_get_what_is_known_after_max_wait(
    autojump_clock: MockClock,
) -> None:
    """All callers stop waiting together, and the session continues the round for later ones."""
    config = make_config(max_wait=20.0, request_timeout=60.0, retry_strategy=lambda *_: 5.0)
    manager = FakeTokenManager(config)
    down = TokenUnavailableError("down", status_code=503)
    manager.outcomes = [down]
    async with AnonymousSession(config, manager) as session, trio.open_nursery() as nursery:
        start = trio.current_time()
        first = start_getters(nursery, session, 2)
        await trio.sleep(1.0)
        # The first attempt has failed, and the second one hangs.
        manager.latency = 27.0
        await trio.sleep(18.5)
        first += start_getters(nursery, session, 1)
        await trio.sleep(3.5)
        second = start_getters(nursery, session, 1)
    # Each caller has its own error with the facts of the moment at which all waits ended.
    assert len({id(getter.error) for getter in first}) == 3
    for getter in first:
        assert getter.ended_at == start + 20.0
        assert isinstance(getter.error, TokenUnavailableError)
        assert getter.error.__cause__ is down
        assert (getter.error.attempts, getter.error.status_code) == (1, 503)
        # The attempt of 5 s times out after 60 s.
        assert getter.error.retry_after == 45.0
        assert str(getter.error) == (
            "down. 1 attempt failed 20 s ago; the next one has had no answer for 15 s; "
            "the next attempt is due in 45 s"
        )
    # The caller that came later waited anew, and the attempt in progress brought its token.
    assert (second[0].token, second[0].ended_at) == ("token-1", start + 32.0)
    assert [at - start for at in manager.sent] == [0.0, 5.0]


async def test_promise_12_a_round_goes_on_when_nobody_waits_any_longer(
    autojump_clock: MockClock,
) -> None:
    """After ``max_wait``, an empty session makes the attempts that are left of the round."""
    config = make_config(
        max_wait=5.0, max_retries=2, request_timeout=60.0, retry_strategy=lambda *_: 10.0
    )
    manager = FakeTokenManager(config)
    manager.latency = 20.0
    manager.outcomes = [TokenUnavailableError("down")] * 3
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        with pytest.raises(
            TokenUnavailableError, match="no answer from the token endpoint for 5 s"
        ):
            await session.get_access_token()
        await trio.sleep(600.0)
        assert [at - start for at in manager.sent] == [0.0, 30.0, 60.0]
        manager.latency = 0.0
        # The next caller starts a new round.
        assert await session.get_access_token() == "token-1"


async def test_promise_12_calls_in_the_pause_after_a_round_do_not_wait(
    autojump_clock: MockClock,
) -> None:
    """In the pause after a failed round, calls raise immediately, with the remaining time.

    The first call after the pause starts a new round.
    """
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
        for _ in range(10):
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


async def test_promise_12_retry_after_includes_the_gap_between_grants(
    autojump_clock: MockClock,
) -> None:
    """The ``retry_after`` of an error includes the gap that the session keeps between requests."""
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


async def test_promise_12_a_retry_after_date_counts_from_the_answers_date(
    autojump_clock: MockClock,
) -> None:
    """A date in ``Retry-After`` counts from the ``Date`` of the answer, not from the own clock."""
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
def test_promise_12_one_attempt_per_pause_for_any_calls(
    arrivals: list[float], seed: int, max_retries: int
) -> None:
    """In an outage, calls at any moments cause no attempt before the announced pause has ended."""

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


async def test_promise_12_no_call_joins_a_round_that_all_have_left(
    autojump_clock: MockClock,
) -> None:
    """If all callers have left a round, the next call starts a whole new round."""
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


async def test_promise_12_impatient_getters_do_not_shorten_the_pauses(
    autojump_clock: MockClock,
) -> None:
    """Calls with short deadlines cause at most 1.5 times the attempts of one patient caller."""

    async def attempts_in_an_outage(deadline: float) -> int:
        config = make_config(retry_strategy=lambda attempt, error: 2.0**attempt)
        manager = FakeTokenManager(config)
        manager.outcomes = [TokenUnavailableError("down") for _ in range(1000)]
        async with AnonymousSession(config, manager) as session:
            end = trio.current_time() + 600.0
            while trio.current_time() < end:
                with trio.move_on_after(deadline):
                    try:
                        await session.get_access_token()
                    except TokenUnavailableError:
                        await trio.sleep(5.0)
        return len(manager.sent)

    patient = await attempts_in_an_outage(math.inf)
    # The pause after a round has a jitter of half to one and a half.
    assert await attempts_in_an_outage(7.0) <= 1.5 * patient


async def test_promise_13_rejected_credentials_end_a_round_at_once(
    autojump_clock: MockClock,
) -> None:
    """With rejected credentials, a round ends after one attempt, also after the pause."""
    server = TokenServer(FaultPlan(token_then=FAULTS["rejected"]))
    async with open_test_session(server) as session:
        for attempts in (1, 2):
            start = trio.current_time()
            with pytest.raises(CredentialsRejectedError) as caught:
                await session.get_access_token()
            assert trio.current_time() == start
            assert len(server.token_requests()) == attempts
            assert caught.value.attempts == 1
            assert caught.value.retry_after is not None
            await trio.sleep(caught.value.retry_after)


FILES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "secret": lambda path: {"client_secret": SecretFile(path)},
    "assertion": lambda path: {"auth_method": AssertionFile(path)},
    "key": lambda path: {"auth_method": PrivateKeyJWT.from_file(path, algorithm="ES256")},
}


@pytest.mark.parametrize("has_token", [False, True])
@pytest.mark.parametrize("is_folder", [False, True], ids=["missing", "folder"])
@pytest.mark.parametrize("kind", FILES)
async def test_promise_13_a_file_that_cannot_be_read_ends_the_first_round_at_once(
    autojump_clock: MockClock, tmp_path: Path, kind: str, is_folder: bool, has_token: bool
) -> None:
    """Before the first token, no retry repairs a missing file; after it, the file may come back."""
    path = tmp_path / "source"
    path.write_bytes(pem_of())
    config = Config(client_id="id", **FILES[kind](path))
    async with (
        open_manager(Endpoint(says()), config) as manager,
        AnonymousSession(config, manager) as session,
    ):
        if has_token:
            session.invalidate(await session.get_access_token())
        path.unlink()
        if is_folder:
            path.mkdir()
        start = trio.current_time()
        with pytest.raises(TokenUnavailableError, match="cannot be read") as caught:
            await session.get_access_token()
        assert (caught.value.attempts == 1) is not has_token
        assert (trio.current_time() == start) is not has_token
        if is_folder:
            path.rmdir()
        path.write_bytes(pem_of())
        assert caught.value.retry_after is not None
        await trio.sleep(caught.value.retry_after)
        await session.get_access_token()


@pytest.mark.parametrize(
    "outcome",
    [
        ZeroDivisionError("x"),
        ExceptionGroup("several", [ValueError("x")]),
        RecursionError(),
        "a token",
        None,
        TokenRequestError("odd", retry_after="soon"),  # type: ignore[arg-type]  # the test needs an invalid value
        TokenRequestError("odd", retry_after=math.nan),
        TokenRequestError("odd", retry_after=-5.0),
    ],
    ids=[
        *("exception", "group", "recursion", "str", "none"),
        *("retry_after str", "retry_after nan", "retry_after negative"),
    ],
)
async def test_promise_14_nothing_poisons_the_session(
    autojump_clock: MockClock, outcome: object
) -> None:
    """After any exception or invalid result of a token manager, the next round gets a token."""
    manager = FakeTokenManager(make_config(max_retries=0))
    manager.outcomes = [outcome]
    async with AnonymousSession(manager.config, manager) as session:
        with pytest.raises(TokenRequestError) as caught:
            await session.get_access_token()
        assert caught.value.retryable
        if isinstance(outcome, Exception):
            assert caught.value.__cause__ is outcome
        assert caught.value.retry_after is not None
        await trio.sleep(caught.value.retry_after)
        assert await session.get_access_token() == "token-1"


class _BrokenError(BaseException):
    pass


@pytest.mark.parametrize("kind", [_BrokenError, KeyboardInterrupt, SystemExit])
async def test_promise_14_a_base_exception_ends_the_session_unwrapped(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    """The block raises a BaseException of the manager unwrapped, with its context.

    Waiting callers get SessionClosedError.
    """
    manager = FakeTokenManager(make_config(), latency=1.0)
    broken, context = kind(), LookupError()
    broken.__context__ = context
    manager.outcomes = [broken]
    async with trio.open_nursery() as nursery:
        with pytest.raises(kind) as caught:
            async with AnonymousSession(manager.config, manager) as session:
                getters = start_getters(nursery, session, 3)
                await trio.sleep_forever()
        assert caught.value is broken
        assert caught.value.__context__ is context
        assert caught.value.__cause__ is None
    assert {type(getter.error) for getter in getters} == {SessionClosedError}


@pytest.mark.parametrize(
    ("strategy", "is_logged"),
    [
        (lambda attempt, error: 1 / 0, True),
        (lambda attempt, error: "soon", True),
        (lambda attempt, error: an_async_function(), True),
        (lambda: 1.0, True),
        # None is a valid return value, so it is not logged as an error.
        (lambda attempt, error: None, False),
    ],
    ids=["raises", "str", "coroutine", "signature", "none"],
)
async def test_promise_15_an_invalid_strategy_only_ends_the_round(
    autojump_clock: MockClock,
    strategy: Callable[..., Any],
    is_logged: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An invalid strategy ends the round after one attempt, and the normal pause follows."""
    config = make_config(retry_strategy=strategy)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError("down", retry_after=7.0)]
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(TokenUnavailableError) as caught:
            await session.get_access_token()
        assert (caught.value.attempts, caught.value.retry_after) == (1, 7.0)
        assert ("retry_strategy" in caplog.text) == is_logged
        await trio.sleep(7.0)
        assert await session.get_access_token() == "token-1"


async def test_promise_15_a_strategy_overrides_the_schedule_within_the_limits(
    autojump_clock: MockClock,
) -> None:
    """The strategy gets each attempt, from 1, and its error; its pauses are limited."""
    seen: list[tuple[int, str]] = []

    def strategy(attempt: int, error: TokenRequestError) -> float:
        seen.append((attempt, str(error)))
        return {1: 5.0, 2: 0.0, 3: 10**400}[attempt]

    config = make_config(retry_strategy=strategy, max_retries=3, max_wait=None)
    manager = FakeTokenManager(config)
    manager.outcomes = [TokenUnavailableError(f"down {n}") for n in range(1, 5)]
    async with AnonymousSession(config, manager) as session:
        start = trio.current_time()
        with pytest.raises(TokenUnavailableError, match="down 4"):
            await session.get_access_token()
        assert [at - start for at in manager.sent] == [0.0, 5.0, 6.0, 66.0]
        assert seen == [(1, "down 1"), (2, "down 2"), (3, "down 3")]
