"""`DroppedTokens`: tokens that callers must not get again, in bounded memory.

Pure: times are passed in.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ._token import is_granted_again

LIMIT = 100
"""How many dropped tokens are stored. An API that refuses all tokens costs one request a second."""


class Drop(NamedTuple):
    """When a token was dropped, when its request was sent, and when its lifetime ends."""

    dropped_at: float
    sent_at: float
    ends_at: float


class DroppedTokens:
    """The dropped tokens, as digests.

    The last tokens are stored one by one. For all older ones, only the time of the last drop is
    stored. A token that was requested before that time may be one of them, and is also refused.

    Args:
        limit: how many tokens are stored one by one.
    """

    __slots__ = ("_drops", "_forgotten_until", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._drops: dict[str, Drop] = {}
        self._forgotten_until = -math.inf

    def __len__(self) -> int:
        return len(self._drops)

    def add(self, digest: str, drop: Drop) -> None:
        """Record that a token was dropped."""
        self._drops.pop(digest, None)
        self._drops[digest] = drop
        if len(self._drops) > self._limit:
            oldest = self._drops.pop(next(iter(self._drops)))
            self._forgotten_until = max(self._forgotten_until, oldest.dropped_at)

    def refuse(self, digest: str, sent_at: float) -> bool:
        """Return whether a token was dropped and has not been granted again since.

        Args:
            digest: the digest of the token.
            sent_at: when the request was sent that returned the token now.
        """
        drop = self._drops.get(digest)
        if drop is None:
            return sent_at <= self._forgotten_until
        return not is_granted_again(sent_at, drop.sent_at, drop.dropped_at)

    def forget(self, digest: str) -> None:
        """Remove a token, because the server has granted it again."""
        self._drops.pop(digest, None)

    def forget_expired(self, now: float) -> None:
        """Remove the tokens whose lifetime has ended."""
        self._drops = {digest: drop for digest, drop in self._drops.items() if drop.ends_at > now}

    def last(self, count: int) -> list[str]:
        """Return the digests of the tokens that were dropped last."""
        return list(self._drops)[-count:]

    def get(self, digest: str) -> Drop | None:
        """Return the drop of a token, or None."""
        return self._drops.get(digest)
