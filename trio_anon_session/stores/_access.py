"""Asking a store: with a limit, and saying once what is wrong with it."""

from __future__ import annotations

import enum
import math
from logging import INFO, WARNING
from typing import TYPE_CHECKING, ParamSpec, TypeGuard, TypeVar

import trio

from .._logging import log
from ._protocol import Look, StoredFailure, StoredToken, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
T = TypeVar("T")

STORE_TIMEOUT = 2.0
"""Seconds for one question to the store, after which it counts as down."""

_LONGEST = 1e12
"""Seconds; no answer is about as many."""

_DOWN = "the token store fails (%s): until it answers again, this process gets its own tokens"


class StoreFailedError(Exception):
    """Tells that this has to do without the store. It has been said why."""


class Doing(enum.Enum):
    """What a store is asked for: it may be able to do the one, and not the other."""

    READING = "reading"
    WRITING = "writing"
    IN_PASSING = "in passing"
    """What may fail without a word, for others find out by themselves."""


class StoreAccess:
    """Asks a store, and logs once what is wrong with it, until that is over.

    A store that is full or read-only answers every look, and one that is down fails in all: of
    either, there is one warning when it begins to fail, and one word when it no longer does.

    Attributes:
        failed_at: when the store began to fail; long ago where it does not.
        took: seconds that it took the last question to fail.
        questions: how often it was asked.
        failed_questions: how often it failed.
        question_seconds: seconds that all questions took together.
    """

    def __init__(self) -> None:
        self.questions = self.failed_questions = 0
        self.question_seconds = 0.0
        self.failed_at = -math.inf
        self.took = 0.0
        self._failed: Doing | None = None
        self._why = ""
        # How it was said, by what it was about.
        self._said: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """What is wrong with the store, in the words of the log; None where nothing is."""
        if self._failed is not None:
            return _DOWN % self._why
        return next(iter(self._said.values()), None)

    @property
    def is_up(self) -> bool:
        """Whether the store does what it is asked."""
        return self._failed is None

    @property
    def why(self) -> str:
        """Why the store fails, in words that may be shown; nothing where it does not."""
        return self._why if self._failed is not None else ""

    async def ask(
        self, doing: Doing, question: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return a store's answer.

        Raises:
            StoreFailedError: there is none.
        """
        asked_at = trio.current_time()
        self.questions += 1
        try:
            with trio.fail_after(STORE_TIMEOUT):
                return await question(*args, **kwargs)
        except Exception as error:
            self.failed_questions += 1
            self.took = trio.current_time() - asked_at
            self.fails(doing, error)
        finally:
            self.question_seconds += trio.current_time() - asked_at
        # Outside of the except block: an error of a store's may hold what it was asked to keep.
        raise StoreFailedError

    def fails(self, doing: Doing, error: Exception) -> None:
        """Note that the store does not do this."""
        if doing is Doing.IN_PASSING:
            return
        is_news = self._failed is None
        # One that fails to be read fails in all, and when it is read again, that is over.
        if self._failed is not Doing.READING:
            self._failed, self._why = doing, words_of(error)
        if is_news:
            self.failed_at = trio.current_time()
            log(WARNING, _DOWN, self._why)

    def works(self, doing: Doing) -> None:
        """Note that the store does this."""
        if self._failed is doing:
            self._failed = None
            self.failed_at = -math.inf
            log(INFO, "the token store answers again")

    def say_once(self, trouble: str, error: Exception) -> None:
        """Log something else that is wrong with it."""
        if trouble not in self._said:
            words = words_of(error)
            self._said[trouble] = trouble % words
            log(WARNING, trouble, words)

    def is_over(self, *troubles: str) -> None:
        """Note that these are over, so that they are said when they come again."""
        for trouble in troubles:
            self._said.pop(trouble, None)


def words_of(error: Exception) -> str:
    """Return what a store raised, in words that may be shown."""
    match error:
        case StoreError():
            return str(error)
        case trio.TooSlowError():
            return f"no answer within {STORE_TIMEOUT:g} s"
        case _:
            # No word of it: a store of somebody else's may show anything.
            return type(error).__name__


def is_look(answer: object) -> TypeGuard[Look]:
    """Tell whether a store has answered with what it has to answer."""
    match answer:
        case Look(
            version=int(),
            owner=None | str(),
            token=None | StoredToken(record=str(), mark=str()),
            failure=None | StoredFailure(record=str(), fence=int()),
            dead=frozenset(),
        ):
            durations: list[object] = [answer.leased_for]
            if answer.token is not None:
                durations += answer.token.age, answer.token.lifetime
            if answer.failure is not None:
                durations.append(answer.failure.pause)
            # None is less than nothing, but for a little that rounding makes.
            return all(
                isinstance(each, int | float) and -1.0 < each < _LONGEST for each in durations
            )
    return False
