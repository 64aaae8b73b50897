"""Tests of `AnonymousSession` outside of its promises: properties, statistics, options."""

from __future__ import annotations

import json
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, start_getters
from trio_anon_session import (
    AnonymousSession,
    RevocationError,
    SessionClosedError,
    TokenManager,
    TokenRequestOptions,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session
from trio_anon_session.testing._clocks import seeded_schedule

EMPTY, FRESH, STALE, EXPIRED = TokenState


def make_session(**settings: Any) -> tuple[FakeTokenManager, AnonymousSession]:
    """Return a fake token manager, and a session that uses it."""
    manager = FakeTokenManager(make_config(**settings))
    return manager, AnonymousSession(manager.config, manager)


# Properties


def test_properties_outside_of_a_run() -> None:
    """The properties can be read outside of Trio, before the session opens and after it closes."""
    _, session = make_session()

    async def main() -> None:
        async with session:
            await session.get_access_token()

    for grants in (0, 1):
        assert session.state is EMPTY
        assert session.token_info is None
        assert session.states.value is EMPTY
        statistics = session.statistics()
        assert (statistics.grants, statistics.state) == (grants, EMPTY)
        assert statistics.expires_in is statistics.next_refresh_in is None
        assert (
            repr(session) == f"<AnonymousSession for 'id', {'closed' if grants else 'not entered'}>"
        )
        if not grants:
            trio.run(main)


async def test_token_info_is_the_token_in_every_state(autojump_clock: MockClock) -> None:
    """``token_info`` is the token of the session, even if EXPIRED, and None after a revocation."""
    manager, session = make_session(refresh="on_request")
    async with session:
        assert session.token_info is None
        token = manager.new_token(trio.current_time())
        manager.outcomes = [token]
        await session.get_access_token()
        for _ in range(3):
            assert session.token_info is token
            await trio.sleep(2000.0)
        assert session.state is EXPIRED
        assert session.token_info is token
        await session.revoke_tokens()
        assert session.token_info is None


def test_config_is_the_one_given() -> None:
    """``session.config`` is the object that was passed."""
    config = make_config(stale_buffer=7.0)
    assert AnonymousSession(config).config is config


async def test_auth_is_of_this_session(autojump_clock: MockClock) -> None:
    """``session.auth()`` sends this session's token to the allowed origins."""
    server = TokenServer()
    transport = httpx.ASGITransport(server)
    async with (
        open_test_session(server) as session,
        httpx.AsyncClient(transport=transport) as client,
    ):
        for auth, origin in (
            (session.auth(), "http://localhost"),
            (session.auth(["https://elsewhere.example"]), "https://elsewhere.example"),
        ):
            response = await client.get(f"{origin}/2.0/files/1", auth=auth)
            assert response.status_code == 200
    assert server.grants == 1


# exchange_token


async def test_exchange_returns_the_cached_token(autojump_clock: MockClock) -> None:
    """``exchange_token`` returns the cached ``TokenInfo``, whatever the scopes."""
    manager, session = make_session()
    async with session:
        held = manager.new_token(trio.current_time())
        manager.outcomes = [held]
        assert await session.exchange_token("item_read") is held
        assert await session.exchange_token(["item_read", "item_upload"]) is held
        assert await session.exchange_token([], "https://api.box.com/2.0/files/1") is held
        assert await session.get_access_token() == held.access_token
    assert len(manager.sent) == 1


# Statistics


@pytest.mark.parametrize(
    ("settings", "plans"),
    [
        ({"refresh": "eager"}, [None, 3000.0, 1900.0, 0.0, 0.0]),
        ({"refresh": "on_request"}, [None, None, None, None, None]),
        ({"refresh": "eager", "idle_timeout": 50.0}, [None, 3000.0, None, None, None]),
    ],
    ids=["eager", "on_request", "parked"],
)
async def test_next_refresh_in_each_state(
    autojump_clock: MockClock, settings: dict[str, Any], plans: list[float | None]
) -> None:
    """``next_refresh_in`` and ``expires_in`` are right in each state and refresh mode."""
    manager, session = make_session(**settings)
    async with session:
        seen = [session.statistics()]
        start = trio.current_time()
        await session.get_access_token()
        manager.latency = 1e6
        for moment in (0.0, 1100.0, 3200.0, 3600.0):
            await trio.sleep_until(start + moment)
            await wait_all_tasks_blocked()
            seen.append(session.statistics())
    assert [each.state for each in seen] == [EMPTY, FRESH, FRESH, STALE, EXPIRED]
    assert [each.expires_in for each in seen] == [None, 3570.0, 2470.0, 370.0, 0.0]
    assert [each.next_refresh_in for each in seen] == plans
    after = session.statistics()
    assert (after.state, after.expires_in, after.next_refresh_in) == (EMPTY, None, None)
    for each in [*seen, after]:
        plain = json.loads(json.dumps(each.as_dict(), allow_nan=False))
        assert plain == attrs.asdict(each) | {"state": each.state.value}


async def test_next_refresh_while_a_caller_waits(autojump_clock: MockClock) -> None:
    """While callers wait, ``next_refresh_in`` is 0 or the rest of the pause."""
    manager, session = make_session(retry_strategy=lambda attempt, error: 10.0)
    manager.latency = 2.0
    manager.outcomes = [TokenUnavailableError("down")]
    async with session, trio.open_nursery() as nursery:
        start_getters(nursery, session, 3)
        plans = []
        for _ in range(4):
            await wait_all_tasks_blocked()
            statistics = session.statistics()
            plans.append((statistics.getters_held, statistics.next_refresh_in))
            await trio.sleep(4.0)
        await wait_all_tasks_blocked()
        assert plans == [(3, 0.0), (3, 8.0), (3, 4.0), (3, 0.0)]
        assert session.statistics().getters_held == 0
        assert session.statistics().getters_held_total == 3


async def test_next_refresh_after_a_background_failure(autojump_clock: MockClock) -> None:
    """A failed refresh of a STALE token is retried after the pause, even with "on_request"."""
    manager, session = make_session(
        refresh="on_request", retry_strategy=lambda attempt, error: 30.0
    )
    async with session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep_until(start + 3100.0)
        manager.outcomes = [TokenUnavailableError("down")]
        await session.get_access_token()
        await wait_all_tasks_blocked()
        assert session.statistics().next_refresh_in == 30.0
        await trio.sleep(30.0)
        await wait_all_tasks_blocked()
        assert manager.sent == [start, start + 3100.0, start + 3130.0]


async def test_statistics_through_a_life(autojump_clock: MockClock) -> None:
    """Each statistic counts what its name says, and is final after the session closes."""
    manager, session = make_session(max_retries=1)
    manager.outcomes = [TokenUnavailableError("down"), TokenUnavailableError("still down")]
    manager.revoke_outcomes = [RevocationError("no way", retryable=False)]
    async with session:
        at_first = session.statistics()
        with pytest.raises(TokenUnavailableError):
            await session.get_access_token()
        failed = session.statistics()
        await trio.sleep(60.0)
        await session.get_access_token()
        granted = session.statistics()
        with pytest.raises(RevocationError):
            await session.revoke_tokens()
        for _ in range(2):
            session.invalidate(await session.get_access_token())
            await session.get_access_token()
            await session.revoke_tokens()
        at_last = session.statistics()

    assert (at_first.grants, at_first.failures, at_first.getters_held_total) == (0, 0, 0)
    assert at_first.last_error is None
    assert (failed.grants, failed.failures, failed.consecutive_failures) == (0, 2, 2)
    assert failed.last_error == "TokenUnavailableError: still down"
    assert (granted.grants, granted.failures, granted.consecutive_failures) == (1, 2, 0)
    assert granted.last_error == failed.last_error
    assert (at_last.grants, at_last.invalidations, at_last.revocations) == (5, 2, 2)
    assert (at_last.getters_held, at_last.getters_held_total) == (0, 6)
    assert at_last.last_error == "RevocationError: no way"
    assert at_last.state is EMPTY
    assert session.statistics() == at_last


# TokenRequestOptions

OURS = TokenRequestOptions(ip="192.0.2.1")
OTHERS = TokenRequestOptions(ip="2001:db8::1")


async def test_options_of_a_waiting_caller_reach_the_server(autojump_clock: MockClock) -> None:
    """The IP is sent as ``X-Forwarded-For`` with the token request and with the revocation."""
    server = TokenServer(lifetime=3600.0)
    async with open_test_session(server, refresh="on_request") as session:
        await session.get_access_token(OTHERS)
        # The token is EXPIRED now, and the session is EMPTY after the revocation.
        await trio.sleep(3600.0)
        await session.get_access_token(OURS)
        await session.revoke_tokens(OTHERS)
        await session.exchange_token("x", options=OTHERS)
    sent = [request.headers.get("X-Forwarded-For") for request in server.requests]
    assert sent == [OTHERS.ip, OURS.ip, OTHERS.ip, OTHERS.ip]


async def test_options_of_an_unwanted_grant_reach_its_revocation(
    autojump_clock: MockClock,
) -> None:
    """A token that is revoked on arrival is revoked with the options of its token request."""
    server = TokenServer(FaultPlan(token=[Fault(delay=1.0)]))
    async with open_test_session(server) as session, trio.open_nursery() as nursery:
        nursery.start_soon(session.get_access_token, OURS)
        await trio.sleep(0.5)
        await session.revoke_tokens(OTHERS)
    (revocation,) = server.revoke_requests()
    assert revocation.headers["X-Forwarded-For"] == OURS.ip


async def test_options_reach_the_refresh_of_a_token_that_arrives_stale(
    autojump_clock: MockClock,
) -> None:
    """If the token arrives STALE, the refresh that follows has the waiting caller's options."""
    manager, session = make_session(refresh="on_request", max_wait=None)
    manager.latency = 3100.0
    async with session:
        await session.get_access_token(OURS)
        await wait_all_tasks_blocked()
        assert manager.options == [OURS, OURS]


@pytest.mark.parametrize("use", ["get", "exchange"])
async def test_options_of_a_stale_caller_are_sent_with_one_token(
    autojump_clock: MockClock, use: str
) -> None:
    """Only the refresh that a caller has started is sent with the caller's options."""
    manager, session = make_session()
    async with session:
        token = await session.exchange_token("x")
        manager.outcomes = [TokenUnavailableError("down")]
        await trio.sleep_until(token.stale_at + 0.1)
        if use == "get":
            await session.get_access_token(OURS)
        else:
            await session.exchange_token("x", options=OURS)
        await session.get_access_token(OTHERS)
        await trio.sleep(7000.0)
    assert manager.options == [None, None, OURS, None, None]


async def test_options_of_a_later_caller_are_not_sent(autojump_clock: MockClock) -> None:
    """The options of a call that joins a token request, or gets a FRESH token, are ignored."""
    manager, session = make_session()
    manager.latency = 1.0
    async with session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.get_access_token, OURS)
            await wait_all_tasks_blocked()
            nursery.start_soon(session.get_access_token, OTHERS)
        await session.get_access_token(OTHERS)
        await trio.sleep(3500.0)
    # No caller asked for the refresh at the stale boundary, so it has no options.
    assert manager.options == [OURS, None]


