"""`KnownTokens`: which of the fleet's tokens one process has used, and which were dropped.

Pure, like `_lifecycle`: times are passed in. A token is known by its mark, a digest of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import attrs

from .._dropped import LIMIT, Drop, DroppedTokens
from .._token import LIFETIME_LIMIT, TokenState, state_at
from ._records import mark_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._lifecycle import Moment
    from .._token import TokenInfo
    from ._protocol import Look

_REMEMBERED = 10
"""Tokens, the last ones handed out, and as many dropped ones, that each look asks about."""
_ABOUT_TO_END = 5.0
"""Seconds; the store may forget a drop a little earlier than this process."""


Asked = Mapping[str, "TokenInfo | None"]
"""The marks that a look asks about, each with its token if it was handed out here."""


class _HandedOut(NamedTuple):
    """A token that was handed out, and the wall clock minus Trio's clock at that moment."""

    token: TokenInfo
    wall_offset: float

    def slept(self, at: Moment) -> float:
        """Return for how many seconds the machine was suspended since."""
        return max(0.0, _wall_offset(at) - self.wall_offset)


class KnownTokens:
    """The tokens that one process has handed out, and those that it knows as dropped.

    Args:
        longest: seconds that a token is assumed to live if nothing else is known.

    Attributes:
        untold: the marks of dropped tokens that the store has not been told, oldest first.
        missing: the marks of dropped tokens that the store does not show as dropped, although it
            was told.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        # As they were handed out: the jitter of a token is drawn once.
        self._handed_out: dict[str, _HandedOut] = {}
        self._last = ""
        self._dropped = DroppedTokens()
        self.untold: list[str] = []
        self.missing: frozenset[str] = frozenset()

    def to_ask_about(self, at: Moment) -> Asked:
        """Return the tokens that the next look has to ask about."""
        dropped = [mark for mark in self._dropped.last(_REMEMBERED) if self._is_told(mark, at)]
        used = {mark: known.token for mark, known in self._handed_out.items()}
        return dict.fromkeys(dropped) | used

    def stale_for(self, at: Moment) -> float:
        """Return for how many seconds the last token is usable, if it is STALE; 0 otherwise.

        A caller with a FRESH token does not ask for another: one that asks has none.
        """
        known = self._handed_out.get(self._last)
        if known is None:
            return 0.0
        now, token = at.now + known.slept(at), known.token
        return token.expires_at - now if state_at(token, now) is TokenState.STALE else 0.0

    def is_known(self, mark: str) -> bool:
        """Return whether a token was handed out, and not dropped since."""
        return mark in self._handed_out

    def get(self, mark: str, sent_at: float, at: Moment) -> TokenInfo | None:
        """Return a token as it was handed out, but older by the time of a suspend.

        Args:
            mark: the token's.
            sent_at: when it was requested, as the store says. That alone proves nothing: the store
                may have a copy from before the server granted the token again.
            at: the time.
        """
        known = self._handed_out.get(mark)
        if known is None:
            return None
        slept = min(known.slept(at), max(0.0, known.token.sent_at - sent_at))
        return _older(known.token, slept)

    def hand_out(self, token: TokenInfo, at: Moment) -> None:
        """Record that a token is handed out."""
        mark = mark_of(token.access_token)
        if not self.is_dropped(mark, token.sent_at):
            # The server says that it is valid.
            self._dropped.forget(mark)
            self.was_told(mark)
        self._handed_out.pop(mark, None)
        self._handed_out[mark] = _HandedOut(token, _wall_offset(at))
        self._last = mark
        while len(self._handed_out) > _REMEMBERED:
            del self._handed_out[next(iter(self._handed_out))]

    def drop(self, dead: Collection[str], asked: Asked, at: Moment) -> list[TokenInfo]:
        """Record that others have dropped tokens, and return those.

        A token that was handed out again since a look asked about it is newer than its answer.
        """
        dropped = []
        for mark, token in asked.items():
            known = self._handed_out.get(mark)
            if mark in dead and known is not None and known.token is token:
                self._drop(mark, at)
                dropped.append(token)
        return dropped

    def drop_here(self, mark: str, at: Moment) -> list[TokenInfo]:
        """Record that this process drops a token, and that the store has to be told."""
        if not self.is_known(mark) and self._dropped.get(mark) is not None:
            return []
        token = self._drop(mark, at)
        self._tell(mark)
        return [] if token is None else [token]

    def _drop(self, mark: str, at: Moment) -> TokenInfo | None:
        known = self._handed_out.pop(mark, None)
        if known is not None:
            token = known.token
            drop = Drop(at.now, token.sent_at, token.sent_at + token.lifetime)
            self._dropped.add(mark, drop)
            return token
        if self._dropped.get(mark) is None:
            self._dropped.add(mark, Drop(at.now, -math.inf, at.now + self._longest))
        return None

    def is_dropped(self, mark: str, sent_at: float) -> bool:
        """Return whether a token was dropped, unless it was requested after that."""
        return self._dropped.refuse(mark, sent_at)

    def compare(self, seen: Look, asked_at: float, asked: Asked, at: Moment) -> None:
        """Find out whether the store still knows what it was told.

        A store can lose what it was told: it is flushed, restarted from an old copy, or replaced
        by a replica. Everyone who knows of a drop finds that out, and tells it again.

        Args:
            seen: what the store shows.
            asked_at: when it was asked, on Trio's clock.
            asked: what it was asked about.
            at: the time.
        """
        # Of those that were dropped later, the store may have been told since.
        told = {mark for mark, token in asked.items() if token is None and self._is_told(mark, at)}
        # A look that was sent before a drop tells nothing about it.
        not_asked = self.missing - told
        stored = seen.token
        if stored is not None and stored.mark in told:
            if self.is_dropped(stored.mark, asked_at - max(0.0, stored.age)):
                # At once: other processes are about to use it.
                self._tell(stored.mark)
            else:
                # Granted again, to another process.
                self._dropped.forget(stored.mark)
            told.remove(stored.mark)
        lost = told - seen.dead
        # Not at the first sight: all others see it, too, and one of them is enough.
        for mark in self.missing & lost:
            self._tell(mark)
        self.missing = frozenset(mark for mark in not_asked | lost if self._is_told(mark, at))

    def forget_the_old(self, at: Moment) -> None:
        """Forget dropped tokens that have expired: nobody hands them out any more."""
        self._dropped.forget_the_dead(at.now)
        self.untold = [mark for mark in self.untold if self._dropped.get(mark) is not None]

    def left_of(self, mark: str, at: Moment) -> float:
        """Return for how many seconds a dropped token would have been valid."""
        drop = self._dropped.get(mark)
        left = 0.0 if drop is None else drop.ends_at - at.now
        # No store has room for an endless life, or nearly so.
        return min(left, LIFETIME_LIMIT)

    def was_told(self, mark: str) -> None:
        """Record that the store knows of a drop, or need not know of it any more."""
        if mark in self.untold:
            self.untold.remove(mark)

    def _tell(self, mark: str) -> None:
        self.was_told(mark)
        self.untold = [*self.untold, mark][-LIMIT:]

    def _is_told(self, mark: str, at: Moment) -> bool:
        is_dropped = self._dropped.get(mark) is not None and mark not in self._handed_out
        return is_dropped and mark not in self.untold and self.left_of(mark, at) > _ABOUT_TO_END


def _wall_offset(at: Moment) -> float:
    # In virtual time no machine is suspended.
    return 0.0 if at.wall is None else at.wall - at.now


def _older(token: TokenInfo, seconds: float) -> TokenInfo:
    """Return a token that was requested so many seconds earlier."""
    times = {name: getattr(token, name) - seconds for name in ("sent_at", "stale_at", "expires_at")}
    return attrs.evolve(token, **times) if seconds else token
