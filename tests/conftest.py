"""Fixtures and hooks of all tests."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test fail if it raises a cancellation.

    pytest-trio ignores it, so that a test passes although it ends before its assertions.
    """
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _without_cancellation(item.obj)
    return (yield)


def _without_cancellation(test: Any) -> Any:
    @functools.wraps(test)
    async def run(**arguments: Any) -> None:
        try:
            await test(**arguments)
        except trio.Cancelled:
            problem = "the test raised a cancellation that no scope of it has caught"
        else:
            return
        pytest.fail(problem)

    return run


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> ModuleType:
    """Run a test with both HTTP libraries, httpx and httpx2."""
    library: ModuleType = request.param
    return library
