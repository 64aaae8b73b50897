"""The scene of ``demo``: a session under load while its token endpoint fails."""

from __future__ import annotations

import random
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

from .._manager import TokenManager
from .._session import AnonymousSession
from ..testing import Fault, FaultPlan, TokenServer, open_loopback
from ._ending import FAILED, INTERRUPTED
from ._output import say
from ._view import View, make_console
from ._wording import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..testing import IssuedToken

_TIME_LEFT = "trio_anon_session.demo.time_left"
_WAS_LATE = "trio_anon_session.demo.was_late"


@attrs.define
class Scene:
    """The state of the demo: the view of the session, the server, and the workers' results.

    Attributes:
        view: the view of the session.
        server: the server.
        served: number of requests that were served.
        failed: number of requests that got no answer.
        refused: number of requests that were refused in the end.
        expired: number of refused tokens that the session should not have returned any more.
        late: number of refused tokens that expired on the way, because the request took longer
            than the expired buffer to reach the server.
    """

    view: View
    server: TokenServer
    served: int = 0
    failed: int = 0
    refused: int = 0
    expired: int = 0
    late: int = 0

    @property
    def refused_in_time(self) -> int:
        """Number of refusals that neither the revocation nor a slow machine explains."""
        verdicts = self.server.verdicts
        return self.expired + sum(verdicts[v] for v in ("unknown", "missing", "malformed"))

    async def note_time_left(self, request: httpx.Request) -> None:
        """Note how long the server still accepts a token that the session has just returned.

        httpx calls this hook for each request, after the auth has added the token.
        """
        token = self._token_of(request)
        request.extensions[_TIME_LEFT] = token.left_at(trio.current_time()) if token else 0.0

    async def judge(self, response: httpx.Response) -> None:
        """Count a refused token that had expired. httpx calls this hook for each response.

        When the session returns a token, the server accepts it for the expired buffer at least. So
        a token that expires in spite of that was too long on the way.
        """
        request = response.request
        token = self._token_of(request)
        if response.status_code != 401 or token is None or token.revoked_at is not None:
            return
        if request.extensions[_TIME_LEFT] < self.view.session.config.expired_buffer:
            self.expired += 1
        else:
            self.late += 1
            request.extensions[_WAS_LATE] = True

    def _token_of(self, request: httpx.Request) -> IssuedToken | None:
        header = request.headers.get("Authorization", "")
        return self.server.tokens.get(header.removeprefix("Bearer "))

    def requests(self) -> dict[str, int]:
        """Return the numbers of the workers' requests by result."""
        return {"served": self.served, "failed": self.failed}

    def sum_up(self) -> bool:
        """Print the summary, and return whether every promise was kept."""
        seen = self.view.session.statistics()
        met = self.server.verdicts["revoked"]
        refused = self.refused + self.refused_in_time
        rows = {
            "requests served": f"{self.served}",
            "refreshes": f"{max(0, seen.grants - 1)}",
            "failed attempts": f"{seen.failures}",
            "waiting callers": f"{seen.getters_held_total}",
            "met the revocation": f"{met}, each retried with a new token",
            "refused": f"{refused}",
            "failed": f"{self.failed}",
        }
        say()
        for name, figure in rows.items():
            say(f"{name:<20}{figure}")
        if self.late:
            buffer = self.view.session.config.expired_buffer
            say(
                f"this machine was too slow: {counted({'requests': self.late})} took longer than "
                f"the expired buffer ({buffer:g} s) to reach the server"
            )
        is_good = self.served + self.late > 0 and refused == 0 and self.failed == 0
        say("every promise was kept" if is_good else "a promise was broken")
        sys.stdout.flush()
        return is_good


async def run_demo(seconds: float, workers: int, lifetime: float) -> int:
    """Run the demo, and return the exit code.

    Args:
        seconds: duration in seconds.
        workers: number of tasks that call the protected resource.
        lifetime: lifetime of each token in seconds.
    """
    console = make_console()
    server = make_server(lifetime)
    async with (
        open_loopback(server) as url,
        open_scene(server, url, seconds, workers, lifetime) as scene,
    ):
        if await scene.view.show(console):
            return INTERRUPTED
        return 0 if scene.sum_up() else FAILED


