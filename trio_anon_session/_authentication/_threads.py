"""Worker threads for what may block: files, plain callables and keys.

A thread that hangs cannot be ended. So one source, such as a file on a broken network drive, keeps
only a few threads busy, stops no other source, and is used again when it works again.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from .._callables import discard_coroutine
from .._clocks import is_mocked
from .._workers import in_worker
from ._credentials import CredentialsUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_THREADS = 4
"""The threads for one source that may be busy, or hang, before calls of it are delayed."""
_PATIENCE = 4
"""A call of a source that hangs is allowed after this part of the time since which it hangs. So a
source that works again is noticed soon, and one that hangs for a day has some 30 threads."""


class _Call:
    """A call in a thread.

    Attributes:
        began_at: when it began, on Trio's clock; infinite before that.
        is_abandoned: whether no caller waits for it any longer.
        is_over: whether it has returned.
    """

    __slots__ = ("began_at", "is_abandoned", "is_over")

    def __init__(self) -> None:
        self.began_at = math.inf
        self.is_abandoned = self.is_over = False

    @property
    def hangs(self) -> bool:
        """Whether a thread works, but no caller waits for its result."""
        return self.is_abandoned and self.began_at < math.inf and not self.is_over


class _Source:
    """The threads of one source."""

    __slots__ = ("_calls", "_object", "limiter")

    def __init__(self, source: object) -> None:
        self.limiter = trio.CapacityLimiter(_THREADS)
        self._calls: list[_Call] = []
        # While it is alive, no other source has its id.
        self._object = source

    @property
    def is_used(self) -> bool:
        """Whether a thread works."""
        return bool(self.limiter.borrowed_tokens)

    def new_call(self, setting: str) -> _Call:
        """Make room for a call in addition to those that hang.

        Raises:
            CredentialsUnavailableError: too many hang, and the last one began a short time ago.
        """
        self._calls = [call for call in self._calls if not call.is_over]
        began = [call.began_at for call in self._calls if call.hangs]
        if len(began) >= _THREADS:
            now = trio.current_time()
            left = max(began) - now + (now - min(began)) / _PATIENCE
            if left > 0:
                raise CredentialsUnavailableError(
                    f"{setting}: {len(began)} calls hang, the first one for {now - min(began):.0f} "
                    f"s; another one begins in {left:.0f} s at the earliest"
                )
        self.limiter.total_tokens = max(_THREADS, len(began) + 1)
        call = _Call()
        self._calls.append(call)
        return call


_sources: trio.lowlevel.RunVar[dict[int, _Source]] = trio.lowlevel.RunVar("credentials_sources")


async def in_thread(setting: str, source: object, function: Callable[..., T], *args: object) -> T:
    """Call a function that may block, in a worker thread.

    Args:
        setting: the name of the setting, for errors.
        source: the object whose threads are limited, such as a path.
        function: the function.
        *args: its arguments.

    Raises:
        CredentialsUnavailableError: earlier calls of this source hang.

    Cancellation: the thread is left to itself, and its result is dropped.
    """
    if is_mocked(trio.lowlevel.current_clock()):
        await trio.lowlevel.checkpoint()
        return function(*args)
    results: list[T] = []
    threads = _threads_of(source)
    call = threads.new_call(setting)
    clock = trio.lowlevel.current_clock()

    def work() -> None:
        call.began_at = clock.current_time()
        try:
            if not call.is_abandoned:
                # Not returned, because Trio accepts no coroutine from a thread.
                results.append(function(*args))
        finally:
            call.is_over = True
            if call.is_abandoned:
                _drop(results)

    try:
        await in_worker(work, limiter=threads.limiter)
        return results.pop()
    finally:
        call.is_abandoned = True
        # It may never have begun.
        call.is_over |= call.began_at == math.inf
        _drop(results)


def _drop(results: list[Any]) -> None:
    """Drop the result of an abandoned call. Two threads may do so at the same time."""
    with suppress(IndexError):
        discard_coroutine(results.pop())


def _threads_of(source: object) -> _Source:
    """Return the threads of a source, so that one that hangs does not stop the others.

    Threads that hang must not use up those of the program either.
    """
    try:
        sources = _sources.get()
    except LookupError:
        _sources.set(sources := {})
    for unused in [key for key, threads in sources.items() if not threads.is_used]:
        del sources[unused]
    return sources.setdefault(id(source), _Source(source))
