"""A process of the fleet, which asks for the token all the time and reports the tokens it gets.

    python member.py SETTINGS

SETTINGS is JSON: ``store`` as for ``examples/fleet/fleet.py``, ``url`` of the token server,
``config``, and ``runs``: how many Trio runs use the same manager one after the other. The process
reports ``ready``, and then carries out each line of stdin. It imports nothing from the tests, so
that it runs with any version of the package.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from typing import Any

import attrs
import httpx
import trio
from processes import Lines, commands, report
from worker import open_store

from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    ConfigError,
    TokenInfo,
    TokenManager,
    TokenRequestOptions,
)
from trio_anon_session.stores import SharedTokenManager
from trio_anon_session.testing import TokenServer

PAUSE = 0.01
"""Seconds between two calls."""
PATIENCE = 15.0
"""Seconds after which a caller gives up, with several Trio runs."""


@attrs.frozen
class FreshManager:
    """A token manager that has no state between two Trio runs, unlike `TokenManager`."""

    config: Config

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Request a token."""
        async with TokenManager(self.config) as manager:
            return await manager.get_tokens_client_credentials_grant(options)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token."""
        async with TokenManager(self.config) as manager:
            await manager.revoke_tokens(token, options)


@attrs.define
class Member:
    """A session, and the tokens that its callers got.

    Attributes:
        config: the settings.
        store: the store of the token.
        handed_out_at: when a caller last got each token, on the clock that all processes of the
            machine share.
    """

    config: Config
    store: str
    handed_out_at: dict[str, float] = attrs.field(factory=dict)

    def open_manager(self) -> SharedTokenManager:
        """Return a token manager that uses the store."""
        store = open_store(self.store)
        assert store is not None
        return SharedTokenManager(TokenManager(self.config), store)

    async def work(self, lines: Lines) -> None:
        """Share a token with the other processes, and carry out commands until stdin ends."""
        async with (
            self.open_manager() as manager,
            AnonymousSession(self.config, manager) as session,
            trio.open_nursery() as nursery,
        ):
            report(began=True)
            nursery.start_soon(self.keep_getting, session)
            while command := await lines.read():
                match command["do"]:
                    case "invalidate":
                        session.invalidate(command["token"])
                        if command.get("die"):
                            os.kill(os.getpid(), signal.SIGKILL)
                        report(dropped_at=time.monotonic())
                    case "report":
                        report(report=self.handed_out_at)
                    case "use":
                        await self.use(session)
            nursery.cancel_scope.cancel()

    async def keep_getting(self, session: AnonymousSession) -> None:
        """Get the token again and again."""
        last = ""
        while True:
            try:
                token = await session.get_access_token()
            except AnonymousSessionError as error:
                report(failed=str(error))
            else:
                at = self.handed_out_at[token] = time.monotonic()
                if token != last:
                    report(token=token, at=at)
                    last = token
            await trio.sleep(PAUSE)

    async def use(self, session: AnonymousSession) -> None:
        """Make one request with the token."""
        url = f"{self.config.api_root_url}/2.0/files/1"
        async with httpx.AsyncClient(auth=session.auth()) as client:
            answer = await client.get(url)
        report(used=answer.status_code)

    async def ask(self, lines: Lines) -> None:
        """Call the store without a session, and carry out commands until stdin ends."""
        async with self.open_manager() as manager:
            report(began=True)
            while command := await lines.read():
                began_at = time.monotonic()
                if command["do"] == "look":
                    await manager.look_at_store()
                else:
                    with trio.move_on_after(command["seconds"]):
                        await manager.get_tokens_client_credentials_grant()
                report(asked=time.monotonic() - began_at)


async def main(settings: dict[str, Any], config: Config) -> None:
    """Begin after the first command, and end with stdin."""
    member = Member(config, settings["store"])
    async with commands() as stdin:
        lines = Lines(stdin)
        report(ready=os.getpid())
        command = await lines.read() or {}
        if command.get("do") == "begin":
            await member.work(lines)
        elif command.get("do") == "ask":
            await member.ask(lines)


async def get_and_drop(config: Config, manager: SharedTokenManager) -> None:
    """Get a token in a Trio run, report how long that took, and drop the token."""
    began_at = time.monotonic()
    async with manager, AnonymousSession(config, manager) as session:
        with trio.move_on_after(PATIENCE) as limit:
            token = await session.get_access_token()
            session.invalidate(token)
        report(waited=time.monotonic() - began_at, is_cut=limit.cancelled_caught)


class ReportingHandler(logging.Handler):
    """A logging handler that reports each record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Report one record."""
        report(logged=f"{record.levelname}: {record.getMessage()}")


def run(settings: dict[str, Any]) -> None:
    """Run a session, or several Trio runs, by the settings."""
    config = TokenServer().config(settings["url"], **settings["config"])
    if "runs" not in settings:
        trio.run(main, settings, config)
        return
    store = open_store(settings["store"])
    assert store is not None
    manager = SharedTokenManager(FreshManager(config), store)
    for _ in range(settings["runs"]):
        trio.run(get_and_drop, config, manager)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, handlers=[ReportingHandler()])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        run(json.loads(sys.argv[1]))
    except ConfigError as error:
        # An older version of the package refuses such a URL.
        report(refused=str(error))
