"""Tests of how a `SharedTokenManager` closes: its store, its manager, and errors of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session.stores import MemoryStore, SharedTokenManager
from trio_anon_session.stores._access import STORE_TIMEOUT

from .faulty import EVERYTHING, FaultyStore, make_source

if TYPE_CHECKING:
    from trio.testing import MockClock


class _Closing(FakeTokenManager):
    """A token manager that records when it is closed."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(make_config())
        self.closed_at: list[float] = []
        self.error = error

    async def aclose(self) -> None:
        """Record the time, also if the task is cancelled."""
        self.closed_at.append(trio.current_time())
        if self.error is not None:
            raise self.error
        await trio.lowlevel.checkpoint()


async def test_leaving_closes_store_and_manager(autojump_clock: MockClock) -> None:
    """Leaving the block closes store and inner manager once; another close does nothing."""
    source, store = _Closing(), FaultyStore()
    async with SharedTokenManager(source, store) as manager:
        assert source.closed_at == []
    assert source.closed_at == [0.0]
    await manager.aclose()
    assert store.times("aclose") == [0.0]


async def test_a_manager_that_was_never_opened_does_not_close_its_store(
    autojump_clock: MockClock,
) -> None:
    """A manager that was never opened closes its inner manager, and not the store."""
    source, store = _Closing(), FaultyStore()
    await SharedTokenManager(source, store).aclose()
    assert source.closed_at == [0.0]
    assert store.asked == []


@pytest.mark.parametrize(
    ("trouble", "error", "at"),
    [("fails", "OSError", 0.0), ("hangs", "TooSlowError", STORE_TIMEOUT)],
)
async def test_promise_19_a_store_that_cannot_be_closed_is_left(
    autojump_clock: MockClock,
    trouble: str,
    error: str,
    at: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the store cannot be closed in time, that is logged, and the inner manager is closed."""
    source, store = _Closing(), FaultyStore()
    setattr(store, trouble, {"aclose"})
    async with SharedTokenManager(source, store):
        pass
    assert source.closed_at == [at]
    assert [record.getMessage() for record in caplog.records] == [
        f"closing the token store raised {error}"
    ]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
async def test_promise_20_an_error_of_closing_propagates_unwrapped(
    autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    """An error from closing the inner manager is raised after the store was closed.

    An interrupt from closing the store is raised after the inner manager was closed.
    """
    source, store = _Closing(kind()), FaultyStore()
    with pytest.raises(kind):
        async with SharedTokenManager(source, store):
            pass
    assert store.times("aclose") == [0.0]
    source, store = _Closing(), FaultyStore()
    store.fails, store.error = {"aclose"}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        async with SharedTokenManager(source, store):
            pass
    assert source.closed_at == [0.0]


@pytest.mark.parametrize("hangs", [(), ("aclose",), ("open",)], ids=["-", "aclose", "open"])
async def test_a_cancelled_block_closes_both(
    autojump_clock: MockClock, hangs: tuple[str, ...]
) -> None:
    """A block that is cancelled is left immediately, also while the store opens or hangs."""
    source, store = _Closing(), FaultyStore()
    store.hangs = hangs
    with trio.move_on_after(1.0) as scope:
        async with SharedTokenManager(source, store):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert source.closed_at == [1.0]
    assert store.times("aclose") == [1.0]
    assert trio.current_time() == 1.0


async def test_calls_after_the_block_change_nothing(autojump_clock: MockClock) -> None:
    """After the block, a drop or removing a listener twice raises nothing."""
    async with SharedTokenManager(make_source(), MemoryStore()) as manager:
        stop = manager.on_drop(lambda _: None)
        token = await manager.get_tokens_client_credentials_grant()
    manager.drop(token)
    stop()
    stop()


async def test_an_error_in_the_block_propagates_unwrapped(autojump_clock: MockClock) -> None:
    """An error in the block is raised unwrapped, although the store fails."""
    store = FaultyStore()
    store.fails = EVERYTHING
    own = KeyError("own")
    with pytest.raises(KeyError) as caught:
        async with SharedTokenManager(make_source(), store):
            raise own
    assert caught.value is own


class _OwnError(BaseException):
    pass


@pytest.mark.parametrize("own", [None, KeyboardInterrupt])
async def test_a_crash_of_the_store_in_the_background_ends_the_block(
    autojump_clock: MockClock, own: type[BaseException] | None
) -> None:
    """A crash in the background cancels the block, and is raised if the block raises nothing."""
    store = FaultyStore()
    store.fails, store.error = {"listen"}, _OwnError()
    with pytest.raises(own or _OwnError):
        async with SharedTokenManager(make_source(), store) as manager:
            manager.on_drop(lambda _: None)
            try:
                await trio.sleep_forever()
            finally:
                if own is not None:
                    raise own


async def test_an_interrupt_while_the_store_opens_is_not_lost(autojump_clock: MockClock) -> None:
    """An interrupt while the store opens is raised, although the block is cancelled.

    The store and the inner manager are closed before.
    """
    scope = trio.CancelScope()

    class Interrupted(FaultyStore):
        async def open(self) -> None:
            scope.cancel()
            raise KeyboardInterrupt

    source, store = _Closing(), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        with scope:
            async with SharedTokenManager(source, store):
                pass
    assert source.closed_at == store.times("aclose") == [0.0]
