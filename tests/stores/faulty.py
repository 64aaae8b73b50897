"""A store that fails in ways that a test selects, and fleets that use it."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import AnonymousSession
from trio_anon_session.stores import MemoryStore, SharedTokenManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    import pytest

    from trio_anon_session.stores import ConfiguredTokenSource, Look, StoredToken, TokenStore

READS = frozenset({"open", "look", "listen"})
WRITES = frozenset({"claim", "renew", "put", "release", "drop"})
EVERYTHING = READS | WRITES | {"aclose"}


class FaultyStore:
    """Passes calls on to a store that may be shared, with faults that a test sets.

    Attributes:
        store: the store that gets the calls.
        fails: the methods that raise ``error``.
        error: the exception that they raise.
        hangs: the methods that never return.
        slow: seconds that each call takes to arrive.
        slow_answers: seconds that each answer takes to arrive.
        lies: the answers of methods that do not call the store.
        asked: the methods that were called, each with the time.
    """

    def __init__(self, store: TokenStore | None = None) -> None:
        self.store: TokenStore = MemoryStore() if store is None else store
        self.fails: Collection[str] = ()
        self.error: BaseException = OSError("no store for s3cret")
        self.hangs: Collection[str] = ()
        self.slow = 0.0
        self.slow_answers = 0.0
        self.lies: dict[str, Any] = {}
        self.asked: list[tuple[str, float]] = []
        self._waiting: set[trio.CancelScope] = set()

    def __repr__(self) -> str:
        return "<FaultyStore>"

    def flush(self) -> None:
        """Lose all data and connections."""
        self.store = MemoryStore()
        self.cut()

    def cut(self) -> None:
        """Lose the connections on which listeners wait for notifications."""
        for scope in self._waiting:
            scope.cancel()

    def times(self, method: str) -> list[float]:
        """Return the times at which a method was called."""
        return [at for asked, at in self.asked if asked == method]

    async def _ask(self, method: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        self.asked.append((method, trio.current_time()))
        await trio.sleep(math.inf if method in self.hangs else self.slow)
        if method in self.fails:
            raise self.error
        answer = self.lies[method] if method in self.lies else await ask()
        await trio.sleep(self.slow_answers)
        return answer

    async def open(self) -> None:
        await self._ask("open", self.store.open)

    async def aclose(self) -> None:
        await self._ask("aclose", self.store.aclose)

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        answer: Look = await self._ask("look", lambda: self.store.look(name, marks))
        return answer

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        fence: int | None = await self._ask(
            "claim", lambda: self.store.claim(name, owner, seen, seconds)
        )
        return fence

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        is_ours: bool = await self._ask("renew", lambda: self.store.renew(name, fence, seconds))
        return is_ours

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        is_kept: bool = await self._ask("put", lambda: self.store.put(name, fence, token))
        return is_kept

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        await self._ask("release", lambda: self.store.release(name, fence, failure, pause))

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        await self._ask("drop", lambda: self.store.drop(name, mark, seconds))

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        await self._ask("listen", trio.lowlevel.checkpoint)
        async with self.store.listen(name) as wait_for_news:

            async def wait() -> None:
                self.asked.append(("wait", trio.current_time()))
                if "wait" in self.lies:
                    await trio.lowlevel.checkpoint()
                    return
                if "wait" in self.fails:
                    raise self.error
                if "wait" in self.hangs:
                    await trio.sleep_forever()
                with trio.CancelScope() as scope:
                    self._waiting.add(scope)
                    try:
                        await wait_for_news()
                    finally:
                        self._waiting.remove(scope)
                if scope.cancelled_caught:
                    raise OSError("connection lost")

            yield wait


@asynccontextmanager
async def open_fleet(
    count: int, source: ConfiguredTokenSource, store: TokenStore | list[FaultyStore]
) -> AsyncIterator[list[AnonymousSession]]:
    """Open sessions that share a token, each with a manager of its own.

    Args:
        count: the number of sessions, if they use the same store.
        source: the token manager from which all of them get tokens.
        store: the store that all of them use, or a list with one store for each session.
    """
    stores = store if isinstance(store, list) else [store] * count
    async with AsyncExitStack() as stack:
        sessions = []
        for one in stores:
            manager = await stack.enter_async_context(SharedTokenManager(source, one))
            sessions.append(
                await stack.enter_async_context(AnonymousSession(source.config, manager))
            )
        yield sessions


async def get_all(sessions: list[AnonymousSession]) -> list[str]:
    """Get a token from each session, all at the same time."""
    tokens = [""] * len(sessions)

    async def get(number: int) -> None:
        tokens[number] = await sessions[number].get_access_token()

    async with trio.open_nursery() as nursery:
        for number in range(len(sessions)):
            nursery.start_soon(get, number)
    return tokens


async def use(sessions: list[AnonymousSession], seconds: int) -> None:
    """Get a token from each session every second, without waiting for it."""
    for _ in range(seconds):
        await trio.sleep(1.0)
        for session in sessions:
            session.get_access_token_nowait()


def make_source(*, lifetime: float = 3600.0, latency: float = 0.0, **settings: Any) -> Any:
    """Return a token manager that stands for the token endpoint of a fleet."""
    return FakeTokenManager(make_config(**settings), lifetime=lifetime, latency=latency)


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the levels of the log records, in order."""
    return [record.levelname for record in caplog.records]
