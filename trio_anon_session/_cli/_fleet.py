"""What is seen of those who share a token: the store's side of ``watch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._events import Granted, Invalidated
from ..stores import StoreError, StoreStatus
from ._wording import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._events import Event
    from ..stores import SharedTokenManager

_LOOK_EVERY = 0.5
"""Seconds."""


class Fleet:
    """Is what is seen of a store.

    Args:
        manager: the session's.
        place: where the store is, as it is shown.

    Attributes:
        taken_over: how many tokens the session has that another process got.
    """

    def __init__(self, manager: SharedTokenManager, place: str) -> None:
        self.taken_over = 0
        self._manager = manager
        self._place = place
        # Nothing has been seen as yet.
        self._seen: StoreStatus | None = None
        self._seen_at = trio.current_time()
        self._trouble: str | None = None
        # Granted, and it is to be told yet who got it.
        self._granted: list[Granted] = []
        self._is_news = trio.Event()
        # Fingerprints of tokens of which it has been told that they came, or went.
        self._came: set[str] = set()
        self._went: set[str] = set()

    def tell(self, event: Event) -> str | None:
        """Return an event of the session in words, or None if it is no news, or is told later."""
        match event:
            case Granted():
                # Whether this process got it, the store knows.
                self._granted.append(event)
                self._is_news.set()
                return None
            case Invalidated():
                # Nothing here reports a token.
                self._went.add(event.fingerprint)
                self._is_news.set()
                return f"- token {event.fingerprint} was invalidated by another process"
        return tell(event)

    async def follow(self, say: Callable[[str], None]) -> None:
        """Look into the store for ever, and say what is new there."""
        while True:
            self._is_news = trio.Event()
            try:
                seen = await self._manager.look_at_store()
            except StoreError:
                seen = None
            self._compare(seen, say)
            self._seen, self._seen_at = seen, trio.current_time()
            with trio.move_on_after(_LOOK_EVERY):
                await self._is_news.wait()

    def _compare(self, seen: StoreStatus | None, say: Callable[[str], None]) -> None:
        trouble = self._manager.trouble
        if trouble != self._trouble:
            say(f"! {trouble}" if trouble is not None else "~ all is well with the token store")
            self._trouble = trouble
        while self._granted:
            say(self._tell_granted(self._granted.pop(0), seen))
        before = self._seen
        if seen is None or before is None:
            return
        token, dropped = seen.fingerprint, before.fingerprint
        if token is not None and token != dropped and token not in self._came:
            self._came.add(token)
            if seen.granted_by != self._manager.owner:
                who = self._name(seen.granted_by)
                say(f"~ {who} got token {token}, which lives for {seen.lifetime:g} s")
        is_over = before.age + trio.current_time() - self._seen_at >= before.lifetime
        if dropped is not None and token is None and not is_over and dropped not in self._went:
            self._went.add(dropped)
            say(f"- token {dropped} is no longer in the store")
        if seen.leased_by not in (None, before.leased_by, self._manager.owner):
            say(f"~ {self._name(seen.leased_by)} asks the token endpoint")
        if seen.pause and (seen.failure, seen.failures) != (before.failure, before.failures):
            say(f"! nobody asks the token endpoint for {seen.pause:.1f} s: {seen.failure}")

    def _tell_granted(self, event: Granted, seen: StoreStatus | None) -> str:
        self._came.add(event.fingerprint)
        # A server may give one again.
        self._went.discard(event.fingerprint)
        if (
            seen is None
            or seen.fingerprint != event.fingerprint
            or seen.granted_by == self._manager.owner
        ):
            return tell(event) or ""
        self.taken_over += 1
        return (
            f"+ token {event.fingerprint} taken over from {self._name(seen.granted_by)}, "
            f"valid for {event.expires_in:.1f} s"
        )

    def rows(self) -> dict[str, str]:
        """Return what is there now, by the names of the panel's rows."""
        rows = {"store": self._place}
        seen, passed = self._seen, trio.current_time() - self._seen_at
        if seen is not None:
            age, left = seen.age + passed, seen.leased_for - passed
            rows["shared token"] = "none"
            is_there = seen.fingerprint is not None and seen.fingerprint not in self._went
            if is_there and age < seen.lifetime:
                who = self._name(seen.granted_by)
                rows["shared token"] = f"{seen.fingerprint}, {age:.1f} s old, got by {who}"
            rows["lease"] = "free"
            if seen.leased_by is not None and left > 0:
                rows["lease"] = f"{self._name(seen.leased_by)}, for {left:.1f} s more"
            if (pause := seen.pause - passed) > 0:
                rows["pause"] = f"{pause:.1f} s more: {seen.failure}"
        if (trouble := self._manager.trouble) is not None:
            rows["trouble"] = trouble
        return rows

    def line(self) -> str:
        """Return the same in one line."""
        return "; ".join(f"{name} {text}" for name, text in self.rows().items())

    def _name(self, owner: str | None) -> str:
        """Return a process's name, without what tells managers of one process apart."""
        if owner is None:
            return "somebody"
        name = owner.rpartition("/")[0] or owner
        return f"{name} (this process)" if owner == self._manager.owner else name
