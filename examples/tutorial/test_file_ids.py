"""A test of the tutorial's program, for a day of virtual time."""

import httpx
import pytest
from file_ids import read_ids
from trio.testing import MockClock

from trio_anon_session import AnonymousSession
from trio_anon_session.testing import TokenServer


@pytest.mark.trio
@pytest.mark.token_server(lifetime=3600.0)
async def test_a_day(
    token_server: TokenServer, anonymous_session: AnonymousSession, autojump_clock: MockClock
) -> None:
    """The program reads 96 files, and the API accepts the token each time."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(token_server),
        base_url=anonymous_session.config.api_root_url,
    ) as client:
        ids = await read_ids(anonymous_session, client, range(96))

    assert ids == [str(number) for number in range(96)]
    assert token_server.verdicts == {"good": 96}
    # The session requests a token every 50 minutes.
    assert token_server.grants == 29
