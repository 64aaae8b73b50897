"""The connection of a process to the store, which can fail."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from .log import Claimed, Dropped, Put, Unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from trio_anon_session.stores import Look, MemoryStore, StoredToken

    from .fleets import StoreTrouble
    from .log import Happening

T = TypeVar("T")


class StoreIsDownError(Exception):
    """The connection to the store has failed."""


class Link:
    """A `TokenStore` for one process: the store of the fleet, reached through a network.

    Args:
        store: the store of the fleet.
        troubles: the faults of the store for this process.
        latency: seconds of a round trip without faults.
        note: called with each entry of the log.
        start: starts a task outside of the process, which outlives it.

    Attributes:
        questions: number of calls by this process, without listening.
        lease: the fence of the lease that this process has, or None.
        is_dead: whether the process has been killed, so that no call gets through.
    """

    def __init__(
        self,
        store: MemoryStore,
        troubles: Collection[StoreTrouble],
        latency: float,
        note: Callable[[Happening], None],
        start: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._store = store
        self._troubles = troubles
        self._latency = latency
        self._note = note
        self._start = start
        self._listening: set[trio.CancelScope] = set()
        self.questions = 0
        self.lease: int | None = None
        self.is_dead = False

    # Methods of a store

    async def open(self) -> None:
        """See `TokenStore`."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See `TokenStore`."""
        await trio.lowlevel.checkpoint()

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """See `TokenStore`."""
        return await self._ask("look", lambda: self._store.look(name, marks))

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """See `TokenStore`."""

        async def claim() -> int | None:
            fence = await self._store.claim(name, owner, seen, seconds)
            if fence is not None:
                token = self._store._entries[name].token
                self._note(Claimed(fence, None if token is None else token.mark))
            return fence

        self.lease = None
        self.lease = await self._ask("claim", claim)
        return self.lease

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """See `TokenStore`."""
        return await self._ask("renew", lambda: self._store.renew(name, fence, seconds))

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """See `TokenStore`."""
        self.lease = None

        async def put() -> bool:
            is_kept = await self._store.put(name, fence, token)
            self._note(Put(fence, token.mark, is_kept))
            return is_kept

        return await self._ask("put", put)

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """See `TokenStore`."""
        self.lease = None
        await self._ask("release", lambda: self._store.release(name, fence, failure, pause))

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """See `TokenStore`."""

        async def drop() -> None:
            await self._store.drop(name, mark, seconds)
            self._note(Dropped(mark))

        await self._ask("drop", drop)

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """See `TokenStore`."""
        self._refuse()
        async with self._store.listen(name) as wait_for_news:

            async def wait() -> None:
                self._refuse()
                with trio.CancelScope() as scope:
                    self._listening.add(scope)
                    try:
                        await wait_for_news()
                    finally:
                        self._listening.remove(scope)
                if scope.cancelled_caught:
                    raise StoreIsDownError
                await self._wait_for_the_network()

            yield wait

    # The network

    def break_down(self) -> None:
        """Break the connection of the subscription."""
        for scope in self._listening:
            scope.cancel()

    def _trouble(self) -> StoreTrouble | None:
        now = trio.current_time()
        return next((one for one in self._troubles if one.at <= now < one.ends_at), None)

    def _refuse(self) -> None:
        trouble = self._trouble()
        if self.is_dead or (trouble is not None and trouble.kind == "down"):
            raise StoreIsDownError

    async def _wait_for_the_network(self) -> None:
        """Wait until a message has arrived."""
        trouble = self._trouble()
        if trouble is not None and trouble.kind == "hangs":
            await trio.sleep_until(trouble.ends_at)
        latency = self._latency + (0.0 if trouble is None else trouble.latency)
        if latency:
            await trio.sleep(latency / 2)

    async def _ask(self, name: str, question: Callable[[], Awaitable[T]]) -> T:
        self.questions += 1
        try:
            await trio.lowlevel.checkpoint()
            self._refuse()
            trouble = self._trouble()
            latency = self._latency
            if trouble is not None:
                if trouble.kind == "hangs":
                    await trio.sleep_forever()
                if trouble.kind == "read-only" and name != "look":
                    raise StoreIsDownError
                latency += trouble.latency
            if not latency:
                return await question()
            return await self._over_the_network(question, latency)
        except BaseException:
            self._note(Unanswered(name))
            raise

    async def _over_the_network(self, question: Callable[[], Awaitable[T]], latency: float) -> T:
        reply: _Reply[T] = _Reply(question, latency)
        # The store carries out a call, even if its caller is cancelled.
        self._start(reply.come)
        await reply.has_come.wait()
        (answer,) = reply.answers
        return answer


class _Reply(Generic[T]):
    """A running call of the store, and its answer."""

    def __init__(self, question: Callable[[], Awaitable[T]], latency: float) -> None:
        self._question = question
        self._latency = latency
        self.has_come = trio.Event()
        self.answers: list[T] = []

    async def come(self) -> None:
        """Carry the call to the store, and its answer back."""
        await trio.sleep(self._latency / 2)
        self.answers.append(await self._question())
        await trio.sleep(self._latency / 2)
        self.has_come.set()
