"""What a store without a clock and rules of its own keeps under a name, and how it changes.

Plain data and pure functions: a store that can keep an entry, and change it as a whole or not
at all, is a :class:`TokenStore` with these.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Self

import attrs

from ._clock import Moment, Span
from ._protocol import Look, StoredFailure, StoredToken
from ._records import FORMAT, check_format

if TYPE_CHECKING:
    from collections.abc import Collection

KEPT_AFTERWARDS = 600.0
"""Seconds for which a failure is remembered after its pause, so that the next one's is longer."""
MARKS_LIMIT = 1_000
"""Dropped tokens that an entry knows; the processes look within a second of each drop."""
_UNCOUNTED = 2**53
"""No clock shows as many seconds, and no version is as large."""


@attrs.frozen
class Token:
    """Is a token; its span began when its grant was sent."""

    record: str = attrs.field(repr=False)
    mark: str
    life: Span


@attrs.frozen
class Lease:
    """Is who may renew the token, and how long; its span began when it was claimed."""

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
        """Return an empty one, whose version is larger than any that was lost."""
        return cls(_version_at(now))

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
        self._advance(now)
        self.lease = Lease(owner, Span(now, seconds))
        return self.version

    def renew(self, now: Moment, fence: int, seconds: float) -> bool:
        """See :meth:`TokenStore.renew`."""
        if self.version != fence or self.lease is None:
            return False
        began, passed = self.lease.life.began, self.lease.life.passed(now)
        if passed == math.inf:
            began, passed = now, 0.0
        self.lease = attrs.evolve(self.lease, life=Span(began, passed + seconds))
        return True

    def put(self, now: Moment, fence: int, token: StoredToken) -> bool:
        """See :meth:`TokenStore.put`."""
        if self.version != fence or self.lease is None:
            return False
        # However long this was on its way. Older than its life is dead, be it by how much it may.
        age = min(max(token.age, self.lease.life.passed(now)), token.lifetime)
        sent = Moment(now.wall - age, now.since_boot - age)
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
        living = {known: span for known, span in self.dead.items() if span.left(now) > 0}
        living.pop(mark, None)
        # Who has one of those before has heard of it long ago.
        self.dead = dict([*living.items(), (mark, Span(now, seconds))][-MARKS_LIMIT:])
        # Nobody has a token whose life is over, and a lease is for the next one then.
        token = self._look_at_token(now)
        if token is not None and token.mark == mark:
            self._advance(now)
            self.token = self.lease = None

    def _advance(self, now: Moment) -> None:
        # Past those that were given out after a copy was made that somebody has put back.
        self.version = max(self.version + 1, _version_at(now))

    def useful_for(self, now: Moment) -> float:
        """Return the seconds after which nothing in it counts any more."""
        lives = [part.life for part in (self.token, self.lease) if part is not None]
        left = [span.left(now) for span in (*lives, *self.dead.values())]
        if self.failure is not None:
            pause = self.failure.pause
            left.append(max(0.0, pause.seconds + KEPT_AFTERWARDS - pause.passed(now)))
        return max(left, default=0.0)

    def to_json(self) -> str:
        """Return it as text."""
        # Spans and moments are tuples, which become lists.
        fields = {"format": FORMAT, **attrs.asdict(self, recurse=False)}
        return json.dumps(fields, default=lambda part: attrs.asdict(part, recurse=False))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what was made text.

        Raises:
            ValueError: it was not.
            LaterFormatError: a later version of this package did that.
        """
        try:
            fields = json.loads(text)
            check_format(fields)
            token, lease, failure = fields["token"], fields["lease"], fields["failure"]
            return cls(
                version=_whole(fields["version"]),
                token=None if token is None else _read_token(**token),
                lease=None if lease is None else _read_lease(**lease),
                failure=None if failure is None else _read_failure(**failure),
                dead={mark: _span(span) for mark, span in fields["dead"].items()},
            )
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            pass
        # Outside of the except block: json's errors hold the text, and the token with it.
        raise ValueError("the store holds an invalid entry")


def _version_at(now: Moment) -> int:
    """Return the time in microseconds: what was given out before is smaller."""
    return int(now.wall * 1_000_000)


def _read_token(record: object, mark: object, life: object) -> Token:
    return Token(_text(record), _text(mark), _span(life))


def _read_lease(owner: object, life: object) -> Lease:
    return Lease(_text(owner), _span(life))


def _read_failure(record: object, fence: object, pause: object) -> Failure:
    return Failure(_text(record), _whole(fence), _span(pause))


def _span(value: Any) -> Span:
    (wall, since_boot), seconds = value
    return Span(Moment(_number(wall), _number(since_boot)), _number(seconds))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _UNCOUNTED:
        raise TypeError
    return value


def _number(value: object) -> float:
    """Return a number to reckon with; JSON has others, too: NaN and Infinity."""
    if not isinstance(value, int | float) or not -_UNCOUNTED < value < _UNCOUNTED:
        raise TypeError
    return float(value)
