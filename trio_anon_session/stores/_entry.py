"""`Entry`: what `MemoryStore` and `SQLiteStore` hold under one name, and how it changes.

Plain data and pure functions. With these, a store only needs to save an entry and to change it
atomically.
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
"""Seconds for which a failure is kept after its pause, so that the next pause can be longer."""
MARKS_LIMIT = 1_000
"""Maximum number of dropped tokens in an entry. All processes look within a second of a drop."""
_MAX_NUMBER = 2**53
"""Upper limit of times and versions in a valid entry."""


@attrs.frozen
class Token:
    """A token. Its span began when its token request was sent."""

    record: str = attrs.field(repr=False)
    mark: str
    life: Span


@attrs.frozen
class Lease:
    """The lease of a process. Its span began when the process claimed it."""

    owner: str
    life: Span


@attrs.frozen
class Failure:
    """The failure of the last token request."""

    record: str = attrs.field(repr=False)
    fence: int
    pause: Span


@attrs.define
class Entry:
    """Everything that a store holds under one name."""

    version: int
    token: Token | None = None
    lease: Lease | None = None
    failure: Failure | None = None
    dead: dict[str, Span] = attrs.field(factory=dict)

    @classmethod
    def new(cls, now: Moment) -> Self:
        """Return an empty entry, whose version is larger than that of a lost entry."""
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
        # The call may have arrived late. An age above the lifetime means expired, so limit it.
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
        # Keep only the latest drops, because all processes have already seen the older ones.
        self.dead = dict([*living.items(), (mark, Span(now, seconds))][-MARKS_LIMIT:])
        # This is None for an expired token. The lease is then for the next token, so keep it.
        token = self._look_at_token(now)
        if token is not None and token.mark == mark:
            self._advance(now)
            self.token = self.lease = None

    def _advance(self, now: Moment) -> None:
        # An old copy of the file may have been restored. Skip the versions used since that copy.
        self.version = max(self.version + 1, _version_at(now))

    def useful_for(self, now: Moment) -> float:
        """Return the seconds until all content has expired."""
        lives = [part.life for part in (self.token, self.lease) if part is not None]
        left = [span.left(now) for span in (*lives, *self.dead.values())]
        if self.failure is not None:
            pause = self.failure.pause
            left.append(max(0.0, pause.seconds + KEPT_AFTERWARDS - pause.passed(now)))
        return max(left, default=0.0)

    def to_json(self) -> str:
        """Return the entry as JSON text."""
        # json turns spans and moments into lists, because they are tuples.
        fields = {"format": FORMAT, **attrs.asdict(self, recurse=False)}
        return json.dumps(fields, default=lambda part: attrs.asdict(part, recurse=False))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the entry in a JSON text.

        Raises:
            ValueError: the text is not a valid entry.
            LaterFormatError: a later version of this package wrote the text.
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
        # Raised outside of the except block: json's errors contain the text with the token.
        raise ValueError("the store holds an invalid entry")


def _version_at(now: Moment) -> int:
    """Return the time in microseconds, which is larger than all earlier versions."""
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
    if not isinstance(value, int) or not 0 <= value < _MAX_NUMBER:
        raise TypeError
    return value


def _number(value: object) -> float:
    """Return a finite number. JSON text can also contain NaN and Infinity."""
    if not isinstance(value, int | float) or not -_MAX_NUMBER < value < _MAX_NUMBER:
        raise TypeError
    return float(value)
