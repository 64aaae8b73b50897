"""A token server and a fleet that uses it: started, heard, killed and ended."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import trio
from processes import Child, open_child
from worker import open_store

from trio_anon_session import Config, TokenManager
from trio_anon_session.stores import SharedTokenManager

if TYPE_CHECKING:
    from collections.abc import Callable


class FleetError(Exception):
    """Tells that a process has ended by itself, or that the one to be killed is not there."""


@attrs.frozen
class Size:
    """Is how large a fleet is, and how long its tokens live.

    Attributes:
        processes: how many.
        tasks: how many in each of them ask for the token.
        lifetime: seconds; in the middle of its life a token is refreshed.
    """

    processes: int
    tasks: int
    lifetime: float


@attrs.define(eq=False)
class Worker:
    """Is a process of the fleet, and what it has told.

    Attributes:
        child: the process.
        tokens: the fingerprints of the tokens that it has handed out, in order.
        before_until: when it handed out the one before the last for the last time.
        dropped_at: when it revoked a token, or reported one dead.
        is_ready: whether it can begin.
        gets: how many times a task got a token; None until it has ended in good order.
        longest_hold: seconds that a task has waited for one at the most, once there was one.
    """

    child: Child
    tokens: list[str] = attrs.field(factory=list)
    before_until: float = 0.0
    dropped_at: float = 0.0
    is_ready: bool = False
    gets: int | None = None
    longest_hold: float = 0.0


class Fleet:
    """Is a token server, the processes that use it, and what they have told.

    Args:
        nursery: runs the processes; it is cancelled when they have ended.
        size: of the fleet.
        store: what the processes are told: ``redis://...``, ``sqlite:PATH`` or ``none``.

    Attributes:
        workers: those that live.
        asked: how many requests have come to the token server.
        grants: how many tokens that has made; None until it has ended.
        kills: how many workers were killed.
        failed: what was said to tasks that got no token.
        came_back: how many times a worker handed a token out again after another one.
        logged: what the workers have logged, and how often.
    """

    def __init__(self, nursery: trio.Nursery, size: Size, store: str) -> None:
        self.workers: list[Worker] = []
        self.asked = self.kills = self.came_back = 0
        self.grants: int | None = None
        self.failed: list[str] = []
        self.logged: Counter[str] = Counter()
        self._nursery = nursery
        self._size = size
        config = {
            "stale_buffer": size.lifetime / 2,
            "expired_buffer": size.lifetime / 6,
            "request_timeout": 10.0,
            "retry_interval": 0.2,
            "min_refresh_interval": 0.1,
        }
        self._settings: dict[str, Any] = {"store": store, "tasks": size.tasks, "config": config}
        self._server: Child | None = None
        self._environ: dict[str, str] = {}
        self._send, self._receive = trio.open_memory_channel[tuple[Child, dict[str, Any] | None]](
            math.inf
        )

    async def start(self, delay: float = 0.0, hanging: int = 0) -> None:
        """Start all processes, and let them begin when the last of them is ready.

        Args:
            delay: seconds until the token endpoint answers.
            hanging: how many times it never does: to the first request, to the third, and so on.
        """
        settings = {"lifetime": self._size.lifetime, "delay": delay, "hanging": hanging}
        self._server = await self._nursery.start(self._run, "token_server.py", settings)
        await self.hear_until(lambda: bool(self._environ))
        for _ in range(self._size.processes):
            await self._start_worker()
        await self.hear_until(lambda: all(worker.is_ready for worker in self.workers))
        for worker in self.workers:
            await worker.child.say(do="go")

    async def _start_worker(self) -> Worker:
        child: Child = await self._nursery.start(self._run, "worker.py", self._settings)
        self.workers.append(Worker(child))
        return self.workers[-1]

    async def _run(  # noqa: ASYNC114  # nursery.start starts it, and no context manager
        self, program: str, settings: dict[str, Any], *, task_status: trio.TaskStatus[Child]
    ) -> None:
        async with open_child(program, self._environ) as child:
            # By the pipe, for a command line is there for all to see.
            await child.say(**settings)
            task_status.started(child)
            while told := await child.told.read():
                self._send.send_nowait((child, told))
            self._send.send_nowait((child, None))

    async def wait_for_request(self) -> None:
        """Return when the next request has come to the token server, which has yet to answer."""
        before = self.asked
        await self.hear_until(lambda: self.asked > before)

    async def find_holder(self) -> Worker:
        """Return the process that asks the token server for all, by what the store says."""
        store = open_store(self._settings["store"])
        assert store is not None
        async with SharedTokenManager(TokenManager(Config.from_env(self._environ)), store) as fleet:
            seen = await fleet.look_at_store()
        if seen.leased_by is None:
            raise FleetError("nobody has the lease")
        _host, pid, _random = seen.leased_by.split("/")
        return next(worker for worker in self.workers if worker.child.process.pid == int(pid))

    async def kill(self, worker: Worker) -> None:
        """Send SIGKILL to a worker, which cannot see it coming, and start another one."""
        worker.child.process.kill()
        self.workers.remove(worker)
        self.kills += 1
        successor = await self._start_worker()
        successor.tokens = worker.tokens
        await self.hear_until(lambda: successor.is_ready)
        await successor.child.say(do="go")

    async def stop(self) -> None:
        """End all processes in good order."""
        for worker in self.workers:
            await worker.child.hang_up()
        await self.hear_until(lambda: all(worker.gets is not None for worker in self.workers))
        assert self._server is not None
        await self._server.hang_up()
        await self.hear_until(lambda: self.grants is not None)
        self._nursery.cancel_scope.cancel()

    # What they tell

    def have_all_had(self, tokens: int) -> bool:
        """Whether each process has handed out so many tokens."""
        return all(len(worker.tokens) >= tokens for worker in self.workers)

    async def hear_until(self, is_so: Callable[[], bool]) -> None:
        """Listen to all processes until something is so."""
        while not is_so():
            child, told = await self._receive.receive()
            if child is self._server or self._server is None:
                self._hear_server(told)
            for worker in self.workers:
                if worker.child is child:
                    self._hear_worker(worker, told)

    def _hear_server(self, told: dict[str, Any] | None) -> None:
        match told:
            case {"serves": environ}:
                self._environ = environ
            case {"asked": _}:
                self.asked += 1
            case {"grants": grants}:
                self.grants = grants
            case None if self.grants is None:
                raise FleetError("the token server has ended; what it wrote says why")

    def _hear_worker(self, worker: Worker, told: dict[str, Any] | None) -> None:
        match told:
            case {"ready": _}:
                worker.is_ready = True
            case {"token": token, "before_until": until}:
                worker.before_until = until
                self._hear_of_token(worker, token)
            case {"dropped_at": at}:
                worker.dropped_at = at
            case {"failed": error}:
                self.failed.append(error)
            case {"logged": message}:
                self.logged[message] += 1
            case {"gets": gets, "longest_hold": hold}:
                worker.gets, worker.longest_hold = gets, hold
            case None if worker.gets is None:
                raise FleetError("a process of the fleet has ended; what it wrote says why")

    def _hear_of_token(self, worker: Worker, token: str) -> None:
        # The last one is a killed worker's, in whose place another one has started.
        if token not in worker.tokens:
            worker.tokens.append(token)
        elif token != worker.tokens[-1]:
            self.came_back += 1
