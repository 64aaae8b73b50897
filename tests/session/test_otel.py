"""Tests of the metrics and spans of `OpenTelemetryObserver`, read from exporters in memory."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio.testing import MockClock

from tests.helpers import FakeTokenManager, make_config, start_getters
from tests.stores.faulty import EVERYTHING, FaultyStore, get_all, make_source
from trio_anon_session import (
    AnonymousSession,
    CredentialsRejectedError,
    RevocationError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session._secrets import fingerprint
from trio_anon_session.otel import OpenTelemetryObserver
from trio_anon_session.stores import MemoryStore, SharedTokenManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = "trio_anon_session."


class Telemetry:
    """The SDK with exporters in memory."""

    def __init__(self, provider: type[MeterProvider] = MeterProvider) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = provider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def observer(self, **attributes: str) -> OpenTelemetryObserver:
        """Return an observer that reports to these exporters."""
        return OpenTelemetryObserver(self.meters, self.tracers, attributes)

    def points(self) -> dict[str, list[Any]]:
        """Return the data points of each of our metrics, by its name without the prefix."""
        data = self.reader.get_metrics_data()
        return {
            metric.name.removeprefix(OURS): list(metric.data.data_points)
            for resource in (data.resource_metrics if isinstance(data, MetricsData) else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str) -> dict[tuple[object, ...], Any]:
        """Return the values of a metric by the values of their attributes, in order."""
        return {
            tuple(point.attributes[key] for key in sorted(point.attributes)): point.value
            for point in self.points().get(name, [])
        }

    def value(self, name: str) -> Any:
        """Return the only value of a metric."""
        (value,) = self.values(name).values()
        return value

    def spans(self) -> list[ReadableSpan]:
        """Return the spans that have ended."""
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def sdk() -> Iterator[Telemetry]:
    """Return the metrics and spans of this test."""
    sdk = Telemetry()
    yield sdk
    sdk.meters.shutdown()
    sdk.tracers.shutdown()


# Metrics of events


async def test_events_are_counted(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """Grants, failures by their kind, invalidations and revocations each have a counter."""
    manager = FakeTokenManager(make_config(retry_strategy=lambda attempt, error: 5.0), latency=2.0)
    manager.outcomes = [
        TokenUnavailableError("down", status_code=503),
        TokenUnavailableError("down", status_code=503),
        KeyError("a bug"),
    ]
    manager.revoke_outcomes = [None, RevocationError("no", retryable=False)]
    observer = sdk.observer(part="uploads")
    async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
        session.invalidate(await session.get_access_token())
        await session.get_access_token()
        await session.revoke_tokens()
        await session.get_access_token()
        with pytest.raises(RevocationError):
            await session.revoke_tokens()
    assert sdk.values("grants") == {("uploads",): 3}
    assert sdk.values("failures") == {
        ("TokenUnavailableError", 503, "uploads"): 2,
        ("TokenUnavailableError", "uploads"): 1,
    }
    assert sdk.values("invalidations") == {("uploads",): 1}
    assert sdk.values("revocations") == {("uploads",): 1}
    assert sdk.values("revocation_failures") == {("uploads",): 1}


async def test_durations_are_a_histogram(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """The duration of token requests is a histogram in seconds, with failures by their kind."""
    manager = FakeTokenManager(make_config(), latency=2.0)
    manager.outcomes = [CredentialsRejectedError("no", retry_after=10.0)]
    observer = sdk.observer()
    async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
        with pytest.raises(CredentialsRejectedError):
            await session.get_access_token()
        await trio.sleep(10.0)
        manager.latency = 7.0
        session.invalidate(await session.get_access_token())
        await session.get_access_token()
    by_kind = {
        point.attributes.get("error.type"): (point.count, point.min, point.max, point.sum)
        for point in sdk.points()["grant.duration"]
    }
    assert by_kind == {"CredentialsRejectedError": (1, 2.0, 2.0, 2.0), None: (2, 7.0, 7.0, 14.0)}
    # The buckets distinguish milliseconds, and show that the limit of 30 s was reached.
    (point, _) = sdk.points()["grant.duration"]
    assert point.explicit_bounds[0] < 0.01
    assert point.explicit_bounds[-1] == 30.0


# Metrics of a watched shared token manager


async def test_a_store_is_watched(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """The metrics of a watched token manager count its requests, and show if its store works."""
    source, store = make_source(latency=1.0), FaultyStore()
    async with (
        SharedTokenManager(source, store) as one,
        SharedTokenManager(source, store) as other,
        AnonymousSession(source.config, one) as first,
        AnonymousSession(source.config, other) as second,
    ):
        sdk.observer(process="one").watch_store(one)
        sdk.observer(process="other").watch_store(other)

        def values(name: str) -> tuple[float, float]:
            found = sdk.values(f"store.{name}")
            return found["one",], found["other",]

        await get_all([first, second])
        assert values("up") == (1, 1)
        assert sum(values("requests")) == 1
        assert sum(values("tokens_taken_over")) == 1
        assert sum(values("lease_waits")) == 1
        assert values("direct_requests") == (0, 0)
        store.fails = EVERYTHING
        first.invalidate("token-1")
        await first.get_access_token()
        assert values("up")[0] == 0
        assert values("direct_requests") == (1, 0)
        assert values("untold_drops") == (1, 0)
        assert values("questions")[0] > values("failed_questions")[0] > 0
        store.fails, store.slow = (), 0.25
        took = values("question.time")[1]
        await other.look_at_store()
        assert values("question.time")[1] - took == pytest.approx(0.25, abs=0.01)


async def test_a_manager_is_shown_while_its_block_lasts(sdk: Telemetry) -> None:
    """A watched manager is exported once while it is open, and is not kept alive."""
    manager = SharedTokenManager(make_source(), MemoryStore())
    for _ in range(2):
        sdk.observer(process="one").watch_store(manager)
    assert not sdk.points().get("store.questions")
    async with manager:
        assert [point.value for point in sdk.points()["store.questions"]] == [1]
    assert not sdk.points().get("store.questions")
    gone = weakref.ref(manager)
    del manager
    gc.collect()
    assert gone() is None


# Metrics of a watched session


async def test_a_session_is_watched(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """The metrics of a watched session have its values at the time of the collection."""
    manager = FakeTokenManager(make_config(refresh="on_request"), lifetime=3600.0)
    observer = sdk.observer()
    async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
        observer.watch(session)
        assert sdk.values("token.expires_in") == {}
        assert sdk.value("consecutive_failures") == 0
        await session.get_access_token()
        assert sdk.value("token.expires_in") == 3570.0
        await trio.sleep(3500.0)
        assert sdk.value("token.expires_in") == 70.0
        await trio.sleep(100.0)
        assert sdk.value("token.expires_in") == 0.0
        manager.outcomes = [TokenUnavailableError("down"), TokenUnavailableError("down")]
        async with trio.open_nursery() as nursery:
            start_getters(nursery, session, 3)
            await trio.testing.wait_all_tasks_blocked()
            assert sdk.value("getters.held") == 3
            assert sdk.value("consecutive_failures") == 1
        assert sdk.value("getters.held") == 0
        assert sdk.value("getters.holds") == 4
        assert sdk.value("consecutive_failures") == 0
        assert sdk.value("same_token_answers") == 0
        token = session.token_info
        assert token is not None
        await trio.sleep(3001.0)
        now = trio.current_time()
        manager.outcomes = [attrs.evolve(token, sent_at=now, stale_at=now + 9, expires_at=now + 10)]
        await session.get_access_token()
        await trio.sleep(1.0)
        assert sdk.value("same_token_answers") == 1
        assert sdk.value("token.expires_in") == 9.0


async def test_the_state_is_exported(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """The metric of the current state is 1, and those of the other states are 0."""
    manager = FakeTokenManager(make_config(refresh="on_request"), lifetime=3600.0)
    observer = sdk.observer()
    async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
        observer.watch(session)
        for state in TokenState:
            if state is TokenState.FRESH:
                await session.get_access_token()
            await session.states.wait_value(state)
            assert sdk.values("state") == {(one.value,): int(one is state) for one in TokenState}


async def test_sessions_are_distinguished_by_their_attributes(
    sdk: Telemetry, autojump_clock: MockClock
) -> None:
    """Observers with one provider share its instruments, and the metrics show each session."""
    parts = ["uploads", "downloads"]
    managers = {part: FakeTokenManager(make_config(client_id=part)) for part in parts}
    managers["uploads"].lifetime = 1000.0
    async with trio.open_nursery() as nursery:

        async def live(part: str) -> None:
            observer, manager = sdk.observer(part=part), managers[part]
            async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
                observer.watch(session)
                # A second call changes nothing.
                observer.watch(session)
                await session.get_access_token()
                await trio.sleep_forever()

        for part in parts:
            nursery.start_soon(live, part)
        await trio.testing.wait_all_tasks_blocked()
        assert sdk.values("token.expires_in") == {("uploads",): 970.0, ("downloads",): 3570.0}
        assert sdk.values("grants") == {("uploads",): 1, ("downloads",): 1}
        nursery.cancel_scope.cancel()


async def test_a_closed_session_is_no_longer_shown(
    sdk: Telemetry, autojump_clock: MockClock
) -> None:
    """A closed session has no gauges any more, and the next watched session has its own."""
    manager = FakeTokenManager(make_config())
    observer = sdk.observer()
    for _ in range(2):
        async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
            observer.watch(session)
            await session.get_access_token()
            assert sdk.value("token.expires_in") == 3570.0
        assert not {"token.expires_in", "state", "getters.held"} & sdk.points().keys()
    assert sdk.value("grants") == 2


def test_a_session_is_not_kept_alive(sdk: Telemetry) -> None:
    """The observer does not keep a watched session alive."""
    session = AnonymousSession(make_config())
    sdk.observer().watch(session)
    there = weakref.ref(session)
    assert sdk.value("consecutive_failures") == 0
    del session
    gc.collect()
    assert there() is None
    assert sdk.values("consecutive_failures") == {}


# Threads


def in_thread(function: Callable[[], object]) -> None:
    """Call a function in another thread, and wait for its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_a_thread_may_watch_at_any_moment(sdk: Telemetry) -> None:
    """A session is shown, even if another thread watches or collects at the same time."""
    others: list[AnonymousSession] = []

    def watch_another() -> None:
        others.append(AnonymousSession(make_config()))
        sdk.observer(part=f"other-{len(others)}").watch(others[-1])

    class Busy(AnonymousSession):  # type: ignore[misc]  # a session that is checked slowly
        """A session during whose check another thread watches its own session."""

        @property
        def is_closed(self) -> bool:
            if threading.current_thread() is threading.main_thread():
                in_thread(watch_another)
            return False

    busy, late = Busy(make_config()), AnonymousSession(make_config())
    sdk.observer(part="busy").watch(busy)
    sdk.observer(part="late").watch(late)
    shown = sdk.values("consecutive_failures").keys()
    assert {("busy",), ("late",), ("other-1",)} <= shown


