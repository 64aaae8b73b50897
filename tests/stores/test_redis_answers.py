"""Tests of what a server of `RedisStore` may say: whatever it is, a caller gets its token."""

from __future__ import annotations

import pytest

from tools.hostile.resp import MEMORY_LIMIT, SAYINGS, memory_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("is_greeting", [True, False], ids=["HELLO", "EVAL"])
@pytest.mark.parametrize("saying", SAYINGS)
def test_no_answer_takes_unlimited_memory(saying: str, is_greeting: bool) -> None:
    """The caller gets a token by a direct request, and the store is marked as failing."""
    memory, outcome = memory_of(saying, is_greeting=is_greeting)
    assert outcome.is_served
    assert str(outcome.trouble).startswith("the token store fails")
    assert memory < MEMORY_LIMIT