async def test_options_of_a_retry_are_those_of_the_round(autojump_clock: MockClock) -> None:
    """All attempts of a round have the options of the caller that began it."""
    manager, session = make_session()
    manager.outcomes = [TokenUnavailableError("down")]
    async with session:
        await session.get_access_token(OURS)
    assert manager.options == [OURS, OURS]


@pytest.mark.parametrize("others", [0, 1])
async def test_options_of_a_cancelled_caller_are_not_sent(
    autojump_clock: MockClock, others: int
) -> None:
    """Attempts after a caller was cancelled do not have its options, even if others wait."""
    manager, session = make_session(retry_strategy=lambda attempt, error: 10.0)
    manager.outcomes = [TokenUnavailableError("down")]
    async with session, trio.open_nursery() as nursery:
        with trio.move_on_after(5.0):
            nursery.start_soon(_start_later, nursery, session, others)
            await session.get_access_token(OURS)
        await trio.sleep(10.0)
        await session.get_access_token()
    assert manager.options == [OURS, None]


async def _start_later(nursery: trio.Nursery, session: AnonymousSession, count: int) -> None:
    await trio.sleep(1.0)
    start_getters(nursery, session, count)


# Cancellation and revocation between two steps of a request


async def test_a_cancelled_call_starts_no_request(autojump_clock: MockClock) -> None:
    """A call in a scope that is already cancelled starts no token request."""
    manager, session = make_session(refresh="on_request")
    async with session:
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.get_access_token()
        await wait_all_tasks_blocked()
    assert scope.cancelled_caught
    assert manager.sent == []


