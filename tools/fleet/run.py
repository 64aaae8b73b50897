"""Run a fleet in virtual time."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import attrs
import httpx
import trio
from trio.testing import MockClock

from trio_anon_session import AnonymousSession, AnonymousSessionError, TokenManager
from trio_anon_session.stores import MemoryStore, SharedTokenManager
from trio_anon_session.testing import Fault, FaultPlan, TokenServer
from trio_anon_session.testing._clocks import seeded_schedule
from trio_anon_session.testing._timelines.timeline import Get, Invalidate, Kill, Revoke
from trio_anon_session.testing._timelines.turns import Tripwire

from .fleets import Crash, Flush, Leave, Stop, StoreTrouble
from .links import Link
from .log import (
    Asked,
    Came,
    Ended,
    Entry,
    Failed,
    Flushed,
    GaveUp,
    Gone,
    Got,
    Holds,
    Joined,
    Reported,
    Resumed,
    Sent,
    Stopped,
)
from .stopping import Stopper, Switch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_anon_session import Config, Event, TokenInfo, TokenRequestOptions
    from trio_anon_session._manager import TokenSource

    from .fleets import Act, Deed, Fleet
    from .log import Happening

STEPS_LIMIT = 5000
"""Steps of tasks at one moment, for each process and caller, after which the run counts as an
endless loop."""


class EndlessError(AssertionError):
    """Tasks took turns without end, and virtual time did not advance."""


@attrs.frozen
class Played:
    """The results of a run.

    Attributes:
        fleet: the fleet.
        log: all events in order.
        server: the server, with its recorded requests.
        questions: number of calls of the store by each process.
    """

    fleet: Fleet
    log: tuple[Entry, ...] = attrs.field(repr=False)
    server: TokenServer = attrs.field(repr=False)
    questions: tuple[int, ...] = attrs.field(repr=False)


def play(fleet: Fleet) -> Played:
    """Run a fleet in virtual time against an embedded server."""
    stage = _Stage(fleet)
    instruments: list[trio.abc.Instrument] = [Tripwire(stage.steps_limit, stage.stop)]
    if any(isinstance(act.what, Stop | Crash) for act in fleet.acts):
        instruments.append(Stopper())
    with seeded_schedule(fleet.seed):
        trio.run(stage.run, clock=MockClock(autojump_threshold=0), instruments=instruments)
    questions = tuple(process.link.questions for process in stage.processes)
    return Played(fleet, tuple(stage.log), stage.server, questions)


class _Stage:
    """The world of a fleet, which runs its events and writes the log."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.server = TokenServer(lifetime=fleet.lifetime)
        self.config = self.server.config(
            stale_buffer=fleet.stale_buffer,
            expired_buffer=fleet.expired_buffer,
            refresh_jitter=fleet.refresh_jitter,
            request_timeout=fleet.request_timeout,
        )
        self.store = MemoryStore()
        self.processes = [_Process(self, number) for number in range(len(fleet.joins))]
        gets = sum(act.what.count for act in fleet.acts if isinstance(act.what, Get))
        self.steps_limit = STEPS_LIMIT * (len(fleet.joins) * (len(fleet.acts) + 1) + gets)
        self.log: list[Entry] = []
        self.is_over = False
        self.getters = 0
        self._why_endless: str | None = None
        self._nursery: trio.Nursery

    def note(self, who: int, what: Happening) -> None:
        if not self.is_over:
            self.log.append(Entry(trio.current_time(), who, what))

    def stop(self, why: str) -> None:
        self._why_endless = why
        self._nursery.cancel_scope.cancel()

    def start(self, async_fn: Callable[[], Awaitable[None]]) -> None:
        """Start a task that belongs to no process."""
        self._context.run(self._nursery.start_soon, async_fn)

    async def run(self) -> None:
        # Tasks in this nursery belong to no process.
        self._context = copy_context()
        async with (
            # All processes share one client, because each client would load the certificates of the
            # machine.
            httpx.AsyncClient(transport=httpx.ASGITransport(self.server)) as self.client,
            trio.open_nursery() as self._nursery,
        ):
            self._break_the_endpoint()
            for process in self.processes:
                self._nursery.start_soon(process.run)
            for act in self.fleet.acts:
                self._nursery.start_soon(self._act, act)
            for trouble in self.fleet.endpoint:
                for at in (trouble.at, trouble.at + trouble.seconds):
                    self._nursery.start_soon(self._at, at, self._break_the_endpoint)
            for one in self.fleet.store:
                if isinstance(one, Flush):
                    self._nursery.start_soon(self._at, one.at, self._flush, one.passes)
                elif one.kind == "down":
                    self._nursery.start_soon(self._at, one.at, self._break_connections, 0, one)
            await trio.sleep_until(self.fleet.ends_at)
            self._end()
        if self._why_endless is not None:
            raise EndlessError(f"{self._why_endless}, at {self.log[-1].at} s:\n{self.fleet!r}")

    def _end(self) -> None:
        self.note(-1, Ended())
        self.is_over = True
        for process in self.processes:
            process.link.is_dead = True
            process.switch.resume()
        self._nursery.cancel_scope.cancel()

    async def _at(
        self, at: float, do: Callable[..., object], passes: int = 0, *args: object
    ) -> None:
        await trio.sleep_until(at)
        for _ in range(passes):
            await trio.lowlevel.checkpoint()
        do(*args)

    def _break_the_endpoint(self) -> None:
        """Set the answers of the server from now on."""
        now = trio.current_time()
        fault: Fault | None = Fault(delay=self.fleet.latency)
        for trouble in self.fleet.endpoint:
            if trouble.at <= now < trouble.at + trouble.seconds:
                fault = trouble.answer.fault()
        self.server.faults = FaultPlan(token_then=fault)

    def _break_connections(self, trouble: StoreTrouble) -> None:
        for process in self.processes:
            if trouble.befalls(process.number):
                process.link.break_down()

    def _flush(self) -> None:
        self.store._entries.clear()
        self.note(-1, Flushed())

    async def _act(self, act: Act) -> None:
        await self._at(act.what.at, lambda: None, act.what.passes)
        if isinstance(act.what, Kill):
            self.server.revoke_all()
            return
        processes = self.processes
        if isinstance(act.who, int):
            processes = processes[act.who : act.who + 1]
        for process in processes:
            is_meant = act.who != "holder" or process.link.lease is not None
            if is_meant and process.is_running:
                process.do(act.what)


