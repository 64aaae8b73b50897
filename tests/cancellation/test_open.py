"""A test that cancels the entry of the block at any point: promise 19."""

from __future__ import annotations

import trio

from tests.cancellation.everywhere import (
    Operation,
    Seen,
    Strike,
    cancel_everywhere,
    living_tasks,
    settle,
)
from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import AnonymousSession


def test_a_cancelled_entry_can_be_repeated() -> None:
    """A session whose entry was cancelled leaves no task, and can be entered again."""

    async def play(strike: Strike) -> Seen:
        manager = FakeTokenManager(make_config())
        session = AnonymousSession(manager.config, manager)
        operation = Operation(strike)
        tasks_before = living_tasks()
        entered: list[bool] = []

        async def enter() -> None:
            async with session:
                entered.append(True)
                # A cancellation of the block ends the session only when the block is left.
                with trio.CancelScope(shield=True):
                    assert await session.get_access_token() == "token-1"
                await trio.lowlevel.checkpoint()
                assert not strike.has_cancelled

        await operation.run(enter)
        await settle()
        assert living_tasks() == tasks_before
        assert manager.granted == len(entered)
        if not entered:
            async with session:
                assert await session.get_access_token() == "token-1"
        return Seen(operation, {"entered": len(entered)})

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.operation.was_cancelled or seen.facts == usual.facts

    cancel_everywhere(play, check, at_least=4)
