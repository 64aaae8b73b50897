"""`DroppedTokens`: tokens that are not to be handed out again, in bounded memory.

Everything here is pure: times are given.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ._token import is_given_again

LIMIT = 100
"""Tokens of which each is remembered. An API that refuses all of them costs one grant a second."""


class Drop(NamedTuple):
    """When a token was dropped, when its grant was sent, and when its life is over."""

    dropped_at: float
    sent_at: float
    ends_at: float


class DroppedTokens:
    """The tokens that were dropped, each by a digest of it.

    The last ones are known one by one. Of those before, only the time of the last drop is
    known: a token whose grant was sent earlier may be one of them, and is refused as well.

    Args:
        limit: how many are known one by one.
    """

    __slots__ = ("_drops", "_forgotten_until", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._drops: dict[str, Drop] = {}
        self._forgotten_until = -math.inf

    def __len__(self) -> int:
        return len(self._drops)

    def add(self, digest: str, drop: Drop) -> None:
        """Note that a token was dropped."""
        self._drops.pop(digest, None)
        self._drops[digest] = drop
        if len(self._drops) > self._limit:
            oldest = self._drops.pop(next(iter(self._drops)))
            self._forgotten_until = max(self._forgotten_until, oldest.dropped_at)

    def refuse(self, digest: str, sent_at: float) -> bool:
        """Return whether a token is one that was dropped, and not granted again since.

        Args:
            digest: the token's.
            sent_at: when the grant was sent that brought it now.
        """
        drop = self._drops.get(digest)
        if drop is None:
            return sent_at <= self._forgotten_until
        return not is_given_again(sent_at, drop.sent_at, drop.dropped_at)

    def forget(self, digest: str) -> None:
        """Note that the server has granted a token again."""
        self._drops.pop(digest, None)

    def forget_the_dead(self, now: float) -> None:
        """Forget the tokens whose lives are over."""
        self._drops = {digest: drop for digest, drop in self._drops.items() if drop.ends_at > now}

    def last(self, count: int) -> list[str]:
        """Return the digests of the last tokens that were dropped."""
        return list(self._drops)[-count:]

    def get(self, digest: str) -> Drop | None:
        """Return what is known of one."""
        return self._drops.get(digest)
