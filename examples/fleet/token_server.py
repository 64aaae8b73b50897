"""The token server of the fleet, in its own process, which reports each token request.

``fleet.py`` starts it and sends the settings as the first line. The server reports ``serves``,
then ``asked`` for each token request, and ``grants`` at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from processes import Lines, commands, report

from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]


class ReportingServer(TokenServer):
    """A token server that reports each token request."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one ASGI connection."""

        async def receive_and_report() -> Message:
            message = await receive()
            is_last = message["type"] == "http.request" and not message.get("more_body")
            if scope.get("path") == "/oauth2/token" and is_last:
                report(asked=True)
            return message

        await super().__call__(scope, receive_and_report, send)


async def main() -> None:
    """Serve until the parent closes the stream of commands."""
    async with commands() as stdin:
        lines = Lines(stdin)
        settings = await lines.read() or {}
        hanging = [Fault.hang(), None] * settings["hanging"]
        faults = FaultPlan(token=hanging, token_then=Fault(delay=settings["delay"]))
        server = ReportingServer(faults, lifetime=settings["lifetime"])
        config = server.config()
        async with open_loopback(server) as url:
            variables = {
                "BOX_API_ROOT_URL": url,
                "BOX_CLIENT_ID": config.client_id,
                "BOX_CLIENT_SECRET": config.client_secret,
            }
            report(serves=variables)
            await lines.read()
    report(grants=server.grants)


if __name__ == "__main__":
    trio.run(main)
