"""Promise 5: suspended machines, and changes of the wall clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, start_getters
from trio_anon_session import AnonymousSession, TokenState, TokenUnavailableError

if TYPE_CHECKING:
    from tests.helpers import TwoClocks


async def test_promise_05_a_suspend_of_hours_is_noticed(two_clocks: TwoClocks) -> None:
    """After a suspend, the session does not return a token that expired during it."""
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        assert await session.get_access_token() == "token-1"
        two_clocks.suspend(2 * 3600.0)
        assert session.state is TokenState.EXPIRED
        with pytest.raises(trio.WouldBlock):
            session.get_access_token_nowait()
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await two_clocks.advance(1.0)
        assert getter.token == "token-2"
        assert len(manager.sent) == 2


@pytest.mark.parametrize(
    ("ran", "suspended", "not_by", "by"),
    [
        pytest.param(100.0, 3000.0, 100.0, 160.0, id="boundary passed"),
        # The suspend does not begin at a full minute, at which the task checks the clocks.
        pytest.param(130.0, 2000.0, 999.0, 1000.0, id="boundary nearer"),
    ],
)
async def test_promise_05_an_eager_session_refreshes_after_a_suspend(
    two_clocks: TwoClocks, ran: float, suspended: float, not_by: float, by: float
) -> None:
    """After a suspend, an eager session refreshes at the stale boundary without any call.

    If the boundary has passed, the session refreshes within a minute.
    """
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        await two_clocks.advance(ran)
        two_clocks.suspend(suspended)
        await two_clocks.advance(not_by - ran)
        assert len(manager.sent) == 1
        await two_clocks.advance(by - not_by)
        assert len(manager.sent) == 2
        assert session.get_access_token_nowait() == "token-2"


async def test_promise_05_a_suspend_during_the_grant_counts(two_clocks: TwoClocks) -> None:
    """A token that expired because of a suspend during its request is not used."""
    config = make_config(max_retries=0)
    manager = FakeTokenManager(config, lifetime=3600.0, latency=10.0)
    async with AnonymousSession(config, manager) as session, trio.open_nursery() as nursery:
        (getter,) = start_getters(nursery, session, 1)
        await wait_all_tasks_blocked()
        two_clocks.suspend(3600.0)
        await two_clocks.advance(10.0)
        assert isinstance(getter.error, TokenUnavailableError)
        assert "expired when it arrived" in str(getter.error)


async def test_promise_05_a_wall_clock_set_back_extends_no_lifetime(two_clocks: TwoClocks) -> None:
    """If the wall clock is set back, the token expires by Trio's clock."""
    config = make_config(refresh="on_request")
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        two_clocks.set_wall(by=-7200.0)
        for seconds, state in ((3569.0, TokenState.STALE), (1.0, TokenState.EXPIRED)):
            await two_clocks.advance(seconds)
            assert session.state is state
        with pytest.raises(trio.WouldBlock):
            session.get_access_token_nowait()


async def test_promise_05_waiting_callers_get_the_token_when_the_wall_clock_is_set_back(
    two_clocks: TwoClocks,
) -> None:
    """Callers that wait because the wall clock was ahead get the old token within a minute."""
    config = make_config(refresh="on_request")
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session, trio.open_nursery() as nursery:
        await session.get_access_token()
        manager.latency = 1000.0
        two_clocks.set_wall(by=7200.0)
        getters = start_getters(nursery, session, 2)
        await two_clocks.advance(1.0)
        assert session.statistics().getters_held == 2
        two_clocks.set_wall(by=-7200.0)
        await two_clocks.advance(60.0)
        assert [getter.token for getter in getters] == ["token-1", "token-1"]
        nursery.cancel_scope.cancel()


async def test_promise_05_a_wall_clock_set_forward_costs_one_grant(two_clocks: TwoClocks) -> None:
    """A wall clock that is set forward costs one token request, and no more afterwards."""
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        await two_clocks.advance(500.0)
        two_clocks.set_wall(by=10 * 86400.0)
        assert await session.get_access_token() == "token-2"
        await two_clocks.advance(2940.0)
        assert len(manager.sent) == 2
        await two_clocks.advance(60.0)
        assert len(manager.sent) == 3


async def test_promise_05_with_mock_clock_the_wall_clock_is_ignored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``MockClock``, a change of the wall clock does not expire the token."""
    manager = FakeTokenManager(make_config(), lifetime=3600.0)
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        later = time.time() + 1e6
        monkeypatch.setattr(time, "time", lambda: later)
        assert session.state is TokenState.FRESH
        assert session.get_access_token_nowait() == "token-1"
