"""Drives a session and its model side by side, and compares them after each step.

All numbers drawn are multiples of a tick that is a power of two, so that both sides reckon
without rounding, and a moment is either the boundary or it is not. Chance is taken out of
the session: no jitter of the boundary, a strategy for the pauses, and a first interval so
long that the pause after a failed round is always the longest one.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import wait_all_tasks_blocked

from tests.helpers import TwoClocks
from tests.model.guest import GuestRun
from tests.model.model import (
    LONGEST_PAUSE,
    REQUEST_TIMEOUT,
    Answer,
    Endpoint,
    Model,
    Outcome,
    Settings,
)
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    MalformedTokenResponseError,
    RevocationError,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TICK = 1 / 64
STEPS_BEFORE_CLOSE = 40
CROWD = 4

REACHED: Counter[str] = Counter()
"""How often each rule, state and place of the model was reached, over all examples."""

SETTINGS = st.builds(
    Settings,
    eager=st.booleans(),
    stale_buffer=st.sampled_from([600.0, 20.0, 600.0, 0.0]),
    expired_buffer=st.sampled_from([30.0, 4.0, 0.0]),
    idle_timeout=st.sampled_from([None, 6.0, 100.0]),
    gap=st.sampled_from([1.0, 0.5, 24.0]),
    pauses=st.lists(st.sampled_from([0.5, 3.0, 100.0, None]), max_size=3).map(tuple),
)
ANSWERS = st.sampled_from(["unavailable", "rejected", "malformed", "lifeless", "hung"])
RETRY_AFTER = st.sampled_from([None, 0.0, 1.0, 5.0, 100.0])
HOW = {
    CredentialsRejectedError: "rejected",
    MalformedTokenResponseError: "malformed",
    TokenUnavailableError: "unavailable",
}


def _fault(answer: Answer, latency: float, retry_after: float | None = None) -> Fault:
    match answer:
        case "good":
            fault = Fault()
        case "hung":
            return Fault.hang()
        case "lifeless":
            fault = Fault(lifetime=0.0)
        case "unavailable" if retry_after is None:
            fault = Fault.server_error(503)
        case "unavailable":
            fault = Fault.rate_limited()
        case "rejected":
            fault = Fault.refusal("invalid_client")
        case "malformed":
            fault = Fault(status=200, body=b"<html>")
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return attrs.evolve(fault, delay=latency, headers=(*fault.headers, *headers.items()))


def _plan(endpoint: Endpoint) -> FaultPlan:
    latency = endpoint.latency
    return FaultPlan(
        token=[_fault(answer, latency, after) for answer, after in endpoint.planned],
        token_then=Fault(delay=latency),
        revoke_then=_fault(endpoint.revoking, latency),
    )


@attrs.frozen
class Look:
    """Is what is to be seen of a session; the model's is to be equal."""

    state: str
    token: int | None
    grants: int
    failures: int
    consecutive_failures: int
    held: int
    held_total: int
    invalidations: int
    revocations: int
    expires_in: float | None
    next_refresh_in: float | None
    sent: list[float]
    revocations_sent: list[float]
    outcomes: dict[int, Outcome]


