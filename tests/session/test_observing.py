"""Tests of docs/how-to/observing.md: its tables are complete, and its alerts work."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import attrs
import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    CredentialsRejectedError,
    Event,
    Granted,
    RefreshFailed,
    RevocationError,
    TokenInfo,
    TokenRequestOptions,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session import otel as otel_module
from trio_anon_session.otel import OpenTelemetryObserver
from trio_anon_session.stores import MemoryStore, SharedTokenManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "observing.md").read_text()
LOOK_EVERY = 10.0
WINDOW = 600.0
DOWN = TokenUnavailableError("down")


def rows_of_table(first: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is this word."""
    _, found, rest = PAGE.partition(f"\n| {first} |")
    assert found
    table = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table]


@attrs.frozen
class Alert:
    """A row of the page's table of alerts."""

    name: str
    condition: str
    holds_for: float
    urgency: str

    def is_true(self, names: dict[str, Any]) -> bool:
        """Return whether the condition is true now."""
        return bool(eval(self.condition, {"max": max}, names))


ALERTS = {
    name: Alert(name, condition.strip("`"), float(holds_for.removesuffix(" s")), urgency)
    for name, condition, holds_for, urgency, _ in rows_of_table("alert")
}


class Growth:
    """The increase of each statistic within the window."""

    def __init__(self, before: object, now: object) -> None:
        self._before, self._now = before, now

    def __getattr__(self, name: str) -> float:
        grown: float = getattr(self._now, name) - getattr(self._before, name)
        return grown


class OnCall:
    """Checks a session at regular times, and records when each alert is first raised."""

    def __init__(self) -> None:
        self.raised: dict[str, float] = {}
        self._true_since: dict[str, float] = {}
        self._latencies: deque[tuple[float, float]] = deque()
        self._seen: deque[tuple[float, object]] = deque()

    def observe(self, event: Event) -> None:
        """Record the latency of a token request."""
        if isinstance(event, Granted | RefreshFailed):
            self._latencies.append((trio.current_time(), event.latency))

    async def watch(self, session: AnonymousSession) -> None:
        """Check the session until the task is cancelled."""
        began_at = trio.current_time()
        while True:
            self._look(session, trio.current_time() - began_at)
            await trio.sleep(LOOK_EVERY)

    def _look(self, session: AnonymousSession, now: float) -> None:
        statistics = session.statistics()
        self._seen.append((now, statistics))
        for series in (self._seen, self._latencies):
            while series and series[0][0] < now - WINDOW:
                series.popleft()
        names = {field: getattr(statistics, field) for field in attrs.asdict(statistics)}
        names["grown"] = Growth(self._seen[0][1], statistics)
        names["latencies"] = [latency for _, latency in self._latencies]
        names |= {state.name: state for state in TokenState}
        for name, alert in ALERTS.items():
            if not alert.is_true(names):
                self._true_since.pop(name, None)
            elif now - self._true_since.setdefault(name, now) >= alert.holds_for:
                self.raised.setdefault(name, now)


class Endpoint(FakeTokenManager):
    """A token manager whose outcomes depend on the time of the request."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, latency=0.5)
        self.fails: Callable[[float], Exception | None] = lambda now: None
        self.reused: TokenInfo | None = None

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Return a token, or raise what `fails` returns for this time."""
        problem = self.fails(trio.current_time())
        self.outcomes = [] if problem is None else [problem]
        return await super().get_tokens_client_credentials_grant(options)

    def new_token(self, sent_at: float) -> TokenInfo:
        """Return a new token, or `reused` with the rest of its lifetime."""
        if self.reused is None:
            return super().new_token(sent_at)
        left = self.reused.sent_at + self.reused.lifetime - sent_at
        return TokenInfo.from_answer(self.reused.access_token, left, sent_at, self.config)


async def use(session: AnonymousSession, every: float = 20.0) -> None:
    """Ask for the token at regular times until the task is cancelled."""
    while True:
        with contextlib.suppress(AnonymousSessionError):
            await session.get_access_token()
        await trio.sleep(every)


async def live(
    hours: float, trouble: Callable[[AnonymousSession, Endpoint], Awaitable[None]], **settings: Any
) -> dict[str, float]:
    """Return the alerts that are raised in these hours, and their times."""
    config = make_config(**settings)
    endpoint, on_call = Endpoint(config), OnCall()
    async with (
        AnonymousSession(config, endpoint, observers=[on_call.observe]) as session,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(on_call.watch, session)
        nursery.start_soon(trouble, session, endpoint)
        await trio.sleep(hours * 3600.0)
        nursery.cancel_scope.cancel()
    return on_call.raised


# The alerts


@pytest.mark.slow
async def test_an_ordinary_day_raises_no_alert(autojump_clock: MockClock) -> None:
    """Short failures, an invalidated token and a revocation raise no alert in a day."""

    async def trouble(session: AnonymousSession, endpoint: Endpoint) -> None:
        # Every fifth grant fails three times before it succeeds.
        attempts = itertools.cycle([None] * 4 + [DOWN] * 3 + [None])
        endpoint.fails = lambda now: next(attempts)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, session)
            await trio.sleep(7 * 3600.0 + 1.0)
            session.invalidate(session.get_access_token_nowait())
            await trio.sleep(5 * 3600.0)
            await session.revoke_tokens()
            assert session.statistics().failures == 9

    assert await live(24.0, trouble) == {}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"idle_timeout": 900.0}, {"refresh": "on_request"}])
