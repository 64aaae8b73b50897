"""Checks of the callables that users pass. The package calls them without await."""

from __future__ import annotations

import functools
import inspect

_KINDS = (
    (inspect.iscoroutinefunction, "an async function"),
    (inspect.isasyncgenfunction, "an async generator function"),
    (inspect.isgeneratorfunction, "a generator function"),
)


def lazy_kind(function: object) -> str | None:
    """Return the kind of a callable whose body does not run when it is called.

    Returns:
        Text for an error message, such as ``"an async function"``; None for a plain callable.
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
    """Close a returned coroutine, so that Python does not warn that it was never awaited.

    Returns:
        Whether the returned value is a coroutine.
    """
    if not inspect.iscoroutine(answer):
        return False
    # Closing a coroutine that has started would run its code.
    if inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
        answer.close()
    return True
