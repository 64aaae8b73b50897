"""Tests of Ctrl-C at any line of the session: promise 20."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest
import trio
from trio.testing import MockClock

import trio_anon_session
from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    SessionClosedError,
    TokenRequestError,
    TokenState,
)
from trio_anon_session._nursery import end_nursery

PACKAGE = Path(trio_anon_session.__file__).parent
MODULES = {
    str(PACKAGE / f"_{name}.py")
    for name in (
        *("backoff", "gate", "lifecycle", "misuse", "nursery", "reporter", "revocation"),
        *("rounds", "session", "states"),
    )
}


class Lines:
    """Counts how often each line of the session runs, and raises SIGINT at one of them.

    Args:
        at: the line, and the number of its execution.

    Attributes:
        counts: how often each line ran.
        pressed: whether SIGINT was raised.
    """

    def __init__(self, at: tuple[object, int] | None = None) -> None:
        self._at = at
        self.counts: Counter[object] = Counter()
        self.pressed = False

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: Any, event: str, arg: object) -> Any:
        if frame.f_code.co_filename not in MODULES:
            return None
        if event == "line":
            line = frame.f_code.co_qualname, frame.f_lineno
            self.counts[line] += 1
            if (line, self.counts[line]) == self._at:
                self.pressed = True
                signal.raise_signal(signal.SIGINT)
        return self._trace


async def _get(session: AnonymousSession, ended: list[str]) -> None:
    try:
        await session.get_access_token()
    except (SessionClosedError, TokenRequestError) as error:
        ended.append(type(error).__name__)
    else:
        ended.append("token")


async def _life(manager: FakeTokenManager) -> None:
    """Use all methods of a session, with callers in tasks outside of its block."""
    ended: list[str] = []
    failures = manager.outcomes
    async with trio.open_nursery() as crowd:
        async with AnonymousSession(manager.config, manager) as session:
            for _ in range(3):
                crowd.start_soon(_get, session, ended)
            await session.get_access_token()
            # The token becomes STALE, and the first refresh fails.
            failures.append(OSError())
            await trio.sleep(3001.0)
            session.get_access_token_nowait()
            await trio.sleep(100.0)
            session.invalidate(await session.get_access_token())
            crowd.start_soon(_get, session, ended)
            await session.exchange_token("x")
            await session.revoke_tokens()
            crowd.start_soon(_get, session, ended)
            await session.get_access_token()
    assert len(ended) == 5


def _live(lines: Lines, survivors: list[int]) -> None:
    """Run `_life`, and record the number of tasks that are left."""

    async def main() -> None:
        manager = FakeTokenManager(make_config(revoke_on_exit=True), latency=1.0)
        before = trio.lowlevel.current_statistics().tasks_living
        # In virtual time, a hang takes no time.
        with trio.fail_after(1e6):
            try:
                await _life(manager)
            finally:
                now = trio.lowlevel.current_statistics().tasks_living
                survivors.append(now - before)

    with lines:
        trio.run(main, clock=MockClock(autojump_threshold=0.0))


@pytest.mark.slow
def test_an_interrupt_at_any_line_ends_the_program() -> None:
    """After Ctrl-C at any line, the program raises KeyboardInterrupt, and no task is left."""
    lines = Lines()
    survivors: list[int] = []
    _live(lines, survivors)
    assert len(lines.counts) > 300
    points = {(line, 1) for line in lines.counts}
    # At the gate, interrupt the last execution of a line too, because no later task comes to a lock
    # that stays taken.
    at_the_gate = {"_wait_for_token", "lock", "wake_all"}
    points |= {at for at in lines.counts.items() if at_the_gate & names(at)}
    for at in points:
        interrupted = Lines(at)
        try:
            _live(interrupted, survivors)
        except KeyboardInterrupt:
            pass
        except BaseExceptionGroup as group:
            # The program's nursery around the block raises a group.
            rest = group.split(KeyboardInterrupt)[1]
            assert rest is None, at
        else:
            assert not interrupted.pressed, at
    assert set(survivors) == {0}


def names(at: tuple[Any, int]) -> set[str]:
    """Return the name of the function that contains a line."""
    return {at[0][0].rpartition(".")[2]}


@pytest.mark.parametrize("call", ["invalidate", "revoke_tokens"])
def test_a_program_that_continues_after_an_interrupt(call: str) -> None:
    """An interrupt at any line of a drop leaves the token current or fully dropped.

    If it is dropped, the token of a request from before the drop is not used.
    """

    async def life(lines: Lines) -> None:
        manager = FakeTokenManager(make_config(), latency=1.0)
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            await trio.sleep(2999.0)
            await trio.testing.wait_all_tasks_blocked()
            # A refresh is in progress.
            await trio.sleep(0.5)
            try:
                with lines:
                    if call == "invalidate":
                        session.invalidate("token-1")
                    else:
                        await session.revoke_tokens()
                await trio.lowlevel.checkpoint()
            except KeyboardInterrupt:
                pass
            was_dropped = session.state is TokenState.EMPTY
            await trio.sleep(2.0)
            assert await session.get_access_token() == ("token-3" if was_dropped else "token-2")
            was_revoked = was_dropped and call == "revoke_tokens"
            # The token of a late answer is revoked, too.
            assert manager.revoked == (["token-1", "token-2"] if was_revoked else [])

    lines = Lines()
    trio.run(life, lines, clock=MockClock(autojump_threshold=0.0))
    assert lines.counts
    for line in lines.counts:
        # An interrupt in a task of the session ends the session.
        with contextlib.suppress(KeyboardInterrupt):
            trio.run(life, Lines((line, 1)), clock=MockClock(autojump_threshold=0.0))


async def test_a_crash_wins_over_an_error_of_another_task() -> None:
    """If tasks raise errors at the end of a nursery, a crash is returned before any Exception."""
    crash = SystemExit()

    async def fail(error: BaseException) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    for error in (OSError(), crash, ValueError()):
        nursery.start_soon(fail, error)
    await trio.testing.wait_all_tasks_blocked()
    assert await end_nursery(manager, nursery) is crash
