"""Tests of the service in virtual time, so that hours take milliseconds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from httpx import ASGITransport
from service import GRACE, LIMIT, Figures, answer_probe, open_client, watch

from trio_anon_session.testing import Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_anon_session import AnonymousSession

FILES = ["1", "2", "3"]
HOUR = 3600.0

pytestmark = pytest.mark.token_server(lifetime=HOUR)


async def run_service(
    session: AnonymousSession, server: TokenServer, *, until: float, workers: int = 3
) -> Figures:
    """Run the service, with a round every minute, until a time, and return its figures."""
    figures, stop = Figures(), trio.Event()
    # main() also gets a token before the first lookup.
    await session.get_access_token()
    async with (
        open_client(session, ASGITransport(server)) as client,
        trio.open_nursery() as nursery,
    ):

        async def stop_then() -> None:
            await trio.sleep_until(until)
            stop.set()

        nursery.start_soon(stop_then)
        await watch(client, FILES, stop, figures, every=60.0, workers=workers)
    return figures


async def test_a_day_of_hour_long_tokens(
    anonymous_session: AnonymousSession, token_server: TokenServer, autojump_clock: MockClock
) -> None:
    """No lookup fails, and no expired token is sent."""
    figures = await run_service(anonymous_session, token_server, until=24 * HOUR - 1.0)
    assert figures == Figures(looked_up=24 * 60 * 3, failed=0)
    assert token_server.verdicts == {"good": 24 * 60 * 3}


def etag(text: str) -> Fault:
    """Return an answer with this etag, whatever was asked."""
    return Fault(status=200, body=b'{"etag": "%b"}' % text.encode())


@pytest.mark.token_server(faults=FaultPlan(resource=map(etag, "abcabxabx")))
async def test_a_file_that_changes(
    anonymous_session: AnonymousSession,
    token_server: TokenServer,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The third file changes in the second round, and the log says so once."""
    caplog.set_level(logging.INFO, "service")
    await run_service(anonymous_session, token_server, until=179.0, workers=1)
    assert caplog.messages == ["file 3 has changed"]


# The endpoint issues one token, and is down after that.
@pytest.mark.token_server(faults=FaultPlan(token=[None], token_then=Fault.server_error(503)))
async def test_an_outage_of_two_hours(
    anonymous_session: AnonymousSession, token_server: TokenServer, autojump_clock: MockClock
) -> None:
    """No lookup fails while the token is valid, or after the endpoint is back."""
    seen = []
    async with trio.open_nursery() as nursery:

        async def repair() -> None:
            await trio.sleep_until(HOUR - 31.0)
            seen.append(token_server.verdicts.total())
            await trio.sleep_until(2 * HOUR)
            seen.append(token_server.verdicts.total())
            token_server.faults = FaultPlan()

        nursery.start_soon(repair)
        figures = await run_service(anonymous_session, token_server, until=4 * HOUR - 1.0)

    before_it_ran_out, in_the_outage = seen
    assert before_it_ran_out == in_the_outage == 60 * 3
    # The session retries within its longest pause, a minute and a half.
    assert figures.looked_up >= 60 * 3 + 118 * 3
    assert token_server.verdicts == {"good": figures.looked_up}


async def test_a_token_that_is_revoked(
    anonymous_session: AnonymousSession, token_server: TokenServer, autojump_clock: MockClock
) -> None:
    """No lookup fails if an administrator revokes every token."""
    async with trio.open_nursery() as nursery:

        async def revoke() -> None:
            await trio.sleep_until(90.0)
            token_server.revoke_all()

        nursery.start_soon(revoke)
        figures = await run_service(anonymous_session, token_server, until=239.0)

    assert figures == Figures(looked_up=4 * 3, failed=0)
    assert token_server.grants == 2


@pytest.mark.token_server(faults=FaultPlan(resource=[Fault.hang()]))
async def test_a_lookup_that_hangs(
    anonymous_session: AnonymousSession, token_server: TokenServer, autojump_clock: MockClock
) -> None:
    """Only that lookup fails, even with a single worker."""
    figures = await run_service(anonymous_session, token_server, until=LIMIT + 1.0, workers=1)
    assert figures == Figures(looked_up=2, failed=1)


@pytest.mark.token_server(faults=FaultPlan(resource_then=Fault.hang()))
async def test_the_end_while_everything_hangs(
    anonymous_session: AnonymousSession, token_server: TokenServer, autojump_clock: MockClock
) -> None:
    """The service ends after the grace period, although the endpoint does not answer."""
    figures = await run_service(anonymous_session, token_server, until=1.0)
    assert trio.current_time() == 1.0 + GRACE
    assert figures == Figures()


@pytest.mark.token_server(faults=FaultPlan(token=[None], token_then=Fault.server_error(503)))
async def test_probes(anonymous_session: AnonymousSession, autojump_clock: MockClock) -> None:
    """In an outage the service is ready until the token expires, and live all the time."""

    async def probe(path: bytes) -> bytes:
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        await answer_probe(anonymous_session, far)
        return bytes(await near.receive_some())[9:12]

    assert await probe(b"/ready") == b"200"
    await anonymous_session.get_access_token()
    await trio.sleep(HOUR - 31.0)
    assert await probe(b"/ready") == b"200"
    await trio.sleep(1.0)
    assert await probe(b"/ready") == b"503"
    assert await probe(b"/live") == b"200"
