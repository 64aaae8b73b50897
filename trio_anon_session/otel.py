"""`OpenTelemetryObserver`: metrics and spans of a session (extra ``otel``).

All metrics and spans also have the attributes that you pass to the observer.

Metrics of the session's events:

============================================  =========  ====================================
``trio_anon_session.grants``                  counter
``trio_anon_session.failures``                counter    ``error.type``,
                                                         ``http.response.status_code``
``trio_anon_session.grant.duration``          histogram  seconds; ``error.type`` of failures
``trio_anon_session.invalidations``           counter
``trio_anon_session.revocations``             counter
``trio_anon_session.revocation_failures``     counter
============================================  =========  ====================================

Metrics of each watched session, read when metrics are collected:

============================================  =========  ====================================
``trio_anon_session.token.expires_in``        gauge      seconds; absent without a token
``trio_anon_session.consecutive_failures``    gauge
``trio_anon_session.getters.held``            up-down    callers that wait for a token now
``trio_anon_session.getters.holds``           counter    callers that have waited for a token
``trio_anon_session.same_token_answers``      counter
``trio_anon_session.state``                   up-down    1 for the session's
                                                         ``trio_anon_session.state``, else 0
============================================  =========  ====================================

Metrics of each watched shared token manager, read when metrics are collected:

==================================================  =========  ==================================
``trio_anon_session.store.up``                      up-down    1 while the store works, else 0
``trio_anon_session.store.questions``               counter    requests to the store
``trio_anon_session.store.failed_questions``        counter    requests to the store that failed
``trio_anon_session.store.question.time``           counter    seconds, total of these requests
``trio_anon_session.store.tokens_taken_over``       counter    tokens taken from the store
``trio_anon_session.store.requests``                counter    token requests with a lease
``trio_anon_session.store.direct_requests``         counter    token requests without the store
``trio_anon_session.store.lease_waits``             counter    waits for another process
``trio_anon_session.store.untold_drops``            up-down    drops not yet reported
==================================================  =========  ==================================

There is a span ``trio_anon_session.grant`` for each token request that failed or returned a token
for the callers. A token request that was discarded after an invalidation or a revocation has no
event, and so neither metric nor span.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, TypeVar, final

from ._events import Granted, Invalidated, RefreshFailed, Revoked
from ._token import TokenState
from ._version import __version__

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Observation, get_meter_provider
    from opentelemetry.trace import SpanKind, Status, StatusCode, get_tracer_provider
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "opentelemetry":
        raise
    raise ImportError(
        "trio_anon_session.otel needs opentelemetry-api: pip install 'trio_anon_session[otel]'",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

    from ._events import Event, SessionStatistics
    from ._session import AnonymousSession
    from .stores import SharedTokenManager, StoreStatistics

    T = TypeVar("T")
    _Watched = weakref.WeakKeyDictionary[T, dict[str, AttributeValue]]

__all__ = ["OpenTelemetryObserver"]

_SCOPE = "trio_anon_session"
# Bucket boundaries of the semantic conventions for HTTP requests, and the default request_timeout.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30)


@final
class OpenTelemetryObserver:
    """An observer that reports metrics and spans of a session to OpenTelemetry.

    Pass it to the session as an observer, and call :meth:`watch` for the metrics that have no
    event. Create one for each session, with attributes that identify the session.

    Metrics and spans contain no token and no secret. Spans identify a token by its fingerprint.

    Args:
        meter_provider: receives the metrics; by default the global one.
        tracer_provider: receives the spans; by default the global one.
        attributes: added to each metric and each span.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self._attributes = dict(attributes or {})
        provider = meter_provider or get_meter_provider()
        meter = provider.get_meter(_SCOPE, __version__)
        tracers = tracer_provider or get_tracer_provider()
        self._tracer = tracers.get_tracer(_SCOPE, __version__)
        self._grants = meter.create_counter(
            f"{_SCOPE}.grants", "{grant}", "Token requests that returned a token."
        )
        self._failures = meter.create_counter(
            f"{_SCOPE}.failures", "{grant}", "Token requests that failed."
        )
        self._duration = meter.create_histogram(
            f"{_SCOPE}.grant.duration",
            "s",
            "Time from the sending of a token request to its end.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._invalidations = meter.create_counter(
            f"{_SCOPE}.invalidations",
            "{token}",
            "Tokens dropped because they were invalid.",
        )
        self._revocations = meter.create_counter(
            f"{_SCOPE}.revocations", "{token}", "Tokens revoked at the server."
        )
        self._revocation_failures = meter.create_counter(
            f"{_SCOPE}.revocation_failures", "{token}", "Tokens that could not be revoked."
        )
        self._looks = _looks_of(provider, meter)

    def __call__(self, event: Event) -> None:
        """Record an event of a session. The session calls this."""
        match event:
            case Granted():
                self._grants.add(1, self._attributes)
                self._duration.record(event.latency, self._attributes)
                self._trace_grant(
                    event.latency,
                    {
                        f"{_SCOPE}.token.fingerprint": event.fingerprint,
                        f"{_SCOPE}.token.lifetime": event.lifetime,
                    },
                )
            case RefreshFailed():
                kind: dict[str, AttributeValue] = {"error.type": event.kind}
                answer = dict(kind)
                if event.status_code is not None:
                    answer["http.response.status_code"] = event.status_code
                self._failures.add(1, {**self._attributes, **answer})
                self._duration.record(event.latency, {**self._attributes, **kind})
                attempt = {f"{_SCOPE}.attempt": event.attempt}
                self._trace_grant(event.latency, {**answer, **attempt}, event.error)
            case Invalidated():
                self._invalidations.add(1, self._attributes)
            case Revoked(error=None):
                self._revocations.add(1, self._attributes)
            case Revoked():
                self._revocation_failures.add(1, self._attributes)

    def watch(self, session: AnonymousSession) -> None:
        """Report the session's state and statistics, until it is closed.

        They are read when metrics are collected, in the thread that collects. The observer holds
        only a weak reference to the session.
        """
        self._looks.add(session, self._attributes)

    def watch_store(self, manager: SharedTokenManager) -> None:
        """Report the counters of a shared token manager, while its ``async with`` block runs.

        They are read when metrics are collected, in the thread that collects. The observer holds
        only a weak reference to the manager.
        """
        self._looks.add_store(manager, self._attributes)

    def _trace_grant(
        self, latency: float, attributes: Mapping[str, AttributeValue], error: str | None = None
    ) -> None:
        ended_at = time.time_ns()
        span = self._tracer.start_span(
            f"{_SCOPE}.grant",
            # A token request serves all callers, so it belongs to no trace. Without this, it would
            # belong to the trace in which the session was opened.
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes={**self._attributes, **attributes},
            start_time=ended_at - round(latency * 1e9),
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end_time=ended_at)


