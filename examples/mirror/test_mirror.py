"""The mirror in virtual time, with all that can happen to its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror import mirror

from trio_anon_session.testing.strategies import Timeline, run_timeline, timelines

if TYPE_CHECKING:
    import httpx

    from trio_anon_session import AnonymousSession

LINKS = [f"https://app.box.com/s/{number}" for number in range(20)]


@settings(max_examples=100, deadline=None)
@given(timeline=timelines(actions=False), seconds=st.integers(0, 60))
def test_no_expired_token_is_presented(timeline: Timeline, seconds: int) -> None:
    """The mirror presents no expired token, however slow the disk is."""

    async def keep(_file_id: str, _content: bytes) -> None:
        await trio.sleep(seconds)

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await mirror(session, client, LINKS, keep)

    run_timeline(timeline, program)