class SessionMachine(RuleBasedStateMachine):
    """Is a session at a server of its own, whose clocks are moved by hand."""

    session: AnonymousSession
    look: Look

    @initialize(
        settings=SETTINGS,
        lifetime=st.sampled_from([256.0, 64.0, 16.0]),
        latency=st.sampled_from([0.0, 1.5, 6.0]),
    )
    def enter(self, settings: Settings, lifetime: float, latency: float) -> None:
        """Enter the session with drawn settings."""
        self.patch = pytest.MonkeyPatch()
        self.clock = TwoClocks(self.patch)
        self.guest = GuestRun(self.clock)
        self.server = TokenServer()
        self.callers = 0
        self.steps = 0
        self.is_alike = False
        self.scopes: dict[int, trio.CancelScope] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.leave_block = trio.Event()
        self.model = Model(settings, self.clock.current_time(), self._wall(), self._was_sent_at)
        self.model.endpoint.lifetime = lifetime
        self.model.endpoint.latency = latency
        self._change_server()
        self.guest.do(self._enter, settings)
        self.do()

    def teardown(self) -> None:
        """Leave the block, and see that nothing is left."""
        if not hasattr(self, "guest"):
            return
        # After a difference the two go on in different ways, of which nothing is to be learned.
        try:
            if self.is_alike:
                self.do(self.leave_block.set)
                self.model.close()
                self.is_as_the_model_says()
                assert self.guest.do(self._no_tasks_left)
                REACHED.update(self.model.reached)
        finally:
            self.guest.stop()
            self.patch.undo()

    # The session

    async def _enter(self, settings: Settings) -> None:
        is_open = trio.Event()
        self.guest.nursery.start_soon(self._hold_block, settings, is_open)
        await is_open.wait()

    async def _hold_block(self, settings: Settings, is_open: trio.Event) -> None:
        def strategy(attempt: int, error: TokenRequestError) -> float | None:
            return settings.pauses[attempt - 1]

        async with open_test_session(
            self.server,
            refresh="eager" if settings.eager else "on_request",
            stale_buffer=settings.stale_buffer,
            expired_buffer=settings.expired_buffer,
            idle_timeout=settings.idle_timeout,
            min_refresh_interval=settings.gap,
            max_retries=len(settings.pauses),
            retry_strategy=strategy,
            retry_interval=2 * LONGEST_PAUSE,
            max_retry_interval=LONGEST_PAUSE,
            request_timeout=REQUEST_TIMEOUT,
        ) as session:
            self.session = session
            is_open.set()
            await self.leave_block.wait()

    async def _no_tasks_left(self) -> bool:
        await wait_all_tasks_blocked()
        return not self.guest.nursery.child_tasks

    def _wall(self) -> float:
        return self.clock._wall

    def _was_sent_at(self, moment: float) -> bool:
        return any(request.at == moment for request in self.server.token_requests())

    def do(self, action: Callable[[], object] = lambda: None) -> None:
        """Act within the run, let it settle, and look."""

        async def act() -> None:
            action()
            await wait_all_tasks_blocked()
            self.look = self._look()

        self.guest.do(act)

    def _look(self) -> Look:
        session = self.session
        token = session.token_info
        statistics = session.statistics()
        assert statistics.state is session.state
        return Look(
            state=session.state.name,
            token=self._number(token.access_token) if token is not None else None,
            grants=statistics.grants,
            failures=statistics.failures,
            consecutive_failures=statistics.consecutive_failures,
            held=statistics.getters_held,
            held_total=statistics.getters_held_total,
            invalidations=statistics.invalidations,
            revocations=statistics.revocations,
            expires_in=statistics.expires_in,
            next_refresh_in=statistics.next_refresh_in,
            sent=[request.at for request in self.server.token_requests()],
            revocations_sent=[request.at for request in self.server.revoke_requests()],
            outcomes=dict(self.outcomes),
        )

    def _number(self, access_token: str) -> int:
        return list(self.server.tokens).index(access_token) + 1

    def _call(self, async_fn: Callable[[], Awaitable[Any]]) -> int:
        """Start a caller in a task of its own, and return who that is."""
        self.callers += 1
        who = self.callers
        self.scopes[who] = trio.CancelScope()
        self.do(lambda: self.guest.nursery.start_soon(self._be_caller, who, async_fn))
        return who

    async def _be_caller(self, who: int, async_fn: Callable[[], Awaitable[Any]]) -> None:
        outcome = functools.partial(Outcome, "left")
        with self.scopes[who]:
            try:
                outcome = self._brought(await async_fn())
            except SessionClosedError:
                outcome = functools.partial(Outcome, "closed")
            except RevocationError as error:
                outcome = functools.partial(Outcome, "not revoked", attempts=error.attempts)
            except TokenRequestError as error:
                outcome = functools.partial(
                    Outcome,
                    HOW[type(error)],
                    retry_after=error.retry_after,
                    attempts=error.attempts,
                )
        self.outcomes[who] = outcome(at=trio.current_time())

    def _brought(self, result: Any) -> functools.partial[Outcome]:
        if result is None:
            return functools.partial(Outcome, "done")
        text = result if isinstance(result, str) else result.access_token
        assert self.server.tokens[text].verdict_at(trio.current_time()) == "good"
        return functools.partial(Outcome, "token", token=self._number(text))

    # What is compared

    @invariant()
    def is_as_the_model_says(self) -> None:
        """All that is to be seen is as the model says."""
        model = self.model
        self.is_alike = False
        expected = Look(
            state=model.state(),
            token=model.token.number if model.token is not None else None,
            grants=model.grants,
            failures=model.failures,
            consecutive_failures=model.consecutive_failures,
            held=len(model.held),
            held_total=model.held_total,
            invalidations=model.invalidations,
            revocations=model.revoked,
            expires_in=(
                None
                if model.token is None
                else max(0.0, model.token.expires_at - model.aged(model.token))
            ),
            next_refresh_in=model.next_refresh_in(),
            sent=model.sent,
            revocations_sent=model.revocations_sent,
            outcomes=model.outcomes,
        )
        for field in attrs.fields(Look):
            seen, wanted = getattr(self.look, field.name), getattr(expected, field.name)
            assert seen == wanted, field.name
        assert self.server.most_in_flight <= 1
        REACHED[f"state {model.state()}"] += 1
        if model.settings.eager and model.is_parked() and model.state() in ("STALE", "EXPIRED"):
            REACHED[f"parked, {model.state()}"] += 1
        self.steps += 1
        self.is_alike = True

    def _open(self) -> bool:
        return not self.model.closed

    def _is_at_rest(self) -> bool:
        """Return whether nothing happens before the next getter asks."""
        model = self.model
        return self._open() and not (model.token or model.grant or model.revocations or model.held)

    def _now_and_then(self, steps: int) -> bool:
        """Return True once in so many steps: else no session would live for long.

        While a grant is in flight, where things are lost most easily, always.
        """
        return self.steps % steps == 0 or self.model.grant is not None

    def _waiting(self) -> list[int]:
        return [*self.model.held, *self.model.revokers]

    # What users do

    @precondition(lambda self: len(self.model.held) < CROWD)
    @rule()
    def get(self) -> None:
        """Ask for a token."""
        REACHED["get"] += 1
        self.model.get(self._call(self.session.get_access_token))

    @precondition(lambda self: self._now_and_then(3))
    @rule()
    def exchange(self) -> None:
        """Ask for a token in the other way."""
        REACHED["exchange"] += 1
        self.model.get(self._call(lambda: self.session.exchange_token("x")))

    @precondition(lambda self: self._open() and not self.model.held)
    @rule(seconds=st.sampled_from([1.0, TICK, 10.0]))
    def get_and_get_again(self, seconds: float) -> None:
        """Ask for a token, and once more after a while."""
        REACHED["get_and_get_again"] += 1
        self.model.get(self._call(self.session.get_access_token))
        self._pass_time(self.model.now + seconds)
        self.model.get(self._call(self.session.get_access_token))

    @precondition(lambda self: self.model.grant is not None and self.model.grant.answer != "good")
    @rule()
    def get_after_failure(self) -> None:
        """Let an attempt fail, ask for a token, and let time pass to the next attempt."""
        REACHED["get_after_failure"] += 1
        assert self.model.grant is not None
        self._pass_time(self.model.grant.ends_at)
        self.model.get(self._call(self.session.get_access_token))
        if self.model.retry_at > self.model.now:
            self._pass_time(self.model.retry_at)

    @precondition(lambda self: self._now_and_then(2) and not self._is_at_rest())
    @rule()
    def get_nowait(self) -> None:
        """Ask for a token that is there."""
        REACHED["get_nowait"] += 1
        self.callers += 1

        def get() -> None:
            try:
                outcome = self._brought(self.session.get_access_token_nowait())
            except trio.WouldBlock:
                outcome = functools.partial(Outcome, "would block")
            except SessionClosedError:
                outcome = functools.partial(Outcome, "closed")
            self.outcomes[self.callers] = outcome(at=trio.current_time())

        self.do(get)
        self.model.get_nowait(self.callers)

    @precondition(lambda self: bool(self._waiting()))
    @rule(nth=st.integers(0, 20))
    def leave(self, nth: int) -> None:
        """Cancel one of those that wait."""
        REACHED["leave"] += 1
        waiting = self._waiting()
        who = waiting[nth % len(waiting)]
        self.do(self.scopes[who].cancel)
        self.model.leave(who)

    @precondition(lambda self: self._now_and_then(3) and self._open() and self.server.tokens)
    @rule(nth=st.one_of(st.none(), st.integers(0, 20)))
    def invalidate(self, nth: int | None) -> None:
        """Report a token dead: the current one, or any other, such as one on its way."""
        current = self.model.token
        number = 1 + (nth or 0) % len(self.server.tokens)
        if nth is None and current is not None:
            number = current.number
        is_current = current is not None and current.number == number
        REACHED["invalidate current" if is_current else "invalidate other"] += 1
        self._invalidate(number)

    @precondition(lambda self: self.model.state() == "FRESH")
    @rule()
    def invalidate_at_boundary(self) -> None:
        """Let the token become STALE, ask for it, and report it dead."""
        REACHED["invalidate_at_boundary"] += 1
        self._pass_time(self.model.boundaries()[0])
        self.model.get(self._call(self.session.get_access_token))
        if self.model.token is not None:
            self._invalidate(self.model.token.number)

    def _invalidate(self, number: int) -> None:
        text = list(self.server.tokens)[number - 1]

        def report() -> None:
            self.session.invalidate("nobody's")
            self.session.invalidate(text)

        self.do(report)
        self.model.invalidate(number)

    def _may_revoke(self) -> bool:
        if not self._now_and_then(10 if self._is_at_rest() else 5):
            return False
        # Which of two failed revocations a revoke tells of is nobody's business.
        revocations = self.model.revocations
        answers = [self.model.endpoint.revoking, *(each.answer for each in revocations)]
        return not revocations or set(answers) == {"good"}

    @precondition(_may_revoke)
    @rule()
    def revoke(self) -> None:
        """Revoke what there is."""
        REACHED["revoke"] += 1
        self.model.revoke(self._call(self.session.revoke_tokens))

    @precondition(lambda self: self._open() and self.steps > STEPS_BEFORE_CLOSE)
    @rule()
    def close(self) -> None:
        """Leave the block."""
        REACHED["close"] += 1
        self.do(self.leave_block.set)
        self.model.close()

    # What the server does

    def _may_change_server(self) -> bool:
        return self._open() and not (self._is_at_rest() and self.steps % 6)

    @precondition(lambda self: self._may_change_server() and not self.model.endpoint.planned)
    @rule(answer=ANSWERS, retry_after=RETRY_AFTER, times=st.integers(1, 3))
    def plan(self, answer: Answer, retry_after: float | None, times: int) -> None:
        """Let the next token requests fail."""
        REACHED[f"plan {answer}"] += 1
        self._plan(answer, retry_after, times)

    @precondition(lambda self: self.model.state() == "FRESH" and not self.model.endpoint.planned)
    @rule(answer=ANSWERS, retry_after=RETRY_AFTER, times=st.integers(1, 3), last=st.booleans())
    def fail_at_boundary(
        self, answer: Answer, retry_after: float | None, times: int, last: bool
    ) -> None:
        """Let the next token requests fail, and time pass to a boundary."""
        REACHED["fail_at_boundary"] += 1
        self._plan(answer, retry_after, times)
        self._pass_time(self.model.boundaries()[-1 if last else 0])

    def _plan(self, answer: Answer, retry_after: float | None, times: int) -> None:
        if answer in ("lifeless", "hung"):
            retry_after = None
        self.model.endpoint.planned.extend([(answer, retry_after)] * times)
        self._change_server()

    @precondition(_may_change_server)
    @rule(
        latency=st.sampled_from([0.0, 1.5, 6.0]),
        lifetime=st.sampled_from([256.0, 64.0, 16.0, 2.0]),
        revoking=st.sampled_from(["good", "unavailable", "rejected", "hung"]),
        what=st.sampled_from(["latency", "lifetime", "revoking"]),
    )
    def change(self, latency: float, lifetime: float, revoking: Answer, what: str) -> None:
        """Let the server answer in another way."""
        REACHED[f"change {what}"] += 1
        endpoint = self.model.endpoint
        if what == "latency":
            endpoint.latency = latency
        elif what == "lifetime":
            endpoint.lifetime = lifetime
        else:
            endpoint.revoking = revoking
        self._change_server()

    def _change_server(self) -> None:
        self.server.lifetime = self.model.endpoint.lifetime
        self.server.faults = _plan(self.model.endpoint)

    # What time does

    @precondition(lambda self: not self._is_at_rest())
    @rule(seconds=st.sampled_from([10.0, TICK, 3.0, 30.0, 100.0]))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        REACHED["advance"] += 1
        self._pass_time(self.model.now + seconds)

    @precondition(lambda self: self.model.next_event() < math.inf)
    @rule(ticks=st.sampled_from([0, -1, 1]))
    def advance_to_event(self, ticks: int) -> None:
        """Let time pass until something happens, or to a tick before or after it."""
        REACHED["advance_to_event"] += 1
        self._pass_time(self.model.next_event() + ticks * TICK)

    @precondition(lambda self: self.model.boundaries())
    @rule(ticks=st.sampled_from([0, -1, 1]), last=st.booleans())
    def advance_to_boundary(self, ticks: int, last: bool) -> None:
        """Let time pass to where the token would become STALE, or EXPIRED."""
        REACHED["advance_to_boundary"] += 1
        self._pass_time(self.model.boundaries()[-1 if last else 0] + ticks * TICK)

    @precondition(lambda self: self._now_and_then(4) and self._open() and not self._is_at_rest())
    @rule(seconds=st.sampled_from([30.0, 3.0, 100.0, 3600.0, -30.0, -3600.0]))
    def move_wall(self, seconds: float) -> None:
        """Suspend the machine, so that the wall clock alone goes on, or set that back."""
        if seconds < 0 and self.model.held:
            return
        REACHED["suspend" if seconds > 0 else "set wall back"] += 1
        self.clock.suspend(seconds)
        self.do()
        self.model.move_wall(seconds)

    def _pass_time(self, until: float) -> None:
        for moment in self.guest.do(self._advance, until):
            self.model.pass_time(moment)

    async def _advance(self, until: float) -> list[float]:
        """Go from deadline to deadline, so that each is met to the tick."""
        moments = []
        while (now := trio.current_time()) < until:
            left = trio.lowlevel.current_statistics().seconds_to_next_deadline
            await self.clock.advance(min(left, until - now))
            moments.append(trio.current_time())
        self.look = self._look()
        return moments
