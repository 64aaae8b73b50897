"""The state of a shared token and of the processes that share it, for ``watch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._events import Granted, Invalidated
from ..stores import StoreError, StoreStatus
from ._output import escaped
from ._wording import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._events import Event
    from ..stores import SharedTokenManager

_POLL_INTERVAL = 0.5
"""Seconds."""


class Fleet:
    """The state of a store, and how it changes.

    Args:
        manager: the token manager of the session.
        place: the store's location, as it is printed.

    Attributes:
        taken_over: number of tokens that the session took over from other processes.
    """

    def __init__(self, manager: SharedTokenManager, place: str) -> None:
        self.taken_over = 0
        self._manager = manager
        self._place = place
        self._seen: StoreStatus | None = None
        self._seen_at = trio.current_time()
        self._trouble: str | None = None
        # Granted events. They wait for the next poll of the store, which shows which process got
        # the token.
        self._granted: list[Granted] = []
        self._is_news = trio.Event()
        # Fingerprints of the tokens whose arrival (`_came`) or end (`_went`) was already shown.
        self._came: set[str] = set()
        self._went: set[str] = set()

    def describe(self, event: Event) -> str | None:
        """Return the text of an event of the session, or None if it is shown later or never."""
        match event:
            case Granted():
                # Only the store knows whether this process got the token.
                self._granted.append(event)
                self._is_news.set()
                return None
            case Invalidated():
                # `watch` itself never invalidates a token, so another process invalidated this one.
                self._went.add(event.fingerprint)
                self._is_news.set()
                return f"- token {event.fingerprint} was invalidated by another process"
        return describe(event)

    async def follow(self, say: Callable[[str], None]) -> None:
        """Poll the store until cancelled, and pass each change to `say`."""
        while True:
            self._is_news = trio.Event()
            try:
                seen = await self._manager.look_at_store()
            except StoreError:
                seen = None
            self._compare(seen, say)
            self._seen, self._seen_at = seen, trio.current_time()
            with trio.move_on_after(_POLL_INTERVAL):
                await self._is_news.wait()

    def _compare(self, seen: StoreStatus | None, say: Callable[[str], None]) -> None:
        trouble = self._manager.trouble
        if trouble != self._trouble:
            say(f"! {trouble}" if trouble is not None else "~ the token store works again")
            self._trouble = trouble
        while self._granted:
            say(self._describe_granted(self._granted.pop(0), seen))
        before = self._seen
        if seen is None or before is None:
            return
        token, dropped = seen.fingerprint, before.fingerprint
        if token is not None and token != dropped and token not in self._came:
            self._came.add(token)
            if seen.granted_by != self._manager.owner:
                who = self._name(seen.granted_by)
                say(f"~ {who} got token {token}, lifetime {seen.lifetime:g} s")
        is_over = before.age + trio.current_time() - self._seen_at >= before.lifetime
        if dropped is not None and token is None and not is_over and dropped not in self._went:
            self._went.add(dropped)
            say(f"- token {dropped} is no longer in the store")
        if seen.leased_by not in (None, before.leased_by, self._manager.owner):
            say(f"~ {self._name(seen.leased_by)} sends a token request")
        if seen.pause and (seen.failure, seen.failures) != (before.failure, before.failures):
            say(f"! no process sends a token request for {seen.pause:.1f} s: {seen.failure}")

    def _describe_granted(self, event: Granted, seen: StoreStatus | None) -> str:
        self._came.add(event.fingerprint)
        # A server may return the same token again.
        self._went.discard(event.fingerprint)
        if (
            seen is None
            or seen.fingerprint != event.fingerprint
            or seen.granted_by == self._manager.owner
        ):
            return describe(event) or ""
        self.taken_over += 1
        return (
            f"+ token {event.fingerprint} taken over from {self._name(seen.granted_by)}, "
            f"valid for {event.expires_in:.1f} s"
        )

    def rows(self) -> dict[str, str]:
        """Return the rows of the panel: texts by label."""
        rows = {"store": self._place}
        seen, passed = self._seen, trio.current_time() - self._seen_at
        if seen is not None:
            age, left = seen.age + passed, seen.leased_for - passed
            rows["shared token"] = "none"
            is_present = seen.fingerprint is not None and seen.fingerprint not in self._went
            if is_present and age < seen.lifetime:
                who = self._name(seen.granted_by)
                rows["shared token"] = f"{seen.fingerprint}, {age:.1f} s old, got by {who}"
            rows["lease"] = "free"
            if seen.leased_by is not None and left > 0:
                rows["lease"] = f"{self._name(seen.leased_by)}, for {left:.1f} s more"
            if (pause := seen.pause - passed) > 0:
                rows["pause"] = f"{pause:.1f} s more: {seen.failure}"
        if (trouble := self._manager.trouble) is not None:
            rows["trouble"] = trouble
        return {name: escaped(text) for name, text in rows.items()}

    def line(self) -> str:
        """Return the rows in one line."""
        return "; ".join(f"{name} {text}" for name, text in self.rows().items())

    def _name(self, owner: str | None) -> str:
        """Return the host and process id of a store's client, without the manager's number."""
        if owner is None:
            return "unknown"
        name = owner.rpartition("/")[0] or owner
        return f"{name} (this process)" if owner == self._manager.owner else name
