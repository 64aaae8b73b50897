"""Promise 20: which exception the block raises, unwrapped."""

from __future__ import annotations

import signal
import traceback
import warnings
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import AnonymousSession, Closed, SessionClosedError

if TYPE_CHECKING:
    from trio_anon_session import TokenInfo, TokenRequestOptions


class _OwnError(BaseException):
    """A crash that is not an `Exception`, like SystemExit."""


PLACES = ("revoking", "an observer", "a grant that is cancelled")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("crash", [None, OSError, _OwnError, KeyboardInterrupt])
@pytest.mark.parametrize("own", [None, ValueError, ExceptionGroup, SystemExit])
def test_which_exception_leaves_the_block(
    own: type[BaseException] | None, crash: type[BaseException] | None, place: str
) -> None:
    """A crash that is no Exception replaces an Exception of the block, and no other exception."""

    def fail() -> None:
        if crash is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        elif crash is not None:
            raise crash

    class Manager(FakeTokenManager):
        async def get_tokens_client_credentials_grant(
            self, options: TokenRequestOptions | None = None
        ) -> TokenInfo:
            try:
                return await super().get_tokens_client_credentials_grant(options)
            except trio.Cancelled:
                if place == "a grant that is cancelled":
                    fail()
                raise

        async def revoke_tokens(
            self, token: str, options: TokenRequestOptions | None = None
        ) -> None:
            if place == "revoking":
                fail()
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()

    def observer(event: object) -> None:
        if place == "an observer" and isinstance(event, Closed):
            fail()

    async def main() -> None:
        manager = Manager(make_config(revoke_on_exit=True), latency=1.0)
        async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
            await session.get_access_token()
            if place == "a grant that is cancelled":
                session.invalidate("token-1")
                with trio.move_on_after(0.5):
                    await session.get_access_token()
            if own is not None:
                raise own("", [ValueError()]) if own is ExceptionGroup else own

    ending: BaseException | None = None
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0.0))
    except BaseException as error:
        ending = error
    own_may_lose = own is None or issubclass(own, Exception)
    if crash in (_OwnError, KeyboardInterrupt) and own_may_lose:
        assert type(ending) is crash
        if own is not None and place != "a grant that is cancelled":
            assert type(ending.__context__) is own
    else:
        assert (None if ending is None else type(ending)) is own


