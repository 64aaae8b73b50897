"""`TokenStore`, the interface of a store. Each method is atomic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager

POLL_INTERVAL = 0.5
"""Longest time in seconds between two looks at a store that sends no notifications."""


@attrs.frozen
class StoredToken:
    """A token in a store.

    Attributes:
        record: the record that was put. It contains the token, so no repr shows it.
        mark: a digest of the token. The token cannot be computed from it.
        lifetime: the token's lifetime in seconds.
        age: seconds since the token was requested, by the store's clock.
    """

    record: str = attrs.field(repr=False)
    # A store can return any text.
    mark: str = attrs.field(repr=False)
    lifetime: float
    age: float


@attrs.frozen
class StoredFailure:
    """A failed token request, which a process has recorded for the others.

    Attributes:
        record: the record of the failure. It quotes a server, so no repr shows it.
        fence: fence of the lease that the process held.
        pause: seconds during which no process must try again; 0 after that.
    """

    record: str = attrs.field(repr=False)
    fence: int
    pause: float


@attrs.frozen
class Look:
    """What a store holds under one name at one moment.

    Attributes:
        version: increases with each lease and each dropped token. It must not decrease, even
            if the store has lost its data.
        token: the token; None if there is none, or if it has expired.
        leased_for: seconds until the lease ends; 0 if no process holds it.
        owner: the process that holds the lease.
        failure: the last token request, if it failed.
        dead: the given marks whose tokens were dropped.
    """

    version: int
    token: StoredToken | None = None
    leased_for: float = 0.0
    owner: str | None = None
    failure: StoredFailure | None = None
    dead: frozenset[str] = frozenset()


class TokenStore(Protocol):
    """Interface of a store: one token for each name, and a lease for the process that requests it.

    - Each method is atomic, also if many processes call it at the same time.
    - A method that fails raises an ``Exception`` of any class. The caller then works without the
      store.
    - No method waits for another process. Each method is a checkpoint.
    - All times are measured by the store's clock, so the clocks of the processes can differ.
    """

    async def open(self) -> None:
        """Prepare the store. Each :class:`SharedTokenManager` that uses the store calls this once.

        Must not fail because the store is down, since it may recover. :meth:`aclose` follows each
        call, also one that failed or was cancelled.
        """
        ...

    async def aclose(self) -> None:
        """Release what the last :meth:`open` acquired, even if this call is cancelled."""
        ...

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """Return the content of a name, and which of these marks belong to dropped tokens."""
        ...

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """Take the lease, if no process holds it and the version is still ``seen``.

        Args:
            name: the token's name.
            owner: the name of this process.
            seen: the version from the last look.
            seconds: duration of the lease.

        Returns:
            The new version, which is the fence of the lease; None if another process was faster.
        """
        ...

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """Extend a lease to ``seconds`` from now. Return False if it has ended.

        A lease whose time is over can still be extended if no other process has taken it.
        """
        ...

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """Store a token, and end the lease under which it was requested.

        The token's age is at least the time since the lease was claimed, by the store's clock,
        because this call may arrive late. If a token with this mark was dropped, it is valid
        again.

        Args:
            name: the token's name.
            fence: fence of the lease.
            token: the token, with its age by the caller's clock.

        Returns:
            True if the token was stored. False, without a change, if the lease has ended. A lease
            ends when it is used for a token or released, or when another process takes it or drops
            the stored token.
        """
        ...

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """End a lease without a token. Do nothing if the lease has already ended.

        Args:
            name: the token's name.
            fence: fence of the lease.
            failure: a record of the failed token request, for the other processes.
            pause: seconds during which no process must try again.
        """
        ...

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """Remember for ``seconds`` that a token is revoked or invalid.

        If the store holds this token, the token and any lease are removed. A token that was
        requested under that lease is then not stored.
        """
        ...

    def listen(self, name: str) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Return a context manager whose value is an async function that waits for news.

        News is a lease that has ended, or a dropped token. The function returns when there may be
        news since its last call, so none is missed between two calls. If the store sends no
        notifications, it returns several times a second. It raises if the store is lost.
        """
        ...


_METHODS = "open", "aclose", "look", "claim", "renew", "put", "release", "drop", "listen"


def check_is_store(store: object) -> None:
    """Check that an object has the methods of a store.

    Raises:
        TypeError: `store` is a class, or lacks a method.
    """
    if isinstance(store, type):
        raise TypeError(f"store must be an object, not a class: write {store.__name__}(...)")
    for method in _METHODS:
        if not callable(getattr(store, method, None)):
            # A repr could show the password in a URL.
            raise TypeError(
                "store must be a token store, such as SQLiteStore('tokens.db'), "
                f"not {type(store).__name__}, which has no method {method}"
            )


class StoreError(Exception):
    """Error of a store. Its message contains no secret, so it can be logged."""