def make_server(lifetime: float) -> TokenServer:
    """Return the server of the demo."""
    # Other programs can reach the server, so what it keeps is bounded.
    return TokenServer(lifetime=lifetime, resource_latency=0.01, keep=0, keep_tokens=1000)


@asynccontextmanager
async def open_scene(
    server: TokenServer,
    url: str,
    seconds: float,
    workers: int,
    lifetime: float,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Scene]:
    """Run the scene while the block lasts, without showing it.

    Args:
        server: the server.
        url: root URL of the server.
        seconds: duration over which the faults are spread.
        workers: number of tasks that call the protected resource.
        lifetime: lifetime of each token in seconds.
        transport: transport to the server; by default its socket.
    """
    config = server.config(
        url,
        stale_buffer=lifetime / 2,
        expired_buffer=lifetime / 8,
        min_refresh_interval=0.1,
        retry_interval=0.2,
        max_retry_interval=1.0,
        # Callers must keep waiting until the endpoint works again.
        max_retries=10_000,
    )
    view = View(trio.current_time(), seconds)
    scene = Scene(view, server)
    view.requests = scene.requests
    limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
    # The server is on this machine, so proxy settings must not apply.
    async with (
        httpx.AsyncClient(transport=transport, trust_env=False) as token_client,
        TokenManager(config, http_client=token_client) as manager,
        AnonymousSession(config, manager, observers=[view.observe]) as session,
        httpx.AsyncClient(
            base_url=url,
            auth=session.auth(),
            event_hooks={"request": [scene.note_time_left], "response": [scene.judge]},
            limits=limits,
            # However slow the machine is, no request fails before the demo ends.
            timeout=seconds,
            transport=transport,
            trust_env=False,
        ) as client,
        trio.open_nursery() as nursery,
    ):
        view.session = session
        # On a slow machine, opening the clients takes seconds, in which no request can be served.
        view.began_at = trio.current_time()
        view.say(f"{workers} workers, tokens of {lifetime:g} s, server at {url}")
        nursery.start_soon(cause_trouble, scene, seconds)
        for number in range(workers):
            nursery.start_soon(work, scene, client, number)
        yield scene
        nursery.cancel_scope.cancel()


async def work(scene: Scene, client: httpx.AsyncClient, number: int) -> None:
    """Call the protected resource again and again."""
    while True:
        try:
            response = await client.get(f"/2.0/files/{number}")
        except httpx.HTTPError as error:
            scene.failed += 1
            scene.view.say(f"! a request failed: {type(error).__name__}: {error}")
        else:
            if response.status_code == 200:
                scene.served += 1
            elif _WAS_LATE not in response.request.extensions:
                # The auth sends a request twice at most. One that was late has no second try left
                # for the revocation.
                scene.refused += 1
        await trio.sleep(random.uniform(0.05, 0.15))


async def cause_trouble(scene: Scene, seconds: float) -> None:
    """Make the server slow, then down, then available, then revoke its tokens."""
    server, say = scene.server, scene.view.say
    await trio.sleep(seconds * 0.25)
    say("~ the token endpoint becomes slow")
    server.faults = FaultPlan(token_then=Fault(delay=0.5))
    await trio.sleep(seconds * 0.2)
    say("~ the token endpoint is down")
    server.faults = FaultPlan(
        token=[Fault.server_error(503), Fault.rate_limited("1"), Fault(cut="after_headers")],
        token_then=Fault.server_error(502),
    )
    await trio.sleep(seconds * 0.2)
    say("~ the token endpoint works again")
    server.faults = FaultPlan()
    await trio.sleep(seconds * 0.1)
    say("~ an administrator revokes the token")
    server.revoke_all()