async def test_a_quiet_night_raises_no_alert(
    autojump_clock: MockClock, settings: dict[str, Any]
) -> None:
    """A session whose token expires because no caller asks for it raises no alert."""

    async def trouble(session: AnonymousSession, endpoint: Endpoint) -> None:
        await session.get_access_token()
        await trio.sleep(8 * 3600.0)
        assert session.state is TokenState.EXPIRED
        await session.get_access_token()

    assert await live(9.0, trouble, **settings) == {}


async def break_down(session: AnonymousSession, endpoint: Endpoint, error: Exception) -> None:
    endpoint.fails = lambda now: error if now > 100.0 else None
    await use(session)


async def rotate_secret(session: AnonymousSession, endpoint: Endpoint) -> None:
    await break_down(session, endpoint, CredentialsRejectedError("no"))


async def be_down(session: AnonymousSession, endpoint: Endpoint) -> None:
    await break_down(session, endpoint, DOWN)


async def hang(session: AnonymousSession, endpoint: Endpoint) -> None:
    endpoint.latency = 1000.0
    await use(session)


async def be_slow(session: AnonymousSession, endpoint: Endpoint) -> None:
    endpoint.latency = 12.0
    await use(session)


async def live_short(session: AnonymousSession, endpoint: Endpoint) -> None:
    # The stale window lasts 15 s, and an answer takes 20 s.
    endpoint.lifetime, endpoint.latency = 60.0, 20.0
    await use(session, every=1.0)


async def refuse_new_tokens(session: AnonymousSession, endpoint: Endpoint) -> None:
    while True:
        session.invalidate(await session.get_access_token())
        await trio.sleep(60.0)


async def give_the_same_token(session: AnonymousSession, endpoint: Endpoint) -> None:
    endpoint.reused = await session.exchange_token("x")
    await use(session)


async def refuse_to_revoke(session: AnonymousSession, endpoint: Endpoint) -> None:
    endpoint.revoke_outcomes = [RevocationError("no", retryable=False)]
    await session.get_access_token()
    try:
        await session.revoke_tokens()
    except RevocationError:
        await use(session)


# The first refresh fails at 3000.5 s, and the token is handed out until 3570 s.
SITUATIONS = {
    "credentials rejected": (rotate_secret, (3000.0, 3011.0)),
    "refreshes fail": (be_down, (3010.0, 3060.0)),
    "token runs out": (be_down, (3270.0, 3290.0)),
    "no token": (be_down, (3600.0, 3610.0)),
    "callers wait": (hang, (20.0, 30.0)),
    "callers wait without a failure": (live_short, (60.0, 600.0)),
    "endpoint slow": (be_slow, (12.0, 30.0)),
    "tokens rejected": (refuse_new_tokens, (180.0, 250.0)),
    "same token again": (give_the_same_token, (3000.0, 3570.0)),
    "token not revoked": (refuse_to_revoke, (0.0, 10.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALERTS)
async def test_each_alert_is_raised_in_its_situation(autojump_clock: MockClock, name: str) -> None:
    """Each alert is raised in its situation, and early enough to be useful."""
    trouble, (earliest, latest) = SITUATIONS[name]
    raised = await live(1.1, trouble)
    assert earliest <= raised[name] <= latest


# The other tables


def names_in(cell: str) -> set[str]:
    """Return the names in code style in a cell."""
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_page_has_all_events_and_their_fields() -> None:
    """The table of events lists all events with all their fields."""
    table = {event.strip("`"): names_in(fields) for event, _, fields in rows_of_table("event")}
    assert table == {
        kind.__name__: {field.name for field in attrs.fields(kind)} for kind in get_args(Event)
    }


async def test_the_page_has_all_metrics(autojump_clock: MockClock) -> None:
    """The tables of metrics and the module's docstring list exactly the exported metrics."""
    rows = [*rows_of_table("metric"), *rows_of_table("metric of a store")]
    table = {name.strip("`") for name, _, _ in rows}
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observer = OpenTelemetryObserver(provider)
    manager = FakeTokenManager(make_config(retry_strategy=lambda attempt, error: 1.0))
    manager.outcomes = [DOWN]
    manager.revoke_outcomes = [None, RevocationError("no", retryable=False)]
    async with (
        SharedTokenManager(manager, MemoryStore()) as store_manager,
        AnonymousSession(manager.config, manager, observers=[observer]) as session,
    ):
        observer.watch(session)
        observer.watch_store(store_manager)
        session.invalidate(await session.get_access_token())
        for _ in range(2):
            await session.get_access_token()
            try:
                await session.revoke_tokens()
            except RevocationError:
                await session.get_access_token()
        data = reader.get_metrics_data()
    provider.shutdown()
    assert isinstance(data, MetricsData)
    (exported,) = data.resource_metrics[0].scope_metrics
    assert exported.scope.name == "trio_anon_session"
    assert exported.scope.version
    assert table == {metric.name for metric in exported.metrics}
    assert all(metric.unit and metric.description for metric in exported.metrics)
    assert otel_module.__doc__
    described = re.findall(r"^``(trio_anon_session\.[\w.]+)``", otel_module.__doc__, re.MULTILINE)
    assert {*described} == table


def test_each_alert_has_a_situation_and_an_urgency() -> None:
    """Every alert has a situation that raises it, and is a page or a ticket."""
    assert SITUATIONS.keys() == ALERTS.keys()
    assert {alert.urgency for alert in ALERTS.values()} == {"page", "ticket"}
