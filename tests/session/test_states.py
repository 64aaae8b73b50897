"""Tests of `StateView`: waiting for a state, and iterating over the changes."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, TwoClocks, make_config, start_getters
from tests.lazy import an_async_function
from trio_anon_session import (
    AnonymousSession,
    Granted,
    SessionClosedError,
    StateView,
    TokenState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_anon_session import Event

EMPTY, FRESH, STALE, EXPIRED = TokenState


class Follower:
    """Iterates over transitions in its own task, and records when each came."""

    def __init__(
        self,
        view: StateView,
        wanted: TokenState | Callable[[TokenState, TokenState], bool] | None = None,
    ) -> None:
        self.view = view
        self.wanted = wanted
        self.seen: list[tuple[float, TokenState, TokenState]] = []
        self.error: Exception | None = None

    async def run(self) -> None:
        """Follow until the loop raises."""
        try:
            async for new, old in self.view.transitions(self.wanted):
                self.seen.append((trio.current_time(), new, old))
        except Exception as error:
            self.error = error


async def catch(
    view: StateView, way: str, predicate: Callable[..., bool], caught: list[BaseException]
) -> None:
    """Wait with a predicate that raises, and record the exception."""
    try:
        if way == "wait_value":
            await view.wait_value(predicate)
        else:
            await anext(view.transitions(predicate))
    except BaseException as error:
        caught.append(error)


def make_manager() -> FakeTokenManager:
    """Return a manager of tokens that are STALE at 3000 s and EXPIRED at 3570 s."""
    return FakeTokenManager(make_config(refresh="on_request"), lifetime=3600.0)


def make_session() -> AnonymousSession:
    """Return a session with tokens of `make_manager`."""
    manager = make_manager()
    return AnonymousSession(manager.config, manager)


# wait_value


@pytest.mark.parametrize(
    ("wanted", "state", "moment"),
    [
        (EMPTY, EMPTY, 0.0),
        (FRESH, FRESH, 0.0),
        (STALE, STALE, 3000.0),
        (EXPIRED, EXPIRED, 3570.0),
        (lambda state: state in (STALE, EXPIRED), STALE, 3000.0),
    ],
    ids=["empty", "fresh", "stale", "expired", "predicate"],
)
async def test_waiting_for_a_state_ends_when_it_begins(
    autojump_clock: MockClock,
    wanted: TokenState | Callable[[TokenState], bool],
    state: TokenState,
    moment: float,
) -> None:
    """``wait_value`` returns exactly when the state begins, or immediately if it already has."""
    async with make_session() as session:
        start = trio.current_time()
        if state is not EMPTY:
            await session.get_access_token()
        assert await session.states.wait_value(wanted) is state
        assert trio.current_time() - start == moment


async def test_waiting_for_a_state_of_no_duration(autojump_clock: MockClock) -> None:
    """A waiting task gets a state even if an observer ends it immediately."""
    manager = make_manager()

    def reject_the_first(event: Event) -> None:
        if isinstance(event, Granted) and manager.granted == 1:
            session.invalidate("token-1")

    session = AnonymousSession(manager.config, manager, observers=[reject_the_first])
    async with session, trio.open_nursery() as nursery:
        start = trio.current_time()
        start_getters(nursery, session, 1)
        assert await session.states.wait_value(FRESH) is FRESH
        assert trio.current_time() == start


def test_a_view_recovers_after_the_wall_clock_was_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the wall clock was ahead for a moment, the view has the session's state again."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        manager = make_manager()
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            await clock.advance(1.0)
            clock.set_wall(by=3100.0)
            assert session.states.value is STALE
            clock.set_wall(by=-3100.0)
            await clock.advance(61.0)
            assert session.states.value is session.state is FRESH

    trio.run(main, clock=clock)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["wait_value", "transitions"])
async def test_an_exception_of_a_predicate_propagates_in_its_own_task(
    autojump_clock: MockClock, way: str, kind: type[BaseException]
) -> None:
    """An exception of a predicate propagates only in the waiting task, and the session goes on."""
    manager = make_manager()
    raised = kind("of the predicate")
    caught: list[BaseException] = []
    calls: list[tuple[TokenState, ...]] = []

    def bad(*states: TokenState) -> bool:
        calls.append(states)
        if states[0] is EMPTY:
            return False
        raise raised

    async with AnonymousSession(manager.config, manager) as session:
        good = Follower(session.states)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch, session.states, way, bad, caught)
            nursery.start_soon(good.run)
            await wait_all_tasks_blocked()
            calls.clear()
            assert await session.get_access_token() == "token-1"
            await wait_all_tasks_blocked()
            assert caught == [raised]
            assert len(calls) == 1
            await trio.sleep(3571.0)
            assert await session.get_access_token() == "token-2"
            # Trio may run this task before the task that follows the states.
            await wait_all_tasks_blocked()
            assert [new for _, new, _ in good.seen] == [FRESH, STALE, EXPIRED, FRESH]
            nursery.cancel_scope.cancel()


async def test_a_predicate_that_raises_at_its_first_call(autojump_clock: MockClock) -> None:
    """An interrupt of the predicate's first call propagates from ``wait_value``, a checkpoint."""
    manager = make_manager()

    def bad(state: TokenState) -> bool:
        raise KeyboardInterrupt

    async with AnonymousSession(manager.config, manager) as session:
        with assert_checkpoints(), pytest.raises(KeyboardInterrupt):
            await session.states.wait_value(bad)
        assert await session.get_access_token() == "token-1"


