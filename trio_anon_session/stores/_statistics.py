"""`StoreStatistics`: counters of one process for its store."""

from __future__ import annotations

import attrs


@attrs.frozen
class StoreStatistics:
    """Result of :meth:`SharedTokenManager.statistics`: counters since the manager was entered.

    Attributes:
        is_up: whether the store works. False from a failed request until it works again.
        questions: requests to the store, with or without an answer.
        failed_questions: requests to the store that failed or took longer than two seconds.
        question_seconds: total duration of these requests in seconds.
        taken_over: tokens taken from the store.
        requested: token requests with the store's lease.
        requested_directly: token requests without the store, because it did not work.
        lease_waits: calls of sessions that waited for the token request of another process.
        untold_drops: dropped tokens not yet reported to the store.
        refused_records: invalid records of tokens in the store that this process replaced, or tried
            to: for example, an encrypted record that was changed or moved.
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
    refused_records: int = 0
