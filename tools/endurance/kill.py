"""Kill a token server in the middle of a token request for which a thousand callers wait.

    python -m tools.endurance.kill

The program starts the embedded token server in its own process, on a loopback port, and a session
with the default retries. While all callers wait for one request, it kills the server (SIGKILL).
Five seconds later it starts a new server on the same port. Exit code 1 unless all callers get the
one token of the new server.

By default a round of attempts takes at least 31 seconds: six attempts, with pauses of one, two,
four, eight and sixteen seconds, or up to three times as long. A longer outage needs more retries
(``--max-retries``).
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
"""Seconds after which a run fails."""
NEVER = 3600.0
"""Delay of an answer that must not arrive, in seconds."""
CODE = Path(__file__).with_name("serving.py")


@asynccontextmanager
async def serve(port: int, delay: float) -> AsyncIterator[Child]:
    """Run a server process while the block lasts, which answers token requests after a delay."""
    async with run_child(CODE, port, delay) as child:
        if await child.receive("serves") is None:
            raise RuntimeError(f"no server on port {port}; see its output on stderr")
        yield child


@attrs.define
class Report:
    """The results of the callers.

    Attributes:
        getters: number of callers.
        held: number of callers that waited when the server was killed.
        tokens: the tokens that they got.
        errors: the errors that they got.
        attempts: when each attempt ended, in seconds after the kill, and its result.
        served_after: seconds from the kill until the last caller had its token.
        back_after: seconds from the kill until the new server listened.
        statistics: the statistics of the session at the end.
        asked_before: number of token requests at the killed server.
        recorded: the records of the new server.
        status: the status with which the API of the new server answered.
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
    recorded: dict[str, Any] = attrs.field(factory=dict)
    status: int = 0

    def problems(self) -> list[str]:
        """Return what is wrong, in words."""
        assert self.statistics is not None
        facts = [
            ("callers waiting at the kill", self.held, self.getters),
            ("callers with a token", len(self.tokens), self.getters),
            ("callers with an error", len(self.errors), 0),
            ("different tokens", len(set(self.tokens)), 1),
            ("grants in the session's statistics", self.statistics.grants, 1),
            ("callers still waiting", self.statistics.getters_held, 0),
            ("attempts that failed", self.statistics.failures, len(self.attempts) - 1),
            ("token requests at the killed server", self.asked_before, 1),
            ("token requests at the new server", self.recorded["asked"], 1),
            ("grants of the new server", self.recorded["grants"], 1),
            ("tokens sent to the new server", self.recorded["verdicts"], {"good": 1}),
            ("status from its API", self.status, 200),
        ]
        return [
            f"{what}: {found}, not {wanted}" for what, found, wanted in facts if found != wanted
        ]

    def text(self) -> str:
        """Return the report as text."""
        assert self.statistics is not None
        lines = ["attempt   seconds from the kill   result"]
        for number, (when, what) in enumerate(self.attempts, 1):
            lines.append(f"{number:>7}{when:>24.2f}   {what}")
        lines += [
            f"callers: {self.held} of {self.getters} waited at the kill, "
            f"{len(self.tokens)} got a token, {len(self.errors)} an error",
            f"grants: {self.statistics.grants} in the session's statistics, "
            f"{self.recorded['grants']} at the new server",
            f"attempts: {len(self.attempts)}, of which {self.asked_before} reached the killed "
            f"server, and {self.recorded['asked']} the new one",
            f"from the kill until the new server listened: {self.back_after:.2f} s",
            f"from the kill until all callers had a token: {self.served_after:.2f} s",
        ]
        return "\n".join(lines)


async def outlast(getters: int, down: float, **settings: Any) -> Report:
    """Kill a server in the middle of a token request, and start a new one.

    Args:
        getters: number of callers that wait for the token.
        down: seconds until the new server starts.
        **settings: settings of the session's config.
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
            await server.receive("asked")
            await wait_all_tasks_blocked()
            report.held = session.statistics().getters_held
            server.process.kill()
            killed_at = trio.current_time()
            # Read all output, because the server may have reported more requests.
            await server.receive("recorded")
            report.asked_before = len(server.received["asked"])

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
            report.recorded = await server.receive("recorded")
            report.statistics = session.statistics()
    return report


def main(arguments: list[str] | None = None) -> int:
    """Kill a server, and report whether all callers got a token."""
    parser = argparse.ArgumentParser(prog="python -m tools.endurance.kill", description=__doc__)
    parser.add_argument("--getters", type=int, default=1000, help="number of waiting callers")
    parser.add_argument("--down", type=float, default=5.0, help="seconds without a server")
    parser.add_argument("--max-retries", type=int, help="retries of the session")
    wishes = parser.parse_args(arguments)
    settings = {} if wishes.max_retries is None else {"max_retries": wishes.max_retries}
    report = trio.run(partial(outlast, wishes.getters, wishes.down, **settings))
    print(report.text())
    problems = report.problems()
    print("\n".join(f"WRONG: {problem}" for problem in problems) or "all is well")
    return 1 if problems else 0


if __name__ == "__main__":
    # The table has the log messages of each attempt, too.
    logging.disable(logging.CRITICAL)
    sys.exit(main())
