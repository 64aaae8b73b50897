"""Promises 16 and 17: a dropped token is not returned again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, start_getters
from trio_anon_session import (
    AnonymousSession,
    TokenUnavailableError,
)


async def test_promise_16_a_hundred_reports_of_one_token_cause_one_grant(
    autojump_clock: MockClock,
) -> None:
    """A hundred reports of the same token, together or late, cause one token request."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        rejected = await session.get_access_token()
        got: set[str] = set()

        async def report(delay: float) -> None:
            await trio.sleep(delay)
            session.invalidate(rejected)
            got.add(await session.get_access_token())

        async with trio.open_nursery() as nursery:
            for number in range(100):
                # Some reports come while the request for B is in progress, and others while B is
                # current.
                nursery.start_soon(report, number / 20)
        assert got == {"token-2"}
        assert len(manager.sent) == 2
        assert session.statistics().invalidations == 1


@pytest.mark.parametrize("late", [0.0, 1.0])
async def test_a_report_of_an_expired_token_changes_nothing(
    autojump_clock: MockClock, late: float
) -> None:
    """A report of a token that has expired changes nothing."""
    manager = FakeTokenManager(make_config(refresh="on_request"))
    async with AnonymousSession(manager.config, manager) as session:
        token = await session.exchange_token("x")
        await trio.sleep_until(token.expires_at + late)
        session.invalidate(token.access_token)
        assert session.token_info is token
        assert session.statistics().invalidations == 0


@pytest.mark.parametrize("how", ["invalidate", "revoke"])
async def test_promise_17_a_request_from_before_a_drop_is_discarded(
    autojump_clock: MockClock, how: str
) -> None:
    """A token whose request was in progress when the current token was dropped is discarded."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        dropped = await session.exchange_token("x")
        await trio.sleep_until(dropped.stale_at - 1.0)
        manager.latency = 10.0
        await trio.sleep(3.0)
        assert manager.in_flight == 1
        if how == "invalidate":
            session.invalidate(dropped.access_token)
        else:
            await session.revoke_tokens()
        manager.latency = 0.0
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
        assert getter.token == "token-3"
        await wait_all_tasks_blocked()
        # The token of a request that began before the revocation is revoked, too.
        assert manager.revoked == ([] if how == "invalidate" else ["token-1", "token-2"])


async def test_promise_17_a_revoke_before_the_first_token_discards_it(
    autojump_clock: MockClock,
) -> None:
    """A revocation before the first token discards the token of the current request.

    That token is revoked when it arrives.
    """
    manager = FakeTokenManager(make_config(), latency=1.0)
    async with AnonymousSession(manager.config, manager) as session:
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(0.5)
            await session.revoke_tokens()
            assert manager.revoked == []
        assert getter.token == "token-2"
        assert manager.revoked == ["token-1"]
        # No request failed, so there is no pause except the gap between requests.
        assert session.statistics().failures == 0
        assert manager.sent[1] - manager.sent[0] == 1.0


@pytest.mark.parametrize("how", ["dropped", "session revokes"])
async def test_promise_17_an_older_copy_of_any_dropped_token_is_refused(
    autojump_clock: MockClock, how: str
) -> None:
    """An older copy of any dropped or revoked token is refused."""
    manager = FakeTokenManager(make_config(max_retries=0))
    async with AnonymousSession(manager.config, manager) as session:
        first = await session.exchange_token("x")
        for _ in range(2):
            token = await session.get_access_token()
            if how == "dropped":
                session.invalidate(token)
            else:
                await session.revoke_tokens()
        manager.outcomes = [first]
        with pytest.raises(TokenUnavailableError, match=how):
            await session.get_access_token()
