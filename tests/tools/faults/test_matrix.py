"""Each row of the fault matrix, compared with its expected outcome."""

from __future__ import annotations

import pytest

from tools.faults.rows import ROWS, TOKEN, Row
from tools.faults.runs import AT_ONCE, FAULTY_ANSWERS, WITH_THE_NEXT, Outcome, measure


def _rows(where: str) -> pytest.MarkDecorator:
    rows = [row for row in ROWS if where in row.where]
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def _check(row: Row, outcome: Outcome, recovered: str) -> None:
    refreshes = 1 if row.held == TOKEN else 1 + FAULTY_ANSWERS
    expected = Outcome(row.held, row.attempts, TOKEN, refreshes, recovered, said="")
    assert outcome == expected
    assert row.says in outcome.said


@_rows("in process")
def test_fault_in_process(row: Row) -> None:
    """In process, each fault has the outcome of its row for waiting callers and STALE tokens."""
    recovered = f"{row.recovered:g} s" if row.recovered else AT_ONCE

    _check(row, measure(row, "in process"), recovered)


@pytest.mark.slow
@_rows("real sockets")
def test_fault_on_real_sockets(row: Row) -> None:
    """On real sockets, each fault has the outcome of its row."""
    recovered = AT_ONCE if row.held == TOKEN else WITH_THE_NEXT

    _check(row, measure(row, "real sockets"), recovered)


def test_names_of_rows_are_unique() -> None:
    """No two rows have the same name."""
    assert len({row.name for row in ROWS}) == len(ROWS)
