"""Tests of the programs, on real sockets: `MockClock` does not wait for threads."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import trio
from requests_auth import TokenAuth
from trio_program import look_up_all

from trio_anon_session import AnonymousSession
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_loopback
from trio_anon_session.threads import SessionThread

pytestmark = pytest.mark.slow

FILES = [str(number) for number in range(20)]


async def test_worker_threads_share_the_token() -> None:
    """Twenty threads cause one grant, and one more after that token is revoked."""
    server = TokenServer()
    async with open_loopback(server) as url, AnonymousSession(server.config(url)) as session:
        answers = await look_up_all(session, FILES)
        server.revoke_all()
        assert await look_up_all(session, FILES) == answers
    assert set(answers) == set(FILES)
    assert server.grants == 2
    assert server.verdicts["good"] == 40


async def test_cancelling_worker_threads() -> None:
    """Threads that wait for a token end as soon as they are cancelled."""
    server = TokenServer(FaultPlan(token_then=Fault.hang()))
    async with open_loopback(server) as url, AnonymousSession(server.config(url)) as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up_all, session, FILES)
            while session.statistics().getters_held < len(FILES):  # noqa: ASYNC110  # no event to wait for
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert session.statistics().getters_held == 0
        assert trio.testing.active_thread_count() == 0


async def test_requests() -> None:
    """A request whose token is rejected is sent again, and other servers get no token."""
    server, elsewhere = TokenServer(), TokenServer()
    async with open_loopback(server) as url, open_loopback(elsewhere) as other_url:

        def send_all() -> list[tuple[int, int]]:
            with SessionThread(server.config(url)) as session, requests.Session() as client:
                client.auth = TokenAuth(session, timeout=30.0)

                def send(url: str, body: Any = None) -> tuple[int, int]:
                    answer = client.post(url, data=body)
                    return answer.status_code, len(answer.history)

                ends = [send(f"{url}/2.0/forbidden"), send(f"{other_url}/2.0/files/1")]
                for body in (None, b"body", "body", iter([b"body"])):
                    trio.from_thread.run_sync(server.revoke_all)
                    ends.append(send(f"{url}/2.0/files/1", body))
                return ends

        ends = await trio.to_thread.run_sync(send_all)
    assert ends == [(401, 0), (401, 0), (200, 1), (200, 1), (200, 1), (401, 0)]
    assert server.grants == 4
    assert set(elsewhere.verdicts) == {"missing"}
