"""Contract tests of every store's calls: notifications, checkpoints and cancellation."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints

from tests.cancellation.everywhere import Count, Operation, Strike
from tests.stores.kit import LONG, TOKEN, claimed, kept, listening, stands
from tests.stores.places import PATIENCE, Place, in_its_time, wait_until
from trio_anon_session.stores import StoredToken, TokenStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SHORT = 0.2
OTHER = StoredToken("other record", "other mark", LONG, 0.0)


INTENTS: dict[str, Callable[[TokenStore, str, int], Awaitable[object]]] = {
    "put": lambda store, name, fence: store.put(name, fence, TOKEN),
    "release": lambda store, name, fence: store.release(name, fence),
    "fail": lambda store, name, fence: store.release(name, fence, "failure", LONG),
    "drop": lambda store, name, fence: store.drop(name, "mark", LONG),
    "look": lambda store, name, fence: store.look(name),
    "claim": lambda store, name, fence: store.claim(name, "claimer", fence, SHORT),
    "renew": lambda store, name, fence: store.renew(name, fence, SHORT),
    "open": lambda store, name, fence: store.open(),
    "aclose": lambda store, name, fence: store.aclose(),
    "listen": lambda store, name, fence: listening(store, name),
}
NEWS = ["put", "release", "fail", "drop"]


# Listening


@pytest.mark.parametrize("news", NEWS)
@in_its_time
async def test_listeners_are_notified(place: Place, name: str, news: str) -> None:
    """A put, a release or a drop of another process wakes a listener, whose look shows it."""
    fence = await claimed(place.store(), name)
    before = await stands(place.store(), name)
    store = place.store()
    async with store.listen(name) as wait_for_news, trio.open_nursery() as nursery:
        nursery.start_soon(INTENTS[news], place.store(), name, fence)
        while await stands(store, name) == before:
            await wait_for_news()


@pytest.mark.parametrize("news", NEWS)
@in_its_time
async def test_listeners_miss_no_notification_between_waits(
    place: Place, name: str, news: str
) -> None:
    """A listener misses no notification from before its first wait or between two waits."""
    store = place.store()
    async with store.listen(name) as wait_for_news:
        for _ in range(3):
            fence = 0 if news == "drop" else await claimed(place.store(), name)
            await INTENTS[news](place.store(), name, fence)
            await wait_for_news()


@in_its_time
async def test_all_listeners_are_notified(place: Place, name: str) -> None:
    """All listeners of a name are notified, also if the store listens for another name, too."""
    shared, other_name = place.store(), f"{name[:-1]}g"
    async with (
        shared.listen(other_name),
        shared.listen(name) as first,
        shared.listen(name) as second,
        place.store().listen(name) as third,
    ):
        for _ in range(2):
            await kept(place.store(), name)
            for wait_for_news in (first, second, third):
                await wait_for_news()


# Checkpoints and cancellation


@pytest.mark.parametrize("intent", INTENTS)
@in_its_time
async def test_each_method_is_a_checkpoint(place: Place, name: str, intent: str) -> None:
    """Each method executes a checkpoint, also if it changes nothing."""
    store = place.store()
    fence = await claimed(store, name)
    if intent == "claim":
        await store.release(name, fence)
    with assert_checkpoints():
        await INTENTS[intent](store, name, fence)
    if intent != "put":
        with assert_checkpoints():
            await INTENTS[intent](store, name, fence)
    with assert_checkpoints():
        assert not await store.put(name, fence - 1, OTHER)


@pytest.mark.parametrize("intent", [*INTENTS, "wait"])
@in_its_time
async def test_a_cancelled_method_is_atomic(place: Place, name: str, intent: str) -> None:
    """A method cancelled at any step has its whole effect or no effect, and the store works."""

    async def prepare(name: str, store: TokenStore) -> int:
        await kept(store, name)
        fence = await claimed(store, name)
        if intent == "claim":
            await store.release(name, fence)
        return fence

    async def act(store: TokenStore, name: str, fence: int) -> None:
        if intent == "wait":
            async with store.listen(name) as wait_for_news:
                await store.put(name, fence, TOKEN)
                await wait_for_news()
        else:
            await INTENTS[intent](store, name, fence)

    async def outcomes() -> set[tuple[object, ...]]:
        other = f"{name}-undisturbed"
        fence = await prepare(other, place.store())
        before = await stands(place.store(), other)
        await act(place.store(), other, fence)
        after = await stands(place.store(), other)
        return {apart(before, fence), apart(after, fence)}

    def apart(seen: tuple[object, ...], fence: int) -> tuple[object, ...]:
        version, token, is_leased, owner, failure, dead = seen
        assert isinstance(version, int)
        # A short lease may have ended.
        lease = (is_leased, owner) if intent not in ("claim", "renew") else None
        return version > fence, token, lease, failure and "failure", dead

    expected = await outcomes()
    for nth in itertools.count():
        store, own_name = place.store(), f"{name}-{nth}"
        fence = await prepare(own_name, store)
        strike = Strike(Count.OWN_STEPS, nth)
        await Operation(strike, PATIENCE).run(functools.partial(act, store, own_name, fence))
        assert apart(await stands(place.store(), own_name), fence) in expected, f"step {nth}"
        await store.drop(own_name, "mark", LONG)
        await wait_until(lambda seen: not seen.leased_for, store, own_name)
        await kept(store, own_name, OTHER)
        assert (await stands(place.store(), own_name))[1] == ("other record", "other mark", LONG)
        if not strike.has_cancelled:
            break
    assert nth > 0
