"""A simple model of a store with one name, and steps to take with the model and a store."""

from __future__ import annotations

import math

import attrs
from hypothesis import strategies as st

from trio_anon_session.stores import Look, StoredFailure, StoredToken
from trio_anon_session.stores._entry import KEPT_AFTERWARDS

MARKS = ("a", "b", "c")


@attrs.frozen
class Claim:
    """Claims with the version of `ago` versions before the current one."""

    ago: int
    seconds: float


@attrs.frozen
class Renew:
    """Renews the lease of `ago` leases before the last one."""

    ago: int
    seconds: float


@attrs.frozen
class Put:
    """Puts a token with the lease of `ago` leases before the last one."""

    ago: int
    mark: str
    age: float


@attrs.frozen
class Release:
    """Releases the lease of `ago` leases before the last one."""

    ago: int
    failure: str | None
    pause: float


@attrs.frozen
class Drop:
    """Drops a token."""

    mark: str
    seconds: float


@attrs.frozen
class Wait:
    """Lets time pass."""

    seconds: float


Step = Claim | Renew | Put | Release | Drop | Wait

# These floats are exact, so that both sides compute without rounding. They are few, so that
# boundaries are met often.
_SECONDS = st.sampled_from([0.25, 1.0, 5.0, 64.0])
_AGO = st.sampled_from([0, 0, 0, 1, 2])
_MARK = st.sampled_from(MARKS)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.builds(Claim, _AGO, _SECONDS),
        st.builds(Put, _AGO, _MARK, st.sampled_from([0.0, 1.0, 63.0, 64.0, 65.0])),
        st.builds(Drop, _MARK, _SECONDS),
        st.builds(
            Release,
            _AGO,
            st.sampled_from([None, "failure", "other failure"]),
            _SECONDS | st.just(0.0),
        ),
        st.builds(Renew, _AGO, _SECONDS),
        st.builds(Wait, st.sampled_from([0.25, 1.0, 4.0, 5.0, 64.0, KEPT_AFTERWARDS])),
    ),
    max_size=20,
)


class Model:
    """The contents of a store, in one process with one clock.

    Attributes:
        now: seconds since the start.
        version: the current version, from 0.
        leases: 0, which is the fence of no lease, and the fences of all leases.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.version = 0
        self.leases = [0]
        self.token: tuple[str, float, float] | None = None
        self.owner: str | None = None
        self.leased_until = self.claimed_at = -math.inf
        self.failure: tuple[str, int, float] | None = None
        self.dead: dict[str, float] = {}

    def fence(self, ago: int) -> int:
        """Return the fence of the lease of `ago` leases before the last one."""
        return self.leases[max(0, len(self.leases) - 1 - ago)]

    def claim(self, owner: str, seen: int, seconds: float) -> int | None:
        """Take the lease."""
        if seen != self.version or self.now < self.leased_until:
            return None
        self.version += 1
        self.leases.append(self.version)
        self.owner, self.leased_until, self.claimed_at = owner, self.now + seconds, self.now
        return self.version

    def renew(self, fence: int, seconds: float) -> bool:
        """Make a lease last longer."""
        if fence != self.version or self.owner is None:
            return False
        self.leased_until = self.now + seconds
        return True

    def put(self, fence: int, mark: str, lifetime: float, age: float) -> bool:
        """Keep a token."""
        if fence != self.version or self.owner is None:
            return False
        self.token = mark, lifetime, min(self.now - age, self.claimed_at)
        self._end_lease()
        self.failure = None
        self.dead.pop(mark, None)
        return True

    def release(self, fence: int, failure: str | None, pause: float) -> None:
        """End a lease."""
        if fence == self.version and self.owner is not None:
            self._end_lease()
            if failure is not None:
                self.failure = failure, fence, self.now + pause

    def drop(self, mark: str, seconds: float) -> None:
        """Record that a token was dropped."""
        self.dead[mark] = self.now + seconds
        token = self.living_token()
        if token is not None and token[0] == mark:
            self.version += 1
            self.token = None
            self._end_lease()

    def living_token(self) -> tuple[str, float, float] | None:
        """Return mark, lifetime and age of the token, if it has not expired."""
        if self.token is None:
            return None
        mark, lifetime, sent_at = self.token
        age = self.now - sent_at
        return (mark, lifetime, age) if age < lifetime else None

    def look(self) -> Look:
        """Return the contents. The record of a token is its mark in capitals."""
        token = self.living_token()
        is_leased = self.now < self.leased_until
        failure = None
        if self.failure is not None and self.now < self.failure[2] + KEPT_AFTERWARDS:
            record, fence, until = self.failure
            failure = StoredFailure(record, fence, max(0.0, until - self.now))
        return Look(
            version=self.version,
            token=None if token is None else StoredToken(token[0].upper(), *token),
            leased_for=self.leased_until - self.now if is_leased else 0.0,
            owner=self.owner if is_leased else None,
            failure=failure,
            dead=frozenset(mark for mark, until in self.dead.items() if self.now < until),
        )

    def _end_lease(self) -> None:
        self.owner, self.leased_until = None, -math.inf
