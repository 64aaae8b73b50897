"""Cancelling a request with a session's token, at every checkpoint that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from tests.http.kit import ROOT, auth_of, client_of
from tests.http.test_answers import Body, answer_with
from trio_anon_session import TokenState
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_test_session

if TYPE_CHECKING:
    from types import ModuleType


class Line:
    """A transport to a token server, on which all takes its time.

    Attributes:
        bodies: those of all answers.
        bodies_of_401: whether a 401 has one, too.
    """

    def __init__(
        self, http: ModuleType, server: TokenServer, *, bodies_of_401: bool = False
    ) -> None:
        self._http = http
        self._below = http.ASGITransport(server)
        self.bodies: list[Body] = []
        self.bodies_of_401 = bodies_of_401

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and answer before all is there."""
        await trio.sleep(0.5)
        answer = await self._below.handle_async_request(request)
        pieces = [piece async for piece in answer.stream]
        if answer.status_code == 401 and self.bodies_of_401:
            pieces = [b"dead"] * 3
        body = Body(self._http, *pieces, pause=0.25)
        self.bodies.append(body)
        unread = answer_with(self._http, body, status=answer.status_code)
        if "WWW-Authenticate" in answer.headers:
            unread.headers["WWW-Authenticate"] = answer.headers["WWW-Authenticate"]
        return unread

    async def aclose(self) -> None:
        """Close what is below."""
        await self._below.aclose()


PLANS = {
    "held": (FaultPlan(token=[Fault(delay=2.0)]), 3),
    "in flight": (FaultPlan(), 3),
    "replayed": (FaultPlan(token_then=Fault(delay=2.0)), 6),
    "replayed, with a body": (FaultPlan(token_then=Fault(delay=2.0)), 8),
    "no permission": (FaultPlan(), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("what", PLANS)
def test_a_request_takes_nothing_along(http: ModuleType, what: str, is_streamed: bool) -> None:
    """One that is cancelled leaves at once, closes what it opened, and others are served."""
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
        line = Line(http, server, bodies_of_401=what.endswith("body"))
        others: list[tuple[int, bytes]] = []
        async with open_test_session(server, refresh="on_request") as session:
            async with client_of(http, auth_of(http, session), _base(http, line)) as client:
                if what != "held":
                    await session.get_access_token()
                if what.startswith("replayed"):
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
                assert {(body.closes, body.opened) for body in line.bodies} == {(1, 0)}
                assert session.statistics().getters_held == 0
                assert session.state is TokenState.FRESH
                dead = server.verdicts["revoked"]
                after = await ask(client)
        return Seen(
            operation,
            {"others": others, "after": after, "grants": server.grants, "dead": dead > 0},
        )

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.facts == usual.facts
        if not seen.operation.was_cancelled:
            assert seen.operation.result == usual.operation.result

    cancel_everywhere(play, check, at_least=checkpoints)


def _base(http: ModuleType, line: Line) -> Any:
    """Return a transport of a library that does what a line does."""

    class Transport(http.AsyncBaseTransport):  # type: ignore[misc,name-defined]  # a class of either library
        async def handle_async_request(self, request: Any) -> Any:
            return await line.handle_async_request(request)

        async def aclose(self) -> None:
            await line.aclose()

    return Transport()


def test_alone_it_drops_a_dead_token_all_the_same(http: ModuleType) -> None:
    """Once the 401 has been seen, the token is gone, wherever the request is cancelled then."""

    async def play(strike: Strike) -> Seen:
        server = TokenServer()
        operation = Operation(strike)
        line = Line(http, server, bodies_of_401=True)
        async with open_test_session(server, refresh="on_request") as session:
            async with client_of(http, auth_of(http, session), _base(http, line)) as client:
                await session.get_access_token()
                server.revoke_all()
                await trio.sleep(10.0)
                await operation.run(lambda: client.get(f"{ROOT}/2.0/files/1"))
                await settle()
                assert all((body.closes, body.opened) == (1, 0) for body in line.bodies)
                seen_dead = any(body.read for body in line.bodies)
                was_dropped = session.statistics().invalidations == 1
                answer = await client.get("/2.0/files/1")
                assert answer.status_code == 200
                # One more where the cancelled request had not yet been told of it.
                assert server.grants == 2
                assert server.verdicts["revoked"] <= 2
        return Seen(operation, {"was_dropped": was_dropped or not seen_dead})

    def check(seen: Seen, usual: Seen) -> None:
        assert seen.facts["was_dropped"]

    cancel_everywhere(play, check, at_least=8)
