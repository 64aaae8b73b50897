"""What a process knows of the fleet's tokens: which it has handed out, and which are dead."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import trio

from .._token import LIFETIME_LIMIT, TokenState, is_given_again, state_at
from ._clock import Moment
from ._records import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .._token import TokenInfo

_REMEMBERED = 10
"""Tokens, the last ones handed out, of which it is worth knowing that they are dead."""


class _Drop(NamedTuple):
    """Is that a token was dropped: when, when its grant was sent, when its life is over."""

    at: float
    sent_at: float
    ends_at: float


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
        self._handed_out: dict[str, TokenInfo] = {}
        # The last one, unless it was dropped, and the time on the wall less Trio's then.
        self._last: tuple[TokenInfo, float] | None = None
        self._dropped: dict[str, _Drop] = {}
        self.untold: list[str] = []
        self.listeners: list[Callable[[str], object]] = []

    @property
    def marks(self) -> tuple[str, ...]:
        """Those of the tokens handed out."""
        return tuple(self._handed_out)

    def stale_for(self) -> float:
        """Return the seconds for which the last one is usable still, if it is STALE, and else 0.

        Nobody who has one that is FRESH asks for another: who asks has none.
        """
        if self._last is None:
            return 0.0
        token, wall_offset = self._last
        aged = max(trio.current_time(), Moment.now().wall - wall_offset)
        return token.expires_at - aged if state_at(token, aged) is TokenState.STALE else 0.0

    def get(self, mark: str) -> TokenInfo | None:
        """Return a token as it was handed out."""
        return self._handed_out.get(mark)

    def hand_out(self, token: TokenInfo) -> None:
        """Note that a token is handed out."""
        mark = mark_of(token.access_token)
        if not self.is_dropped(mark, token.sent_at):
            # The server says that it lives.
            self._dropped.pop(mark, None)
            self.was_told(mark)
        self._handed_out.pop(mark, None)
        self._handed_out[mark] = token
        self._last = token, Moment.now().wall - trio.current_time()
        while len(self._handed_out) > _REMEMBERED:
            del self._handed_out[next(iter(self._handed_out))]

    def drop(self, marks: Collection[str]) -> None:
        """Note that those of these tokens are dead that were handed out here."""
        for mark in self.marks:
            if mark in marks:
                self._drop(mark)

    def drop_here(self, mark: str) -> None:
        """Note that a token is dead, of which the store is to be told."""
        if mark not in self._dropped:
            self._drop(mark)
            self.untold.append(mark)

    def _drop(self, mark: str) -> None:
        token = self.get(mark)
        if token is not None:
            # First: what is newer than this note is to be newer than theirs.
            for listener in tuple(self.listeners):
                listener(token.access_token)
            self._handed_out.pop(mark, None)
            if self._last is not None and self._last[0] is token:
                self._last = None
        now = trio.current_time()
        if token is None:
            self._dropped[mark] = _Drop(now, -math.inf, now + self._longest)
        else:
            self._dropped[mark] = _Drop(now, token.sent_at, token.sent_at + token.lifetime)

    def is_dropped(self, mark: str, sent_at: float) -> bool:
        """Tell whether a token is dead; not if its grant was sent after it had been dropped."""
        drop = self._dropped.get(mark)
        return drop is not None and not is_given_again(sent_at, drop.sent_at, drop.at)

    def forget_the_old(self) -> None:
        """Forget those dropped whose lives are over: nobody hands them out any more."""
        now = trio.current_time()
        self._dropped = {mark: drop for mark, drop in self._dropped.items() if drop.ends_at > now}
        self.untold = [mark for mark in self.untold if mark in self._dropped]

    def left_of(self, mark: str) -> float:
        """Return the seconds for which a dropped token would have lived."""
        left = self._dropped[mark].ends_at - trio.current_time()
        # No store has room for an endless life, or nearly so.
        return min(left, LIFETIME_LIMIT)

    def was_told(self, mark: str) -> None:
        """Note that the store need not be told of a token, or not any more."""
        if mark in self.untold:
            self.untold.remove(mark)
