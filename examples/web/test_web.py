"""Tests of both services, in virtual time and without sockets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import fastapi_app
import pytest
import quart_app
import trio
from httpx import ASGITransport, AsyncClient
from upstream import MAX_WAIT

from trio_anon_session import AnonymousSession, SessionClosedError, TokenState
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

pytestmark = pytest.mark.slow

HOUR = 3600.0
PATHS = [f"/files/{number}" for number in range(20)]

Open = AbstractAsyncContextManager[tuple[AsyncClient, AnonymousSession]]


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Start an app, and stop it at the end of the block, as a server does."""
    to_app, for_app = trio.open_memory_channel[dict[str, str]](1)
    from_app, replies = trio.open_memory_channel[dict[str, str]](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, {"type": "lifespan"}, for_app.receive, from_app.send)
        await to_app.send({"type": "lifespan.startup"})
        assert await replies.receive() == {"type": "lifespan.startup.complete"}
        yield
        await to_app.send({"type": "lifespan.shutdown"})
        assert await replies.receive() == {"type": "lifespan.shutdown.complete"}


@pytest.fixture(params=[fastapi_app.create_app, quart_app.create_app], ids=["fastapi", "quart"])
def serve(request: pytest.FixtureRequest) -> Callable[[TokenServer], Open]:
    """Return a function that runs one of the services while a block lasts."""

    @asynccontextmanager
    async def serve(server: TokenServer) -> AsyncIterator[tuple[AsyncClient, AnonymousSession]]:
        opened = []

        @asynccontextmanager
        async def open_session() -> AsyncIterator[AnonymousSession]:
            async with open_test_session(server, revoke_on_exit=True, max_wait=MAX_WAIT) as session:
                opened.append(session)
                yield session

        app = request.param(open_session, ASGITransport(server))
        async with (
            running(app),
            AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as user,
        ):
            yield user, opened[0]

    return serve


async def look_up_all(user: AsyncClient) -> list[Any]:
    """Look up all files at the same time, and return the ids in the answers."""
    ids = []

    async def look_up(path: str) -> None:
        response = await user.get(path)
        ids.append(response.raise_for_status().json()["id"])

    async with trio.open_nursery() as nursery:
        for path in PATHS:
            nursery.start_soon(look_up, path)
    return sorted(ids, key=int)


async def test_concurrent_requests_share_the_token(
    serve: Callable[[TokenServer], Open], autojump_clock: MockClock
) -> None:
    """The service starts with a token, needs one more if it is revoked, and revokes that one."""
    server = TokenServer()
    async with serve(server) as (user, session):
        assert server.grants == 1
        everything = await look_up_all(user)
        assert everything == [str(number) for number in range(20)]
        assert server.grants == 1
        server.revoke_all()
        assert await look_up_all(user) == everything
        assert server.grants == 2
        assert server.verdicts["good"] == 40
        stopped_at = trio.current_time()
    assert trio.current_time() == stopped_at
    assert server.revocations == 1
    with pytest.raises(SessionClosedError):
        session.get_access_token_nowait()


async def test_the_token_endpoint_is_down(
    serve: Callable[[TokenServer], Open], autojump_clock: MockClock
) -> None:
    """Requests succeed while the token lives, get a 503 after that, and succeed again later."""
    down = Fault.server_error(503)
    server = TokenServer(FaultPlan(token=[None], token_then=down), lifetime=HOUR)
    async with serve(server) as (user, session):
        await trio.sleep(HOUR - 31.0)
        assert (await user.get(PATHS[0])).status_code == 200
        await session.states.wait_value(TokenState.EXPIRED)
        response = await user.get(PATHS[0])
        assert response.status_code == 503
        assert response.json() == {"error": "TokenUnavailableError"}
        server.faults = FaultPlan()
        await trio.sleep(float(response.headers["Retry-After"]))
        assert (await user.get(PATHS[0])).status_code == 200


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.server_error(503)], ids=["hangs", "503"])
async def test_no_user_sits_out_an_outage(
    serve: Callable[[TokenServer], Open], autojump_clock: MockClock, fault: Fault
) -> None:
    """Without a token, each user gets a 503 after ``MAX_WAIT``, and learns when to come back."""
    server = TokenServer()

    async def look_up() -> None:
        asked_at = trio.current_time()
        response = await user.get(PATHS[0])
        assert response.status_code == 503
        assert trio.current_time() - asked_at <= MAX_WAIT
        assert 1 <= int(response.headers["Retry-After"]) <= 60

    async with serve(server) as (user, _), trio.open_nursery() as nursery:
        server.revoke_all()
        server.faults = FaultPlan(token_then=fault)
        for _ in range(300):
            nursery.start_soon(look_up)
            await trio.sleep(1.0)


@pytest.mark.parametrize(
    "fault",
    [
        # Box's answer if the app lacks a permission.
        Fault(status=401, body=b'{"code": "unauthorized"}'),
        Fault.server_error(500),
        Fault(cut="before_headers"),
    ],
    ids=["forbidden", "error", "disconnected"],
)
async def test_a_failure_of_the_api(
    serve: Callable[[TokenServer], Open], autojump_clock: MockClock, fault: Fault
) -> None:
    """If the API fails, or refuses the service, the user gets a 502 and never the API's 401."""
    server = TokenServer(FaultPlan(resource_then=fault))
    async with serve(server) as (user, _):
        response = await user.get(PATHS[0])
    assert response.status_code == 502
    assert server.grants == 1


async def test_the_service_is_cancelled(
    serve: Callable[[TokenServer], Open], autojump_clock: MockClock
) -> None:
    """If the server cancels the service, such as after a crash, the session is closed too."""
    with trio.CancelScope() as scope:
        async with serve(TokenServer()) as (_, session):
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    with pytest.raises(SessionClosedError):
        session.get_access_token_nowait()
