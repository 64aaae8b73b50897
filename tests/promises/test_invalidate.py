"""Promises 16 and 17: a token that is dropped is not returned again."""

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
    """However many tasks report 401 for A, together or late, one grant follows."""
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
    """From the moment at which a token expires, a report of it is no invalidation."""
    manager = FakeTokenManager(make_config(refresh="on_request"))
    async with AnonymousSession(manager.config, manager) as session:
        token = await session.exchange_token("x")
        await trio.sleep_until(token.expires_at + late)
        session.invalidate(token.access_token)
        assert session.token_info is token
        assert session.statistics().invalidations == 0


@pytest.mark.parametrize("how", ["invalidate", "revoke"])
async def test_promise_17_a_grant_begun_before_brings_nothing(
    autojump_clock: MockClock, how: str
) -> None:
    """A token whose grant was in flight when the current one was dropped is discarded."""
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
    """With nothing held but a grant in flight, revoke discards its token, and revokes it."""
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
    """Of several tokens that were dropped or revoked, each stays refused while it may live."""
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
