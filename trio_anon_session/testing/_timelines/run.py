"""`run_timeline`: runs a timeline, and checks the promises."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, final

import attrs
import httpx
import trio
import trio.testing

from ..._errors import AnonymousSessionError
from ..._events import Granted
from ..._manager import TokenManager
from ..._session import AnonymousSession
from ..._token import LIFETIME_LIMIT
from .._clocks import FOREVER, SuspendableClock, seeded_schedule
from .log import (
    Asked,
    Blocked,
    Came,
    Cancelling,
    CutOff,
    Decided,
    Entry,
    Failed,
    GaveUp,
    Got,
    Killed,
    Leaving,
    Left,
    Presented,
    Reported,
    RevocationCame,
    RevocationSent,
    RevokeCancelling,
    RevokeEnded,
    Revoking,
    Sent,
    Stopped,
    WallSet,
)
from .names import token_names
from .picture import draw_text
from .record import Breach
from .referee import judge
from .story import make_story
from .svg import draw_svg
from .timeline import Get, Invalidate, Kill, Revoke, SetWall, Suspend, Timeline
from .turns import Tripwire, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..._config import Config
    from ..._events import Event
    from ..._token import TokenInfo, TokenRequestOptions
    from .._requests import Receive, Scope, Send
    from .._server import TokenServer
    from .log import Happening
    from .record import Story
    from .timeline import Action, Answer, Ask

STEPS_LIMIT = 2000
"""Maximum steps of tasks at one moment, for each getter and ten others. More steps count as an
endless loop."""
PROGRAM_STEPS_LIMIT = 200_000
"""The same limit for a program, which may have thousands of tasks."""
HANG_LIMIT = 1e6
"""Seconds after the last action and the end, after which a waiting task counts as hanging."""

CLEANUP_LIMIT = 3600.0
"""Seconds that a program may take to clean up. A longer time means that it waits for a thread."""


class Program(Protocol):
    """A program of your own, or a part of it, for :func:`run_timeline`."""

    def __call__(
        self, session: AnonymousSession, client: httpx.AsyncClient, /
    ) -> Awaitable[object]:
        """Run with a session, and with a client of the session's server."""
        ...


@final
@attrs.frozen
class Outcome:
    """The result of a timeline; ``str()`` returns its picture.

    Attributes:
        timeline: the timeline.
        story: the events, as plain data for pictures.
        server: the server, with its recorded requests.
        log: all events in their order.
    """

    timeline: Timeline
    story: Story = attrs.field(repr=False)
    server: TokenServer = attrs.field(repr=False)
    log: tuple[Entry, ...] = attrs.field(repr=False)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, width: int = 100) -> str:
        """Return the picture as text with lines of at most ``width`` characters."""
        return draw_text(self.story, width=width)

    def svg(self, *, width: int = 960) -> str:
        """Return the picture as SVG, ``width`` pixels wide."""
        return draw_svg(self.story, width=width)


class BrokenTimelineError(AssertionError):
    """A timeline failed; the message contains its picture.

    Attributes:
        promise: number of the broken promise; None if the program failed.
        outcome: the result of the timeline.
    """

    def __init__(self, breach: Breach, outcome: Outcome) -> None:
        self.promise = breach.promise
        self.outcome = outcome
        super().__init__(f"{breach.text}\n\n{outcome.text()}\n\n{outcome.timeline!r}")


class BrokenPromiseError(BrokenTimelineError):
    """The session broke one of its promises."""


class RefusedTokenError(BrokenTimelineError):
    """The program presented a token that had expired at the server."""


class Crash(BaseException):
    """The exception of a token manager whose answer is ``"crash"``."""


class OddError(Exception):
    """The exception of a token manager whose answer is ``"raises"``."""


class _BodyError(Exception):
    """The exception of a block that a timeline leaves by ``"raise"``."""


