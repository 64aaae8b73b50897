"""Tests of the events that observers receive: their kinds, fields and times."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, start_getters
from trio_anon_session import (
    AnonymousSession,
    Closed,
    CredentialsRejectedError,
    Event,
    Granted,
    Invalidated,
    RefreshFailed,
    RevocationError,
    Revoked,
    SessionStatistics,
    StateChanged,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

EMPTY, FRESH, STALE, EXPIRED = TokenState

T = TypeVar("T")
SECRET = "hush-hush+secret/0123456789"


class Notes:
    """An observer that records every event and its time."""

    def __init__(self) -> None:
        self.all: list[tuple[float, Event]] = []

    def __call__(self, event: Event) -> None:
        """Record an event."""
        self.all.append((trio.current_time(), event))

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for _, event in self.all if isinstance(event, kind)]


# Each event


async def test_granted_has_lifetime_and_latency(autojump_clock: MockClock) -> None:
    """The event of a grant comes with the token, and has its lifetime, usable time and latency."""
    notes = Notes()
    manager = FakeTokenManager(make_config(), lifetime=3600.0, latency=2.0)
    async with AnonymousSession(manager.config, manager, observers=[notes]) as session:
        start = trio.current_time()
        await session.get_access_token()
        await trio.sleep_until(start + 3002.0)
        await wait_all_tasks_blocked()
    granted = [(at - start, event) for at, event in notes.all if isinstance(event, Granted)]
    assert [at for at, _ in granted] == [2.0, 3002.0]
    for _, event in granted:
        assert event.lifetime == 3600.0
        assert event.expires_in == 3568.0
        assert event.latency == 2.0
    assert granted[0][1].fingerprint != granted[1][1].fingerprint


async def test_refresh_failed_describes_the_attempt(autojump_clock: MockClock) -> None:
    """The event of a failed attempt has its error and number, and the pause before the next one."""
    notes = Notes()
    config = make_config(max_retries=1, retry_strategy=lambda attempt, error: 5.0 * attempt)
    manager = FakeTokenManager(config, latency=1.0)
    manager.outcomes = [
        TokenUnavailableError("down"),
        TokenUnavailableError("still down", retry_after=40.0, status_code=503),
        CredentialsRejectedError("no", retry_after=30.0, status_code=401),
    ]
    async with AnonymousSession(config, manager, observers=[notes]) as session:
        start = trio.current_time()
        for _ in range(2):
            with pytest.raises(TokenRequestError):
                await session.get_access_token()
            await trio.sleep(40.0)
    failed = [(at - start, event) for at, event in notes.all if isinstance(event, RefreshFailed)]
    assert [at for at, _ in failed] == [1.0, 7.0, 48.0]
    first = RefreshFailed(
        error="TokenUnavailableError: down",
        attempt=1,
        consecutive_failures=1,
        retry_in=5.0,
        round_over=False,
        latency=1.0,
        kind="TokenUnavailableError",
        retryable=True,
        status_code=None,
    )
    assert [event for _, event in failed] == [
        first,
        attrs.evolve(
            first,
            error="TokenUnavailableError: still down",
            attempt=2,
            consecutive_failures=2,
            retry_in=40.0,
            round_over=True,
            status_code=503,
        ),
        attrs.evolve(
            first,
            error="CredentialsRejectedError: no",
            consecutive_failures=3,
            retry_in=30.0,
            round_over=True,
            kind="CredentialsRejectedError",
            retryable=False,
            status_code=401,
        ),
    ]


async def test_invalidated_names_the_token_that_was_dropped(autojump_clock: MockClock) -> None:
    """Only the first report of the current token causes an event, and the call delivers it."""
    notes = Notes()
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager, observers=[notes]) as session:
        await session.get_access_token()
        await trio.sleep(10.0)
        start = trio.current_time()
        for token in ("token-0", "token-1", "token-1"):
            session.invalidate(token)
        # The event comes during the call, without an await in between.
        assert notes.all[-1] == (start, Invalidated(notes.of(Granted)[0].fingerprint))
        await session.get_access_token()
        session.invalidate("token-1")
    assert len(notes.of(Invalidated)) == 1


async def test_revoked_has_the_result(autojump_clock: MockClock) -> None:
    """The event of a revocation comes at its end, and has the error of a failed one."""
    notes = Notes()
    manager = FakeTokenManager(make_config())
    manager.revoke_latency = 3.0
    manager.revoke_outcomes = [None, RevocationError("no way", retryable=False)]
    async with AnonymousSession(manager.config, manager, observers=[notes]) as session:
        start = trio.current_time()
        await session.get_access_token()
        await session.revoke_tokens()
        await session.get_access_token()
        with pytest.raises(RevocationError):
            await session.revoke_tokens()
    first, second = notes.of(Granted)
    assert [(at - start, event) for at, event in notes.all if isinstance(event, Revoked)] == [
        (3.0, Revoked(first.fingerprint, None)),
        (6.0, Revoked(second.fingerprint, "no way")),
    ]


async def test_state_changes_are_reported_while_a_grant_hangs(autojump_clock: MockClock) -> None:
    """Observers receive each change of state at its boundary, even if the endpoint hangs."""
    notes = Notes()
    server = TokenServer(FaultPlan(token=[None], token_then=Fault.hang()), lifetime=3600.0)
    async with open_test_session(server, observers=[notes], request_timeout=9999.0) as session:
        start = (await session.exchange_token("x")).sent_at
        await trio.sleep(5000.0)
    assert [(at - start, event) for at, event in notes.all if isinstance(event, StateChanged)] == [
        (0.0, StateChanged(EMPTY, FRESH)),
        (3000.0, StateChanged(FRESH, STALE)),
        (3570.0, StateChanged(STALE, EXPIRED)),
    ]


@pytest.mark.parametrize("how", ["raised", "broken down"])
async def test_closed_comes_once(autojump_clock: MockClock, how: str) -> None:
    """Closed comes once, as the last event, whether the block raises or the session crashes."""
    notes = Notes()
    manager = FakeTokenManager(make_config())
    manager.outcomes = [SystemExit()] if how == "broken down" else []
    try:
        async with AnonymousSession(manager.config, manager, observers=[notes]) as session:
            await session.get_access_token()
            if how == "raised":
                raise SystemExit
    except SystemExit:
        pass
    assert notes.of(Closed) == [Closed()]
    assert notes.all[-1][1] == Closed()


async def test_a_refresh_that_began_before_a_report_causes_no_event(
    autojump_clock: MockClock,
) -> None:
    """A refresh that began before its token was reported counts, but causes no Granted event."""
    notes = Notes()
    manager = FakeTokenManager(make_config(), latency=2.0)
    async with AnonymousSession(manager.config, manager, observers=[notes]) as session:
        token = await session.get_access_token()
        await trio.sleep(2999.0)
        assert len(manager.sent) == 2
        session.invalidate(token)
        assert await session.get_access_token() == "token-3"
        assert session.statistics().grants == 3
    assert len(notes.of(Granted)) == 2


async def test_a_token_revoked_on_arrival_causes_no_event(
    autojump_clock: MockClock,
) -> None:
    """A token that was requested before a revocation is revoked, and causes no Granted event."""
    notes = Notes()
    manager = FakeTokenManager(make_config(), latency=2.0)
    async with AnonymousSession(manager.config, manager, observers=[notes]) as session:
        async with trio.open_nursery() as nursery:
            (getter,) = start_getters(nursery, session, 1)
            await trio.sleep(1.0)
            await session.revoke_tokens()
        assert getter.token == "token-2"
    (granted,) = notes.of(Granted)
    (revoked,) = notes.of(Revoked)
    assert granted.fingerprint != revoked.fingerprint


# Observers


async def test_an_observer_may_use_the_session(autojump_clock: MockClock) -> None:
    """When an observer receives an event, it sees the change in the session, and may call it."""
    seen: list[tuple[str, object]] = []
    states: list[tuple[TokenState, TokenState]] = []
    manager = FakeTokenManager(make_config())

    def look(event: Event) -> None:
        match event:
            case Granted():
                seen.append(("granted", session.get_access_token_nowait()))
                if manager.granted == 1:
                    session.invalidate("token-1")
            case Invalidated():
                seen.append(("invalidated", session.token_info))
            case StateChanged(new=new):
                states.append((session.state, new))
            case Closed():
                seen.append(("closed", session.statistics().grants))

    session = AnonymousSession(manager.config, manager, observers=[look])
    async with session:
        assert await session.get_access_token() == "token-2"
    assert seen == [
        ("granted", "token-1"),
        ("invalidated", None),
        ("granted", "token-2"),
        ("closed", 2),
    ]
    assert states == [(FRESH, FRESH), (EMPTY, EMPTY), (FRESH, FRESH)]


async def test_observers_may_come_from_any_iterable(autojump_clock: MockClock) -> None:
    """The session iterates once over `observers`, and calls all of them in that order."""
    order: list[int] = []
    manager = FakeTokenManager(make_config())
    observers = (lambda event, number=number: order.append(number) for number in range(3))
    async with AnonymousSession(manager.config, manager, observers=observers):
        pass
    assert order == [0, 1, 2]


# Properties of events


@pytest.mark.parametrize("kind", [*get_args(Event), SessionStatistics])
def test_events_and_statistics_are_immutable(kind: Any) -> None:
    """No attribute of an event or of the statistics can be set."""
    names = [field.name for field in attrs.fields(kind)]
    event = kind(**dict.fromkeys(names))
    for name in names or ["anything"]:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(event, name, 1)
    assert event == kind(**dict.fromkeys(names))
