"""Tests that cancel a request with a session's token, at every checkpoint that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.cancellation.everywhere import (
    Operation,
    Seen,
    Strike,
    cancel_everywhere,
    living_tasks,
    settle,
)
from tests.http.kit import Body, answer_with, auth_of, client_of
from trio_anon_session import TokenState
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from types import ModuleType


class Line(httpx.AsyncBaseTransport):
    """A transport of either library to a token server, with a delay at each step.

    Attributes:
        bodies: the bodies of all answers; a 401 always has one.
    """

    def __init__(self, http: ModuleType, server: TokenServer) -> None:
        self._http = http
        self._below = http.ASGITransport(server)
        self.bodies: list[Body] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the answer before its body."""
        await trio.sleep(0.5)
        answer = await self._below.handle_async_request(request)
        content = await answer.aread()
        pieces = [content] if content or answer.status_code != 401 else [b"dead"] * 2
        body = Body(*pieces, pause=0.25)
        self.bodies.append(body)
        challenge = answer.headers.get("WWW-Authenticate", "")
        unread: httpx.Response = answer_with(
            self._http, body, status=answer.status_code, WWW_Authenticate=challenge
        )
        return unread

    def assert_closed(self) -> None:
        """Check that each body was closed once, and is no longer being read."""
        assert {(body.closes, body.opened) for body in self.bodies} <= {(1, 0)}


PLANS = {
    "held": (FaultPlan(token=[Fault(delay=2.0)]), 3),
    "in flight": (FaultPlan(), 3),
    "replayed": (FaultPlan(token_then=Fault(delay=2.0)), 8),
    "no permission": (FaultPlan(), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "is_streamed"), [*((what, True) for what in PLANS), ("replayed", False)]
)
def test_a_cancelled_request_disturbs_no_other(
    http: ModuleType, what: str, is_streamed: bool
) -> None:
    """A cancelled request ends immediately and closes its bodies; other requests succeed."""
    plan, checkpoints = PLANS[what]
    path = "/2.0/forbidden" if what == "no permission" else "/2.0/files/1"

    async def ask(client: Any) -> tuple[int, bytes]:
        if is_streamed:
            async with client.stream("GET", path) as answer:
                await answer.aread()
        else:
            answer = await client.get(path)
        return answer.status_code, answer.content

    async def play(strike: Strike) -> Seen:
        server = TokenServer()
        operation = Operation(strike)
        line = Line(http, server)
        others: list[tuple[int, bytes]] = []
        async with open_test_session(server, refresh="on_request") as session:
            async with client_of(http, auth_of(http, session), line) as client:
                if what != "held":
                    await session.get_access_token()
                if what == "replayed":
                    server.revoke_all()
                server.faults = plan
                await trio.sleep(10.0)
                tasks = living_tasks()

                async def other() -> None:
                    others.append(await ask(client))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(other)
                    nursery.start_soon(other)
                    nursery.start_soon(operation.run, lambda: ask(client))
                await settle()
                assert living_tasks() == tasks
                line.assert_closed()
                assert session.statistics().getters_held == 0
                assert session.state is TokenState.FRESH
                revoked = server.verdicts["revoked"]
                after = await ask(client)
        return Seen(
            operation,
            {"others": others, "after": after, "grants": server.grants, "dead": revoked > 0},
        )

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.facts == usual.facts
        if not seen.operation.was_cancelled:
            assert seen.operation.result == usual.operation.result

    cancel_everywhere(play, check, at_least=checkpoints)


def test_a_cancelled_request_drops_an_invalid_token(http: ModuleType) -> None:
    """Once the body of a 401 was read, its token is dropped, wherever the request is cancelled."""

    async def play(strike: Strike) -> Seen:
        server = TokenServer()
        operation = Operation(strike)
        line = Line(http, server)
        async with open_test_session(server, refresh="on_request") as session:
            async with client_of(http, auth_of(http, session), line) as client:
                await session.get_access_token()
                server.revoke_all()
                await trio.sleep(10.0)
                await operation.run(lambda: client.get("/2.0/files/1"))
                await settle()
                line.assert_closed()
                seen_401 = any(body.read for body in line.bodies)
                was_dropped = session.statistics().invalidations == 1
                answer = await client.get("/2.0/files/1")
                assert answer.status_code == 200
                assert server.grants == 2
                # There are two 401s if the request is cancelled before its own: the next request
                # gets another one.
                assert server.verdicts["revoked"] <= 2
        return Seen(operation, {"was_dropped": was_dropped or not seen_401})

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.facts["was_dropped"]

    cancel_everywhere(play, check, at_least=8)