def run_timeline(timeline: Timeline, program: Program | None = None) -> Outcome:
    """Run a timeline in virtual time with an embedded server, and check the promises.

    Without a program, the timeline's getters call the session, and all promises that a
    timeline can break are checked from outside the session. With a program, the program
    calls the session instead of the getters; the other actions of the timeline still happen.
    The run ends when the program returns, or at ``leaves_at``, when the program is cancelled.
    It fails if the program presents an expired token.

    Call it from a test that is not async, because it calls ``trio.run``.

    Args:
        timeline: the timeline.
        program: an async function that takes a session and an ``httpx.AsyncClient``. The
            client reaches the protected resource at any path under ``/2.0/``.

    Returns:
        The result, with its picture.

    Raises:
        BrokenPromiseError: The session broke a promise. The message contains the picture,
            as for the next two errors.
        RefusedTokenError: The program presented an expired token.
        BrokenTimelineError: The program ran in an endless loop, or continued for an hour
            after it was cancelled.
        Exception: The program raised it. A note contains the picture and the timeline.
        TypeError: ``timeline`` is not a Timeline, or ``program`` is not an async function.
        RuntimeError: The caller is inside a Trio run, such as an async test.
    """
    __tracebackhide__ = True
    _check_call(timeline, program)
    stage = _Run(timeline, program)
    problem: BaseException | None = None
    with ExitStack() as stack:
        stack.enter_context(seeded_schedule(timeline.seed))
        clock: trio.abc.Clock = trio.testing.MockClock(autojump_threshold=0)
        if timeline.moves_wall_clock:
            clock = stage.clock = SuspendableClock()
            stack.enter_context(stage.clock.installed())
        try:
            trio.run(stage.run, clock=clock, instruments=[stage.tripwire])
        except BaseException as error:  # noqa: ASYNC103  # raised below, with the picture
            problem = error
    server = stage.server
    kind: type[BrokenTimelineError] = BrokenPromiseError
    breach: Breach | None = None
    if program is not None:
        kind, breach = RefusedTokenError, _refused(server, token_names(stage.log))
        if breach is None and problem is None:
            kind, breach = BrokenTimelineError, _stopped(stage.log)
    elif problem is None:
        breach = judge(timeline, stage.log)
    story = make_story(timeline, stage.log, server, breach, program=program is not None)
    outcome = Outcome(timeline, story, server, tuple(stage.log))
    # KeyboardInterrupt, and the exceptions that end a test, take precedence.
    if breach is not None and (problem is None or isinstance(problem, Exception)):
        raise kind(breach, outcome) from problem
    if problem is not None:
        if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout):
            problem.add_note(_OWN_CLIENT)
        problem.add_note(f"{outcome.text()}\n\n{timeline!r}")
        raise problem
    return outcome


_OWN_CLIENT = (
    "A client that opens connections does not work in virtual time. Send the requests with the "
    "client that run_timeline passes to the program."
)


def _check_call(timeline: object, program: object) -> None:
    if not isinstance(timeline, Timeline):
        kind = type(timeline).__name__
        raise TypeError(f"timeline must be a Timeline, not {kind}; draw one with @given")
    if program is not None and not callable(program):
        kind = type(program).__name__
        raise TypeError(f"program must be an async function, not {kind}; do not call it")
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return
    raise RuntimeError("run_timeline() calls trio.run(): call it in a test that is not async")


def _refused(server: TokenServer, names: dict[str, str]) -> Breach | None:
    for number, presented in enumerate(server.presented, 1):
        if presented.verdict == "expired" and presented.access_token is not None:
            token = server.tokens[presented.access_token]
            late = 0.0 - token.left_at(presented.at)
            when = f"{late:g} s after it expired" if late else "at the moment it expired"
            name = names.get(presented.access_token)
            text = f"the program presented {f'token {name}' if name else 'a token'} {when}"
            return Breach(promise=None, at=presented.at, text=text, getter=number, token=name)
    return None


def _stopped(log: list[Entry]) -> Breach | None:
    for entry in log:
        if isinstance(entry.what, Stopped):
            return Breach(promise=None, at=entry.at, text=f"stopped: {entry.what.why}")
    return None


