"""`BrokenPromiseError`, with which the referee of a machine reports a broken promise."""

from __future__ import annotations


class BrokenPromiseError(Exception):
    """Error for a broken promise of the design.

    Attributes:
        promise: number of the promise. 0 is the machine's own contract: it raises no unexpected
            error, a look changes nothing, and a look returns the right value.
        words: what happened.
        path: the events that led to it. The search sets this.
        states: number of states that the search had found. The search sets this.
    """

    def __init__(self, promise: int, words: str) -> None:
        super().__init__(f"promise {promise}: {words}")
        self.promise = promise
        self.words = words
        self.path: tuple[tuple[object, ...], ...] = ()
        self.states = 0


def as_broken(error: Exception) -> BrokenPromiseError:
    """Return an error of the machine as a broken promise."""
    if isinstance(error, BrokenPromiseError):
        return error
    return BrokenPromiseError(0, f"the machine raised {error!r}")