class _Looks:
    """The instruments that read sessions and shared token managers.

    All observers of a provider share one set. If two instruments have the same name, the provider
    reads only the first one.

    Sessions may run in several threads, and metrics are collected in another one. No lock is
    needed: setting an item of a dictionary, copying its keys and `setdefault` are atomic.
    """

    def __init__(self) -> None:
        self._watched: _Watched[AnonymousSession] = weakref.WeakKeyDictionary()
        self._watched_stores: _Watched[SharedTokenManager] = weakref.WeakKeyDictionary()

    def create_instruments(self, meter: Meter) -> None:
        meter.create_observable_gauge(
            f"{_SCOPE}.token.expires_in",
            [self._look_at(lambda seen: seen.expires_in)],
            "s",
            "Time until the token is no longer handed out.",
        )
        meter.create_observable_gauge(
            f"{_SCOPE}.consecutive_failures",
            [self._look_at(lambda seen: seen.consecutive_failures)],
            "{grant}",
            "Failed token requests since the last success.",
        )
        meter.create_observable_up_down_counter(
            f"{_SCOPE}.getters.held",
            [self._look_at(lambda seen: seen.getters_held)],
            "{getter}",
            "Callers that wait for a token now.",
        )
        meter.create_observable_counter(
            f"{_SCOPE}.getters.holds",
            [self._look_at(lambda seen: seen.getters_held_total)],
            "{getter}",
            "Callers that have waited for a token.",
        )
        meter.create_observable_counter(
            f"{_SCOPE}.same_token_answers",
            [self._look_at(lambda seen: seen.same_token_answers)],
            "{grant}",
            "Token requests that returned the current token again.",
        )
        meter.create_observable_up_down_counter(
            f"{_SCOPE}.state",
            [self._look_at_state],
            "{session}",
            "1 for the current state of the session, 0 for the others.",
        )
        for name, unit, what in _STORE_UP_DOWNS:
            meter.create_observable_up_down_counter(
                f"{_SCOPE}.store.{name}", [self._look_at_stores(name)], unit, what
            )
        for name, unit, what in _STORE_COUNTERS:
            meter.create_observable_counter(
                f"{_SCOPE}.store.{name}", [self._look_at_stores(name)], unit, what
            )

    def add_store(self, manager: SharedTokenManager, attributes: dict[str, AttributeValue]) -> None:
        self._watched_stores[manager] = attributes

    def _look_at_stores(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        figure = _STORE_FIGURES[name]

        def look(_: CallbackOptions) -> Iterator[Observation]:
            for manager, attributes in _items_of(self._watched_stores):
                if manager.is_open:
                    yield Observation(figure(manager.statistics()), attributes)

        return look

    def add(self, session: AnonymousSession, attributes: dict[str, AttributeValue]) -> None:
        self._watched[session] = attributes

    def _look(self) -> Iterator[tuple[SessionStatistics, dict[str, AttributeValue]]]:
        for session, attributes in _items_of(self._watched):
            if not session.is_closed:
                yield session.statistics(), attributes

    def _look_at(
        self, figure: Callable[[SessionStatistics], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def look(_: CallbackOptions) -> Iterator[Observation]:
            for seen, attributes in self._look():
                value = figure(seen)
                if value is not None:
                    yield Observation(value, attributes)

        return look

    def _look_at_state(self, _: CallbackOptions) -> Iterator[Observation]:
        for seen, attributes in self._look():
            for state in TokenState:
                yield Observation(
                    int(seen.state is state), {**attributes, f"{_SCOPE}.state": state.value}
                )


_STORE_UP_DOWNS = (
    ("up", "{store}", "1 while the store works, 0 while it does not."),
    ("untold_drops", "{token}", "Dropped tokens not yet reported to the store."),
)
_STORE_COUNTERS = (
    ("questions", "{question}", "Requests to the store."),
    ("failed_questions", "{question}", "Requests to the store that failed."),
    ("question.time", "s", "Total time of the requests to the store."),
    ("tokens_taken_over", "{token}", "Tokens taken from the store."),
    ("requests", "{request}", "Token requests with the store's lease."),
    ("direct_requests", "{request}", "Token requests without the store."),
    ("lease_waits", "{question}", "Waits for the token request of another process."),
)
_STORE_FIGURES: dict[str, Callable[[StoreStatistics], float]] = {
    "up": lambda seen: int(seen.is_up),
    "untold_drops": lambda seen: seen.untold_drops,
    "questions": lambda seen: seen.questions,
    "failed_questions": lambda seen: seen.failed_questions,
    "question.time": lambda seen: seen.question_seconds,
    "tokens_taken_over": lambda seen: seen.taken_over,
    "requests": lambda seen: seen.requested,
    "direct_requests": lambda seen: seen.requested_directly,
    "lease_waits": lambda seen: seen.lease_waits,
}


def _items_of(watched: _Watched[T]) -> Iterator[tuple[T, dict[str, AttributeValue]]]:
    # Iterating over the dictionary itself fails if another thread adds a session to it.
    for there in watched.keyrefs():
        one = there()
        if one is not None:
            yield one, watched[one]


_looks: weakref.WeakKeyDictionary[MeterProvider, _Looks] = weakref.WeakKeyDictionary()


def _looks_of(provider: MeterProvider, meter: Meter) -> _Looks:
    new = _Looks()
    looks = _looks.setdefault(provider, new)
    # Only the thread that has stored its set creates the instruments.
    if looks is new:
        looks.create_instruments(meter)
    return looks
