"""Start, watch, kill and stop a token server and the fleet of processes that uses it."""

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
    """A process ended by itself, or the process to kill does not exist."""


@attrs.frozen
class Size:
    """The size of a fleet, and the lifetime of its tokens.

    Attributes:
        processes: number of processes.
        tasks: number of tasks in each process that ask for the token.
        lifetime: in seconds; a token is refreshed after half of it.
    """

    processes: int
    tasks: int
    lifetime: float


@attrs.define(eq=False)
class Worker:
    """A process of the fleet, and what it has reported.

    Attributes:
        child: the process.
        tokens: fingerprints of the tokens that its tasks got, in order.
        before_until: the last time at which a task got the token before the current one.
        dropped_at: when it revoked or invalidated a token.
        is_ready: whether it can begin.
        gets: how often a task got a token; None until the process has ended normally.
        longest_hold: the longest wait of a task after the first token, in seconds.
    """

    child: Child
    tokens: list[str] = attrs.field(factory=list)
    before_until: float = 0.0
    dropped_at: float = 0.0
    is_ready: bool = False
    gets: int | None = None
    longest_hold: float = 0.0


class Fleet:
    """A token server, the processes that use it, and what they have reported.

    Args:
        nursery: runs the processes; it is cancelled after they have ended.
        size: the size of the fleet.
        store: the store of the processes: ``redis://...``, ``sqlite:PATH`` or ``none``.

    Attributes:
        workers: the running processes.
        asked: number of requests to the token server.
        grants: number of tokens that the server has issued; None until it has ended.
        kills: number of killed workers.
        failed: the errors of tasks that got no token.
        came_back: how often a worker returned to a token after it had a newer one.
        logged: the log messages of the workers, and how often each came.
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
        """Start all processes, and let them begin when all are ready.

        Args:
            delay: seconds until the token endpoint answers.
            hanging: number of requests that get no answer: the first, the third, and so on.
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
            # All users of the machine can read a command line, but not a pipe.
            await child.say(**settings)
            task_status.started(child)
            while report := await child.reports.read():
                self._send.send_nowait((child, report))
            self._send.send_nowait((child, None))

    async def wait_for_request(self) -> None:
        """Wait until the token server has received the next request, and not yet answered it."""
        before = self.asked
        await self.hear_until(lambda: self.asked > before)

    async def find_holder(self) -> Worker:
        """Return the process that has the lease in the store, and requests the token."""
        store = open_store(self._settings["store"])
        assert store is not None
        async with SharedTokenManager(TokenManager(Config.from_env(self._environ)), store) as fleet:
            seen = await fleet.look_at_store()
        if seen.leased_by is None:
            raise FleetError("no process has the lease")
        _host, pid, _random = seen.leased_by.split("/")
        return next(worker for worker in self.workers if worker.child.process.pid == int(pid))

    async def kill(self, worker: Worker) -> None:
        """Send SIGKILL to a worker, and start another one."""
        worker.child.process.kill()
        self.workers.remove(worker)
        self.kills += 1
        successor = await self._start_worker()
        successor.tokens = worker.tokens
        await self.hear_until(lambda: successor.is_ready)
        await successor.child.say(do="go")

    async def stop(self) -> None:
        """End all processes normally."""
        for worker in self.workers:
            await worker.child.hang_up()
        await self.hear_until(lambda: all(worker.gets is not None for worker in self.workers))
        assert self._server is not None
        await self._server.hang_up()
        await self.hear_until(lambda: self.grants is not None)
        self._nursery.cancel_scope.cancel()

    # Messages of the processes

    def have_all_had(self, tokens: int) -> bool:
        """Return whether each process has had this number of tokens."""
        return all(len(worker.tokens) >= tokens for worker in self.workers)

    async def hear_until(self, is_so: Callable[[], bool]) -> None:
        """Read messages of all processes until a condition is true."""
        while not is_so():
            child, report = await self._receive.receive()
            if child is self._server or self._server is None:
                self._hear_server(report)
            for worker in self.workers:
                if worker.child is child:
                    self._hear_worker(worker, report)

    def _hear_server(self, report: dict[str, Any] | None) -> None:
        match report:
            case {"serves": environ}:
                self._environ = environ
            case {"asked": _}:
                self.asked += 1
            case {"grants": grants}:
                self.grants = grants
            case None if self.grants is None:
                raise FleetError("the token server has ended; see its output above")

    def _hear_worker(self, worker: Worker, report: dict[str, Any] | None) -> None:
        match report:
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
                raise FleetError("a process of the fleet has ended; see its output above")

    def _hear_of_token(self, worker: Worker, token: str) -> None:
        # A worker that replaces a killed one starts with the tokens of that one.
        if token not in worker.tokens:
            worker.tokens.append(token)
        elif token != worker.tokens[-1]:
            self.came_back += 1