@pytest.mark.parametrize("way", ["wait_value", "transitions"])
async def test_a_cancellation_hides_no_interrupt_of_a_predicate(
    autojump_clock: MockClock, way: str
) -> None:
    """If the wait is cancelled at the same moment, the predicate's interrupt still propagates."""
    manager = make_manager()
    caught: list[BaseException] = []

    def bad(*states: TokenState) -> bool:
        if states[0] is FRESH:
            return False
        raise KeyboardInterrupt

    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch, session.states, way, bad, caught)
            await wait_all_tasks_blocked()
            # The waiting task runs after both calls.
            nursery.cancel_scope.cancel()
            session.invalidate("token-1")
    assert [type(error) for error in caught] == [KeyboardInterrupt]


async def test_the_first_exception_of_a_predicate_counts() -> None:
    """A predicate that has raised is not called again, and its task gets that exception."""
    view = StateView(EMPTY)
    raised: list[Exception] = []

    def bad(state: TokenState) -> bool:
        if state is EMPTY:
            return False
        raised.append(ValueError(state.name))
        raise raised[-1]

    async def wait_badly() -> None:
        with pytest.raises(ValueError, match="FRESH"):
            await view.wait_value(bad)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_badly)
        await wait_all_tasks_blocked()
        view._set(FRESH)
        view._set(STALE)
    assert len(raised) == 1


@pytest.mark.parametrize(
    ("wanted", "waits_for", "follows"),
    [
        (
            "FRESH",
            "a TokenState or a callable, not str",
            "a TokenState, a callable or None, not str",
        ),
        ((FRESH,), "a callable, not tuple", "a callable or None, not tuple"),
        (an_async_function, *2 * ("a plain callable, not an async function",)),
    ],
)
async def test_a_wrong_value_or_predicate_is_a_type_error(
    wanted: Any, waits_for: str, follows: str
) -> None:
    """A value that can never match raises a `TypeError` that says what to pass."""
    view = StateView(EMPTY)
    with pytest.raises(TypeError, match=f"^value_or_predicate must be .*{waits_for}$"):
        await view.wait_value(wanted)
    with pytest.raises(TypeError, match=f"^value_or_predicate must be .*{follows}$"):
        view.transitions(wanted)


async def test_a_predicate_that_returns_a_coroutine(autojump_clock: MockClock) -> None:
    """It raises `TypeError` in the waiting task, and Python does not warn about the coroutine."""
    manager = make_manager()
    wrong: Any = lambda *states: an_async_function()  # noqa: E731

    async def iterate(view: StateView) -> None:
        with pytest.raises(TypeError, match="must return a bool, not a coroutine"):
            await anext(view.transitions(wrong))

    async with AnonymousSession(manager.config, manager) as session:
        with pytest.raises(TypeError, match="must return a bool, not a coroutine"):
            await session.states.wait_value(wrong)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(iterate, session.states)
            await wait_all_tasks_blocked()
            assert await session.get_access_token() == "token-1"


async def test_every_step_is_a_checkpoint(autojump_clock: MockClock) -> None:
    """Each step of a loop is a checkpoint, and so is a wait that ends immediately."""
    async with make_session() as session:
        with assert_checkpoints():
            await session.states.wait_value(lambda state: True)
        with assert_checkpoints():
            await session.states.wait_value(EMPTY)
        await session.get_access_token()
        steps = aiter(session.states.transitions())
        with assert_checkpoints():
            assert await anext(steps) == (STALE, FRESH)
    with assert_checkpoints():
        with pytest.raises(SessionClosedError):
            await anext(steps)


# transitions


