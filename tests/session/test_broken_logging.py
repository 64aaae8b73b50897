"""Tests of a session whose log filter, handler or record factory raises.

The last test shows that one function writes all records, so the stores behave in the same way.
"""

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
from trio_anon_session import (
    AnonymousSession,
    Closed,
    CredentialsRejectedError,
    RevocationError,
    StateChanged,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session._logging import log
from trio_anon_session.testing._clocks import seeded_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_anon_session import Event

NAME = "trio_anon_session"
DOWN = TokenUnavailableError("down", retry_after=10.0)


class BrokenLoggingError(Exception):
    """The exception that the broken logging raises."""


class Broken(logging.Handler):
    """A filter and handler that raises on every record."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error
        self.records = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Raise, as a filter of a logger."""
        self.records += 1
        raise self.error

    emit = filter  # type: ignore[assignment]  # `filter` always raises


class BrokenEmit(Broken):
    """A handler that accepts every record, and raises when it writes one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept the record."""
        return True


@contextlib.contextmanager
def broken_logging(way: str, error: type[BaseException] = BrokenLoggingError) -> Iterator[Broken]:
    """Break logging at every level while the block lasts."""
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


async def live() -> list[object]:
    """Return everything that a session with failing requests and observers shows."""
    seen: list[object] = []

    def note(event: Event) -> None:
        seen.append((trio.current_time(), event))

    def fail(event: Event) -> object:
        if isinstance(event, StateChanged):
            raise ValueError
        return an_async_function()

    async def get() -> None:
        try:
            seen.append(await session.get_access_token())
        except TokenRequestError as error:
            seen.append((type(error), str(error), error.attempts))

    manager = FakeTokenManager(make_config(max_retries=1))
    manager.outcomes = [DOWN, DOWN, OSError("odd"), None, "nonsense"]
    observers = [fail, note, fail]
    async with AnonymousSession(manager.config, manager, observers=observers) as session:
        for _ in range(4):
            await get()
            await trio.sleep(20.0)
        # These failures occur in the background, while the token is STALE.
        manager.outcomes = [DOWN, CredentialsRejectedError("no", retry_after=10.0), DOWN]
        await trio.sleep(3100.0)
        await get()
        session.invalidate("token-1")
        manager.revoke_outcomes = [RevocationError("no", retryable=False)]
        await get()
        with contextlib.suppress(RevocationError):
            await session.revoke_tokens()
    return seen


@pytest.mark.parametrize("way", ["filter", "handler", "root handler", "record factory"])
def test_a_session_with_broken_logging(way: str) -> None:
    """A session gives the same tokens, errors and events whether logging works or raises."""
    with seeded_schedule(0):
        healthy = run_virtually(live)
    with broken_logging(way) as broken, seeded_schedule(0):
        other = run_virtually(live)
    assert other == healthy
    assert isinstance(other[-1][1], Closed)
    assert broken.records > 20


# The helper


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("way", ["filter", "handler"])
def test_an_interrupt_propagates(way: str, error: type[BaseException]) -> None:
    """A `KeyboardInterrupt` or `SystemExit` of a filter or handler reaches the program."""
    with broken_logging(way, error), pytest.raises(error):
        log(logging.WARNING, "a record")


def test_a_record_has_the_function_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A record has the function, level and arguments of the call that logs."""
    log(logging.WARNING, "%s and %d", "one", 2)
    (record,) = caplog.records
    assert (record.name, record.levelno) == (NAME, logging.WARNING)
    assert record.getMessage() == "one and 2"
    assert (record.funcName, record.pathname) == (
        "test_a_record_has_the_function_that_logs",
        __file__,
    )


def test_a_disabled_level_creates_no_record(caplog: pytest.LogCaptureFixture) -> None:
    """A record below the level of the logger does not reach a handler."""
    logging.getLogger(NAME).setLevel(logging.ERROR)
    try:
        log(logging.WARNING, "a record")
    finally:
        logging.getLogger(NAME).setLevel(logging.NOTSET)
    assert caplog.records == []


PACKAGE = Path(trio_anon_session.__file__).parent


def test_only_one_module_calls_the_logger() -> None:
    """Only `_logging.py` calls the methods of the logger that write records."""
    writing = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    found = set()
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        # Parsing the whole package would take seconds.
        for node in ast.walk(ast.parse(text)) if "logger." in text else ():
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=attr)):
                    if attr in writing:
                        found.add(file.name)
    assert found == {"_logging.py"}
