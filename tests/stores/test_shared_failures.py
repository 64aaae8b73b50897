"""Tests of failed attempts in a fleet: which processes raise, pause or try again."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, run_virtually, start_getters
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    TokenInfo,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.stores import (
    MemoryStore,
    SharedTokenManager,
)
from trio_anon_session.stores._records import name_of

from .faulty import get_all, make_source, open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from trio_anon_session import TokenRequestOptions


def busy(retry_after: float | None = None) -> TokenUnavailableError:
    """Return the error of an endpoint that is busy."""
    return TokenUnavailableError(
        "the endpoint answered 503",
        status_code=503,
        error="temporarily_unavailable",
        error_description="come again",
        request_id="r-1",
        retry_after=retry_after,
    )


async def get_error(session: AnonymousSession) -> TokenRequestError:
    """Ask for a token, assert that this fails, and return the error."""
    with pytest.raises(TokenRequestError) as caught:
        await session.get_access_token()
    return caught.value


async def errors_of(sessions: list[AnonymousSession]) -> list[TokenRequestError]:
    """Ask each session for a token at the same time, and return their errors."""
    errors: list[TokenRequestError] = []

    async def get(session: AnonymousSession) -> None:
        errors.append(await get_error(session))

    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(get, session)
    return errors


# Shared failures


async def test_waiting_processes_raise_the_error_of_the_attempt(autojump_clock: MockClock) -> None:
    """Each waiting process raises its own error with the facts of the failed attempt."""
    source = make_source(latency=1.0, max_retries=0)
    answer = busy()
    answer.next_step = "Wait."
    source.outcomes = [answer]
    async with open_fleet(10, source, MemoryStore()) as sessions:
        errors = await errors_of(sessions)
        assert source.sent == [0.0]
        assert trio.current_time() == 1.0
    (own,) = [error for error in errors if "fleet" not in str(error)]
    assert str(own) == "the endpoint answered 503. Wait."
    others = [error for error in errors if error is not own]
    assert len({id(error) for error in others}) == 9
    for error in others:
        assert type(error) is TokenUnavailableError
        assert str(error) == "the fleet's last attempt failed: the endpoint answered 503. Wait."
        assert (error.status_code, error.error) == (503, "temporarily_unavailable")
        assert (error.error_description, error.request_id) == ("come again", "r-1")
        assert error.retryable
        assert error.retry_after is not None


async def test_only_waiting_processes_raise_a_connection_error(
    autojump_clock: MockClock,
) -> None:
    """After an attempt without an answer, waiting processes raise, and a later one tries again.

    The network of the first process may be the cause.
    """
    source = make_source(latency=1.0, max_retries=0)
    source.outcomes = [TokenUnavailableError("no route to the endpoint")]
    async with open_fleet(3, source, MemoryStore()) as (first, second, late):
        assert len(await errors_of([first, second])) == 2
        assert len(source.sent) == 1
        assert await late.get_access_token() == "token-1"
        assert source.sent == [0.0, 1.0]


@pytest.mark.parametrize(
    "refusal",
    [
        CredentialsRejectedError("no", status_code=401, error="invalid_client"),
        TokenRequestError("no such scope", retryable=False, status_code=400, error="invalid_scope"),
        ValueError("not ours"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_permanent_error_is_not_shared(
    autojump_clock: MockClock, refusal: Exception
) -> None:
    """A rejection, or an error of another library, leaves no failure and no lease in the store."""
    source, store = make_source(max_retries=0), MemoryStore()
    source.outcomes = [refusal]
    async with open_fleet(1, source, store) as (session,):
        error = await get_error(session)
        assert "fleet" not in str(error)
        seen = await store.look(name_of(source.config))
        assert seen.failure is None
        assert seen.leased_for == 0


# Pauses


@pytest.mark.parametrize("retry_after", [3.0, 1000.0])
async def test_a_fleet_keeps_the_retry_after_of_the_endpoint(
    autojump_clock: MockClock, retry_after: float
) -> None:
    """No process tries again before ``Retry-After``, up to a limit, and one process does then."""
    source = make_source(latency=0.1, max_retry_interval=60.0, max_retries=3, max_wait=None)
    source.outcomes = [busy(retry_after)]
    pause = min(retry_after, 60.0)
    async with open_fleet(10, source, MemoryStore()) as sessions:
        async with trio.open_nursery() as nursery:
            getters = [start_getters(nursery, session, 1)[0] for session in sessions]
            await trio.sleep(1.0)
            # The next attempt succeeds, and its token is for all of them.
            source.outcomes = []
        assert source.sent == pytest.approx([0.0, 0.1 + pause], abs=0.6)
        assert source.sent[1] >= 0.1 + pause
        assert {getter.token for getter in getters} == {"token-1"}
        assert all(session.statistics().failures == 1 for session in sessions)


async def test_a_call_during_a_pause_raises_immediately(autojump_clock: MockClock) -> None:
    """A call during a pause raises immediately with the remaining seconds, without a request."""
    source = make_source(max_retries=0)
    source.outcomes = [busy(20.0)]
    async with open_fleet(2, source, MemoryStore()) as (first, second):
        await get_error(first)
        await trio.sleep(5.0)
        error = await get_error(second)
        assert trio.current_time() == 5.0
        assert error.retry_after == 15.0
        assert len(source.sent) == 1
        await trio.sleep(15.0)
        assert await second.get_access_token() == "token-1"


async def test_promise_12_a_failing_fleet_sends_one_attempt_a_pause(
    autojump_clock: MockClock,
) -> None:
    """While the endpoint fails, a fleet sends one request at a time, with growing pauses."""
    source = make_source(latency=0.2, retry_interval=2.0, max_retry_interval=60.0, max_retries=3)
    source.outcomes = [busy() for _ in range(10_000)]

    async def ask_again_and_again(session: AnonymousSession) -> None:
        while True:
            try:
                await session.get_access_token()
                return
            except TokenUnavailableError:
                await trio.sleep(0.3)

    async with open_fleet(4, source, MemoryStore()) as sessions:
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(ask_again_and_again, session)
            await trio.sleep(300.0)
            assert source.most_in_flight == 1
            # The n-th pause is at least a sixth of the doubled interval, which has a limit from the
            # sixth pause on.
            for nth, (one, other) in enumerate(zip(source.sent, source.sent[1:], strict=False)):
                assert other - one >= min(2.0 * 2.0**nth / 2, 60.0) / 3
            assert 8 <= len(source.sent) <= 40
            source.outcomes = []
        assert len({session.get_access_token_nowait() for session in sessions}) == 1


async def test_a_fleet_pauses_although_retry_after_is_zero(autojump_clock: MockClock) -> None:
    """With ``Retry-After: 0``, the whole fleet keeps ``min_refresh_interval`` between requests."""
    source = make_source(latency=0.01, max_retries=5, min_refresh_interval=1.0)
    source.outcomes = [busy(0.0) for _ in range(16)]
    async with open_fleet(8, source, MemoryStore()) as sessions:
        async with trio.open_nursery() as nursery:
            for session in sessions:
                start_getters(nursery, session, 1)
                # The processes start at different times.
                await trio.sleep(0.04)
    gaps = [b - a for a, b in zip(source.sent, source.sent[1:], strict=False)]
    assert min(gaps) >= 1.0 - 1e-9


async def test_the_pause_of_a_session_costs_it_no_attempt(autojump_clock: MockClock) -> None:
    """The pause that a process has stored costs it no attempt of its own round."""
    source = make_source(latency=0.2, max_retry_interval=20.0, max_wait=None)
    source.outcomes = [busy() for _ in range(5)]
    async with open_fleet(1, source, MemoryStore()) as (session,):
        assert await session.get_access_token() == "token-1"
        assert len(source.sent) == 6


async def test_promise_11_a_usable_token_hides_failures_of_the_fleet(
    autojump_clock: MockClock,
) -> None:
    """While the token is usable, callers get it although all attempts of the fleet fail."""
    source = make_source(lifetime=600.0, stale_buffer=300.0, latency=0.1)
    async with open_fleet(3, source, MemoryStore()) as sessions:
        await get_all(sessions)
        source.outcomes = [busy() for _ in range(10_000)]
        await trio.sleep(300.0)
        while trio.current_time() < 569.0:
            await trio.sleep(1.0)
            for session in sessions:
                assert session.get_access_token_nowait() == "token-1"
        source.outcomes = []
        await trio.sleep(60.0)
        assert {session.state for session in sessions} == {TokenState.FRESH}


@given(
    outcomes=st.lists(
        st.sampled_from(["good", "busy", "asks", "no route", "rejected"]), max_size=20
    ),
    latency=st.floats(0.0, 3.0),
    comes=st.lists(st.floats(0.0, 60.0), min_size=1, max_size=10),
)
def test_a_fleet_recovers_from_any_failures(
    outcomes: list[str], latency: float, comes: list[float]
) -> None:
    """After any failures, all processes share a token, with one attempt at a time."""
    kinds: dict[str, Any] = {
        "good": None,
        "busy": busy(),
        "asks": busy(4.0),
        "no route": TokenUnavailableError("no route"),
        "rejected": CredentialsRejectedError("no", status_code=401),
    }

    async def main() -> None:
        config = make_config(max_retries=2, max_retry_interval=20.0)
        source = FakeTokenManager(config, latency=latency)
        for outcome in outcomes:
            source.outcomes.append(
                kinds[outcome]
                or TokenInfo.from_answer(f"t{len(source.outcomes)}", 30.0, 0.0, config)
            )

        async def come(session: AnonymousSession, at: float) -> None:
            await trio.sleep_until(at)
            while True:
                try:
                    await session.get_access_token()
                    return
                except TokenRequestError as error:
                    await trio.sleep(max(0.1, error.retry_after or 0.1))

        async with open_fleet(len(comes), source, MemoryStore()) as sessions:
            async with trio.open_nursery() as nursery:
                for session, at in zip(sessions, comes, strict=True):
                    nursery.start_soon(come, session, at)
            source.outcomes = []
            await trio.sleep(200.0)
            assert len(set(await get_all(sessions))) == 1
            assert source.most_in_flight == 1

    run_virtually(main)


class _OwnError(BaseException):
    pass


class _Failing(FakeTokenManager):
    """A token manager that raises new errors, and keeps no reference to them."""

    make: Callable[[], BaseException] = _OwnError

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        await trio.lowlevel.checkpoint()
        raise self.make()


async def test_errors_are_freed_without_the_garbage_collector(autojump_clock: MockClock) -> None:
    """Errors are freed without the garbage collector: crashes, own errors and the fleet's."""
    source = _Failing(make_config())
    gone: list[weakref.ref[BaseException]] = []

    async def fail(manager: SharedTokenManager) -> None:
        try:
            await manager.get_tokens_client_credentials_grant()
        except BaseException as error:
            gone.append(weakref.ref(error))
            if isinstance(error, trio.Cancelled):
                raise

    async with SharedTokenManager(source, MemoryStore()) as manager:
        gc.collect()
        gc.disable()
        try:
            await fail(manager)
            source.make = lambda: busy(20.0)
            await trio.sleep(1.0)
            await fail(manager)
            # This call comes during the pause.
            await fail(manager)
            await trio.lowlevel.checkpoint()
            assert [ref() for ref in gone] == [None] * 3
        finally:
            gc.enable()