class _Process:
    """A process of the fleet: its session, its connection to the store, and its callers."""

    def __init__(self, stage: _Stage, number: int) -> None:
        self.stage = stage
        self.number = number
        fleet = stage.fleet
        self.switch = Switch()
        self.link = Link(
            stage.store,
            fleet.troubles_of(number),
            fleet.store_latency,
            # A process that is leaving can still be killed.
            partial(stage.note, number),
            stage.start,
        )
        self.session: AnonymousSession | None = None
        self._holds: str | None = None
        self._is_gone = False
        self._nursery: trio.Nursery

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended; it may be stopped."""
        return self.session is not None and not self._is_gone

    def note(self, what: Happening) -> None:
        if not self._is_gone:
            self.stage.note(self.number, what)

    async def run(self) -> None:
        await trio.sleep_until(self.stage.fleet.joins[self.number])
        self._start(self.stage._nursery, self._run)

    async def _run(self) -> None:
        config = self.stage.config
        async with AsyncExitStack() as stack:
            watched = _WatchedManager(self, TokenManager(config, http_client=self.stage.client))
            manager: TokenSource = watched
            if self.stage.fleet.has_store:
                shared = SharedTokenManager(watched, self.link)
                manager = await stack.enter_async_context(shared)
            session = AnonymousSession(config, manager, observers=[self._see_event])
            async with session:
                self.session = session
                self.note(Joined())
                async with trio.open_nursery() as self._nursery:
                    if self.stage.fleet.every is not None:
                        self._nursery.start_soon(self._get_every, self.stage.fleet.every)
                    await trio.sleep_forever()

    # Events of the process

    def do(self, deed: Deed) -> None:
        match deed:
            case Get():
                for _ in range(deed.count):
                    self._start(self._nursery, self._get, deed)
            case Invalidate():
                self._start(self._nursery, self._invalidate, deed.age)
            case Revoke():
                self._start(self._nursery, self._revoke)
            case Stop():
                if not self.switch.is_off:
                    self.note(Stopped())
                    self.switch.stop()
                    self.stage.start(lambda: self._resume_later(deed.seconds))
            case Crash():
                self._go(in_order=False)
                self.link.is_dead = True
                self.switch.stop()
            case Leave():
                if not self.switch.is_off:
                    self._go(in_order=True)
                    self._nursery.cancel_scope.cancel()

    def _go(self, *, in_order: bool) -> None:
        self.note(Gone(in_order))
        self._is_gone = True

    def _start(
        self, nursery: trio.Nursery, async_fn: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Start a task that belongs to the process."""
        context = copy_context()
        context.run(self.switch.enter)
        context.run(nursery.start_soon, async_fn, *args)

    async def _resume_later(self, seconds: float) -> None:
        await trio.sleep(seconds)
        if not self._is_gone:
            self.note(Resumed())
            self.switch.resume()

    async def _get_every(self, seconds: float) -> None:
        while True:
            await self._ask(Get(at=0.0))
            await trio.sleep(seconds)

    async def _get(self, get: Get) -> None:
        limit = math.inf if get.gives_up is None else float(get.gives_up)
        with trio.move_on_after(limit):
            token = await self._ask(get)
            if get.ask == "use" and token is not None:
                verdict = self.stage.server.tokens[token].verdict_at(trio.current_time())
                if verdict != "good":
                    self._report(token)
                    await self._ask(get)

    async def _ask(self, get: Get) -> str | None:
        assert self.session is not None
        self.stage.getters += 1
        number = self.stage.getters
        self.note(Asked(number))
        token: str | None = None
        try:
            if get.ask == "nowait":
                token = self.session.get_access_token_nowait()
            elif get.ask == "exchange":
                info: TokenInfo = await self.session.exchange_token("item_read")
                token = info.access_token
            else:
                token = await self.session.get_access_token()
        except (trio.Cancelled, trio.WouldBlock) as error:
            self.note(GaveUp(number))
            if isinstance(error, trio.Cancelled):
                raise
        except AnonymousSessionError as error:
            self.note(Failed(number, error))
        else:
            self.note(Got(number, token))
        return token

    async def _invalidate(self, age: int) -> None:
        assert self.session is not None
        if age == 0:
            if self.session.token_info is not None:
                self._report(self.session.token_info.access_token)
        else:
            issued = list(self.stage.server.tokens)
            self._report(issued[-1 - age] if age < len(issued) else "never-issued")

    def _report(self, token: str) -> None:
        assert self.session is not None
        if self._holds == token:
            self._note_report(token)
        self.session.invalidate(token)

    def _note_report(self, token: str) -> None:
        # The report counts even at the moment when the process leaves.
        self.stage.note(self.number, Reported(token))

    async def _revoke(self) -> None:
        assert self.session is not None
        if self._holds is not None:
            self._note_report(self._holds)
        with suppress(AnonymousSessionError):
            await self.session.revoke_tokens()

    def _see_event(self, event: Event) -> None:
        assert self.session is not None
        token = self.session.token_info
        text = None if token is None else token.access_token
        if text != self._holds:
            self._holds = text
            self.note(Holds(text))


class _WatchedManager:
    """A token manager that logs each token request of a process."""

    def __init__(self, process: _Process, inner: TokenManager) -> None:
        self._process = process
        self._inner = inner

    @property
    def config(self) -> Config:
        return self._inner.config

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        fence = self._process.link.lease
        self._process.note(Sent(fence))
        try:
            token = await self._inner.get_tokens_client_credentials_grant(options)
        except BaseException as error:
            self._process.note(Came(fence, None, error))
            raise
        self._process.note(Came(fence, token.access_token))
        return token

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        await self._inner.revoke_tokens(token, options)
