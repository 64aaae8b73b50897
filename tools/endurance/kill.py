"""Kill: a thousand getters outlast a token server that dies in the middle of their grant.

    python -m tools.endurance.kill

Starts the embedded token server in a process of its own, on a loopback port, and a session
with the default retries. All getters are held, the grant has come in and waits for its
answer, when the server is killed (SIGKILL). Nobody listens for five seconds; then a new
server does, on the same port. Fails with exit code 1 unless all getters get its one token.

By default a round of attempts lasts for 31 seconds at least: six attempts, with pauses of
one, two, four, eight and sixteen seconds, or up to three times as long. An outage of more
than that needs more retries (``--max-retries``).
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import trio
from trio.testing import wait_all_tasks_blocked

from tests.children import run_child
from tests.ports import server_port
from trio_anon_session import AnonymousSession, AnonymousSessionError, Granted, RefreshFailed
from trio_anon_session.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.children import Child
    from trio_anon_session import Event, SessionStatistics

LIMIT = 600.0
"""Seconds; what no run may outlast, whatever goes wrong."""
NEVER = 3600.0
"""Seconds; the delay of an answer that is not to come."""
CODE = Path(__file__).with_name("serving.py")


@asynccontextmanager
async def serve(port: int, delay: float) -> AsyncIterator[Child]:
    """Serve in a process of its own while the block lasts, each grant after a delay."""
    async with run_child(CODE, port, delay) as child:
        if await child.hear("serves") is None:
            raise RuntimeError(f"no server on port {port}; what it wrote to stderr says why")
        yield child


@attrs.define
class Report:
    """Is what became of the getters.

    Attributes:
        getters: how many there were.
        held: how many were held when the server was killed.
        tokens: what they got.
        errors: what was raised in them.
        attempts: what came of each attempt, and when, in seconds from the kill.
        served_after: seconds from the kill until the last getter had its token.
        back_after: seconds from the kill until the new server listened.
        statistics: the session's at the end.
        asked_before: how many token requests the killed server had seen.
        books: those of the new server.
        status: what its API said to the token.
    """

    getters: int
    held: int = 0
    tokens: list[str] = attrs.field(factory=list)
    errors: list[AnonymousSessionError] = attrs.field(factory=list)
    attempts: list[tuple[float, str]] = attrs.field(factory=list)
    served_after: float = 0.0
    back_after: float = 0.0
    statistics: SessionStatistics | None = None
    asked_before: int = 0
    books: dict[str, Any] = attrs.field(factory=dict)
    status: int = 0

    def problems(self) -> list[str]:
        """Return what is not as it should be, in words."""
        assert self.statistics is not None
        facts = [
            ("getters held at the kill", self.held, self.getters),
            ("getters served", len(self.tokens), self.getters),
            ("getters with an error", len(self.errors), 0),
            ("different tokens", len(set(self.tokens)), 1),
            ("grants by the session's statistics", self.statistics.grants, 1),
            ("getters still held", self.statistics.getters_held, 0),
            ("attempts that failed", self.statistics.failures, len(self.attempts) - 1),
            ("token requests at the killed server", self.asked_before, 1),
            ("token requests at the new server", self.books["asked"], 1),
            ("grants by the new server's books", self.books["grants"], 1),
            ("good tokens shown to the new server", self.books["verdicts"], {"good": 1}),
            ("status from its API", self.status, 200),
        ]
        return [
            f"{what}: {found}, not {wanted}" for what, found, wanted in facts if found != wanted
        ]

    def text(self) -> str:
        """Return it all, for people."""
        assert self.statistics is not None
        lines = ["attempt   seconds from the kill   what came of it"]
        for number, (when, what) in enumerate(self.attempts, 1):
            lines.append(f"{number:>7}{when:>24.2f}   {what}")
        lines += [
            f"getters: {self.held} of {self.getters} held at the kill, "
            f"{len(self.tokens)} served, {len(self.errors)} failed",
            f"grants: {self.statistics.grants} by the session's statistics, "
            f"{self.books['grants']} by the new server's books",
            f"attempts: {len(self.attempts)}, of which {self.asked_before} reached the killed "
            f"server, and {self.books['asked']} the new one",
            f"from the kill to the new server: {self.back_after:.2f} s",
            f"from the kill to service: {self.served_after:.2f} s",
        ]
        return "\n".join(lines)


async def outlast(getters: int, down: float, **settings: Any) -> Report:
    """Kill a server in the middle of a grant, and start a new one in its place.

    Args:
        getters: how many wait for the grant.
        down: seconds until the new one is started.
        **settings: of the session's config.
    """
    with server_port() as port:
        return await _outlast(port, getters, down, **settings)


async def _outlast(port: int, getters: int, down: float, **settings: Any) -> Report:
    report = Report(getters)
    config = TokenServer().config(f"http://127.0.0.1:{port}", **settings)
    killed_at = trio.current_time()

    def since_kill() -> float:
        return trio.current_time() - killed_at

    def observe(event: Event) -> None:
        if isinstance(event, RefreshFailed):
            report.attempts.append((since_kill(), event.error))
        elif isinstance(event, Granted):
            report.attempts.append((since_kill(), "a token"))

    async def get(session: AnonymousSession) -> None:
        try:
            report.tokens.append(await session.get_access_token())
        except AnonymousSessionError as error:
            report.errors.append(error)

    async def kill_server(session: AnonymousSession, crowd: trio.Nursery) -> None:
        nonlocal killed_at
        async with serve(port, NEVER) as server:
            for _ in range(getters):
                crowd.start_soon(get, session)
            await server.hear("asked")
            await wait_all_tasks_blocked()
            report.held = session.statistics().getters_held
            server.process.kill()
            killed_at = trio.current_time()
            # To the end of what it said, for there may have been more.
            await server.hear("books")
            report.asked_before = len(server.told["asked"])

    with trio.fail_after(LIMIT):
        async with (
            AsyncExitStack() as stack,
            AnonymousSession(config, observers=[observe]) as session,
        ):
            async with trio.open_nursery() as crowd:
                await kill_server(session, crowd)
                await trio.sleep(down)
                server = await stack.enter_async_context(serve(port, 0.0))
                report.back_after = since_kill()
            report.served_after = since_kill()
            if report.tokens:
                async with httpx.AsyncClient(auth=session.auth()) as client:
                    response = await client.get(f"{config.api_root_url}/2.0/users/me")
                report.status = response.status_code
            server.process.send_signal(signal.SIGTERM)
            report.books = await server.hear("books")
            report.statistics = session.statistics()
    return report


def main(arguments: list[str] | None = None) -> int:
    """Kill a server, and say whether all getters outlasted it."""
    parser = argparse.ArgumentParser(prog="python -m tools.endurance.kill", description=__doc__)
    parser.add_argument("--getters", type=int, default=1000, help="how many are held")
    parser.add_argument("--down", type=float, default=5.0, help="seconds without a server")
    parser.add_argument("--max-retries", type=int, help="of the session; the default without it")
    wishes = parser.parse_args(arguments)
    settings = {} if wishes.max_retries is None else {"max_retries": wishes.max_retries}
    report = trio.run(partial(outlast, wishes.getters, wishes.down, **settings))
    print(report.text())
    problems = report.problems()
    print("\n".join(f"WRONG: {problem}" for problem in problems) or "all is well")
    return 1 if problems else 0


if __name__ == "__main__":
    # What is logged of each attempt is in the table, too.
    logging.disable(logging.CRITICAL)
    sys.exit(main())
