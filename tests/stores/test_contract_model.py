"""Tests that compare every store with a simple model, in random sequences of steps."""

from __future__ import annotations

import itertools
import secrets

import attrs
import trio
from hypothesis import HealthCheck, given, settings

from tests.stores.kit import LONG, standing
from tests.stores.model import (
    MARKS,
    STEPS,
    Claim,
    Drop,
    Model,
    Put,
    Release,
    Renew,
    Step,
    Wait,
)
from tests.stores.places import Place, in_its_time
from trio_anon_session.stores import Look, StoredToken

LIFETIME = 64.0


class Pair:
    """A store and its model, which take the same steps.

    Attributes:
        extra: seconds that are added to all times if the store works in real time.
    """

    def __init__(self, place: Place) -> None:
        self.name = secrets.token_hex(16)
        self.model = Model()
        self.extra = 0.0 if place.is_virtual else LONG
        self.stores = itertools.cycle([place.store(), place.store()])
        # The store's number for each version of the model.
        self.versions: list[int] = []

    async def compare(self) -> None:
        """Assert that a look returns the same from both."""
        seen = await next(self.stores).look(self.name, MARKS)
        if self.model.version == len(self.versions):
            assert seen.version > max(self.versions, default=-1)
            self.versions.append(seen.version)
        assert seen.version == self.versions[self.model.version]
        expected = self.model.look()
        assert standing(attrs.evolve(seen, version=0, failure=None)) == standing(
            attrs.evolve(expected, version=0, failure=None)
        )
        assert (seen.failure is None) is (expected.failure is None)
        if seen.failure is not None and expected.failure is not None:
            assert seen.failure.record == expected.failure.record
            assert seen.failure.fence == self.versions[expected.failure.fence]
        if not self.extra:
            assert self.times(seen) == self.times(expected)

    @staticmethod
    def times(seen: Look) -> tuple[float | None, ...]:
        """Return the values that change with time."""
        age = None if seen.token is None else seen.token.age
        pause = None if seen.failure is None else seen.failure.pause
        return seen.leased_for, age, pause

    async def take(self, step: Step) -> None:
        """Take a step with both, and assert that they answer the same."""
        model, store, extra = self.model, next(self.stores), self.extra
        match step:
            case Claim(ago, seconds):
                seen = max(0, model.version - ago)
                fence = await store.claim(self.name, "owner", self.versions[seen], seconds + extra)
                expected = model.claim("owner", seen, seconds + extra)
                assert (fence is None) is (expected is None)
                if fence is not None:
                    assert fence > self.versions[-1]
                    self.versions.append(fence)
            case Renew(ago, seconds):
                fence = model.fence(ago)
                done = await store.renew(self.name, self.versions[fence], seconds + extra)
                assert done is model.renew(fence, seconds + extra)
            case Put(ago, mark, age):
                fence = model.fence(ago)
                token = StoredToken(mark.upper(), mark, LIFETIME + extra, age)
                done = await store.put(self.name, self.versions[fence], token)
                assert done is model.put(fence, mark, LIFETIME + extra, age)
            case Release(ago, failure, pause):
                fence = model.fence(ago)
                await store.release(self.name, self.versions[fence], failure, pause + extra)
                model.release(fence, failure, pause + extra)
            case Drop(mark, seconds):
                await store.drop(self.name, mark, seconds + extra)
                model.drop(mark, seconds + extra)
            case Wait(seconds) if not extra:
                await trio.sleep(seconds)
                model.now += seconds


# The examples share a place, but each has its own name.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@in_its_time
async def test_a_store_answers_like_its_model(place: Place, steps: list[Step]) -> None:
    """In any sequence of steps, each store answers like the simple model."""
    pair = Pair(place)
    await pair.compare()
    for step in steps:
        await pair.take(step)
        await pair.compare()
