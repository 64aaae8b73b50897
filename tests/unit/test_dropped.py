"""Tests of the limited memory for dropped tokens, compared with an unlimited list."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import AnonymousSession, _dropped
from trio_anon_session._dropped import LIMIT, Drop, DroppedTokens

if TYPE_CHECKING:
    from trio.testing import MockClock

times = st.integers(0, 20).map(float)
names = st.sampled_from([f"token-{number}" for number in range(8)])


@given(
    st.lists(st.tuples(names, times, times), max_size=30),
    st.integers(1, 6),
    st.tuples(names, times),
)
def test_a_dropped_token_is_refused(
    drops: list[tuple[str, float, float]], limit: int, asked: tuple[str, float]
) -> None:
    """All dropped tokens are refused; others only if they are older than a forgotten drop."""
    known = DroppedTokens(limit)
    now = 0.0
    naive: dict[str, Drop] = {}
    forgotten_until = -1.0
    for name, later, sent_before in drops:
        now += later
        naive.pop(name, None)
        naive[name] = Drop(now, now - sent_before, now + 100.0)
        known.add(name, naive[name])
        assert len(known) <= limit
        for old in list(naive)[:-limit]:
            forgotten_until = max(forgotten_until, naive[old].dropped_at)
    name, sent_at = asked
    was_dropped = name in naive and not (
        sent_at >= naive[name].dropped_at and sent_at > naive[name].sent_at
    )
    if was_dropped:
        assert known.refuse(name, sent_at)
    elif known.refuse(name, sent_at):
        assert sent_at <= forgotten_until


def test_granted_again() -> None:
    """A dropped token that was granted again is accepted, and expired drops are forgotten."""
    known = DroppedTokens()
    known.add("a", Drop(10.0, 5.0, 20.0))
    known.add("b", Drop(11.0, 5.0, 30.0))
    assert known.refuse("a", 9.0)
    assert not known.refuse("a", 10.0)
    assert not known.refuse("c", 0.0)
    known.forget("a")
    assert not known.refuse("a", 9.0)
    known.forget_expired(30.0)
    assert (len(known), known.get("b")) == (0, None)


def test_the_limit() -> None:
    """By default, `LIMIT` dropped tokens are remembered; then older tokens are refused by time."""
    known = DroppedTokens()
    for number in range(LIMIT + 5):
        known.add(str(number), Drop(float(number), 0.0, 1e9))
    assert len(known) == LIMIT == _dropped.LIMIT
    assert known.refuse("another", 4.0)
    assert not known.refuse("another", 5.0)


@pytest.mark.slow
async def test_an_api_that_refuses_every_token_takes_no_more_memory_with_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once the limit is reached, further dropped tokens take almost no memory."""
    # pytest keeps each record of the log.
    caplog.set_level(logging.CRITICAL, "trio_anon_session")
    manager = FakeTokenManager(make_config(stale_buffer=0.0), lifetime=1e9)
    async with AnonymousSession(manager.config, manager) as session:

        async def drop(count: int) -> None:
            for _ in range(count):
                session.invalidate(await session.get_access_token())
            manager.sent.clear()
            manager.options.clear()
            gc.collect()

        tracemalloc.start()
        try:
            await drop(LIMIT)
            before, _ = tracemalloc.get_traced_memory()
            await drop(10 * LIMIT)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # A digest and three times take about 300 bytes. Coverage of branches takes memory, too.
    assert after - before < 10 * LIMIT * 100