@pytest.mark.parametrize("passes", range(8))
@pytest.mark.parametrize("seed", range(4))
def test_a_revocation_at_any_step_delays_no_caller(passes: int, seed: int) -> None:
    """A caller gets a token within a second, whenever the token is revoked during its request."""

    async def main() -> None:
        _, session = make_session(refresh="on_request")
        async with session, trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            await session.revoke_tokens()
            # Two requests are at least a second apart.
            await trio.sleep(1.0)
            await wait_all_tasks_blocked()
            assert getter.token is not None

    with seeded_schedule(seed):
        trio.run(main, clock=MockClock(autojump_threshold=0.0))


async def test_a_token_that_is_granted_after_its_revocation_is_revoked_again(
    autojump_clock: MockClock,
) -> None:
    """If a request that was revoked brings a token that was revoked before, it is revoked again."""
    manager, session = make_session(refresh="on_request")
    first = manager.new_token(0.0)
    manager.outcomes = [first, first]
    async with session, trio.open_nursery() as nursery:
        await session.get_access_token()
        await session.revoke_tokens()
        await trio.sleep(1.0)
        manager.latency = 1.0
        nursery.start_soon(session.get_access_token)
        await trio.sleep(0.5)
        await session.revoke_tokens()
        await trio.sleep(1.0)
        assert manager.revoked == ["token-1", "token-1"]


