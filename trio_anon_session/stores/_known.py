"""`KnownTokens`: the tokens of the fleet that one process has used, and those that were dropped.

This module is pure, like `_lifecycle`: the caller passes the time. A token is identified by its
mark, a digest of it.
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
"""Maximum number of used tokens, and of dropped tokens, that each look asks about."""
_ABOUT_TO_END = 5.0
"""Seconds. The store may forget a drop up to this much earlier than this process."""
_CONFIRM_AFTER = 2.0
"""Seconds after which a look must show a reported drop. Also the shortest time between reports."""


Asked = Mapping[str, "TokenInfo | None"]
"""The marks that a look asks about, each with its token if it was handed out here."""


class _HandedOut(NamedTuple):
    """A token that was used, and the wall clock minus Trio's clock at that moment."""

    token: TokenInfo
    wall_offset: float

    def slept(self, at: Moment) -> float:
        """Return the seconds for which the machine was suspended since then."""
        return max(0.0, _wall_offset(at) - self.wall_offset)


class KnownTokens:
    """The tokens that one process has used, and those that it knows as dropped.

    Args:
        longest: assumed lifetime in seconds of a token whose lifetime is unknown.

    Attributes:
        untold: marks of dropped tokens that were not yet reported to the store, oldest first.
        missing: marks of dropped tokens that were reported to the store, but that the last look
            did not show as dropped.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        # Each token as it was first used, because its jitter must be drawn only once.
        self._handed_out: dict[str, _HandedOut] = {}
        self._last = ""
        self._dropped = DroppedTokens()
        self.untold: list[str] = []
        # When a drop was reported to the store; minus infinity once a look has shown it.
        self._reported_at: dict[str, float] = {}
        self.missing: frozenset[str] = frozenset()

    def to_ask_about(self, at: Moment) -> Asked:
        """Return the tokens that the next look must ask about."""
        last = self._dropped.last(_REMEMBERED)
        dropped = [mark for mark in last if self._must_be_shown(mark, at)]
        used = {mark: known.token for mark, known in self._handed_out.items()}
        return dict.fromkeys(dropped) | used

    def stale_for(self, at: Moment) -> float:
        """Return the seconds until the last token expires, if it is STALE; 0 otherwise.

        A session with a FRESH token requests no other token. If it requests one, its token was
        dropped, so the result is 0.
        """
        known = self._handed_out.get(self._last)
        if known is None:
            return 0.0
        now, token = at.now + known.slept(at), known.token
        return token.expires_at - now if state_at(token, now) is TokenState.STALE else 0.0

    def is_known(self, mark: str) -> bool:
        """Return whether a token was used, and not dropped since."""
        return mark in self._handed_out

    def get(self, mark: str, sent_at: float, at: Moment) -> TokenInfo | None:
        """Return a token as it was first used, but older by the duration of suspends since then.

        Args:
            mark: mark of the token.
            sent_at: when the token was requested, according to the store. The store may have an
                old copy, from before the server issued the same token again.
            at: the time.
        """
        known = self._handed_out.get(mark)
        if known is None:
            return None
        slept = min(known.slept(at), max(0.0, known.token.sent_at - sent_at))
        return _older(known.token, slept)

    def hand_out(self, token: TokenInfo, at: Moment) -> None:
        """Record that this process uses a token."""
        mark = mark_of(token.access_token)
        if not self.is_dropped(mark, token.sent_at):
            # The server issued it after the drop, so it is valid again.
            self._dropped.forget(mark)
            self._cancel_report(mark)
        self._handed_out.pop(mark, None)
        self._handed_out[mark] = _HandedOut(token, _wall_offset(at))
        self._last = mark
        while len(self._handed_out) > _REMEMBERED:
            del self._handed_out[next(iter(self._handed_out))]

    def drop(self, dead: Collection[str], asked: Asked, at: Moment) -> list[TokenInfo]:
        """Record the tokens that other processes have dropped, and return them.

        Ignore a token that was used again after the look began, because the look is older.
        """
        dropped = []
        for mark, token in asked.items():
            known = self._handed_out.get(mark)
            if mark in dead and known is not None and known.token is token:
                self._drop(mark, at)
                self._reported_at[mark] = -math.inf
                dropped.append(token)
        return dropped

    def drop_here(self, mark: str, at: Moment) -> list[TokenInfo]:
        """Record that this process drops a token, and must report that to the store."""
        if not self.is_known(mark) and self._dropped.get(mark) is not None:
            return []
        token = self._drop(mark, at)
        self._queue_report(mark)
        return [] if token is None else [token]

    def _drop(self, mark: str, at: Moment) -> TokenInfo | None:
        known = self._handed_out.pop(mark, None)
        if known is not None:
            token = known.token
            drop = Drop(at.now, token.sent_at, token.sent_at + token.lifetime)
            self._dropped.add(mark, drop)
            return token
        self._dropped.add(mark, Drop(at.now, -math.inf, at.now + self._longest))
        return None

    def is_dropped(self, mark: str, sent_at: float) -> bool:
        """Return whether a token was dropped, unless it was requested after that."""
        return self._dropped.refuse(mark, sent_at)

    def compare(self, seen: Look, asked_at: float, asked: Asked, at: Moment) -> None:
        """Check whether the store still knows the reported drops.

        A store loses drops if it is flushed, restarted from an old copy, or replaced by a replica.
        Each process that knows the drop notices this, and reports it again.

        Args:
            seen: result of the look.
            asked_at: when the look began, on Trio's clock.
            asked: the tokens that the look asked about.
            at: the time.
        """
        # A look returns only the drops that it asked for.
        reported = {
            mark for mark, token in asked.items() if token is None and self._must_be_shown(mark, at)
        }
        stored = seen.token
        if stored is not None and stored.mark in reported:
            if self.is_dropped(stored.mark, asked_at - max(0.0, stored.age)):
                # Report it immediately, because other processes are about to use the token.
                self._queue_report(stored.mark)
            else:
                # The server has issued the same token again, to another process.
                self._dropped.forget(stored.mark)
                self._cancel_report(stored.mark)
            reported.remove(stored.mark)
        self._reported_at.update(dict.fromkeys(reported & seen.dead, -math.inf))
        lost = reported - seen.dead
        # Report it only after a second look, so that not all processes report the same loss.
        for mark in self.missing & lost:
            self._queue_report(mark)
        still_missing = (self.missing - reported) | lost
        self.missing = frozenset(mark for mark in still_missing if self._must_be_shown(mark, at))
        self._stop_waiting(reported, asked_at)

    def _stop_waiting(self, reported: Collection[str], asked_at: float) -> None:
        """Stop waiting for the confirmation of drops that looks no longer ask about.

        Looks skip drops if there are newer ones, or if they end soon. Without this method, the
        process would look again and again.
        """
        for mark, reported_at in self._reported_at.items():
            if reported_at + _CONFIRM_AFTER <= asked_at and mark not in reported:
                self._reported_at[mark] = -math.inf

    def forget_the_old(self, at: Moment) -> None:
        """Forget dropped tokens that have expired, because no process uses them any longer."""
        self._dropped.forget_expired(at.now)
        for mark in (*self.untold, *self._reported_at):
            if self._dropped.get(mark) is None:
                self._cancel_report(mark)

    def left_of(self, mark: str, at: Moment) -> float:
        """Return the rest of the lifetime of a dropped token in seconds."""
        drop = self._dropped.get(mark)
        left = 0.0 if drop is None else drop.ends_at - at.now
        # Stores cannot hold an unlimited duration.
        return min(left, LIFETIME_LIMIT)

    @property
    def look_at(self) -> float:
        """When to check that the store shows the reported drops; infinity if it has shown them."""
        reported_at = (time for time in self._reported_at.values() if time > -math.inf)
        return min(reported_at, default=math.inf) + _CONFIRM_AFTER

    def record_report(self, mark: str, at: Moment) -> None:
        """Record that a drop was reported to the store."""
        self._cancel_report(mark)
        self._reported_at[mark] = at.now

    def _queue_report(self, mark: str) -> None:
        self._cancel_report(mark)
        self.untold = [*self.untold, mark][-LIMIT:]

    def _cancel_report(self, mark: str) -> None:
        self._reported_at.pop(mark, None)
        if mark in self.untold:
            self.untold.remove(mark)

    def _must_be_shown(self, mark: str, at: Moment) -> bool:
        """Return whether the store must show a drop, because it was reported and has not ended."""
        reported_at = self._reported_at.get(mark, math.inf)
        return reported_at + _CONFIRM_AFTER <= at.now and self.left_of(mark, at) > _ABOUT_TO_END


def _wall_offset(at: Moment) -> float:
    # Under MockClock, there is no wall clock and no suspend.
    return 0.0 if at.wall is None else at.wall - at.now


def _older(token: TokenInfo, seconds: float) -> TokenInfo:
    """Return the token with all its times moved back by `seconds`."""
    times = {name: getattr(token, name) - seconds for name in ("sent_at", "stale_at", "expires_at")}
    return attrs.evolve(token, **times) if seconds else token
