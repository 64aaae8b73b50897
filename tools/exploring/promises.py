"""A broken promise, as the referee of a machine reports it."""

from __future__ import annotations


class BrokenPromiseError(Exception):
    """A machine broke a promise of its design.

    Attributes:
        promise: its number. 0 is the machine's own contract: it raises nothing unexpected, a look
            changes nothing, and what a look returns is right.
        words: what happened.
        path: the events that led there, set by the search.
        states: how many states the search had found, set by the search.
    """

    def __init__(self, promise: int, words: str) -> None:
        super().__init__(f"promise {promise}: {words}")
        self.promise = promise
        self.words = words
        self.path: tuple[tuple[object, ...], ...] = ()
        self.states = 0


def as_broken(error: Exception) -> BrokenPromiseError:
    """Return what the machine raised as a broken promise."""
    if isinstance(error, BrokenPromiseError):
        return error
    return BrokenPromiseError(0, f"the machine raised {error!r}")
