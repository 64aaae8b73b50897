"""What a store without a clock and rules of its own keeps under a name, and how it changes.

Plain data and pure functions: a store that can keep an entry, and change it as a whole or not
at all, is a :class:`TokenStore` with these.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs

from ._clock import Moment, Span
from ._protocol import Look, StoredFailure, StoredToken

if TYPE_CHECKING:
    from collections.abc import Collection

T = TypeVar("T")

KEPT_AFTERWARDS = 600.0
"""Seconds for which a failure is remembered after its pause, so that the next one's is longer."""


@attrs.frozen
class Token:
    """Is a token; its span began when its grant was sent."""

    record: str = attrs.field(repr=False)
    mark: str
    life: Span


@attrs.frozen
class Lease:
    """Is who may renew the token, and how long."""

    owner: str
    life: Span


@attrs.frozen
class Failure:
    """Is what became of the last attempt."""

    record: str = attrs.field(repr=False)
    fence: int
    pause: Span


@attrs.define
class Entry:
    """Is all that is kept under a name."""

    version: int
    token: Token | None = None
    lease: Lease | None = None
    failure: Failure | None = None
    dead: dict[str, Span] = attrs.field(factory=dict)

    @classmethod
    def new(cls, now: Moment) -> Self:
        """Return an empty one, whose version is past that of any that was lost."""
        return cls(int(now.wall * 1000))

    def look(self, now: Moment, marks: Collection[str]) -> Look:
        """See :meth:`TokenStore.look`."""
        leased_for = self._leased_for(now)
        dead = {mark for mark in marks if mark in self.dead and self.dead[mark].left(now) > 0}
        return Look(
            version=self.version,
            token=self._look_at_token(now),
            leased_for=leased_for,
            owner=self.lease.owner if self.lease is not None and leased_for else None,
            failure=self._look_at_failure(now),
            dead=frozenset(dead),
        )

    def _look_at_token(self, now: Moment) -> StoredToken | None:
        token = self.token
        if token is None or not token.life.left(now):
            return None
        return StoredToken(token.record, token.mark, token.life.seconds, token.life.passed(now))

    def _look_at_failure(self, now: Moment) -> StoredFailure | None:
        failure = self.failure
        if failure is None:
            return None
        pause = failure.pause
        if pause.passed(now) >= pause.seconds + KEPT_AFTERWARDS:
            return None
        return StoredFailure(failure.record, failure.fence, pause.left(now))

    def _leased_for(self, now: Moment) -> float:
        return 0.0 if self.lease is None else self.lease.life.left(now)

    def claim(self, now: Moment, owner: str, seen: int, seconds: float) -> int | None:
        """See :meth:`TokenStore.claim`."""
        if self._leased_for(now) > 0 or self.version != seen:
            return None
        self.version += 1
        self.lease = Lease(owner, Span(now, seconds))
        return self.version

    def renew(self, now: Moment, fence: int, seconds: float) -> bool:
        """See :meth:`TokenStore.renew`."""
        if self.version != fence or self.lease is None:
            return False
        self.lease = attrs.evolve(self.lease, life=Span(now, seconds))
        return True

    def put(self, now: Moment, fence: int, token: StoredToken) -> bool:
        """See :meth:`TokenStore.put`."""
        if self.version != fence or self.lease is None:
            return False
        sent = Moment(now.wall - token.age, now.since_boot - token.age)
        self.token = Token(token.record, token.mark, Span(sent, token.lifetime))
        self.lease = self.failure = None
        self.dead.pop(token.mark, None)
        return True

    def release(self, now: Moment, fence: int, failure: str | None, pause: float) -> None:
        """See :meth:`TokenStore.release`."""
        if self.version == fence and self.lease is not None:
            self.lease = None
            self.failure = (
                self.failure if failure is None else Failure(failure, fence, Span(now, pause))
            )

    def drop(self, now: Moment, mark: str, seconds: float) -> None:
        """See :meth:`TokenStore.drop`."""
        self.dead = {known: span for known, span in self.dead.items() if span.left(now) > 0}
        self.dead[mark] = Span(now, seconds)
        if self.token is not None and self.token.mark == mark:
            self.version += 1
            self.token = self.lease = None

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what was made text.

        Raises:
            ValueError: it was not.
        """
        try:
            fields = json.loads(text)
            return cls(
                int(fields["version"]),
                _read(Token, fields["token"]),
                _read(Lease, fields["lease"]),
                _read(Failure, fields["failure"]),
                {str(mark): _read_span(span) for mark, span in fields["dead"].items()},
            )
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            pass
        # Outside of the except block: json's errors hold the text, and the token with it.
        raise ValueError("the entry in the store is none")


def _read(cls: type[T], fields: dict[str, Any] | None) -> T | None:
    """Return one part of an entry; its spans are lists."""
    if fields is None:
        return None
    return cls(
        **{
            name: _read_span(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
    )


def _read_span(value: Any) -> Span:
    (wall, since_boot), seconds = value
    return Span(Moment(float(wall), float(since_boot)), float(seconds))