def test_observers_of_two_threads_share_instruments() -> None:
    """Two observers create each gauge once, even if two threads create them at the same time."""
    observers: list[OpenTelemetryObserver] = []
    gauges: list[str] = []

    class Racing(MeterProvider):
        """A provider that creates another observer before the first gauge of the first one."""

        has_raced = False

        def get_meter(self, *args: Any, **settings: Any) -> Any:
            meter: Any = super().get_meter(*args, **settings)

            class RacingMeter:
                def create_observable_gauge(self, name: str, *args: Any) -> Any:
                    gauges.append(name)
                    if not Racing.has_raced:
                        Racing.has_raced = True
                        in_thread(lambda: observers.append(seen.observer(part="inner")))
                    return meter.create_observable_gauge(name, *args)

                def __getattr__(self, name: str) -> Any:
                    return getattr(meter, name)

            return RacingMeter()

    seen = Telemetry(Racing)
    observers.append(seen.observer(part="outer"))
    sessions = [AnonymousSession(make_config()) for _ in observers]
    for observer, session in zip(observers, sessions, strict=True):
        observer.watch(session)
    assert seen.values("consecutive_failures") == {("inner",): 0, ("outer",): 0}
    assert len(gauges) == len(set(gauges)) > 0
    seen.meters.shutdown()


