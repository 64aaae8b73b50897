"""One process of the fleet: tasks that ask for the token all the time, and a tally of it.

``fleet.py`` starts it, and tells it its settings first. It tells ``ready``, and begins when it is
told to ``go``.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import attrs
import trio
from processes import Lines, commands, tell

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
"""Seconds from one get of a task to its next."""


def open_store(where: str) -> TokenStore | None:
    """Return the store that is named as on the command line, or None where it is ``none``."""
    kind, _, path = where.partition(":")
    if kind == "none":
        return None
    return SQLiteStore(path) if kind == "sqlite" else RedisStore(where)


@attrs.define
class Tally:
    """Is what the tasks of this process have got.

    Attributes:
        gets: how many times a task got a token.
        longest_hold: seconds of the longest wait for a token, once there had been a first one.
        fingerprint: of the session's token.
        token: the last one that a task got.
        handed_out_at: when that was, on the clock that all processes of a machine share.
    """

    gets: int = 0
    longest_hold: float = 0.0
    fingerprint: str = ""
    token: str = attrs.field(default="", repr=False)
    handed_out_at: float = 0.0

    def observe(self, event: Event) -> None:
        """Note which token the session has."""
        if isinstance(event, Granted):
            self.fingerprint = event.fingerprint

    async def keep_getting(self, session: AnonymousSession) -> None:
        """Be one of the tasks."""
        while True:
            began, is_first = time.monotonic(), not self.token
            try:
                token = await session.get_access_token()
            except AnonymousSessionError as error:
                tell(failed=str(error))
                # Until the session tries again.
                await trio.sleep(getattr(error, "retry_after", None) or PAUSE)
                continue
            now = time.monotonic()
            if token != self.token:
                tell(token=self.fingerprint, before_until=self.handed_out_at)
                self.token = token
            self.handed_out_at = now
            self.gets += 1
            if not is_first:
                self.longest_hold = max(self.longest_hold, now - began)
            await trio.sleep(PAUSE)


async def main() -> None:
    """Share a token with the other processes until there is no more to do."""
    async with commands() as stdin:
        told = Lines(stdin)
        settings = await told.read() or {}
        config = Config.from_env().replace(**settings["config"])
        store = open_store(settings["store"])
        manager: Any = TokenManager(config)
        if store is not None:
            # All that a fleet takes: the session, and what uses it, stay as they are.
            manager = SharedTokenManager(manager, store)
        tally = Tally()
        async with (
            manager,
            AnonymousSession(config, manager, observers=[tally.observe]) as session,
            trio.open_nursery() as nursery,
        ):
            tell(ready=os.getpid())
            while command := await told.read():
                match command["do"]:
                    case "go":
                        for _ in range(settings["tasks"]):
                            nursery.start_soon(tally.keep_getting, session)
                    case "revoke":
                        tell(dropped_at=time.monotonic())
                        await session.revoke_tokens()
                    case "invalidate":
                        tell(dropped_at=time.monotonic())
                        session.invalidate(tally.token)
            nursery.cancel_scope.cancel()
    tell(gets=tally.gets, longest_hold=tally.longest_hold)


class TellingHandler(logging.Handler):
    """Tells what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one record."""
        tell(logged=record.getMessage())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, handlers=[TellingHandler()])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trio.run(main)
