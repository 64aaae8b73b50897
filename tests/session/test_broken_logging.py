"""Logging of the user's that raises: the session and its store go on as without it."""

from __future__ import annotations

import ast
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import trio_anon_session
from tests.helpers import FakeTokenManager, make_config, run_virtually
from tests.lazy import an_async_function
from tests.stores.faulty import EVERYTHING, READS, WRITES, FaultyStore
from trio_anon_session import (
    AnonymousSession,
    Closed,
    CredentialsRejectedError,
    RevocationError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session._logging import log
from trio_anon_session.stores import SharedTokenManager
from trio_anon_session.testing._clocks import seeded_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from trio_anon_session import Event

NAME = "trio_anon_session"
DOWN = TokenUnavailableError("down", retry_after=10.0)


class BrokenLoggingError(Exception):
    """What the user's logging raises."""


class Broken(logging.Handler):
    """A filter, and a handler, that raises on every record."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error
        self.records = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """As a logger's filter."""
        self.records += 1
        raise self.error

    emit = filter  # type: ignore[assignment]  # it raises in any case


class BrokenEmit(Broken):
    """A handler that takes every record, and raises when it writes one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """As a handler's filter."""
        return True


@contextlib.contextmanager
def broken_logging(way: str, error: type[BaseException] = BrokenLoggingError) -> Iterator[Broken]:
    """Break the user's logging while the block lasts, at every level."""
    logger, level = logging.getLogger(NAME), logging.getLogger(NAME).level
    factory = logging.getLogRecordFactory()
    broken = BrokenEmit(error) if "handler" in way else Broken(error)
    owner = logging.getLogger() if "root" in way else logger

    def make_record(*args: Any, **kwargs: Any) -> Any:
        if args[0] == NAME:
            broken.filter(factory(*args, **kwargs))
        return factory(*args, **kwargs)

    logger.setLevel(logging.DEBUG)
    if way == "filter":
        owner.addFilter(broken)
    elif way == "record factory":
        logging.setLogRecordFactory(make_record)
    else:
        owner.addHandler(broken)
    try:
        yield broken
    finally:
        logger.setLevel(level)
        logger.removeFilter(broken)
        owner.removeHandler(broken)
        logging.setLogRecordFactory(factory)


# Lives in which everything is logged that can be


class Life:
    """What one life of a session looks like from outside."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def note(self, event: Event) -> None:
        """As an observer."""
        self.seen.append((trio.current_time(), event))

    async def get(self, session: AnonymousSession) -> None:
        """Ask for a token."""
        try:
            self.seen.append(await session.get_access_token())
        except TokenRequestError as error:
            self.seen.append((type(error), str(error), error.attempts))


def raises(event: Event) -> None:
    """As an observer that is broken."""
    raise ValueError


def returns_a_coroutine(event: Event) -> object:
    """As an observer that is async in disguise."""
    return an_async_function()


async def failing_grants(life: Life) -> None:
    """Held getters, a STALE token, and credentials that are rejected."""
    manager = FakeTokenManager(make_config(max_retries=1))
    manager.outcomes = [DOWN, DOWN, OSError("odd"), None, "nonsense"]
    async with AnonymousSession(manager.config, manager, observers=[life.note]) as session:
        for _ in range(4):
            await life.get(session)
            await trio.sleep(20.0)
        manager.outcomes = [DOWN, CredentialsRejectedError("no", retry_after=10.0), DOWN]
        await trio.sleep(3100.0)
        await life.get(session)
        session.invalidate("token-1")
        await life.get(session)


async def failing_revocations(life: Life) -> None:
    """One that succeeds at the second attempt, one that fails, and one in the end."""
    manager = FakeTokenManager(make_config(retry_strategy=lambda attempt, error: 7.0))
    manager.revoke_outcomes = [
        RevocationError("later"),
        None,
        RevocationError("no", retryable=False),
        OSError("odd"),
    ]
    config = manager.config.replace(revoke_on_exit=True, shutdown_timeout=60.0)
    async with AnonymousSession(config, manager, observers=[life.note]) as session:
        for _ in range(2):
            await life.get(session)
            with contextlib.suppress(RevocationError):
                await session.revoke_tokens()
        await life.get(session)


async def raising_observers(life: Life) -> None:
    """Observers that raise, and that return a coroutine, before and after one that works."""
    manager = FakeTokenManager(make_config())
    observers = [raises, returns_a_coroutine, life.note, raises, returns_a_coroutine]
    async with AnonymousSession(manager.config, manager, observers=observers) as session:
        await life.get(session)
        await trio.sleep(4000.0)
        session.invalidate("token-2")
        await life.get(session)


async def bad_strategies(life: Life) -> None:
    """Each kind of strategy that is no good, with getters and in the background."""
    strategies: list[Callable[..., Any]] = [
        lambda attempt, error: 1 / 0,
        lambda attempt, error: "soon",
        lambda attempt, error: an_async_function(),
        lambda: None,
    ]
    for strategy in strategies:
        manager = FakeTokenManager(make_config(retry_strategy=strategy))
        manager.outcomes = [DOWN]
        async with AnonymousSession(manager.config, manager, observers=[life.note]) as session:
            await life.get(session)
            await trio.sleep(20.0)
            await life.get(session)
            manager.outcomes = [DOWN, DOWN]
            await trio.sleep(3100.0)
            await life.get(session)


def failing_store(
    fails: Collection[str], lies: dict[str, Any] | None = None
) -> Callable[[Life], Any]:
    """Return the life of a session whose store fails, comes back, and fails again."""

    async def live(life: Life) -> None:
        source = FakeTokenManager(make_config())
        store = FaultyStore()
        async with (
            SharedTokenManager(source, store) as manager,
            AnonymousSession(source.config, manager, observers=[life.note]) as session,
        ):
            for _ in range(2):
                store.fails, store.lies = fails, lies or {}
                await life.get(session)
                session.invalidate(f"token-{source.granted}")
                await life.get(session)
                await trio.sleep(30.0)
                life.seen.append(manager.trouble)
                store.fails, store.lies = (), {}
                await trio.sleep(4000.0)
                await life.get(session)
                life.seen.append(manager.trouble)
            # Closing it fails as well.
            store.fails = EVERYTHING

    return live


LIVES: dict[str, Callable[[Life], Any]] = {
    "failing grants": failing_grants,
    "failing revocations": failing_revocations,
    "raising observers": raising_observers,
    "bad strategies": bad_strategies,
    "a store that is down": failing_store(EVERYTHING),
    "a store that is not read": failing_store(READS),
    "a store that is not written": failing_store(WRITES),
    "a store without news": failing_store({"listen"}),
    "a store that lies": failing_store((), {"look": "nonsense"}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("live", "way"),
    [
        *((live, "filter") for live in LIVES),
        *(("failing grants", way) for way in ("handler", "root handler", "record factory")),
    ],
)
def test_a_life_beside_broken_logging(live: str, way: str) -> None:
    """Whatever is logged, and however logging raises, a session does what it does without."""
    healthy, other = Life(), Life()
    with seeded_schedule(0):
        run_virtually(LIVES[live], healthy)
    with broken_logging(way) as broken, seeded_schedule(0):
        run_virtually(LIVES[live], other)
    assert other.seen == healthy.seen
    assert any(isinstance(one, tuple) and isinstance(one[1], Closed) for one in other.seen)
    assert broken.records > 3


# The helper


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("way", ["filter", "handler"])
def test_what_is_no_exception_propagates(way: str, error: type[BaseException]) -> None:
    """An interrupt in the middle of a record reaches the program."""
    with broken_logging(way, error), pytest.raises(error):
        log(logging.WARNING, "a record")


def test_a_record_names_the_line_that_writes_it(caplog: pytest.LogCaptureFixture) -> None:
    """A record has the caller's function, level and arguments."""
    log(logging.WARNING, "%s and %d", "one", 2)
    (record,) = caplog.records
    assert (record.name, record.levelno) == (NAME, logging.WARNING)
    assert record.getMessage() == "one and 2"
    assert (record.funcName, record.pathname) == (
        "test_a_record_names_the_line_that_writes_it",
        __file__,
    )


def test_a_level_that_is_off_costs_no_record(caplog: pytest.LogCaptureFixture) -> None:
    """What is not logged reaches neither filter nor handler."""
    logging.getLogger(NAME).setLevel(logging.ERROR)
    try:
        log(logging.WARNING, "a record")
    finally:
        logging.getLogger(NAME).setLevel(logging.NOTSET)
    assert caplog.records == []


PACKAGE = Path(trio_anon_session.__file__).parent


def test_all_records_are_written_by_the_helper() -> None:
    """No other module calls a method of the logger that writes."""
    writing = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    found = set()
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        # To parse all of the package takes seconds.
        for node in ast.walk(ast.parse(text)) if "logger." in text else ():
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=attr)):
                    if attr in writing:
                        found.add(file.name)
    assert found == {"_logging.py"}