# Spans


async def test_each_attempt_is_a_span(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """Each attempt has a span with its duration and result."""
    manager = FakeTokenManager(make_config(), latency=2.5)
    manager.outcomes = [TokenUnavailableError("down for lunch", status_code=503)]
    before = time.time_ns()
    observer = sdk.observer(part="uploads")
    async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
        await session.get_access_token()
    failed, good = sdk.spans()
    for span in (failed, good):
        assert span.name == "trio_anon_session.grant"
        assert span.kind is trace.SpanKind.CLIENT
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time - span.start_time == 2_500_000_000
        assert before <= span.end_time <= time.time_ns()
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.status.description == "TokenUnavailableError: down for lunch"
    assert failed.attributes == {
        "part": "uploads",
        "error.type": "TokenUnavailableError",
        "http.response.status_code": 503,
        "trio_anon_session.attempt": 1,
    }
    assert good.status.is_ok
    assert good.attributes == {
        "part": "uploads",
        "trio_anon_session.token.fingerprint": fingerprint("token-1"),
        "trio_anon_session.token.lifetime": 3600.0,
    }


async def test_a_grant_is_part_of_no_trace(sdk: Telemetry, autojump_clock: MockClock) -> None:
    """A span that is open when the session opens is not the parent of its token requests."""
    manager = FakeTokenManager(make_config())
    tracer = sdk.tracers.get_tracer("test")
    with tracer.start_as_current_span("start-up"):
        async with AnonymousSession(manager.config, manager, observers=[sdk.observer()]) as session:
            await session.get_access_token()
            (span,) = sdk.spans()
    assert span.parent is None


# Global providers, and the extra


def test_the_global_providers_are_the_default() -> None:
    """Without providers, an observer works although the program has set no global ones."""
    observer = OpenTelemetryObserver()
    manager = FakeTokenManager(make_config())

    async def main() -> None:
        async with AnonymousSession(manager.config, manager, observers=[observer]) as session:
            observer.watch(session)
            assert await session.get_access_token() == "token-1"

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not isinstance(metrics.get_meter_provider(), MeterProvider)


def test_without_the_extra_the_import_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If OpenTelemetry is not installed, the error has the command that installs it."""
    monkeypatch.delitem(sys.modules, "trio_anon_session.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in ("opentelemetry.context", "opentelemetry.metrics", "opentelemetry.trace"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'trio_anon_session\[otel\]'"):
        importlib.import_module("trio_anon_session.otel")
