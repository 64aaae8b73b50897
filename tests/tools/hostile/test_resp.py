"""Hostile Valkey servers: what they say takes little memory, and callers get tokens."""

from __future__ import annotations

import pytest

from tools.hostile.resp import MEMORY_LIMIT, SAYINGS, WHEN, hear

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("saying", SAYINGS)
def test_a_saying_of_a_server(saying: str, when: str) -> None:
    """Memory is limited, the caller gets a token, and the store counts as failing."""
    cost = hear(saying, when)
    assert cost.token == "token-1"
    assert "the token store fails" in str(cost.trouble)
    assert cost.memory <= MEMORY_LIMIT
