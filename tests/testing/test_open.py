"""`open_test_session` under virtual time, and `open_loopback` on real sockets."""

from __future__ import annotations

import errno
import gc
import math
import socket
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
import trio

from tests.ports import server_port
from trio_anon_session import (
    AnonymousSession,
    Closed,
    ConfigError,
    CredentialsRejectedError,
    Event,
    Granted,
    SessionClosedError,
    TokenManager,
    TokenState,
)
from trio_anon_session.testing import (
    Fault,
    FaultPlan,
    TokenServer,
    open_loopback,
    open_test_session,
)

from . import GRANT

if TYPE_CHECKING:
    from trio.testing import MockClock

REAL_LIMIT = 30.0
"""Real seconds after which a test on sockets fails."""


class OwnError(Exception):
    """The error that a test's block raises."""


# In process


async def test_session_without_a_server_has_its_own(autojump_clock: MockClock) -> None:
    """Each session that is opened without a server gets its own, which has no faults."""
    async with open_test_session() as first, open_test_session() as second:
        token = await first.get_access_token()

        assert (first.state, second.state) == (TokenState.FRESH, TokenState.EMPTY)
        assert second.statistics().grants == 0
    assert len(token) == 32
    assert trio.current_time() == 0.0


async def test_settings_are_those_of_the_session(autojump_clock: MockClock) -> None:
    """Further arguments are settings of the session, which uses them."""
    server = TokenServer(lifetime=100.0)
    async with open_test_session(server, stale_buffer=40.0, expired_buffer=5.0) as session:
        await session.get_access_token()

        assert (session.config.stale_buffer, session.config.expired_buffer) == (40.0, 5.0)
        await trio.sleep_until(61.0)
    assert [request.at for request in server.token_requests()] == [0.0, 60.0]


async def test_settings_may_name_other_credentials(autojump_clock: MockClock) -> None:
    """A setting has priority over the server's config, so that you can test a rejection."""
    async with open_test_session(client_secret="wrong") as session:
        with pytest.raises(CredentialsRejectedError):
            await session.get_access_token()


async def test_wrong_setting_is_a_config_error(autojump_clock: MockClock) -> None:
    """A wrong setting raises ConfigError before the block starts."""
    with pytest.raises(ConfigError, match="stale_buffer"):
        async with open_test_session(stale_buffer=-1.0):
            raise AssertionError("there is no session to open")


async def test_session_is_closed_after_the_block(autojump_clock: MockClock) -> None:
    """Leaving the block closes the session, and observers get its last event."""
    events: list[Event] = []
    async with open_test_session(observers=[events.append]) as session:
        await session.get_access_token()

    with pytest.raises(SessionClosedError):
        await session.get_access_token()
    seen = [type(event) for event in events if isinstance(event, Granted | Closed)]
    assert seen == [Granted, Closed]


@pytest.mark.parametrize(
    "opened",
    [open_test_session, pytest.param(lambda: open_loopback(TokenServer()), marks=pytest.mark.slow)],
    ids=["open_test_session", "open_loopback"],
)
async def test_own_exception_propagates_unwrapped(opened: Any) -> None:
    """An exception of the block propagates as the same object, without a group."""
    error = OwnError()

    with trio.fail_after(REAL_LIMIT), pytest.raises(OwnError) as caught:
        async with opened():
            raise error

    assert caught.value is error
    assert caught.value.__context__ is None


# On sockets


@pytest.mark.slow
async def test_grant_and_resource_over_a_socket() -> None:
    """Over a socket, a session gets a token that the resource accepts."""
    server = TokenServer(lifetime=3600.0)
    with trio.fail_after(REAL_LIMIT):
        async with open_loopback(server) as url:
            assert url.startswith("http://127.0.0.1:")
            async with (
                AnonymousSession(server.config(url)) as session,
                httpx.AsyncClient(auth=session.auth(), base_url=url) as client,
            ):
                answer = await client.get("/2.0/files/42")
                info = session.token_info

    assert (answer.status_code, answer.json()) == (200, {"type": "file", "id": "42"})
    assert "Server" not in answer.headers
    assert len(answer.headers.get_list("Date")) == 1
    assert info is not None
    assert info.lifetime == 3600.0
    assert server.verdicts == {"good": 1}


