"""Runs in virtual time."""

from __future__ import annotations

import datetime
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple
from unittest.mock import patch

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_datetime = datetime.datetime


def run(function: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> R:
    """Run a function on Trio with a clock that jumps to the next deadline."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with _others_follow(clock):
        return trio.run(function, *args, clock=clock)


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class _Datetime(_datetime, metaclass=_AnyDatetime):
    """A datetime class that calls the current ``time.time``, and makes real datetimes."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _datetime:  # type: ignore[override]  # as it says above
        return _datetime.fromtimestamp(time.time(), tz)


@contextmanager
def _others_follow(clock: trio.testing.MockClock) -> Iterator[None]:
    """Set the clocks that peers read to Trio's clock while the block lasts.

    Modules that imported ``time`` or ``datetime`` from their modules before still read the real
    clocks.
    """
    began_at = time.time()
    with (
        patch.object(time, "time", lambda: began_at + clock.current_time()),
        patch.object(datetime, "datetime", _Datetime),
    ):
        yield