async def test_a_token_that_is_granted_during_its_revocation_is_revoked_once(
    autojump_clock: MockClock,
) -> None:
    """The session remembers each of the tokens that it revokes at the same time."""
    manager, session = make_session(refresh="on_request")
    manager.revoke_latency = 10.0
    async with session, trio.open_nursery() as nursery:
        await session.get_access_token()
        nursery.start_soon(session.revoke_tokens)
        await trio.sleep(1.0)
        manager.lifetime = 12.0
        second = await session.exchange_token("x")
        await trio.sleep_until(second.stale_at)
        # This call starts a refresh, which ends after the first revocation and before the second.
        manager.latency, manager.outcomes = 6.0, [second]
        await session.get_access_token()
        await trio.sleep(1.0)
        await session.revoke_tokens()
        assert manager.revoked == ["token-1", "token-2"]


# Token managers


@pytest.mark.parametrize("how", ["return", "raise", "cancel"])
async def test_an_owned_manager_is_closed_at_the_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A session closes the manager that it created once, however the block is left."""
    closed: list[TokenManager] = []
    close = TokenManager.aclose

    async def noted(manager: TokenManager) -> None:
        closed.append(manager)
        await close(manager)

    monkeypatch.setattr(TokenManager, "aclose", noted)
    with trio.CancelScope() as scope:
        try:
            async with AnonymousSession(make_config()):
                assert closed == []
                if how == "raise":
                    raise ZeroDivisionError
                if how == "cancel":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        except ZeroDivisionError:
            assert how == "raise"
    assert len(closed) == 1


# Several sessions


async def test_a_session_inside_another_with_the_same_config(autojump_clock: MockClock) -> None:
    """Two sessions with one config each have a token, and closing one does not affect the other."""
    server = TokenServer(FaultPlan(token=[None, None, Fault(delay=5.0)]))
    async with open_test_session(server) as outer:
        async with open_test_session(server) as inner:
            assert inner.config == outer.config
            first = await outer.get_access_token()
            assert await inner.get_access_token() != first
            inner.invalidate(first)
            assert inner.state is outer.state is FRESH
        with pytest.raises(SessionClosedError):
            await inner.get_access_token()
        assert await outer.get_access_token() == first
    assert server.grants == 2
