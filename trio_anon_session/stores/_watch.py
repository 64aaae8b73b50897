"""`Watch`: notices tokens that other processes have requested or dropped."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import trio

from .._nursery import Unwrapped
from ._access import STORE_TIMEOUT, StoreFailedError
from ._protocol import POLL_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._nursery import Background
    from ._link import StoreLink

RESUBSCRIBE_AFTER = 300.0
"""Seconds without news, after which the watch subscribes again. The connection may be lost."""
MIN_LOOK_INTERVAL = 0.05
"""Shortest time between two looks in seconds."""

NO_NEWS = "the token store sends no notifications (%s): this process polls it"


class Watch:
    """Task that looks at the store on each notification, and wakes the waiting callers.

    Args:
        link: sends requests to the store.
    """

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._news = trio.Event()
        self._sleep = trio.CancelScope()
        self._is_due = False
        # The scope of the task, which runs while a session listens.
        self._task = trio.CancelScope()

    def start(self, background: Background) -> None:
        """Start the task."""
        self._task = trio.CancelScope()
        background.start_soon(self._run, self._task)

    def stop(self) -> None:
        """End the task."""
        self._task.cancel()

    def look_soon(self) -> None:
        """Look without a notification, after the current look if there is one."""
        self._is_due = True
        self._sleep.cancel()

    def news(self) -> trio.Event:
        """Return the event that is set after the next look."""
        return self._news

    async def _run(self, until_stopped: trio.CancelScope) -> None:
        had_no_news = False
        with until_stopped:
            while True:
                problem = await self._listen()
                # Log missing notifications only if the store can be read: there is another record
                # for a store that is down. Do not log one lost connection if the next one lasts.
                has_no_news = problem is not None and await self._look_and_wake()
                if problem is not None and has_no_news and had_no_news:
                    self._link.access.log_once(NO_NEWS, problem)
                had_no_news = has_no_news
                del problem
                await trio.sleep(random.uniform(0.5, 1.0) * POLL_INTERVAL)

    async def _listen(self) -> Exception | None:
        """Look on each notification until that fails, and return the error."""
        has_begun = trio.Event()
        try:
            # A subscription takes several requests, and with Valkey ten round trips, so it gets
            # twice the usual time.
            with Unwrapped(), trio.fail_after(2 * STORE_TIMEOUT) as limit:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._poll_until_listening, has_begun)
                    async with self._link.listen() as wait_for_news:
                        limit.deadline = math.inf
                        has_begun.set()
                        try:
                            await self._look_on_news(wait_for_news)
                        finally:
                            limit.deadline = trio.current_time() + STORE_TIMEOUT
        except Exception as error:
            return error
        return None

    async def _poll_until_listening(self, has_begun: trio.Event) -> None:
        """Poll the store while the subscription takes long to begin."""
        pause = STORE_TIMEOUT
        while True:
            with trio.move_on_after(pause):
                await has_begun.wait()
                return
            await self._look_and_wake()
            pause = random.uniform(0.5, 1.0) * POLL_INTERVAL

    async def _look_on_news(self, wait_for_news: Callable[[], Awaitable[None]]) -> None:
        """Look on each notification, until a look fails or no notification arrives for long."""
        while await self._look_and_wake():
            # Limit the rate, in case the store notifies all the time.
            await trio.sleep(MIN_LOOK_INTERVAL)
            quiet_until = trio.current_time() + RESUBSCRIBE_AFTER
            look_at = min(quiet_until, self._look_at())
            self._sleep = trio.CancelScope(deadline=look_at)
            with self._sleep as sleep:
                await wait_for_news()
            if not sleep.cancelled_caught:
                self._link.access.clear_problems(NO_NEWS)
            elif trio.current_time() >= quiet_until:
                return

    def _look_at(self) -> float:
        """Return when to report drops, or when to check that the store shows them."""
        known = self._link.claimant.known
        if known.untold:
            return self._link.report_drops_at
        return -math.inf if self._is_due else known.look_at

    async def _look_and_wake(self) -> bool:
        """Look at the store, and wake the waiting callers. Return False if the look fails."""
        known = self._link.claimant.known
        await self._link.report_drops()
        self._is_due = False
        try:
            await self._link.look()
            if known.missing:
                # The store has lost a drop. Wait at random, so that only one process reports it.
                await trio.sleep(random.uniform(0.0, 1.0) * POLL_INTERVAL)
                await self._link.look()
                await self._link.report_drops()
        except StoreFailedError:
            return False
        self._news.set()
        self._news = trio.Event()
        return True
