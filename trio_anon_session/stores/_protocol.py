"""What a store is asked, and what it answers: a few intents, each of them atomic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager

PACE = 0.5
"""Seconds between two looks at a store that tells of no news."""


@attrs.frozen
class StoredToken:
    """Is a token as a store has it.

    Attributes:
        record: what was put, shown in no repr: the token is in it.
        mark: what the token is known by, one way.
        lifetime: seconds of its whole life.
        age: seconds for which it has lived, by the store's clock.
    """

    record: str = attrs.field(repr=False)
    mark: str
    lifetime: float
    age: float


@attrs.frozen
class StoredFailure:
    """Is what became of an attempt that brought no token.

    Attributes:
        record: what was left, shown in no repr: the words in it are a server's.
        fence: of the lease under which the attempt was made.
        pause: seconds for which nobody is to try again; 0 once they are over.
    """

    record: str = attrs.field(repr=False)
    fence: int
    pause: float


@attrs.frozen
class Look:
    """Is what a store has under one name, at one moment.

    Attributes:
        version: grows with each lease, and with each token that is dropped. It is no less
            after the store has lost all that it had.
        token: the token, unless its life is over.
        leased_for: seconds that are left of a lease; 0 where nobody has one.
        owner: who has it.
        failure: the last attempt, if it failed.
        dead: those of the marks asked about whose tokens have been dropped.
    """

    version: int
    token: StoredToken | None = None
    leased_for: float = 0.0
    owner: str | None = None
    failure: StoredFailure | None = None
    dead: frozenset[str] = frozenset()


class TokenStore(Protocol):
    """Holds the token of each name for a fleet, and lets one process at a time renew it.

    Each method does one thing, as a whole or not at all, also where many processes call at
    once. What goes wrong with a store is an ``Exception``, of whatever class: whoever calls
    does without the store then. No method waits for another process, and each is a
    checkpoint. Time is the store's own, so that the clocks of its users need not agree.
    """

    async def open(self) -> None:
        """Get ready; called once more for each :class:`SharedTokenManager` that uses the store.

        Does not fail where the store is down: that may pass. One that fails or is cancelled
        all the same counts as called: :meth:`aclose` follows it.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what the last :meth:`open` has got, also when this is cancelled."""
        ...

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        """Return what is there, and which of these marks are those of dropped tokens."""
        ...

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        """Take the lease, if nobody has it and the version is the one that was seen.

        Returns:
            The new version, which is the lease's fence; None where somebody was faster.
        """
        ...

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        """Make a lease last for so many seconds from now; False if it has ended.

        One whose time is over has not ended, as long as nobody else has taken it.
        """
        ...

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        """Keep a token, and end the lease under which it was got.

        By the store's clock, it has lived at least since that lease was claimed: the age that
        the caller knows is older by the time that this takes to arrive. If a token of this mark
        was dropped, it lives again.

        Args:
            name: whose token it is.
            fence: of that lease.
            token: the token, with the age that it has by the caller's clock.

        Returns:
            False, and nothing has changed, if the lease has ended. It has brought a token or was
            released then, or the version is another one by now, since somebody has taken the
            lease over, or has dropped the token that was there.
        """
        ...

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None:
        """End a lease under which no token came; nothing happens if it has ended before.

        Args:
            name: whose token it was about.
            fence: of that lease.
            failure: for the others what became of the attempt.
            pause: seconds for which nobody is to try again.
        """
        ...

    async def drop(self, name: str, mark: str, seconds: float) -> None:
        """Note for so many seconds that a token is dead.

        If it is the one that is there, it is gone, and so is any lease: what comes of a grant
        that was begun before is not kept.
        """
        ...

    def listen(self, name: str) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Return a context whose value, called and awaited, returns when there may be news.

        News are a lease that has ended, and a dropped token. None is missed between two
        calls. Where the store tells of none, it returns often enough to look. It raises where
        the store has been lost.
        """
        ...


_METHODS = "open", "aclose", "look", "claim", "renew", "put", "release", "drop", "listen"


def check_is_store(store: object) -> None:
    """Check that an object has the methods of a store.

    Raises:
        TypeError: it has not.
    """
    if isinstance(store, type):
        raise TypeError(f"store must be an object, not a class: write {store.__name__}(...)")
    for method in _METHODS:
        if not callable(getattr(store, method, None)):
            # No repr of it: a URL has a password in it.
            raise TypeError(
                "store must be a token store, such as SQLiteStore('tokens.db'), "
                f"not {type(store).__name__}, which has no method {method}"
            )


class StoreError(Exception):
    """Tells what is wrong with a store, in words that may be shown: there is no secret in them."""
