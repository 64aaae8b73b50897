"""Callables whose body does not run in a plain call, as users pass them by mistake."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def an_async_function(*args: object) -> float:
    return 1.0


async def an_async_generator_function(*args: object) -> AsyncIterator[float]:
    yield 1.0


def a_generator_function(*args: object) -> Iterator[float]:
    yield 1.0


class Methods:
    async def method(self, *args: object) -> float:
        return 1.0

    @staticmethod
    async def static(*args: object) -> float:
        return 1.0

    @classmethod
    async def of_class(cls, *args: object) -> float:
        return 1.0


class Async:
    async def __call__(self, *args: object) -> float:
        return 1.0


class AsyncGenerator:
    async def __call__(self, *args: object) -> AsyncIterator[float]:
        yield 1.0


class Generator:
    def __call__(self, *args: object) -> Iterator[float]:
        yield 1.0


LAZY: list[tuple[Any, str]] = [
    (an_async_function, "an async function"),
    (functools.partial(an_async_function, 1), "an async function"),
    (functools.partial(functools.partial(an_async_function), 1), "an async function"),
    (trio.sleep, "an async function"),
    (Methods().method, "an async function"),
    (Methods.static, "an async function"),
    (Methods.of_class, "an async function"),
    (functools.partial(Methods().method), "an async function"),
    (an_async_generator_function, "an async generator function"),
    (functools.partial(an_async_generator_function), "an async generator function"),
    (a_generator_function, "a generator function"),
    (functools.partial(a_generator_function, 1), "a generator function"),
    (Async(), "an object whose __call__ is an async function"),
    (functools.partial(Async(), 1), "an object whose __call__ is an async function"),
    (Async().__call__, "an async function"),
    (AsyncGenerator(), "an object whose __call__ is an async generator function"),
    (Generator(), "an object whose __call__ is a generator function"),
]
"""Each callable, and its description in error messages."""
