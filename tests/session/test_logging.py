"""Tests of the log records of a session, which it writes without any setup."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import (
    AnonymousSession,
    Closed,
    CredentialsRejectedError,
    Granted,
    Invalidated,
    RefreshFailed,
    RevocationError,
    Revoked,
    StateChanged,
    TokenUnavailableError,
)
from trio_anon_session._secrets import fingerprint
from trio_anon_session.stores import MemoryStore, SharedTokenManager
from trio_anon_session.testing import TokenServer, open_test_session, virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from trio.testing import MockClock

NAME = "trio_anon_session"
BUILT = {
    kind.__init__.__code__: kind.__name__
    for kind in (Granted, RefreshFailed, Invalidated, Revoked, StateChanged, Closed)
} | {fingerprint.__code__: "fingerprint"}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the log, with all records from level DEBUG."""
    caplog.set_level(logging.DEBUG, NAME)
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return level and text of each record of the package."""
    return [(record.levelno, record.getMessage()) for record in log.records if record.name == NAME]


async def cause_each_event() -> None:
    """Run a session until each kind of event has happened, failures included."""
    manager = FakeTokenManager(make_config(retry_strategy=lambda attempt, error: 7.0), latency=2.0)
    manager.outcomes = [TokenUnavailableError("no grant")]
    manager.revoke_outcomes = [RevocationError("no end", retryable=False)]
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        session.invalidate("token-1")
        await session.get_access_token()
        with pytest.raises(RevocationError):
            await session.revoke_tokens()
        await session.get_access_token()
        await session.revoke_tokens()


# Records


async def test_debug_has_a_record_for_each_event(
    autojump_clock: MockClock, log: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, the log has a record for each event, with fingerprints instead of tokens."""
    await cause_each_event()
    one, two, three = (fingerprint(f"token-{number}") for number in (1, 2, 3))
    came = "after 2.00 s, usable for 3568.0 s"
    client = "client 'id': "
    assert said(log) == [
        (
            logging.WARNING,
            f"{client}token request failed, next attempt in 7.0 s or later: "
            "TokenUnavailableError: no grant",
        ),
        (logging.DEBUG, f"{client}state changed from EMPTY to FRESH"),
        (logging.DEBUG, f"{client}got token {one} {came}"),
        (logging.DEBUG, f"{client}state changed from FRESH to EMPTY"),
        (logging.WARNING, f"{client}dropped token {one}, which was reported invalid"),
        (logging.DEBUG, f"{client}state changed from EMPTY to FRESH"),
        (logging.DEBUG, f"{client}got token {two} {came}"),
        (logging.DEBUG, f"{client}state changed from FRESH to EMPTY"),
        (logging.WARNING, f"{client}no end"),
        (logging.DEBUG, f"{client}state changed from EMPTY to FRESH"),
        (logging.DEBUG, f"{client}got token {three} {came}"),
        (logging.DEBUG, f"{client}state changed from FRESH to EMPTY"),
        (logging.DEBUG, f"{client}revoked token {three}"),
        (logging.DEBUG, f"{client}session closed"),
    ]


