"""Requests to a store, with a time limit; each problem is logged once."""

from __future__ import annotations

import enum
import math
from logging import INFO, WARNING
from typing import TYPE_CHECKING, ParamSpec, TypeGuard, TypeVar

import trio

from .._logging import log
from .._secrets import Secrets
from ._protocol import Look, StoredFailure, StoredToken, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
T = TypeVar("T")

STORE_TIMEOUT = 2.0
"""Time limit in seconds of one request to the store. A slower store counts as down."""

_MAX_DURATION = 1e12
"""Seconds. A longer duration in an answer makes the answer invalid."""

_DOWN = "the token store fails (%s): until it answers again, this process gets its own tokens"


class StoreFailedError(Exception):
    """Error for a failed store. The caller must work without it. The reason was already logged."""


class Operation(enum.Enum):
    """Kind of request. A store that can be read may still refuse writes."""

    READ = "read"
    WRITE = "write"
    BEST_EFFORT = "best effort"
    """The request may fail without a log record, because the lease also ends by itself."""


class StoreAccess:
    """The access to a store: sends requests, and logs each problem once until it is over.

    A full or read-only store still answers looks; a store that is down fails at everything. In both
    cases the log has one WARNING when the store begins to fail, and one INFO when it works again.

    Args:
        secrets: returns the texts to hide in the errors of the store.

    Attributes:
        failed_at: when the store began to fail, on Trio's clock; minus infinity if it works.
        took: seconds until the last failed request failed.
        questions: number of requests.
        failed_questions: number of failed requests.
        question_seconds: total duration of all requests in seconds.
    """

    def __init__(self, secrets: Callable[[], Secrets] = Secrets) -> None:
        self._secrets = secrets
        self.questions = self.failed_questions = 0
        self.question_seconds = 0.0
        self.failed_at = -math.inf
        self.took = 0.0
        self._failed: Operation | None = None
        self._why = ""
        # The logged text of each current problem, by its format string.
        self._logged: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """The current problem with the store, as logged; None if the store works."""
        if self._failed is not None:
            return _DOWN % self._why
        return next(iter(self._logged.values()), None)

    @property
    def is_up(self) -> bool:
        """Whether the store works."""
        return self._failed is None

    @property
    def why(self) -> str:
        """Why the store fails, without secrets; empty if it works."""
        return self._why if self._failed is not None else ""

    async def ask(
        self,
        operation: Operation,
        question: Callable[P, Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Send a request to the store, and return the answer.

        Raises:
            StoreFailedError: the store raised an error, or did not answer within `STORE_TIMEOUT`.
        """
        asked_at = trio.current_time()
        self.questions += 1
        try:
            with trio.fail_after(STORE_TIMEOUT):
                return await question(*args, **kwargs)
        except Exception as error:
            self.failed_questions += 1
            self.took = trio.current_time() - asked_at
            self.record_failure(operation, error)
        finally:
            self.question_seconds += trio.current_time() - asked_at
        # Raised outside of the except block: the error of a store may contain the record.
        raise StoreFailedError

    def record_failure(self, operation: Operation, error: Exception) -> None:
        """Record that a request of this kind failed."""
        if operation is Operation.BEST_EFFORT:
            return
        is_news = self._failed is None
        # After a failed read the store counts as down. Only a successful read ends that.
        if self._failed is not Operation.READ:
            self._failed, self._why = operation, words_of(error, self._secrets())
        if is_news:
            self.failed_at = trio.current_time()
            log(WARNING, _DOWN, self._why)

    def record_success(self, operation: Operation) -> None:
        """Record that a request of this kind succeeded."""
        if self._failed is operation:
            self._failed = None
            self.failed_at = -math.inf
            log(INFO, "the token store answers again")

    def log_once(self, trouble: str, why: Exception | str) -> None:
        """Log another problem, unless it was already logged.

        Args:
            trouble: the format string of the message.
            why: the error of the store, or a text of this package.
        """
        if trouble not in self._logged:
            words = why if isinstance(why, str) else words_of(why, self._secrets())
            self._logged[trouble] = trouble % words
            log(WARNING, trouble, words)

    def clear_problems(self, *troubles: str) -> None:
        """Record that these problems are over. If they come back, they are logged again."""
        for trouble in troubles:
            self._logged.pop(trouble, None)


def words_of(error: Exception, secrets: Secrets) -> str:
    """Return the description of a store's error, without secrets."""
    match error:
        case StoreError():
            # A store of another package may forget its promise that the message has no secret.
            return secrets.hide(Exception.__str__(error))
        case trio.TooSlowError():
            return f"no answer within {STORE_TIMEOUT:g} s"
        case _:
            # Show only the class, because the message of another library may contain secrets.
            return type(error).__name__


def is_look(answer: object) -> TypeGuard[Look]:
    """Return whether the answer of a store is a valid look."""
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
            # Rounding can make a duration slightly negative.
            return all(
                isinstance(each, int | float) and -1.0 < each < _MAX_DURATION for each in durations
            )
    return False
