"""Tests of both programs, on real sockets: `MockClock` does not wait for threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from blocking_api import look_up
from thread_program import SessionThread
from trio_program import look_up_all

from trio_anon_session import AnonymousSession, Config, SessionClosedError, TokenUnavailableError
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

FILES = [str(number) for number in range(20)]


@contextmanager
def serve(server: TokenServer) -> Iterator[Config]:
    """Serve on loopback from a thread, for a test without Trio."""
    ready, stop = threading.Event(), trio.Event()
    found: list[tuple[Config, trio.lowlevel.TrioToken]] = []

    async def run() -> None:
        async with open_loopback(server) as url:
            found.append((server.config(url), trio.lowlevel.current_trio_token()))
            ready.set()
            await stop.wait()

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(trio.run, run)
        ready.wait(30)
        config, token = found[0]
        yield config
        token.run_sync_soon(stop.set)
        future.result()


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


def test_threads_share_the_token() -> None:
    """Threads of a program without Trio cause one grant, too."""
    server = TokenServer()
    with serve(server) as config, ThreadPoolExecutor(8) as pool, SessionThread(config) as session:

        def look_up_one(file_id: str) -> object:
            url = f"{config.api_root_url}/2.0/files/{file_id}"
            return look_up(url, session.get_access_token, session.invalidate)

        answers = list(pool.map(look_up_one, FILES))
        server.tokens[session.get_access_token()].lifetime = 0.0
        assert list(pool.map(look_up_one, FILES)) == answers
        assert session.statistics().grants == 2
    assert server.verdicts["good"] == 40


def test_a_timeout() -> None:
    """A thread waits no longer than its timeout, and the token request continues."""
    server = TokenServer(FaultPlan(token_then=Fault.hang()))
    with serve(server) as config, SessionThread(config) as session:
        with pytest.raises(TimeoutError, match=r"no token within 0\.01 s"):
            session.get_access_token(timeout=0.01)
        while not server.in_flight:
            pass
        assert session.statistics().next_refresh_in == 0.0


def test_errors_come_through() -> None:
    """The session's errors are raised in the thread that asked."""
    server = TokenServer(FaultPlan(token_then=Fault.server_error(503)))
    with (
        serve(server) as config,
        SessionThread(config.replace(max_retries=0)) as session,
        pytest.raises(TokenUnavailableError, match="status 503"),
    ):
        session.get_access_token()


def outcomes_at_the_end(server: TokenServer, ask: Callable[[SessionThread], object]) -> set[str]:
    """Leave the block while 32 threads ask, and return how they end."""
    # Two statements, because the threads continue after the block of the session.
    with serve(server) as config, ThreadPoolExecutor(32) as pool:
        with SessionThread(config) as session:
            futures = [pool.submit(ask, session) for _ in range(32)]
            while not server.grants:
                if server.in_flight and session.statistics().getters_held == 32:
                    break
        ends = {type(future.exception()).__name__ for future in futures}
        # A later call gets the same error.
        with pytest.raises(SessionClosedError):
            session.get_access_token()
    return ends


def test_leaving_tells_threads_that_are_held() -> None:
    """Although the endpoint hangs, every waiting thread gets a SessionClosedError."""
    server = TokenServer(FaultPlan(token_then=Fault.hang()))
    ends = outcomes_at_the_end(server, lambda session: session.get_access_token())
    assert ends == {"SessionClosedError"}


def test_leaving_tells_threads_that_are_busy() -> None:
    """A thread in the middle of a call gets a SessionClosedError, too."""

    def keep_asking(session: SessionThread) -> None:
        while True:
            session.get_access_token()

    for _ in range(20):
        assert outcomes_at_the_end(TokenServer(), keep_asking) == {"SessionClosedError"}
