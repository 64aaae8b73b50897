"""Promise 17 with a token manager that shares tokens: which tokens are dropped or new."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    Config,
    TokenInfo,
    TokenState,
    TokenUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


class _SharedTokenManager(FakeTokenManager):
    """A fake shared manager, which can return tokens of another process."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.dropped: list[str] = []
        self.drop_error: Exception | None = None
        self.listeners: list[Callable[[TokenInfo], object]] = []

    def drop(self, token: TokenInfo) -> None:
        """Record the token."""
        self.dropped.append(token.access_token)
        if self.drop_error is not None:
            raise self.drop_error

    def on_drop(self, listener: Callable[[TokenInfo], object]) -> Callable[[], object]:
        """Register the listener."""
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


def _in_a_thread(call: Callable[..., object], *args: object) -> None:
    # The mock clock would jump while a Trio task waits for a thread.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(call, *args).result()


async def test_promise_17_a_shared_token_is_new_if_it_is_a_different_one(
    autojump_clock: MockClock,
) -> None:
    """After a drop, an older token of another process is used, but not the dropped token."""
    config = make_config(max_retries=1, retry_interval=1.0, refresh="on_request")
    manager = _SharedTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        await trio.sleep(500.0)
        first = TokenInfo.from_answer("shared-1", 3600.0, 0.0, config)
        other = TokenInfo.from_answer("shared-2", 3600.0, 100.0, config)
        manager.outcomes = [first, first, first, other]
        assert await session.exchange_token("x") == first
        session.invalidate("shared-1")
        with pytest.raises(TokenUnavailableError, match="dropped"):
            await session.get_access_token()
        await trio.sleep(60.0)
        assert await session.get_access_token() == "shared-2"


async def test_promise_17_a_token_granted_again_counts_as_new(
    autojump_clock: MockClock,
) -> None:
    """A dropped token that the server grants again is used, and so is a second copy of it."""
    config = make_config(min_refresh_interval=1.0)
    manager = FakeTokenManager(config, lifetime=100.0)
    async with AnonymousSession(config, manager) as session:
        session.invalidate(await session.get_access_token())
        again = TokenInfo.from_answer("token-1", 100.0, 1.0, config)
        manager.outcomes = [again, again]
        assert await session.get_access_token() == "token-1"
        # The refresh at the stale boundary returns the token that was sent before.
        await trio.sleep(60.0)
        assert session.statistics().failures == 0
        assert session.statistics().same_token_answers == 1


@pytest.mark.parametrize(
    ("sent_at", "is_new"), [(0.0, False), (499.0, False), (500.0, True), (600.0, True)]
)
async def test_promise_17_a_token_granted_again_elsewhere_counts_as_new(
    autojump_clock: MockClock, sent_at: float, is_new: bool
) -> None:
    """A dropped token is used again if it was requested at or after the time of the drop."""
    config = make_config(max_retries=0, refresh="on_request")
    manager = _SharedTokenManager(config)
    async with AnonymousSession(config, manager) as session:
        manager.outcomes = [
            TokenInfo.from_answer("shared-1", 3600.0, granted_at, config)
            for granted_at in (0.0, sent_at)
        ]
        await session.get_access_token()
        await trio.sleep(500.0)
        session.invalidate("shared-1")
        await trio.sleep(500.0)
        if is_new:
            assert (await session.exchange_token("x")).sent_at == sent_at
        else:
            with pytest.raises(TokenUnavailableError, match="dropped"):
                await session.get_access_token()


async def test_promise_17_a_shared_manager_gets_each_dropped_token(
    autojump_clock: MockClock,
) -> None:
    """The shared manager gets a dropped token before ``invalidate`` returns.

    It also gets one whose revocation is cancelled.
    """
    manager = _SharedTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        session.invalidate(await session.get_access_token())
        assert manager.dropped == ["token-1"]
        session.invalidate("token-1")
        await session.get_access_token()
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.revoke_tokens()
        assert manager.dropped == ["token-1", "token-2"]


async def test_promise_17_a_token_that_another_session_dropped_is_dropped_here(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A session drops its token if the shared manager reports that, and does not report it back.

    It removes its listener when it closes.
    """
    manager = _SharedTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        first = await session.exchange_token("x")
        (listener,) = manager.listeners
        listener(first)
        assert session.state is TokenState.EMPTY
        # The second report comes late, when another token is current.
        assert await session.get_access_token() == "token-2"
        listener(first)
        assert session.get_access_token_nowait() == "token-2"
        with pytest.raises(RuntimeError, match=r"call trio\.from_thread\.run"):
            _in_a_thread(listener, session.token_info)
        assert session.get_access_token_nowait() == "token-2"
    assert manager.listeners == []
    # The session removes its listener once: a second time would raise an error, which is logged.
    assert caplog.records == []
    assert manager.dropped == []
    # After the end, a report changes nothing, in any thread.
    for report in (listener, lambda token: session.invalidate(token.access_token)):
        report(first)
        _in_a_thread(report, first)


async def test_promise_14_a_drop_that_raises_stops_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that a shared manager raises from ``drop`` is logged."""
    manager = _SharedTokenManager(make_config())
    manager.drop_error = OSError("no store")
    async with AnonymousSession(manager.config, manager) as session:
        session.invalidate(await session.get_access_token())
        assert await session.get_access_token() == "token-2"
    assert "drop() raised OSError" in caplog.text
    assert "no store" not in caplog.text
