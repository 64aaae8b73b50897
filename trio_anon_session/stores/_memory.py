"""`MemoryStore`, for the sessions of one Trio run and for tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from ._clock import Moment
from ._entry import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from ._protocol import Look, StoredToken

T = TypeVar("T")


class MemoryStore:
    """A store in memory, for the sessions of one Trio run.

    Use it if one program opens several sessions independently, or to test a fleet. Under
    ``MockClock`` it uses virtual time. The tokens are lost with the object.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._listeners: list[_Listener] = []

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} entries>"

    async def open(self) -> None:
        """See :meth:`TokenStore.open`."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See :meth:`TokenStore.aclose`."""
        await trio.lowlevel.checkpoint()

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """See :meth:`TokenStore.look`."""
        return await self._do(name, lambda entry, now: entry.look(now, marks))

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """See :meth:`TokenStore.claim`."""
        return await self._do(name, lambda entry, now: entry.claim(now, owner, seen, seconds))

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """See :meth:`TokenStore.renew`."""
        return await self._do(name, lambda entry, now: entry.renew(now, fence, seconds))

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """See :meth:`TokenStore.put`."""
        return await self._do(name, lambda entry, now: entry.put(now, fence, token), is_news=True)

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """See :meth:`TokenStore.release`."""
        await self._do(
            name, lambda entry, now: entry.release(now, fence, failure, pause), is_news=True
        )

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """See :meth:`TokenStore.drop`."""
        await self._do(name, lambda entry, now: entry.drop(now, mark, seconds), is_news=True)

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """See :meth:`TokenStore.listen`."""
        listener = _Listener(name)
        self._listeners.append(listener)
        try:
            await trio.lowlevel.checkpoint()
            yield listener.wait
        finally:
            self._listeners.remove(listener)

    async def _do(
        self, name: str, change: Callable[[Entry, Moment], T], *, is_news: bool = False
    ) -> T:
        await trio.lowlevel.checkpoint()
        now = Moment.now()
        if name not in self._entries:
            self._entries[name] = Entry.new(now)
        answer = change(self._entries[name], now)
        if is_news:
            for listener in self._listeners:
                if listener.name == name:
                    listener.event.set()
        return answer


class _Listener:
    """A task that waits for news of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.event = trio.Event()

    async def wait(self) -> None:
        await self.event.wait()
        self.event = trio.Event()
