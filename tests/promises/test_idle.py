"""Promise 4: when an eager session parks, and which calls prevent that."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from tests.promises.kit import ASKS
from trio_anon_session import AnonymousSession, TokenState, TokenUnavailableError
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.parametrize("ask", ASKS)
async def test_promise_04_an_idle_session_parks_and_any_get_wakes_it(
    autojump_clock: MockClock, ask: str
) -> None:
    """An eager session parks after ``idle_timeout`` without a call, and any kind of call counts."""
    config = make_config(idle_timeout=6000.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(100 * 3600.0)
        # At 3000 s, the last call was less than 6000 s ago. At 6000 s, it was not.
        assert len(manager.sent) == 2
        assert session.state is TokenState.EXPIRED
        assert session.statistics().next_refresh_in is None
        # These calls do not wait, so the session sends no request for them.
        for _ in range(3):
            with pytest.raises(trio.WouldBlock):
                session.get_access_token_nowait()
            await trio.sleep(100.0)
        assert len(manager.sent) == 2
        await session.get_access_token()
        assert len(manager.sent) == 3
        await trio.sleep(1000.0)
        await ASKS[ask](session)
        await trio.sleep(100 * 3600.0)
        # After the call at 1000 s, the session refreshes at 3000 s and 6000 s, and is parked at
        # 9000 s.
        assert len(manager.sent) == 5


async def test_promise_04_an_eager_session_keeps_trying_through_an_outage(
    autojump_clock: MockClock,
) -> None:
    """In an outage, an eager session tries again after each pause, also past expiry."""
    server = TokenServer(
        FaultPlan(token=[None], token_then=Fault.server_error(503)), lifetime=3600.0
    )
    async with open_test_session(server) as session:
        await session.get_access_token()
        await trio.sleep(2 * 3600.0)
        assert session.state is TokenState.EXPIRED
        times = [request.at for request in server.token_requests()]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times[10:])]
        assert len(gaps) > 50
        assert gaps == pytest.approx([60.0] * len(gaps))
        server.faults = FaultPlan()
        await trio.sleep(61.0)
        assert session.get_access_token_nowait()


async def test_promise_04_a_program_that_asks_by_nowait_only_survives_an_outage(
    autojump_clock: MockClock,
) -> None:
    """A nowait call with an expired token keeps the session from parking."""
    config = make_config(idle_timeout=100.0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        manager.outcomes = [TokenUnavailableError("down") for _ in range(40)]
        for _ in range(600):
            await trio.sleep(10.0)
            with contextlib.suppress(trio.WouldBlock):
                session.get_access_token_nowait()
        assert session.get_access_token_nowait() == "token-2"


async def test_promise_04_a_get_that_fails_wakes_a_parked_session(
    autojump_clock: MockClock,
) -> None:
    """A call that fails wakes a parked session, which then tries again by itself."""
    config = make_config(idle_timeout=100.0, max_retries=0)
    manager = FakeTokenManager(config, lifetime=3600.0)
    async with AnonymousSession(config, manager) as session:
        await session.get_access_token()
        await trio.sleep(2 * 3600.0)
        manager.outcomes = [TokenUnavailableError("down")]
        with pytest.raises(TokenUnavailableError):
            await session.get_access_token()
        await trio.sleep(10.0)
        assert session.get_access_token_nowait() == "token-2"
