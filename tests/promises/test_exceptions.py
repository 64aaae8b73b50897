"""Promise 20: which exception leaves the block, and that it leaves it bare."""

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
    """A crash that is not an `Exception`, as SystemExit is."""


PLACES = ("revoking", "an observer", "a grant that is cancelled")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("crash", [None, OSError, _OwnError, KeyboardInterrupt])
@pytest.mark.parametrize("own", [None, ValueError, ExceptionGroup, SystemExit])
def test_which_exception_leaves_the_block(
    own: type[BaseException] | None, crash: type[BaseException] | None, place: str
) -> None:
    """A crash that is no Exception wins over the block's Exception, and only over that."""

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
async def test_promise_20_the_bodys_exception_comes_out_as_itself(
    autojump_clock: MockClock,
    own: BaseException,
    crash: type[BaseException] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bare, with its traceback and context, also if a background task crashes: that is logged."""
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
                raise own  # noqa: B904  # its context is what is looked at
    except BaseException as error:
        caught = error
    assert caught is own
    assert caught.__context__ is context
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.__traceback__)]
    assert frames == ["test_promise_20_the_bodys_exception_comes_out_as_itself"]
    logged = "" if crash is None else f"a background task raised {crash.__name__} too"
    assert logged in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize("stops", [False, True])
async def test_promise_20_a_crash_comes_out_of_a_cancelled_body_as_itself(
    autojump_clock: MockClock, stops: bool
) -> None:
    """A body with nurseries of its own leaves no Cancelled behind, and loses no crash."""
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
async def test_promise_20_an_own_exception_in_a_cancelled_scope_comes_out_as_itself(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, owned: bool
) -> None:
    """No cancellation takes its place, and the log blames no background task for one."""
    manager = None if owned else FakeTokenManager(make_config())
    with pytest.raises(_OwnError):
        with trio.CancelScope() as scope:
            async with AnonymousSession(make_config(), manager):
                scope.cancel()
                raise _OwnError
    assert not caplog.records


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 2.0])
async def test_promise_20_cancellation_comes_out_as_itself(
    autojump_clock: MockClock, moment: float
) -> None:
    """An outer scope that is cancelled catches its own cancellation, bare."""
    manager = FakeTokenManager(make_config(), latency=1.0)
    with trio.move_on_after(moment) as scope:
        try:
            async with AnonymousSession(manager.config, manager) as session:
                await session.get_access_token()
                await trio.sleep_forever()
        except BaseException as error:
            assert type(error) is trio.Cancelled  # noqa: PT017  # it must go on, too
            raise
    assert scope.cancelled_caught


async def test_promise_20_the_session_lives_until_its_block_is_left(
    autojump_clock: MockClock,
) -> None:
    """A cancelled body's own shielded cleanup still has a token, and a new one if need be."""
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
    """What a token manager raises because it was cancelled does not come out of the block."""

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


async def test_promise_20_what_breaks_the_session_comes_out_though_it_is_an_exception(
    autojump_clock: MockClock,
) -> None:
    """A group that is broken by half, and leaves but a ValueError, is not lost in the log."""

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


async def test_promise_20_an_interrupt_waits_until_the_block_is_left(
    autojump_clock: MockClock,
) -> None:
    """Ctrl-C between two steps of entering or leaving leaves no task or socket behind."""
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
    """A run without strict exception groups sees the same exceptions, bare."""

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