@pytest.mark.parametrize(
    ("own", "crash"),
    [
        (ValueError(), None),
        (ExceptionGroup("mine", [ValueError()]), None),
        (KeyboardInterrupt(), _OwnError),
        (_OwnError(), KeyboardInterrupt),
        (GeneratorExit(), _OwnError),
    ],
    ids=["exception", "group", "interrupt", "crash", "generator exit"],
)
async def test_promise_20_the_block_raises_its_exception_unwrapped(
    autojump_clock: MockClock,
    own: BaseException,
    crash: type[BaseException] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception of the block is raised unwrapped, with its traceback and context.

    If a background task crashes, too, that is logged.
    """
    manager = FakeTokenManager(make_config())
    context = LookupError()
    caught: BaseException | None = None
    try:
        async with AnonymousSession(manager.config, manager) as session:
            if crash is not None:
                manager.outcomes = [crash("hush")]
                # Shield this call, because the crash cancels the block, and the block must still
                # raise its own exception.
                with trio.CancelScope(shield=True), pytest.raises(SessionClosedError):
                    await session.get_access_token()
            try:
                raise context
            except LookupError:
                raise own  # noqa: B904  # the test checks its context
    except BaseException as error:
        caught = error
    assert caught is own
    assert caught.__context__ is context
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.__traceback__)]
    assert frames == ["test_promise_20_the_block_raises_its_exception_unwrapped"]
    logged = "" if crash is None else f"a background task raised {crash.__name__} too"
    assert logged in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize("stops", [False, True])
async def test_promise_20_a_crash_is_raised_from_a_cancelled_block(
    autojump_clock: MockClock, stops: bool
) -> None:
    """A crash cancels a block with its own nursery, and is raised without any Cancelled.

    If the block raises SystemExit in its nursery, that group is raised.
    """
    manager = FakeTokenManager(make_config())
    manager.outcomes = [_OwnError()]

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if stops:
                raise SystemExit

    with pytest.raises(BaseExceptionGroup if stops else _OwnError) as caught:
        async with AnonymousSession(manager.config, manager) as session:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.get_access_token)
                nursery.start_soon(work)
    if isinstance(caught.value, BaseExceptionGroup):
        assert [type(error) for error in caught.value.exceptions] == [SystemExit]


@pytest.mark.parametrize("owned", [True, False])
async def test_promise_20_a_crash_in_a_cancelled_scope_is_raised(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, owned: bool
) -> None:
    """A crash in a block that was cancelled is raised, and no background task is logged."""
    manager = None if owned else FakeTokenManager(make_config())
    with pytest.raises(_OwnError):
        with trio.CancelScope() as scope:
            async with AnonymousSession(make_config(), manager):
                scope.cancel()
                raise _OwnError
    assert not caplog.records


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 2.0])
async def test_promise_20_a_cancelled_block_raises_one_cancelled(
    autojump_clock: MockClock, moment: float
) -> None:
    """A cancelled block raises one Cancelled, which the outer scope catches, and no group."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    with trio.move_on_after(moment) as scope:
        try:
            async with AnonymousSession(manager.config, manager) as session:
                await session.get_access_token()
                await trio.sleep_forever()
        except BaseException as error:
            assert type(error) is trio.Cancelled  # noqa: PT017  # it is raised again
            raise
    assert scope.cancelled_caught


async def test_promise_20_the_session_works_until_its_block_ends(
    autojump_clock: MockClock,
) -> None:
    """A shielded cleanup in a cancelled block still gets the token, and a new one after a drop."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    with trio.move_on_after(5.0) as scope:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    assert await session.get_access_token() == "token-1"
                    session.invalidate("token-1")
                    assert await session.get_access_token() == "token-2"
    assert scope.cancelled_caught


async def test_promise_20_a_manager_that_fails_at_cleanup_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that a cancelled token manager raises is logged, and not raised by the block."""

    class Hasty(FakeTokenManager):
        async def get_tokens_client_credentials_grant(
            self, options: TokenRequestOptions | None = None
        ) -> TokenInfo:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                raise BaseExceptionGroup("x", [error, ValueError("x")]) from None
            raise AssertionError

    manager = Hasty(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        with trio.move_on_after(1.0):
            await session.get_access_token()
    assert "raised ExceptionGroup while the session closed" in caplog.text


async def test_promise_20_the_rest_of_a_group_with_cancelled_is_raised(
    autojump_clock: MockClock,
) -> None:
    """If the manager raises a group of Cancelled and ValueError, the block raises the rest."""

    class Leaky(FakeTokenManager):
        async def get_tokens_client_credentials_grant(
            self, options: TokenRequestOptions | None = None
        ) -> TokenInfo:
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as error:
                    cancelled = error
                    raise
            raise BaseExceptionGroup("x", [cancelled, ValueError("x")])

    manager = Leaky(make_config())
    with pytest.raises(ExceptionGroup) as caught:
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_promise_20_enter_and_exit_are_protected_from_ctrl_c(
    autojump_clock: MockClock,
) -> None:
    """The session enters and leaves its block protected from KeyboardInterrupt, unlike the body."""
    protected: list[bool] = []

    class Look(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            protected.append(trio.lowlevel.currently_ki_protected())

    def look(event: object) -> None:
        if isinstance(event, Closed):
            protected.append(trio.lowlevel.currently_ki_protected())

    manager = FakeTokenManager(make_config())
    instrument = Look()
    trio.lowlevel.add_instrument(instrument)
    async with AnonymousSession(manager.config, manager, observers=[look]):
        assert not trio.lowlevel.currently_ki_protected()
    trio.lowlevel.remove_instrument(instrument)
    assert len(protected) > 1
    assert all(protected)


def test_promise_20_loose_exception_groups_change_nothing() -> None:
    """Without strict exception groups, the block raises the same exceptions, unwrapped."""

    async def main() -> None:
        manager = FakeTokenManager(make_config())
        with pytest.raises(ValueError, match="own"):
            async with AnonymousSession(manager.config, manager):
                raise ValueError("own")
        manager.outcomes = [_OwnError()]
        with pytest.raises(_OwnError):
            async with AnonymousSession(manager.config, manager) as session:
                await session.get_access_token()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", trio.TrioDeprecationWarning)
        trio.run(main, strict_exception_groups=False)
