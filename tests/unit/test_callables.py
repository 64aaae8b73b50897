"""Tests of user callables: which are async by mistake, and how a coroutine is closed."""

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
    """A callable whose body does not run in a plain call is recognised, also in partials."""
    assert lazy_kind(function) == kind


@pytest.mark.parametrize(
    "function",
    [plain, functools.partial(plain, 1), lambda *args: 1.0, print, Plain(), Plain, [].append],
)
def test_plain_callables(function: Any) -> None:
    """A callable whose body runs in a plain call is plain."""
    assert lazy_kind(function) is None


def test_a_coroutine_is_closed() -> None:
    """A coroutine that has not started is closed, so that Python does not warn."""
    coroutine = an_async_function()
    assert discard_coroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_a_started_coroutine_is_not_closed() -> None:
    """A coroutine that has started is not closed, because that would run its code."""

    async def run() -> None:
        await trio.lowlevel.checkpoint()

    coroutine = run()
    coroutine.send(None)
    assert discard_coroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
    coroutine.close()


@pytest.mark.parametrize("answer", [None, 1.0, "coroutine", an_async_function, iter([])])
def test_anything_else_is_no_coroutine(answer: object) -> None:
    """Any other object is recognised as no coroutine."""
    assert not discard_coroutine(answer)
