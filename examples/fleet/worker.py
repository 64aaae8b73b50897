"""One process of the fleet: tasks that ask for the token all the time, and a tally of the results.

``fleet.py`` starts it and sends the settings as the first line. The process reports ``ready``,
and begins after the command ``go``.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import attrs
import trio
from processes import Lines, commands, report

from trio_anon_session import (
    AnonymousSession,
    AnonymousSessionError,
    Config,
    Event,
    Granted,
    TokenManager,
)
from trio_anon_session.stores import RedisStore, SharedTokenManager, SQLiteStore, TokenStore

PAUSE = 0.05
"""Seconds between two calls of a task."""


def open_store(where: str) -> TokenStore | None:
    """Return the store with this name on the command line, or None for ``none``."""
    kind, _, path = where.partition(":")
    if kind == "none":
        return None
    return SQLiteStore(path) if kind == "sqlite" else RedisStore(where)


@attrs.define
class Tally:
    """What the tasks of this process got.

    Attributes:
        gets: how often a task got a token.
        longest_hold: the longest wait for a token after the first one, in seconds.
        fingerprint: the fingerprint of the session's token.
        token: the last token that a task got.
        handed_out_at: when that was, on the clock that all processes of the machine share.
    """

    gets: int = 0
    longest_hold: float = 0.0
    fingerprint: str = ""
    token: str = attrs.field(default="", repr=False)
    handed_out_at: float = 0.0

    def observe(self, event: Event) -> None:
        """Store the fingerprint of the session's token."""
        if isinstance(event, Granted):
            self.fingerprint = event.fingerprint

    async def keep_getting(self, session: AnonymousSession) -> None:
        """Ask for the token again and again, as one of the tasks."""
        while True:
            began, is_first = time.monotonic(), not self.token
            try:
                token = await session.get_access_token()
            except AnonymousSessionError as error:
                report(failed=str(error))
                # The session sends no request before that.
                await trio.sleep(getattr(error, "retry_after", None) or PAUSE)
                continue
            now = time.monotonic()
            if token != self.token:
                report(token=self.fingerprint, before_until=self.handed_out_at)
                self.token = token
            self.handed_out_at = now
            self.gets += 1
            if not is_first:
                self.longest_hold = max(self.longest_hold, now - began)
            await trio.sleep(PAUSE)


async def main() -> None:
    """Share a token with the other processes until the parent closes the stream of commands."""
    async with commands() as stdin:
        lines = Lines(stdin)
        settings = await lines.read() or {}
        config = Config.from_env().replace(**settings["config"])
        store = open_store(settings["store"])
        manager: Any = TokenManager(config)
        if store is not None:
            # This line is all that a fleet needs. The session and its users do not change.
            manager = SharedTokenManager(manager, store)
        tally = Tally()
        async with (
            manager,
            AnonymousSession(config, manager, observers=[tally.observe]) as session,
            trio.open_nursery() as nursery,
        ):
            report(ready=os.getpid())
            while command := await lines.read():
                match command["do"]:
                    case "go":
                        for _ in range(settings["tasks"]):
                            nursery.start_soon(tally.keep_getting, session)
                    case "revoke":
                        report(dropped_at=time.monotonic())
                        await session.revoke_tokens()
                    case "invalidate":
                        report(dropped_at=time.monotonic())
                        session.invalidate(tally.token)
            nursery.cancel_scope.cancel()
    report(gets=tally.gets, longest_hold=tally.longest_hold)


class ReportingHandler(logging.Handler):
    """A logging handler that reports each record to the parent process."""

    def emit(self, record: logging.LogRecord) -> None:
        """Report one record."""
        report(logged=record.getMessage())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, handlers=[ReportingHandler()])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trio.run(main)