@attrs.define(eq=False)
class _Getter:
    """The task of a getter: the number of its call, and its cancel scope."""

    number: int
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class _Run:
    """The run of a timeline: performs its actions, and writes the log."""

    def __init__(self, timeline: Timeline, program: Program | None) -> None:
        self.timeline = timeline
        self.program = program
        self.server = timeline.server()
        self.log: list[Entry] = []
        self.clock: SuspendableClock | None = None
        getters = sum(action.count for action in timeline.actions if isinstance(action, Get))
        limit = STEPS_LIMIT * (getters + 10) if program is None else PROGRAM_STEPS_LIMIT
        self.tripwire = Tripwire(limit, self.stop)
        self._abort = trio.CancelScope()
        self._counts: Counter[str] = Counter()
        # Getters to cancel at the moment when a token arrives.
        self._at_release: list[_Getter] = []
        # The answers to the revocations in progress that reached the server.
        self.met: dict[trio.lowlevel.Task, Answer] = {}

    def note(self, what: Happening) -> None:
        self.log.append(Entry(trio.current_time(), what))

    def next_number(self, of: str) -> int:
        self._counts[of] += 1
        return self._counts[of]

    def stop(self, why: str) -> None:
        self.note(Stopped(why))
        self._abort.cancel()

    async def run(self) -> None:
        last = max((action.at for action in self.timeline.actions), default=0.0)
        patience = (
            FOREVER if self.program is not None else last + self.timeline.leaves_at + HANG_LIMIT
        )
        with self._abort, trio.move_on_after(patience) as limit:
            await self._run()
        if limit.cancelled_caught:
            self.note(Stopped("a task waits indefinitely"))

    async def _run(self) -> None:
        config = self.timeline.config()
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(self._serve)) as managers,
            TokenManager(config, http_client=managers) as inner,
            # A separate client, because a program may change or close it.
            httpx.AsyncClient(
                transport=httpx.ASGITransport(self.server), base_url="http://localhost"
            ) as client,
        ):
            manager = _WatchedManager(self, inner, config)
            session = AnonymousSession(config, manager, observers=[self._see_event])
            failure: list[BaseException] = []
            # This nursery is outside the session, because getters outlive the session's block.
            async with trio.open_nursery() as nursery:
                for action in self.timeline.actions:
                    self._start(nursery, action, session)
                with trio.CancelScope() as scope:
                    await self._block(session, client, scope, failure)
                if self.program is not None:
                    nursery.cancel_scope.cancel()
        if failure:
            raise failure[0]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the server, and note which answer a revocation gets.

        Two revocations sent at the same moment may reach the server in the other order.
        """
        if scope["path"] == "/oauth2/revoke":
            nth = self.next_number("revocation at the server") - 1
            self.met[trio.lowlevel.current_task()] = self.timeline.revocation_at_server(nth)
        await self.server(scope, receive, send)

    async def _block(
        self,
        session: AnonymousSession,
        client: httpx.AsyncClient,
        scope: trio.CancelScope,
        failure: list[BaseException],
    ) -> None:
        """Open the session, leave it as the timeline says, and note the exception."""
        how = self.timeline.leaves_by
        body_error = _BodyError() if how == "raise" else None
        came_out: BaseException | None = None
        try:
            async with session:
                try:
                    await self._body(session, client, failure)
                    if how == "cancel":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                    if body_error is not None:
                        raise body_error
                finally:
                    self.note(Leaving(how, session.statistics()))
        except trio.Cancelled:
            self.note(Left(None, None))
            raise
        except BaseException as error:
            came_out = error
        was_swallowed = scope.cancel_called and came_out is None
        self.note(Left(came_out, body_error, was_swallowed))

    async def _body(
        self, session: AnonymousSession, client: httpx.AsyncClient, failure: list[BaseException]
    ) -> None:
        try:
            with trio.move_on_after(self.timeline.leaves_at):
                if self.program is None:
                    await trio.sleep_forever()
                else:
                    await self._play(self.program, session, client)
        except trio.Cancelled:
            raise
        # Catch BaseException, because pytest and Hypothesis end a test with one.
        except BaseException as error:  # noqa: ASYNC103  # raised after the run
            failure.append(error)

    async def _play(
        self, program: Program, session: AnonymousSession, client: httpx.AsyncClient
    ) -> None:
        try:
            running = program(session, client)
            if not inspect.isawaitable(running):
                raise TypeError("program must be an async function; define it with async def")
            await running
        finally:
            late = trio.current_time() - self.timeline.leaves_at
            if late > CLEANUP_LIMIT:
                reason = "virtual time does not wait for threads or sockets"
                self.note(Stopped(f"the program ran for {late:g} s after its end; {reason}"))

    def _see_event(self, event: Event) -> None:
        if isinstance(event, Granted):
            for getter in self._at_release:
                self._cancel(getter)
            self._at_release.clear()

    def _start(self, nursery: trio.Nursery, action: Action, session: AnonymousSession) -> None:
        match action:
            case Get() if self.program is None:
                for _ in range(action.count):
                    nursery.start_soon(self._get, nursery, action, session)
            case Get():
                pass
            case Revoke():
                nursery.start_soon(self._revoke, nursery, action, session)
            case Invalidate() | Kill() | Suspend() | SetWall():
                nursery.start_soon(self._act, action, session)

    async def _reach(self, at: float, passes: int) -> None:
        await trio.sleep_until(at)
        for _ in range(passes):
            await trio.lowlevel.checkpoint()

    async def _act(self, action: Action, session: AnonymousSession) -> None:
        await self._reach(action.at, action.passes)
        match action:
            case Invalidate():
                self._report(session, self._token_of_age(action.age, session))
            case Kill():
                self.server.revoke_all()
                self.note(Killed())
            case Suspend():
                self._set_wall(action.seconds, is_real=True)
            case SetWall():
                self._set_wall(action.by, is_real=False)

    def _set_wall(self, by: float, *, is_real: bool) -> None:
        assert self.clock is not None
        self.clock.set_wall(by)
        self.note(WallSet(by, is_real))

    def _token_of_age(self, age: int, session: AnonymousSession) -> str:
        if age == 0 and session.token_info is not None:
            return session.token_info.access_token
        issued = list(self.server.tokens)
        return issued[-1 - age] if age < len(issued) else "never-issued"

    def _report(self, session: AnonymousSession, token: str) -> None:
        before = _held_by(session)
        session.invalidate(token)
        self.note(Reported(token, before, _held_by(session)))

    async def _get(self, nursery: trio.Nursery, action: Get, session: AnonymousSession) -> None:
        await self._reach(action.at, action.passes)
        getter = _Getter(self.next_number("getter"))
        with getter.scope:
            if action.gives_up == 0 and not action.gives_up_passes:
                self._cancel(getter)
            elif action.gives_up == "at release":
                self._at_release.append(getter)
            elif action.gives_up is not None:
                when = action.at + action.gives_up
                nursery.start_soon(self._give_up, getter, when, action.gives_up_passes)
            token = await self._ask(session, action.ask, getter)
            if action.ask == "use" and token is not None:
                await self._use(session, token, getter)
        if getter in self._at_release:
            self._at_release.remove(getter)

    async def _give_up(self, getter: _Getter, when: float, passes: int) -> None:
        await self._reach(when, passes)
        self._cancel(getter)

    def _cancel(self, getter: _Getter) -> None:
        self.note(Cancelling(getter.number))
        getter.scope.cancel()

    async def _ask(self, session: AnonymousSession, ask: Ask, getter: _Getter) -> str | None:
        number = getter.number
        has_decided = False
        self.note(Asked(number, ask))

        def decide() -> None:
            nonlocal has_decided
            if not has_decided and not getter.scope.cancel_called:
                self.note(Decided(number))
            has_decided = True

        held_before = session.statistics().getters_held_total

        def decide_if_held() -> None:
            # A getter without a token starts to wait before its first checkpoint.
            if session.statistics().getters_held_total > held_before:
                decide()

        try:
            if ask == "nowait":
                # A nowait call has no checkpoint, so it reads the session even if its scope is
                # cancelled.
                self.note(Decided(number))
                token = session.get_access_token_nowait()
            elif ask == "exchange":
                info: TokenInfo = await Turns(session.exchange_token("item_read"), decide)
                token = info.access_token
            else:
                token = await Turns(session.get_access_token(), decide, decide_if_held)
        except trio.Cancelled:
            self.note(GaveUp(number))
            raise
        except trio.WouldBlock:
            self.note(Blocked(number))
        except Exception as error:
            self.note(Failed(number, error))
        else:
            self.note(Got(number, token))
            return token
        return None

    async def _use(self, session: AnonymousSession, token: str, getter: _Getter) -> None:
        issued = self.server.tokens.get(token)
        verdict = "unknown" if issued is None else issued.verdict_at(trio.current_time())
        self.note(Presented(getter.number, token, verdict))
        if verdict != "good":
            self._report(session, token)
            getter.number = self.next_number("getter")
            if getter.scope.cancel_called:
                self.note(Cancelling(getter.number))
            await self._ask(session, "use", getter)

    async def _revoke(
        self, nursery: trio.Nursery, action: Revoke, session: AnonymousSession
    ) -> None:
        await self._reach(action.at, action.passes)
        call = self.next_number("revoke")
        with trio.CancelScope() as scope:
            if action.gives_up is not None:
                self.note_later_cancel(nursery, scope, call, action.at + action.gives_up)
            self.note(Revoking(call, _held_by(session)))
            try:
                await session.revoke_tokens()
            except trio.Cancelled:
                self.note(RevokeEnded(call, "cancelled"))
                raise
            except AnonymousSessionError as error:
                self.note(RevokeEnded(call, error))
            else:
                self.note(RevokeEnded(call, "well"))

    def note_later_cancel(
        self, nursery: trio.Nursery, scope: trio.CancelScope, call: int, when: float
    ) -> None:
        async def cancel() -> None:
            await trio.sleep_until(when)
            self.note(RevokeCancelling(call))
            scope.cancel()

        nursery.start_soon(cancel)


def _held_by(session: AnonymousSession) -> str | None:
    return session.token_info.access_token if session.token_info is not None else None


class _WatchedManager:
    """The token manager of a timeline, which notes each request and simulates its own faults."""

    def __init__(self, stage: _Run, inner: TokenManager, config: Config) -> None:
        self._stage = stage
        self._inner = inner
        self._config = config
        self._last_sent_at = -math.inf
        self._too_early = 0

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Send the request to the server, unless the answer is a fault of the manager."""
        stage = self._stage
        number = stage.next_number("request")
        answer = stage.timeline.answer(number - 1)
        stage.note(Sent(number, answer.kind))
        self._check_pause()
        try:
            if answer.is_of_manager:
                await trio.sleep(answer.latency)
                token = _fail(answer)
            else:
                token = await self._inner.get_tokens_client_credentials_grant(options)
        except trio.Cancelled:
            stage.note(CutOff(number))
            raise
        except BaseException as error:
            stage.note(Came(number, error=error))
            raise
        stage.note(self._what_came(number, token))
        return token  # type: ignore[no-any-return]  # or "not a TokenInfo", on purpose

    def _check_pause(self) -> None:
        # The referee reports single requests that are too early. This check stops an endless loop.
        now = trio.current_time()
        if now < self._last_sent_at + self._config.min_refresh_interval / 2:
            self._too_early += 1
        self._last_sent_at = now
        if self._too_early == 10:
            self._stage.stop("token requests follow each other without a pause")

    def _what_came(self, number: int, token: TokenInfo) -> Came:
        issued = self._stage.server.tokens.get(getattr(token, "access_token", ""))
        if issued is None:
            return Came(number, error=TypeError("no TokenInfo"))
        # For a reused token, the server sends the remaining lifetime in whole seconds.
        is_new = issued.issued_at == token.sent_at
        left = issued.lifetime if is_new else issued.left_at(token.sent_at)
        lifetime = min(float(math.floor(left)) or left, LIFETIME_LIMIT)
        return Came(number, token, lifetime, issued.issued_at + issued.lifetime)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke at the server, unless the answer is a fault of the manager."""
        stage = self._stage
        number = stage.next_number("revocation")
        answer: Answer | None = stage.timeline.revocation(number - 1)
        assert answer is not None
        stage.note(RevocationSent(number, token))
        succeeded = False
        try:
            if answer.is_of_manager:
                await trio.sleep(answer.latency)
                _fail(answer)
            answer = None
            await self._inner.revoke_tokens(token, options)
            succeeded = True
        finally:
            answer = stage.met.pop(trio.lowlevel.current_task(), answer)
            stage.note(RevocationCame(number, token, answer, succeeded))


def _fail(answer: Answer) -> Any:
    match answer.kind:
        case "raises":
            raise OddError("an error that the token manager does not expect")
        case "crash":
            raise Crash
        case _:
            return "not a TokenInfo"


__all__ = [
    "BrokenPromiseError",
    "BrokenTimelineError",
    "Crash",
    "OddError",
    "Outcome",
    "Program",
    "RefusedTokenError",
    "run_timeline",
]