async def test_transitions_come_at_their_boundaries(autojump_clock: MockClock) -> None:
    """The loop gets each change exactly when it happens, with the new and the old state."""
    async with make_session() as session:
        start = trio.current_time()
        follower = Follower(session.states)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.run)
            await wait_all_tasks_blocked()
            await session.get_access_token()
            await trio.sleep(4000.0)
            await session.get_access_token()
            await trio.sleep(1.0)
            session.invalidate("token-2")
            await trio.sleep(1.0)
            await session.get_access_token()
            # The loop misses a change that comes before its task has run.
            await wait_all_tasks_blocked()
            await session.revoke_tokens()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert [(at - start, new, old) for at, new, old in follower.seen] == [
        (0.0, FRESH, EMPTY),
        (3000.0, STALE, FRESH),
        (3570.0, EXPIRED, STALE),
        (4000.0, FRESH, EXPIRED),
        (4001.0, EMPTY, FRESH),
        (4002.0, FRESH, EMPTY),
        (4002.0, EMPTY, FRESH),
    ]


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (STALE, [(STALE, FRESH)]),
        (lambda new, old: old is EXPIRED, [(FRESH, EXPIRED)]),
        (lambda new, old: new is FRESH, [(FRESH, EMPTY), (FRESH, EXPIRED)]),
        (lambda new, old: False, []),
    ],
    ids=["state", "old", "new", "none"],
)
async def test_transitions_can_be_filtered(
    autojump_clock: MockClock,
    wanted: TokenState | Callable[[TokenState, TokenState], bool],
    seen: list[tuple[TokenState, TokenState]],
) -> None:
    """A state, or a predicate of new and old state, selects the changes that the loop gets."""
    async with make_session() as session:
        follower = Follower(session.states, wanted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.run)
            await wait_all_tasks_blocked()
            await session.get_access_token()
            await trio.sleep(4000.0)
            await session.get_access_token()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert [(new, old) for _, new, old in follower.seen] == seen


async def test_a_loop_that_ends_with_break_causes_no_warning(autojump_clock: MockClock) -> None:
    """A loop that ends with ``break`` needs no ``aclosing``, and Python does not warn."""
    async with make_session() as session:
        await session.get_access_token()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async for new, _ in session.states.transitions():
                assert new is STALE
                break
            gc.collect()
            await trio.lowlevel.checkpoint()
        assert caught == []


# value


async def test_value_follows_the_state(autojump_clock: MockClock) -> None:
    """``value`` has the current state at each boundary, and immediately after a drop."""
    async with make_session() as session:
        view = session.states
        values = [view.value]
        await session.get_access_token()
        for seconds in (0.0, 3000.0, 570.0):
            await trio.sleep(seconds)
            await wait_all_tasks_blocked()
            assert view.value is session.state
            values.append(view.value)
        session.invalidate("token-1")
        assert values == [EMPTY, FRESH, STALE, EXPIRED]
        await session.get_access_token()
        session.invalidate("token-2")
        # A drop does not depend on the clock, so the call itself changes the state.
        assert view.value is EMPTY


async def test_a_view_that_is_obtained_late_has_the_state(
    autojump_clock: MockClock,
) -> None:
    """The first use of ``states`` has the current state, and later uses return the same object."""
    async with make_session() as session:
        await session.get_access_token()
        await trio.sleep(3200.0)
        assert session.states.value is STALE
        assert session.states is session.states
        assert await session.states.wait_value(lambda state: state is EXPIRED) is EXPIRED


def test_a_suspend_is_seen_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boundary that passed while the machine was suspended is seen within a minute."""
    clock = TwoClocks(monkeypatch)

    async def main() -> None:
        manager = make_manager()
        async with AnonymousSession(manager.config, manager) as session:
            follower = Follower(session.states)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follower.run)
                await wait_all_tasks_blocked()
                await session.get_access_token()
                start = trio.current_time()
                clock.suspend(3300.0)
                await clock.advance(60.0)
                nursery.cancel_scope.cancel()
        assert [(at - start, new) for at, new, _ in follower.seen] == [(0.0, FRESH), (60.0, STALE)]

    trio.run(main, clock=clock)


# Before the session opens, and after it closes


async def test_a_view_works_before_the_session_opens(autojump_clock: MockClock) -> None:
    """A task can get a view and wait on it before the session opens."""
    manager = make_manager()
    session = AnonymousSession(manager.config, manager)
    view = session.states
    follower = Follower(view)
    assert view.value is EMPTY
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await wait_all_tasks_blocked()
        async with session:
            await session.get_access_token()
            assert session.states is view
    assert [new for _, new, _ in follower.seen] == [FRESH]
    assert isinstance(follower.error, SessionClosedError)


@pytest.mark.parametrize("moment", ["during", "after"])
async def test_a_view_of_a_closed_session(autojump_clock: MockClock, moment: str) -> None:
    """After the session closes, the view is EMPTY, and waiting on it raises an error."""
    async with make_session() as session:
        await session.get_access_token()
        if moment == "during":
            assert session.states.value is FRESH
    view = session.states
    assert view.value is EMPTY
    with pytest.raises(SessionClosedError):
        await view.wait_value(lambda state: True)
    with pytest.raises(SessionClosedError):
        await view.wait_value(EMPTY)
    with pytest.raises(SessionClosedError):
        await anext(view.transitions())


async def test_a_crash_ends_all_waits(autojump_clock: MockClock) -> None:
    """A session that crashes closes its view before its block is left."""
    manager = make_manager()
    manager.outcomes = [SystemExit()]
    follower = Follower(AnonymousSession(manager.config, manager).states)
    with pytest.raises(SystemExit):
        async with AnonymousSession(manager.config, manager) as session:
            follower.view = session.states
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.shield = True
                nursery.start_soon(follower.run)
                await wait_all_tasks_blocked()
                start_getters(nursery, session, 1)
    assert isinstance(follower.error, SessionClosedError)
