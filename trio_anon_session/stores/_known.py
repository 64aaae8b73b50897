"""What a process knows of the fleet's tokens: which it has handed out, and which are dead."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import attrs
import trio

from .._dropped import LIMIT, Drop, DroppedTokens
from .._token import LIFETIME_LIMIT, TokenState, state_at
from ._clock import Moment
from ._records import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .._token import TokenInfo

_REMEMBERED = 10
"""Tokens, the last ones handed out, of which it is worth knowing that they are dead."""


class _Known(NamedTuple):
    """Is a token that was handed out, and the time on the wall less Trio's then."""

    token: TokenInfo
    wall_offset: float

    @property
    def slept(self) -> float:
        """The seconds for which Trio's clock has stood still since, as the wall clock has it."""
        return max(0.0, _wall_offset() - self.wall_offset)


class KnownTokens:
    """The tokens that one manager has handed out, and those that were dropped, by their marks.

    Args:
        longest: seconds that a token is taken to live of which nothing else is known.

    Attributes:
        untold: the marks of those dropped of which the store has not been told, in order.
        listeners: are called with each token handed out here that is dropped.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        # Kept as they were handed out: their jitter is drawn once.
        self._handed_out: dict[str, _Known] = {}
        self._last = ""
        self._dropped = DroppedTokens()
        self.untold: list[str] = []
        self.listeners: list[Callable[[TokenInfo], object]] = []

    @property
    def marks(self) -> tuple[str, ...]:
        """Those of the tokens handed out."""
        return tuple(self._handed_out)

    def stale_for(self) -> float:
        """Return the seconds for which the last one is usable still, if it is STALE, and else 0.

        Nobody who has one that is FRESH asks for another: who asks has none.
        """
        known = self._handed_out.get(self._last)
        if known is None:
            return 0.0
        now, token = trio.current_time() + known.slept, known.token
        return token.expires_at - now if state_at(token, now) is TokenState.STALE else 0.0

    def is_known(self, mark: str) -> bool:
        """Tell whether a token was handed out, and not dropped since."""
        return mark in self._handed_out

    def get(self, mark: str, sent_at: float) -> TokenInfo | None:
        """Return a token as it was handed out, or older: in a suspend, Trio's clock stood still.

        Args:
            mark: the token's.
            sent_at: when it was sent, as the store says. That alone proves nothing: what the
                store has may be a copy from before the server gave the token again.
        """
        known = self._handed_out.get(mark)
        if known is None:
            return None
        slept = min(known.slept, max(0.0, known.token.sent_at - sent_at))
        return _older(known.token, slept)

    def hand_out(self, token: TokenInfo) -> None:
        """Note that a token is handed out."""
        mark = mark_of(token.access_token)
        if not self.is_dropped(mark, token.sent_at):
            # The server says that it lives.
            self._dropped.forget(mark)
            self.was_told(mark)
        self._handed_out.pop(mark, None)
        self._handed_out[mark] = _Known(token, _wall_offset())
        self._last = mark
        while len(self._handed_out) > _REMEMBERED:
            del self._handed_out[next(iter(self._handed_out))]

    def drop(self, marks: Collection[str]) -> None:
        """Note that those of these tokens are dead that were handed out here."""
        for mark in self.marks:
            if mark in marks:
                self._drop(mark)

    def drop_here(self, mark: str) -> None:
        """Note that a token is dead, of which the store is to be told."""
        if self.is_known(mark) or self._dropped.get(mark) is None:
            self._drop(mark)
            self.was_told(mark)
            self.untold = [*self.untold, mark][-LIMIT:]

    def _drop(self, mark: str) -> None:
        known = self._handed_out.get(mark)
        if known is not None:
            # First: what is newer than this note is to be newer than theirs.
            for listener in tuple(self.listeners):
                listener(known.token)
            self._handed_out.pop(mark, None)
        now = trio.current_time()
        if known is None:
            self._dropped.add(mark, Drop(now, -math.inf, now + self._longest))
        else:
            token = known.token
            self._dropped.add(mark, Drop(now, token.sent_at, token.sent_at + token.lifetime))

    def is_dropped(self, mark: str, sent_at: float) -> bool:
        """Tell whether a token is dead; not if its grant was sent after it had been dropped."""
        return self._dropped.refuse(mark, sent_at)

    def forget_the_old(self) -> None:
        """Forget those dropped whose lives are over: nobody hands them out any more."""
        self._dropped.forget_the_dead(trio.current_time())
        self.untold = [mark for mark in self.untold if self._dropped.get(mark) is not None]

    def left_of(self, mark: str) -> float:
        """Return the seconds for which a dropped token would have lived."""
        drop = self._dropped.get(mark)
        left = 0.0 if drop is None else drop.ends_at - trio.current_time()
        # No store has room for an endless life, or nearly so.
        return min(left, LIFETIME_LIMIT)

    def was_told(self, mark: str) -> None:
        """Note that the store need not be told of a token, or not any more."""
        if mark in self.untold:
            self.untold.remove(mark)


def _wall_offset() -> float:
    return Moment.now().wall - trio.current_time()


def _older(token: TokenInfo, seconds: float) -> TokenInfo:
    """Return a token whose life began so much earlier."""
    times = {name: getattr(token, name) - seconds for name in ("sent_at", "stale_at", "expires_at")}
    return attrs.evolve(token, **times) if seconds else token
