"""The interface of a server for the tests, and the programs that use it."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import httpx
import trio

from trio_anon_session import AnonymousSession, Config, MutualTLS, TokenManager, TokenState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

    from .clients import ClientFiles

LIFETIME = 60.0
"""Lifetime of the servers' tokens in seconds."""
SCOPE = "files"
"""The scope of every token."""
PATIENCE = 10.0
"""Limit of a refresh in seconds of the slow clock; only a broken session exceeds it."""
_numbers = itertools.count(1)


class Peer(Protocol):
    """A third-party authorization server, and a resource that it protects.

    Attributes:
        name: its name, with versions.
        token_path: the path of its token endpoint in `answers`.
        revoke_path: the path of its revocation endpoint.
    """

    name: str
    token_path: str
    revoke_path: str

    @property
    def issuer(self) -> str:
        """The issuer identifier."""

    def root_for(self, method: str) -> str:
        """Return the root URL of the resource ``/files`` for clients with this method."""

    def register(self, client_id: str, metadata: dict[str, Any]) -> None:
        """Register a client with its metadata of RFC 7591, or replace it."""

    def move_clock(self, seconds: float) -> None:
        """Move only the server's clock."""

    def answers(self) -> list[tuple[str, int]]:
        """Return path and status of each answer, in order."""

    def reset(self) -> None:
        """Forget the answers, and reset the clock."""


@attrs.frozen
class Program:
    """A session, a client with its auth, and the clocks of session and server."""

    peer: Peer
    session: AnonymousSession
    client: httpx.AsyncClient
    clock: MockClock

    async def use(self) -> httpx.Response:
        """Request the protected resource."""
        return await self.client.get("/files")

    async def use_with(self, token: str) -> int:
        """Return the resource's status for a token, without the session."""
        headers = {"Authorization": f"Bearer {token}"}
        return (await self.client.get("/files", headers=headers, auth=None)).status_code

    async def wait_until_fresh(self) -> None:
        """Wait until the session has refreshed its token."""
        with trio.fail_after(PATIENCE):
            await self.session.states.wait_value(TokenState.FRESH)

    def let_time_pass(self, seconds: float) -> None:
        """Move both clocks."""
        self.peer.move_clock(seconds)
        self.clock.jump(seconds)

    def granted(self) -> list[bool]:
        """Return whether the server granted a token, for each token request in order."""
        return [status == 200 for status in self.statuses(self.peer.token_path)]

    def statuses(self, path: str) -> list[int]:
        """Return the statuses of the answers of one endpoint, in order."""
        return [status for answered, status in self.peer.answers() if answered == path]


def new_client_id() -> str:
    """Return a client ID that no other test uses, because all tests use the same servers."""
    return f"my app:%41+{next(_numbers)}"


async def discover(peer: Peer, client: ClientFiles, **changes: Any) -> Config:
    """Return the config of a client, with the endpoints that the server publishes."""
    settings: dict[str, Any] = {
        "client_id": client.client_id,
        "api_root_url": peer.root_for(client.method),
        "scope": SCOPE,
        **client.settings(),
    }
    return await Config.discover(peer.issuer, **settings | changes)


@asynccontextmanager
async def open_program(
    peer: Peer,
    client: ClientFiles,
    clock: MockClock,
    *,
    on_rejection: Callable[[], Awaitable[None]] | None = None,
    **changes: Any,
) -> AsyncIterator[Program]:
    """Open a session, on real sockets, and a client that uses it.

    Args:
        peer: the server. It knows the client.
        client: the client.
        clock: the clock of the session.
        on_rejection: called when a token request is answered with 400 or 401, before the session
            reads the answer.
        changes: further settings.
    """
    config = await discover(peer, client, **changes)
    method = config.auth_method
    verify = method.ssl_context() if isinstance(method, MutualTLS) else True

    async def look(answer: httpx.Response) -> None:
        if answer.status_code in (400, 401) and on_rejection is not None:
            await on_rejection()

    # Apart from its jumps, the clock follows real time, so that a broken session cannot hang. It is
    # slow, so that on a busy machine no token becomes STALE, and no attempt begins, before a jump.
    clock.rate = 0.1
    peer.reset()
    async with (
        httpx.AsyncClient(
            verify=verify,
            event_hooks={"response": [look]},
            # An open connection keeps the old certificate.
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as sender,
        TokenManager(config, http_client=None if on_rejection is None else sender) as manager,
        AnonymousSession(config, manager) as session,
        httpx.AsyncClient(
            auth=session.auth(),
            verify=verify,
            base_url=config.api_root_url,
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as api,
    ):
        yield Program(peer, session, api, clock)
