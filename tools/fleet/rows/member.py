"""A process of the fleet, which gets the token all the time and reports what it has handed out.

    python member.py SETTINGS

SETTINGS is JSON: ``store`` as for ``examples/fleet/fleet.py``, ``url`` of the token server,
``config``, and ``runs``: how many Trio runs use the same manager one after the other. The process
tells ``ready``, and does what each line on stdin says. It imports nothing of the tests, so that it
runs with any version of the package.
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
from processes import Lines, commands, tell
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
"""Seconds from one get to the next."""
PATIENCE = 15.0
"""Seconds that a getter of several Trio runs waits at most."""


@attrs.frozen
class FreshManager:
    """A token manager that keeps nothing from one Trio run to the next, as `TokenManager` does."""

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
    """A session, and what it has handed out.

    Attributes:
        config: the settings.
        store: where the token is shared.
        handed_out_at: when each token was handed out for the last time, on the clock that all
            processes of a machine share.
    """

    config: Config
    store: str
    handed_out_at: dict[str, float] = attrs.field(factory=dict)

    def open_manager(self) -> SharedTokenManager:
        """Return a manager that uses the store."""
        store = open_store(self.store)
        assert store is not None
        return SharedTokenManager(TokenManager(self.config), store)

    async def work(self, told: Lines) -> None:
        """Share a token with the other processes, and do what is said, until there is no more."""
        async with (
            self.open_manager() as manager,
            AnonymousSession(self.config, manager) as session,
            trio.open_nursery() as nursery,
        ):
            tell(began=True)
            nursery.start_soon(self.keep_getting, session)
            while command := await told.read():
                match command["do"]:
                    case "invalidate":
                        session.invalidate(command["token"])
                        if command.get("die"):
                            os.kill(os.getpid(), signal.SIGKILL)
                        tell(dropped_at=time.monotonic())
                    case "report":
                        tell(report=self.handed_out_at)
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
                tell(failed=str(error))
            else:
                at = self.handed_out_at[token] = time.monotonic()
                if token != last:
                    tell(token=token, at=at)
                    last = token
            await trio.sleep(PAUSE)

    async def use(self, session: AnonymousSession) -> None:
        """Make one request with the token."""
        url = f"{self.config.api_root_url}/2.0/files/1"
        async with httpx.AsyncClient(auth=session.auth()) as client:
            answer = await client.get(url)
        tell(used=answer.status_code)

    async def ask(self, told: Lines) -> None:
        """Ask the store without a session, and do what is said, until there is no more."""
        async with self.open_manager() as manager:
            tell(began=True)
            while command := await told.read():
                began_at = time.monotonic()
                if command["do"] == "look":
                    await manager.look_at_store()
                else:
                    with trio.move_on_after(command["seconds"]):
                        await manager.get_tokens_client_credentials_grant()
                tell(asked=time.monotonic() - began_at)


async def main(settings: dict[str, Any], config: Config) -> None:
    """Begin when that is said, and end with stdin."""
    member = Member(config, settings["store"])
    async with commands() as stdin:
        told = Lines(stdin)
        tell(ready=os.getpid())
        command = await told.read() or {}
        if command.get("do") == "begin":
            await member.work(told)
        elif command.get("do") == "ask":
            await member.ask(told)


async def get_and_drop(config: Config, manager: SharedTokenManager) -> None:
    """Get a token in a Trio run, report how long that took, and drop the token."""
    began_at = time.monotonic()
    async with manager, AnonymousSession(config, manager) as session:
        with trio.move_on_after(PATIENCE) as limit:
            token = await session.get_access_token()
            session.invalidate(token)
        tell(waited=time.monotonic() - began_at, is_cut=limit.cancelled_caught)


class TellingHandler(logging.Handler):
    """A handler that tells what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one record."""
        tell(logged=f"{record.levelname}: {record.getMessage()}")


def run(settings: dict[str, Any]) -> None:
    """Do what the settings say."""
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
    logging.basicConfig(level=logging.INFO, handlers=[TellingHandler()])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        run(json.loads(sys.argv[1]))
    except ConfigError as error:
        # A version that does not know such a URL.
        tell(refused=str(error))
