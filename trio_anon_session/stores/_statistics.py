"""`StoreStatistics`: what one process has done with its store."""

from __future__ import annotations

import attrs


@attrs.frozen
class StoreStatistics:
    """What :meth:`SharedTokenManager.statistics` returns: figures since it was entered.

    Attributes:
        is_up: whether the store did what it was asked last.
        questions: how often the store was asked, whether it answered or not.
        failed_questions: how often it failed, or took too long.
        question_seconds: seconds that all questions took together.
        taken_over: tokens that were found in the store.
        requested: token requests under the store's lease.
        requested_directly: token requests without the store, because something was wrong with it.
        lease_waits: questions of sessions that waited for the request of another process.
        untold_drops: dropped tokens of which the store has not been told yet.
    """

    is_up: bool
    questions: int
    failed_questions: int
    question_seconds: float
    taken_over: int
    requested: int
    requested_directly: int
    lease_waits: int
    untold_drops: int
