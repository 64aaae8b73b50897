"""Callables that users give: which ones are async by mistake, and what becomes of a coroutine."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import trio

from tests.lazy import LAZY, an_async_function
from trio_anon_session._callables import discard_coroutine, lazy_kind


def plain(*args: object) -> float:
    return 1.0


class Plain:
    def __call__(self, *args: object) -> float:
        return 1.0


@pytest.mark.parametrize(("function", "kind"), LAZY)
def test_lazy_callables(function: Any, kind: str) -> None:
    """A callable whose body a plain call does not run is recognised, in partials too."""
    assert lazy_kind(function) == kind


@pytest.mark.parametrize(
    "function",
    [plain, functools.partial(plain, 1), lambda *args: 1.0, print, Plain(), Plain, [].append],
)
def test_plain_callables(function: Any) -> None:
    """A callable that does its work when it is called is plain."""
    assert lazy_kind(function) is None


def test_a_coroutine_is_closed() -> None:
    """A coroutine that did not start is closed, so that Python does not warn."""
    coroutine = an_async_function()
    assert discard_coroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_a_coroutine_that_has_started_is_left_alone() -> None:
    """Closing it would run its code at a moment that nobody expects."""

    async def run() -> None:
        await trio.lowlevel.checkpoint()

    coroutine = run()
    coroutine.send(None)
    assert discard_coroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
    coroutine.close()


@pytest.mark.parametrize("answer", [None, 1.0, "coroutine", an_async_function, iter([])])
def test_anything_else_is_no_coroutine(answer: object) -> None:
    """Only a coroutine is one."""
    assert not discard_coroutine(answer)
