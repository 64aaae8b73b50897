"""`Lab` and `Scene`: a token server, the processes that use it, and their commands."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from tests.children import Child, run_child
from tests.stores.test_processes import SlowServer
from trio_anon_session.stores._records import name_of
from trio_anon_session.testing import open_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence

CODE = Path(__file__).with_name("member.py")
EXAMPLE = Path(__file__).parents[3] / "examples" / "fleet"
HOUR = 3600.0
SIZE = 3
"""Number of processes of a fleet."""
LIFE = 6.0
"""Lifetime of tokens in seconds, for rows that count many lives."""
SHORT: dict[str, Any] = {"stale_buffer": LIFE / 2, "expired_buffer": LIFE / 6}
"""Settings for such tokens, which are refreshed after half of their life."""


@attrs.frozen
class Line:
    """One line of the table.

    Attributes:
        what: the description of the row.
        figure: the measured figure.
        unit: the unit of the figure, and what it counts.
    """

    what: str
    figure: str
    unit: str


@attrs.frozen
class Seconds:
    """A measured time.

    Attributes:
        value: seconds.
        is_cut: whether the measurement stopped before the end.
    """

    value: float
    is_cut: bool = False

    def __str__(self) -> str:
        return f"{'≥ ' if self.is_cut else ''}{self.value:.2f}"

    @classmethod
    def longest(cls, times: Iterable[Seconds]) -> Seconds:
        """Return the longest of some times."""
        return max(times, key=lambda each: (each.is_cut, each.value))


@attrs.frozen
class Tally:
    """The number of grants, and the number of tokens that one process used in order."""

    grants: int
    lives: int

    def __sub__(self, before: Tally) -> Tally:
        return Tally(self.grants - before.grants, self.lives - before.lives)

    def __str__(self) -> str:
        return f"{self.grants} / {self.lives}"


@attrs.define(eq=False)
class Worker:
    """A process of the fleet."""

    child: Child

    @property
    def tokens(self) -> list[str]:
        """The tokens that its callers got, in order, as far as they were read."""
        return self.child.received["token"]

    @property
    def warnings(self) -> list[str]:
        """The warnings that it has logged, as far as they were read."""
        return [said for said in self.child.received["logged"] if not said.startswith("INFO")]

    async def receive(self, word: str) -> Any:
        """Return the next report with this key.

        Raises:
            RuntimeError: the process has ended.
        """
        said = await self.child.receive(word)
        if said is None:
            raise RuntimeError(
                f"a process ended before it sent {word!r}: {dict(self.child.received)}"
            )
        return said

    async def do(self, what: str, **more: object) -> None:
        """Send a command to the process."""
        await self.child.send(do=what, **more)

    async def has(self, is_so: Callable[[list[str]], bool]) -> None:
        """Wait until a condition about its tokens is true."""
        while not is_so(self.tokens):
            await self.receive("token")

    async def leaves(self, token: str) -> None:
        """Wait until it uses another token."""
        await self.has(lambda tokens: bool(tokens) and tokens[-1] != token)

    async def drop(self, token: str) -> float:
        """Let it drop a token, and return the time of the drop."""
        await self.do("invalidate", token=token)
        at: float = await self.receive("dropped_at")
        return at

    async def report(self) -> dict[str, float]:
        """Return when it used each token for the last time."""
        await self.do("report")
        handed_out_at: dict[str, float] = await self.receive("report")
        return handed_out_at


@attrs.define(eq=False)
class Scene:
    """A token server, a store, and the processes that use both."""

    server: SlowServer
    store: str
    _url: str
    _path: str
    _limit: float
    _stack: AsyncExitStack

    @property
    def name(self) -> str:
        """The name of the token in the store."""
        return name_of(self.server.config(self._url))

    async def open(self, count: int = SIZE, store: str | None = None, **more: Any) -> list[Worker]:
        """Start processes, and return them before they begin.

        Args:
            count: number of processes.
            store: their store, if it is not that of the scene.
            **more: settings of the config, and ``runs``.
        """
        runs = {"runs": more.pop("runs")} if "runs" in more else {}
        config = {"min_refresh_interval": 0.1, "retry_interval": 0.2, **more}
        settings = {"store": store or self.store, "url": self._url, "config": config, **runs}
        prefix = ("env", f"PYTHONPATH={self._path}")
        workers = []
        for _ in range(count):
            child = run_child(CODE, json.dumps(settings), prefix=prefix)
            workers.append(Worker(await self._stack.enter_async_context(child)))
        if not runs:
            for worker in workers:
                await worker.receive("ready")
        return workers

    async def start(
        self, count: int = SIZE, store: str | None = None, **config: Any
    ) -> list[Worker]:
        """Start processes, and return them when all use the token."""
        workers = await self.open(count, store, **config)
        for worker in workers:
            await worker.do("begin")
        for worker in workers:
            await worker.has(bool)
        return workers

    async def each(
        self,
        workers: Iterable[Worker],
        act: Callable[[Worker], Awaitable[object]],
        seconds: float | None = None,
    ) -> bool:
        """Call a function for all processes in parallel. Return False if that took too long."""
        with trio.move_on_after(self._limit if seconds is None else seconds) as limit:
            async with trio.open_nursery() as nursery:
                for worker in workers:
                    nursery.start_soon(act, worker)
        return not limit.cancelled_caught

    async def last_use(self, token: str, workers: Collection[Worker], since: float) -> Seconds:
        """Wait until no process uses a token, and return how long after a time one used it."""
        is_over = await self.each(workers, lambda worker: worker.leaves(token))
        reports = [await worker.report() for worker in workers]
        last = max(report.get(token, since) for report in reports)
        return Seconds(max(0.0, last - since), is_cut=not is_over)

    async def drop(self, workers: Sequence[Worker]) -> Seconds:
        """Let one process drop the token that most have, and return how long others used it.

        Args:
            workers: all processes; the first that has the token drops it.
        """
        held = Counter(worker.tokens[-1] for worker in workers)
        token = held.most_common(1)[0][0]
        first = next(worker for worker in workers if worker.tokens[-1] == token)
        dropped_at = await first.drop(token)
        return await self.last_use(token, workers, dropped_at)

    async def drop_often(
        self, workers: Sequence[Worker], count: int, pause: float
    ) -> list[Seconds]:
        """Drop one token after the other, until one is used for too long, and return the times.

        Args:
            workers: all processes, which take turns.
            count: number of tokens.
            pause: seconds before each drop.
        """
        times: list[Seconds] = []
        while len(times) < count and not (times and times[-1].is_cut):
            await trio.sleep(pause)
            turn = len(times) % len(workers)
            times.append(await self.drop([*workers[turn:], *workers[:turn]]))
        return times

    async def live(self, workers: Sequence[Worker], lives: int) -> None:
        """Wait until each process has used a number of further tokens.

        Raises:
            trio.TooSlowError: a process takes too long.
        """
        wanted = {id(worker): len(worker.tokens) + lives for worker in workers}

        def has_lived(worker: Worker) -> Awaitable[None]:
            return worker.has(lambda tokens: len(tokens) >= wanted[id(worker)])

        if not await self.each(workers, has_lived, lives * LIFE):
            raise trio.TooSlowError

    async def tally(self, workers: Iterable[Worker]) -> Tally:
        """Return how many grants and how many lives of tokens there were up to now."""
        lives = 0
        for worker in workers:
            # When a worker answers, all its earlier reports have been read.
            await worker.report()
            lives = max(lives, len(worker.tokens))
        return Tally(self.server.grants, lives)

    def ends_at(self, token: str) -> float:
        """Return when the token server ends a token, on the clock that all processes share."""
        return time.monotonic() + self.server.tokens[token].left_at(trio.current_time())


@attrs.define
class Lab:
    """The place where rows are run.

    Attributes:
        package: the folder of the package.
        folder: an empty folder.
        limit: seconds after which a measurement stops.
    """

    package: Path
    folder: Path
    limit: float

    def subfolder(self, name: str) -> Path:
        """Return a new folder."""
        made = self.folder / name
        made.mkdir()
        return made

    @asynccontextmanager
    async def scene(self, store: str, *, lifetime: float = HOUR) -> AsyncIterator[Scene]:
        """Serve tokens while the block lasts, and end all processes after it."""
        server = SlowServer(lifetime=lifetime)
        path = f"{self.package}:{EXAMPLE}"
        async with open_loopback(server) as url, AsyncExitStack() as stack:
            yield Scene(server, store, url, path, self.limit, stack)


def warned(workers: Iterable[Worker]) -> str:
    """Return the beginning of the first warning that a process has logged."""
    for worker in workers:
        for said in worker.warnings:
            return said if len(said) < 60 else f"{said[:60]}…"
    return "no WARNING"
