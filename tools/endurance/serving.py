"""A token server in its own process, which reports in lines of JSON.

    python tools/endurance/serving.py PORT DELAY

The lines are ``{"serves": URL}`` at the start, ``{"asked": N}`` for each complete token request,
and ``{"recorded": {...}}`` at the end, after SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import trio

from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]


def report(**what: object) -> None:
    """Write a line."""
    print(json.dumps(what), flush=True)


class ReportingServer(TokenServer):
    """A server that reports each token request."""

    asked = 0

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one ASGI connection."""

        async def receive_and_report() -> Message:
            message = await receive()
            if scope.get("path") == "/oauth2/token" and not message.get("more_body"):
                self.asked += 1
                report(asked=self.asked)
            return message

        await super().__call__(scope, receive_and_report, send)


async def main(port: int, delay: float) -> None:
    """Serve until SIGTERM, and answer token requests after a delay in seconds."""
    server = ReportingServer(FaultPlan(token_then=Fault(delay=delay)))
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_loopback(server, port=port) as url:
            report(serves=url)
            async for _ in signals:
                break
    report(
        recorded={
            "asked": server.asked,
            "grants": server.grants,
            "most_in_flight": server.most_in_flight,
            "verdicts": server.verdicts,
        }
    )


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), float(sys.argv[2]))
