"""Callables that users give: the package calls them, and cannot await what they return."""

from __future__ import annotations

import functools
import inspect

_KINDS = (
    (inspect.iscoroutinefunction, "an async function"),
    (inspect.isasyncgenfunction, "an async generator function"),
    (inspect.isgeneratorfunction, "a generator function"),
)


def lazy_kind(function: object) -> str | None:
    """Return what makes a callable one whose body a plain call does not run.

    Returns:
        Words for an error message, such as ``"an async function"``; None for a plain callable.
    """
    while isinstance(function, functools.partial):
        function = function.func
    for is_of_kind, kind in _KINDS:
        if is_of_kind(function):
            return kind
        # Python looks up __call__ in the class.
        if is_of_kind(type(function).__call__):
            return f"an object whose __call__ is {kind}"
    return None


def discard_coroutine(answer: object) -> bool:
    """Close an answer that is a coroutine, so that Python does not warn that it was not awaited.

    Returns:
        Whether the answer is a coroutine.
    """
    if not inspect.iscoroutine(answer):
        return False
    # Closing one that has started would run its code.
    if inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
        answer.close()
    return True
