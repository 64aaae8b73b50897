"""A Trio run beside a test that is not async: step by step, in guest mode."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, TypeVar

import trio
import trio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")

PATIENCE = 30.0
"""Seconds of real time after which a run that does not answer is taken for hung."""


class GuestRun:
    """Is a Trio run that stands still between two calls of `do`.

    The test is the host: it turns the run's wheel while it waits for an answer, in its own
    thread. The nursery is for what is to go on between the calls.
    """

    nursery: trio.Nursery

    def __init__(self, clock: trio.abc.Clock) -> None:
        self._ticks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._answers: list[Any] = []
        self._is_over = False
        self._outcome: Any = None
        self._send, receive = trio.open_memory_channel[Any](0)
        self._token: trio.lowlevel.TrioToken | None = None
        trio.lowlevel.start_guest_run(
            self._serve,
            receive,
            run_sync_soon_threadsafe=self._ticks.put,
            done_callback=self._end,
            clock=clock,
        )
        self._turn_until_answered()

    def do(self, async_fn: Callable[..., Awaitable[_T]], *args: object) -> _T:
        """Run an async function to its end within the run, and return what it returns."""
        assert self._token is not None
        self._token.run_sync_soon(self._send.send_nowait, (async_fn, args))
        answer: _T = self._turn_until_answered()
        return answer

    def stop(self) -> None:
        """Cancel what is left, and end the run. What has crashed it comes out here."""
        if not self._is_over:
            assert self._token is not None
            self._token.run_sync_soon(self._send.close)
        while not self._is_over:
            self._ticks.get(timeout=PATIENCE)()
        self._outcome.unwrap()

    async def _serve(self, receive: trio.MemoryReceiveChannel[Any]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self.nursery, receive:
            self._answers.append(None)
            async for async_fn, args in receive:
                self._answers.append(await async_fn(*args))
            self.nursery.cancel_scope.cancel()

    def _turn_until_answered(self) -> Any:
        while not self._answers:
            if self._is_over:
                self._outcome.unwrap()
                raise RuntimeError("the run is over")
            self._ticks.get(timeout=PATIENCE)()
        return self._answers.pop()

    def _end(self, outcome: Any) -> None:
        self._is_over = True
        self._outcome = outcome
