"""Helpers of many tests: clocks, a fake token manager, and callers in tasks."""

from __future__ import annotations

import math
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config, TokenInfo
from trio_anon_session.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from trio_anon_session import TokenRequestOptions


def run_virtually(async_fn: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """Run an async function in virtual time."""
    return virtual_time(async_fn)(*args)


def make_config(**settings: Any) -> Config:
    """Return a config with default credentials and these settings."""
    return Config(**({"client_id": "id", "client_secret": "secret"} | settings))


class FakeTokenManager:
    """A fake token manager whose outcomes the test decides.

    Attributes:
        config: the config with the buffers of the tokens.
        lifetime: the lifetime of its tokens, in seconds.
        latency: the seconds that a token request takes.
        outcomes: the results of the next token requests, in order. It raises an exception,
            and returns any other object; after the last one, it returns new tokens.
        sent: the times at which token requests were sent.
        revoked: the tokens that callers revoked, in order.
        revoke_outcomes: exceptions of the next revocations; None for a success.
        options: the options of each token request and revocation.
        in_flight: the number of token requests under way.
        most_in_flight: the maximum of `in_flight` so far.
    """

    def __init__(self, config: Config, *, lifetime: float = 3600.0, latency: float = 0.0) -> None:
        self.scope: str | None = None
        self.config = config
        self.lifetime = lifetime
        self.latency = latency
        self.outcomes: list[object] = []
        self.sent: list[float] = []
        self.options: list[TokenRequestOptions | None] = []
        self.revoked: list[str] = []
        self.revoke_outcomes: list[BaseException | None] = []
        self.revoke_latency = 0.0
        self.in_flight = 0
        self.most_in_flight = 0
        self.granted = 0

    def new_token(self, sent_at: float) -> TokenInfo:
        """Return a new token."""
        self.granted += 1
        token = f"token-{self.granted}"
        return TokenInfo.from_answer(token, self.lifetime, sent_at, self.config, scope=self.scope)

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return or raise the next outcome."""
        sent_at = trio.current_time()
        self.sent.append(sent_at)
        self.options.append(options)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await trio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else self.new_token(sent_at)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome  # type: ignore[return-value]  # a test may want a wrong object

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Record the token, and raise the next outcome, if it is an exception."""
        self.revoked.append(token)
        self.options.append(options)
        await trio.sleep(self.revoke_latency)
        outcome = self.revoke_outcomes.pop(0) if self.revoke_outcomes else None
        if outcome is not None:
            raise outcome


class TwoClocks(trio.abc.Clock):
    """A clock that a test moves, with or without the wall clock.

    It is not a ``MockClock``, because a session ignores the wall clock under one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 1000.0
        self._wall = 1_700_000_000.0
        monkeypatch.setattr(time, "time", lambda: self._wall)

    def start_clock(self) -> None:
        """Do nothing: the test moves the clock."""

    def current_time(self) -> float:
        """Return Trio's time."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return 0 for a deadline that has passed, and infinity for others."""
        return 0 if deadline <= self._now else math.inf

    async def advance(self, seconds: float) -> None:
        """Let time pass, in steps of a minute at most, until all tasks wait again."""
        until = self._now + seconds
        await wait_all_tasks_blocked()
        while self._now < until:
            step = min(60.0, until - self._now)
            self._now += step
            self._wall += step
            await wait_all_tasks_blocked()

    def suspend(self, seconds: float) -> None:
        """Advance only the wall clock, as while a machine is suspended."""
        self._wall += seconds

    def set_wall(self, *, by: float) -> None:
        """Set the wall clock, forwards or back."""
        self._wall += by


@attrs.define
class Getter:
    """A caller in its own task, and its result."""

    token: str | None = None
    error: BaseException | None = None
    began_at: float = math.nan
    ended_at: float = math.nan
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self, session: AnonymousSession) -> None:
        """Get a token, and record the token or error and the times."""
        self.began_at = trio.current_time()
        with self.scope:
            try:
                self.token = await session.get_access_token()
            except AnonymousSessionError as error:
                self.error = error
        self.ended_at = trio.current_time()

    @property
    def ended(self) -> bool:
        """Whether its call has ended."""
        return not math.isnan(self.ended_at)


def start_getters(nursery: trio.Nursery, session: AnonymousSession, count: int) -> list[Getter]:
    """Start this many callers, each in its own task."""
    getters = [Getter() for _ in range(count)]
    for getter in getters:
        nursery.start_soon(getter.run, session)
    return getters


OWN = Path(__file__).parent, Path(__file__).parents[1] / "tools"
"""The folders of the tests. They are absolute: the checkout may be in a folder named `tests`."""


def is_of_tests(file: str) -> bool:
    """Return whether a file belongs to the tests, whose frames contain the secrets they search."""
    return any(Path(file).is_relative_to(folder) for folder in OWN)


def traceback_with_locals(error: BaseException) -> list[str]:
    """Return an error's traceback with the locals of all frames except those of tests."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    todo: list[traceback.TracebackException | None] = [shown]
    while todo:
        one = todo.pop()
        if one is not None:
            frames = [frame for frame in one.stack if not is_of_tests(frame.filename)]
            one.stack = traceback.StackSummary.from_list(frames)
            todo += [one.__cause__, one.__context__, *(one.exceptions or ())]
    return list(shown.format())
