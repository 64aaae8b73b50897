"""The token server of the fleet, in a process of its own, which tells of each token request.

``fleet.py`` starts it, and tells it its settings first. It tells ``serves``, ``asked`` with each
token request, and at the end ``grants``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from processes import Lines, commands, tell

from trio_anon_session.testing import Fault, FaultPlan, TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]


class TellingServer(TokenServer):
    """Tells of each token request that has come in."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one ASGI connection."""

        async def receive_and_tell() -> Message:
            message = await receive()
            is_last = message["type"] == "http.request" and not message.get("more_body")
            if scope.get("path") == "/oauth2/token" and is_last:
                tell(asked=True)
            return message

        await super().__call__(scope, receive_and_tell, send)


async def main() -> None:
    """Serve until there is no more to do."""
    async with commands() as stdin:
        told = Lines(stdin)
        settings = await told.read() or {}
        hanging = [Fault.hang(), None] * settings["hanging"]
        faults = FaultPlan(token=hanging, token_then=Fault(delay=settings["delay"]))
        server = TellingServer(faults, lifetime=settings["lifetime"])
        config = server.config()
        async with open_loopback(server) as url:
            variables = {
                "BOX_API_ROOT_URL": url,
                "BOX_CLIENT_ID": config.client_id,
                "BOX_CLIENT_SECRET": config.client_secret,
            }
            tell(serves=variables)
            await told.read()
    tell(grants=server.grants)


if __name__ == "__main__":
    trio.run(main)