@pytest.mark.slow
async def test_port_can_be_chosen() -> None:
    """A port in use raises OSError and leaves no task; a free port is the one in the URL."""
    with server_port() as port, trio.fail_after(REAL_LIMIT):
        with socket.create_server(("127.0.0.1", port)):
            tasks_before = trio.lowlevel.current_statistics().tasks_living
            with pytest.raises(OSError, match="Address already in use") as caught:
                async with open_loopback(TokenServer(), port=port):
                    raise AssertionError("there is nothing to open")
            assert trio.lowlevel.current_statistics().tasks_living == tasks_before
        assert caught.value.errno == errno.EADDRINUSE
        # Python would warn here about a socket that was left open.
        del caught
        gc.collect()

        async with open_loopback(TokenServer(), port=port) as url, httpx.AsyncClient() as client:
            assert url == f"http://127.0.0.1:{port}"
            answer = await client.post(f"{url}/oauth2/token", data=GRANT)

    assert answer.status_code == 200


@pytest.mark.slow
async def test_cancelled_block_leaves_the_loopback() -> None:
    """If the block is cancelled, its scope catches that, and no task of the server is left."""
    with trio.fail_after(REAL_LIMIT):
        tasks_before = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as scope:
            async with open_loopback(TokenServer()):
                scope.cancel()
                await trio.sleep_forever()

        assert scope.cancelled_caught
        assert trio.lowlevel.current_statistics().tasks_living == tasks_before


@pytest.mark.slow
async def test_connections_are_refused_after_the_block() -> None:
    """Leaving the block closes the socket, and every connection with it."""
    with trio.fail_after(REAL_LIMIT):
        async with httpx.AsyncClient() as client:
            async with open_loopback(TokenServer()) as url:
                await client.post(f"{url}/oauth2/token", data=GRANT)

            # The first request may still use a connection that was kept alive and is closed now.
            with pytest.raises((httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError)):
                await client.post(f"{url}/oauth2/token", data=GRANT)
            with pytest.raises(httpx.ConnectError):
                await client.post(f"{url}/oauth2/token", data=GRANT)


@pytest.mark.slow
async def test_block_can_be_left_while_a_request_hangs() -> None:
    """A response that never ends does not delay the end of the block."""
    server = TokenServer(FaultPlan(token=[Fault(stall=math.inf)]))
    has_headers = trio.Event()
    errors: list[httpx.TransportError] = []

    async def ask(url: str) -> None:
        async with (
            httpx.AsyncClient(timeout=None) as client,
            client.stream("POST", f"{url}/oauth2/token", data=GRANT) as answer,
        ):
            has_headers.set()
            try:
                await answer.aread()
            except httpx.TransportError as error:
                errors.append(error)

    with trio.fail_after(REAL_LIMIT):
        async with trio.open_nursery() as nursery, open_loopback(server) as url:
            nursery.start_soon(ask, url)
            await has_headers.wait()
            assert server.in_flight == 1

    assert len(errors) == 1
    assert server.in_flight == 0


@pytest.mark.slow
async def test_cuts_on_a_socket() -> None:
    """On a socket, a cut before the headers is a 500; one after them ends the body early."""
    plan = FaultPlan(token=[Fault(cut="before_headers"), Fault(cut="after_headers")])
    server = TokenServer(plan)
    with trio.fail_after(REAL_LIMIT):
        async with open_loopback(server) as url, httpx.AsyncClient(base_url=url) as client:
            before = await client.post("/oauth2/token", data=GRANT)
            async with client.stream("POST", "/oauth2/token", data=GRANT) as after:
                with pytest.raises(httpx.RemoteProtocolError):
                    await after.aread()
            again = await client.post("/oauth2/token", data=GRANT)

    assert [answer.status_code for answer in (before, after, again)] == [500, 200, 200]
    assert server.grants == 3


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["before_headers", "after_headers"])
async def test_session_retries_after_a_cut_on_a_socket(
    cut: Literal["before_headers", "after_headers"],
) -> None:
    """A session on a socket treats a cut as a temporary failure, and retries."""
    server = TokenServer(FaultPlan(token=[Fault(cut=cut)]))
    with trio.fail_after(REAL_LIMIT):
        async with open_loopback(server) as url:
            config = server.config(url, min_refresh_interval=0.001, max_retry_interval=0.001)
            async with (
                TokenManager(config) as manager,
                AnonymousSession(config, manager) as session,
            ):
                token = await session.get_access_token()

    assert token in server.tokens
    assert len(server.token_requests()) == 2


@pytest.mark.slow
async def test_loopback_cancelled_while_it_opens() -> None:
    """If the opening is cancelled, the scope catches that, and the socket is closed."""
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_loopback(TokenServer()):
            raise AssertionError
    assert scope.cancelled_caught
    gc.collect()