async def test_a_day_without_failures_writes_nothing_at_info(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A session writes nothing at INFO on a day with refreshes and a revoked token."""
    caplog.set_level(logging.INFO, NAME)
    server = TokenServer(lifetime=3600.0)
    async with open_test_session(server) as session:
        for hour in range(24):
            await session.get_access_token()
            if hour == 12:
                await session.revoke_tokens()
            await trio.sleep(3600.0)
    assert server.grants > 24
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (CredentialsRejectedError("no"), logging.ERROR),
        (TokenUnavailableError("down"), logging.WARNING),
    ],
)
async def test_rejected_credentials_are_an_error(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    level: int,
) -> None:
    """Rejected credentials are logged as an error even while the token is still usable."""
    manager = FakeTokenManager(make_config())
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        manager.outcomes = [error]
        await trio.sleep(3050.0)
        assert session.get_access_token_nowait() == "token-2"
    ((logged, text),) = said(caplog)
    assert logged == level
    assert str(error) in text


# Objects that are built only for a log


def count_built(run: Callable[[], object]) -> Counter[str]:
    """Return how many events and fingerprints are created while `run` runs."""
    built: Counter[str] = Counter()

    def see(frame: FrameType, what: str, _: object) -> None:
        code: CodeType = frame.f_code
        if what == "call" and code in BUILT:
            built[BUILT[code]] += 1

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)
    return built


@pytest.mark.parametrize(
    ("level", "built"),
    [
        (
            logging.DEBUG,
            {
                "RefreshFailed": 1,
                "StateChanged": 6,
                "Granted": 3,
                "Invalidated": 1,
                "Revoked": 2,
                "Closed": 1,
                "fingerprint": 6,
            },
        ),
        # The events of an invalid token and a failed revocation have the fingerprint of the token.
        (
            logging.INFO,
            {"RefreshFailed": 1, "Invalidated": 1, "Revoked": 1, "fingerprint": 2},
        ),
        (
            logging.WARNING,
            {"RefreshFailed": 1, "Invalidated": 1, "Revoked": 1, "fingerprint": 2},
        ),
        (logging.ERROR, {}),
    ],
)
def test_events_are_created_only_if_they_are_logged(
    caplog: pytest.LogCaptureFixture, level: int, built: dict[str, int]
) -> None:
    """Without an observer, a session creates only the events that the log level lets through."""
    caplog.set_level(level, NAME)
    assert count_built(virtual_time(cause_each_event)) == built


def test_an_observer_receives_all_events(caplog: pytest.LogCaptureFixture) -> None:
    """An observer receives all events at any log level, and each event is created once."""
    caplog.set_level(logging.CRITICAL, NAME)
    heard: list[str] = []

    async def main() -> None:
        manager = FakeTokenManager(make_config())
        observers = [lambda event: heard.append(type(event).__name__), lambda event: None]
        async with AnonymousSession(manager.config, manager, observers=observers) as session:
            await session.get_access_token()

    built = count_built(virtual_time(main))
    assert heard == ["StateChanged", "Granted", "Closed"]
    assert built == Counter([*heard, "fingerprint"])


async def test_each_invalid_token_is_a_warning_of_the_process_that_reports_it(
    log: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """A token has one WARNING, however often it is reported. Other processes log it at DEBUG."""
    store, source = MemoryStore(), FakeTokenManager(make_config())
    async with (
        SharedTokenManager(source, store) as first,
        SharedTokenManager(source, store) as second,
        AnonymousSession(source.config, first) as one,
        AnonymousSession(source.config, second) as two,
    ):
        tokens = [await one.get_access_token(), await two.get_access_token()]
        for _ in range(3):
            one.invalidate(tokens[0])
        await trio.sleep(1.0)
        tokens += [await two.get_access_token(), await one.get_access_token()]
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3]
    mark = fingerprint(tokens[0])
    records = [(level, text) for level, text in said(log) if "reported invalid" in text]
    assert records == [
        (level, f"client 'id': dropped token {mark}, which was reported invalid")
        for level in (logging.WARNING, logging.DEBUG)
    ]


@pytest.mark.parametrize(
    ("requested", "granted", "missing"),
    [
        ("a b", ["a", "a"], "'b'"),
        ("a b", [None, "b", "a"], "'a'"),
        ("a b c", ["", "a"], "'a', 'b', 'c'"),
        ("a B", ["a b"], "'B'"),
        ("a b", ["b a", "c b a", None], None),
        (None, ["a", "b"], None),
        ("api://files/.default", ["files.read"], None),
        (" ".join(f"{n:0200}" for n in range(900)), ["a", "a"], "and 895 more"),
    ],
)
async def test_a_narrower_scope_is_logged_once(
    log: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
    requested: str | None,
    granted: list[str | None],
    missing: str | None,
) -> None:
    """If the server grants less than the requested scope, the session logs one warning."""
    manager = FakeTokenManager(make_config(scope=requested))
    ends_at = 0.0
    async with AnonymousSession(manager.config, manager) as session:
        for scope in granted * 2:
            manager.scope = scope
            session.invalidate(await session.get_access_token())
            await trio.sleep(5.0)
            ends_at += 5.0
    warnings = [
        text
        for level, text in said(log)
        if level >= logging.WARNING and "reported invalid" not in text
    ]
    if missing is None:
        assert warnings == []
    else:
        (text,) = warnings
        assert f"requested: {missing}" in text or missing in text
        assert len(text) < 1000
