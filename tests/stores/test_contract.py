"""What every store promises: the sentences of `TokenStore`, one after the other.

Each test runs with each store. Some of them have a clock that cannot be moved: what is to last
is LONG here, and what is to end is SHORT, and is waited for.
"""

from __future__ import annotations

import functools
import itertools
import secrets
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from trio.testing import assert_checkpoints

from tests.cancellation.everywhere import Count, Operation, Strike
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
from tests.stores.places import PATIENCE, Place, in_its_time, wait_until
from trio_anon_session.stores import Look, StoredFailure, StoredToken, TokenStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONG = 1000.0
SHORT = 0.2
LIFETIME = 64.0
ROUNDING = 0.01
"""Seconds: some clocks count in thousandths."""

TOKEN = StoredToken("record", "mark", LONG, 0.0)
OTHER = StoredToken("other record", "other mark", LONG, 0.0)


async def claimed(store: TokenStore, name: str, seconds: float = LONG) -> int:
    """Take the lease, which nobody has, and return its fence."""
    seen = await store.look(name)
    fence = await store.claim(name, "owner", seen.version, seconds)
    assert fence is not None
    return fence


async def kept(store: TokenStore, name: str, token: StoredToken = TOKEN) -> int:
    """Put a token, and return the fence under which it was got."""
    fence = await claimed(store, name)
    assert await store.put(name, fence, token)
    return fence


def standing(seen: Look) -> tuple[object, ...]:
    """Return what a look has seen, without what passes with time."""
    token, failure = seen.token, seen.failure
    return (
        seen.version,
        token and (token.record, token.mark, token.lifetime),
        seen.leased_for > 0,
        seen.owner,
        failure and (failure.record, failure.fence, failure.pause > 0),
        seen.dead,
    )


async def stands(store: TokenStore, name: str) -> tuple[object, ...]:
    """Return what is there, without what passes with time."""
    return standing(await store.look(name, ("mark", "other mark")))


# Looking


@in_its_time
async def test_a_new_name_has_nothing(place: Place, name: str) -> None:
    """There is nothing under a name of which nobody has heard, but a version, which stays."""
    seen = await place.store().look(name, ("mark",))
    assert seen == Look(seen.version)
    assert await place.store().look(name) == seen


@in_its_time
async def test_names_are_apart(place: Place, name: str) -> None:
    """What happens under one name changes nothing under another one."""
    store = place.store()
    fence = await kept(store, name)
    await claimed(store, name)
    before = await stands(store, name)
    other = f"{name[:-1]}g"
    assert standing(await store.look(other)) == standing(Look((await store.look(other)).version))
    fence = await claimed(store, other)
    await store.release(other, fence, "failure", LONG)
    await store.drop(other, "mark", LONG)
    await kept(store, other, OTHER)
    assert await stands(store, name) == before


@in_its_time
async def test_a_look_tells_of_the_marks_asked_about(place: Place, name: str) -> None:
    """Of dropped tokens, those are named that were asked about, and no others."""
    store = place.store()
    for mark in ("a", "b", "c"):
        await store.drop(name, mark, LONG)
    assert (await store.look(name)).dead == frozenset()
    assert (await store.look(name, ["a", "c", "d"])).dead == {"a", "c"}
    assert (await store.look(name, {"d"})).dead == frozenset()


# Claiming


@in_its_time
async def test_a_claim_is_a_new_version(place: Place, name: str) -> None:
    """The fence of a lease is the version, which is larger than the one before."""
    store = place.store()
    before = await store.look(name)
    fence = await store.claim(name, "owner", before.version, LONG)
    assert fence is not None
    assert fence > before.version
    seen = await place.store().look(name)
    assert (seen.version, seen.owner) == (fence, "owner")
    assert 0 < seen.leased_for <= LONG
    assert (seen.token, seen.failure) == (None, None)


@in_its_time
async def test_a_claim_while_somebody_has_the_lease(place: Place, name: str) -> None:
    """Nobody gets a lease that somebody has, and nothing changes."""
    fence = await claimed(place.store(), name)
    before = await stands(place.store(), name)
    assert await place.store().claim(name, "another", fence, LONG) is None
    assert await place.store().claim(name, "owner", fence, LONG) is None
    assert await stands(place.store(), name) == before


@in_its_time
async def test_a_claim_after_another_look(place: Place, name: str) -> None:
    """Who has seen an earlier version does not get the lease, though it is free."""
    store = place.store()
    before = await store.look(name)
    fence = await kept(place.store(), name)
    assert await store.claim(name, "late", before.version, LONG) is None
    assert await store.claim(name, "early", fence + 1, LONG) is None
    assert standing(await store.look(name))[:4] == (fence, ("record", "mark", LONG), False, None)


@in_its_time
async def test_one_of_many_claims(place: Place, name: str) -> None:
    """Of many who claim at once, one gets the lease, and all others nothing."""
    seen = await place.store().look(name)
    got: list[tuple[str, int | None]] = []

    async def claim(owner: str) -> None:
        got.append((owner, await place.store().claim(name, owner, seen.version, LONG)))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(claim, f"owner-{number}")
    ((owner, fence),) = [(owner, fence) for owner, fence in got if fence is not None]
    assert len(got) == 20
    after = await place.store().look(name)
    assert (after.owner, after.version) == (owner, fence)


@in_its_time
async def test_versions_grow(place: Place, name: str) -> None:
    """Each lease, whatever becomes of it, and each dropped token is a larger version."""
    store = place.store()
    versions = [(await store.look(name)).version]
    for what in ("lapses", "is released", "fails", "brings a token", "is dropped"):
        fence = await claimed(store, name, SHORT if what == "lapses" else LONG)
        versions.append(fence)
        match what:
            case "lapses":
                await wait_until(lambda seen: not seen.leased_for, store, name)
            case "is released":
                await store.release(name, fence)
            case "fails":
                await store.release(name, fence, "failure", LONG)
            case "brings a token":
                assert await store.put(name, fence, TOKEN)
            case "is dropped":
                await store.drop(name, "mark", LONG)
                assert (await store.look(name)).version > fence
    versions.append((await store.look(name)).version)
    assert versions == sorted(set(versions))


@in_its_time
async def test_a_lease_ends(place: Place, name: str) -> None:
    """A lease that nobody renews is over by itself, and the next one may claim."""
    fence = await claimed(place.store(), name, SHORT)
    store = place.store()
    seen = await wait_until(lambda seen: not seen.leased_for, store, name)
    assert (seen.version, seen.owner) == (fence, None)
    after = await store.claim(name, "another", fence, LONG)
    assert after is not None
    assert after > fence


# Renewing


@in_its_time
async def test_a_renewed_lease_lasts_longer(place: Place, name: str) -> None:
    """A renewed lease lasts for so many seconds from now on, be they more or less."""
    store = place.store()
    fence = await claimed(store, name, LONG)
    assert await store.renew(name, fence, 10 * LONG)
    seen = await store.look(name)
    assert LONG < seen.leased_for <= 10 * LONG
    assert (seen.owner, seen.version) == ("owner", fence)
    assert await store.renew(name, fence, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)


@in_its_time
async def test_a_lease_that_has_lapsed_can_be_renewed(place: Place, name: str) -> None:
    """As long as nobody else has taken it, a lease is still its holder's."""
    store = place.store()
    fence = await claimed(store, name, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)
    assert await store.renew(name, fence, LONG)
    seen = await store.look(name)
    assert seen.leased_for > SHORT
    assert seen.owner == "owner"


@in_its_time
async def test_a_lease_of_somebody_else_is_not_renewed(place: Place, name: str) -> None:
    """Who has lost a lease is told so, and the other one keeps it as it is."""
    store = place.store()
    lost = await claimed(store, name, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)
    await claimed(place.store(), name)
    assert not await store.renew(name, lost, 10 * LONG)
    assert (await store.look(name)).leased_for <= LONG


# Putting


@in_its_time
async def test_a_token_is_kept(place: Place, name: str) -> None:
    """A token is there for all, with the lease ended, and nobody has to wait for the next."""
    fence = await claimed(place.store(), name)
    assert await place.store().put(name, fence, StoredToken("record", "mark", LONG, 0.0))
    seen = await place.store().look(name, ("mark",))
    assert standing(seen) == (fence, ("record", "mark", LONG), False, None, None, frozenset())
    await claimed(place.store(), name)
    assert standing(await place.store().look(name))[1] == ("record", "mark", LONG)


@in_its_time
async def test_a_token_grows_older(place: Place, name: str) -> None:
    """A token's age is the one that it was put with, and the time since then."""
    store = place.store()
    fence = await claimed(store, name)
    before = trio.current_time()
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, 100.0))
    put = trio.current_time()
    for _ in range(2):
        await trio.sleep(SHORT)
        asked = trio.current_time()
        seen = await place.store().look(name)
        assert seen.token is not None
        assert seen.token.age <= 100.0 + trio.current_time() - before + ROUNDING
        assert seen.token.age >= 100.0 + asked - put - ROUNDING


@in_its_time
async def test_a_token_is_no_younger_than_its_lease(place: Place, name: str) -> None:
    """However long a token was on its way to the store, it is not taken for younger than it is."""
    store = place.store()
    fence = await claimed(store, name)
    claimed_by = trio.current_time()
    await trio.sleep(SHORT)
    assert await store.renew(name, fence, LONG)
    await trio.sleep(SHORT)
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, SHORT))
    asked = trio.current_time()
    seen = await store.look(name)
    assert seen.token is not None
    assert seen.token.age >= asked - claimed_by - ROUNDING
    fence = await claimed(store, name)
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, 2 * LONG / 3))
    seen = await store.look(name)
    assert seen.token is not None
    assert seen.token.age >= 2 * LONG / 3 - ROUNDING


@in_its_time
async def test_a_token_at_the_end_of_its_life(place: Place, name: str) -> None:
    """A token is there until its life is over, and not longer."""
    store = place.store()
    fence = await claimed(store, name)
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, LONG - SHORT))
    seen = await wait_until(lambda seen: seen.token is None, store, name)
    assert seen.version == fence
    fence = await claimed(store, name)
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, LONG + 1.0))
    assert standing(await store.look(name))[:4] == (fence, None, False, None)


@in_its_time
async def test_a_token_takes_the_place_of_the_one_before(place: Place, name: str) -> None:
    """There is one token, the last one."""
    await kept(place.store(), name, TOKEN)
    fence = await kept(place.store(), name, OTHER)
    assert standing(await place.store().look(name))[:2] == (
        fence,
        ("other record", "other mark", LONG),
    )


@in_its_time
async def test_a_late_token_after_another_lease(place: Place, name: str) -> None:
    """Who comes back after somebody else has taken the lease over changes nothing."""
    late = place.store()
    lost = await claimed(late, name, SHORT)
    await wait_until(lambda seen: not seen.leased_for, late, name)
    fence = await claimed(place.store(), name)
    before = await stands(place.store(), name)
    assert not await late.put(name, lost, OTHER)
    assert await stands(place.store(), name) == before
    assert await place.store().put(name, fence, TOKEN)
    before = await stands(place.store(), name)
    assert not await late.put(name, lost, OTHER)
    await late.release(name, lost, "failure", LONG)
    assert await stands(place.store(), name) == before


@in_its_time
async def test_a_late_token_after_a_lapse(place: Place, name: str) -> None:
    """A token is kept though its lease has lapsed, if nobody else has taken that."""
    store = place.store()
    fence = await claimed(store, name, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)
    assert await store.put(name, fence, TOKEN)
    assert standing(await store.look(name))[:2] == (fence, ("record", "mark", LONG))


@in_its_time
async def test_a_lease_brings_one_token(place: Place, name: str) -> None:
    """A lease that has ended brings no token, also no second one."""
    store = place.store()
    fence = await kept(store, name)
    before = await stands(store, name)
    assert not await store.put(name, fence, OTHER)
    assert not await store.renew(name, fence, LONG)
    await store.release(name, fence, "failure", LONG)
    assert await stands(store, name) == before
    fence = await claimed(store, name)
    await store.release(name, fence)
    before = await stands(store, name)
    assert not await store.put(name, fence, OTHER)
    assert not await store.renew(name, fence, LONG)
    assert await stands(store, name) == before


@in_its_time
async def test_a_token_clears_what_went_before(place: Place, name: str) -> None:
    """With a token the failure is over, and if its mark was dropped, it lives again."""
    store = place.store()
    await store.release(name, await claimed(store, name), "failure", LONG)
    await store.drop(name, "mark", LONG)
    await store.drop(name, "other mark", LONG)
    await kept(store, name)
    seen = await store.look(name, ("mark", "other mark"))
    assert seen.failure is None
    assert seen.dead == {"other mark"}


# Releasing


@in_its_time
async def test_a_lease_that_is_released(place: Place, name: str) -> None:
    """A released lease is over, and leaves nothing else behind."""
    store = place.store()
    fence = await claimed(store, name)
    await store.release(name, fence)
    seen = await place.store().look(name)
    assert seen == Look(fence)
    await claimed(place.store(), name)


@in_its_time
async def test_a_failure_is_left_for_the_others(place: Place, name: str) -> None:
    """What became of an attempt is there for all, with the pause, also while the next is made."""
    store = place.store()
    fence = await claimed(store, name)
    await store.release(name, fence, "failure", LONG)
    seen = await place.store().look(name)
    assert standing(seen) == (fence, None, False, None, ("failure", fence, True), frozenset())
    assert seen.failure is not None
    assert seen.failure.pause <= LONG
    await claimed(place.store(), name)
    assert standing(await store.look(name))[4] == ("failure", fence, True)


@in_its_time
async def test_a_failure_is_known_after_its_pause(place: Place, name: str) -> None:
    """A pause ends, and what the failure was is there for longer."""
    store = place.store()
    fence = await claimed(store, name)
    await store.release(name, fence, "failure", SHORT)
    seen = await wait_until(
        lambda seen: seen.failure is None or not seen.failure.pause, store, name
    )
    assert seen.failure == StoredFailure("failure", fence, 0.0)
    fence = await claimed(store, name)
    await store.release(name, fence, "next failure")
    assert (await store.look(name)).failure == StoredFailure("next failure", fence, 0.0)


@in_its_time
async def test_a_release_without_a_failure(place: Place, name: str) -> None:
    """Who gives up without an answer leaves the failure of before."""
    store = place.store()
    fence = await claimed(store, name)
    await store.release(name, fence, "failure", LONG)
    await store.release(name, await claimed(store, name))
    assert standing(await store.look(name))[4] == ("failure", fence, True)


@in_its_time
async def test_a_lease_of_somebody_else_is_not_released(place: Place, name: str) -> None:
    """Who has lost a lease does not end the one that another process has."""
    store = place.store()
    lost = await claimed(store, name, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)
    await claimed(place.store(), name)
    before = await stands(store, name)
    await store.release(name, lost)
    await store.release(name, lost, "failure", LONG)
    await store.release(name, lost - 1)
    assert await stands(store, name) == before


# Dropping


@in_its_time
async def test_the_token_is_dropped(place: Place, name: str) -> None:
    """A dropped token is gone for all, and its mark is known."""
    fence = await kept(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    seen = await place.store().look(name, ("mark", "other mark"))
    assert seen == Look(seen.version, dead=frozenset({"mark"}))
    assert seen.version > fence


@in_its_time
async def test_a_drop_ends_what_was_begun_before(place: Place, name: str) -> None:
    """With the token the lease is gone, and what comes of its grant is not kept."""
    await kept(place.store(), name)
    lost = await claimed(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    before = await stands(place.store(), name)
    assert not await place.store().put(name, lost, OTHER)
    assert not await place.store().renew(name, lost, LONG)
    await place.store().release(name, lost, "failure", LONG)
    assert await stands(place.store(), name) == before
    await claimed(place.store(), name)


@in_its_time
async def test_another_token_is_dropped(place: Place, name: str) -> None:
    """Where another token is there by now, it stays, and so does a lease."""
    await kept(place.store(), name)
    fence = await claimed(place.store(), name)
    before = await place.store().look(name)
    await place.store().drop(name, "other mark", LONG)
    seen = await place.store().look(name, ("mark", "other mark"))
    assert standing(seen)[:5] == standing(before)[:5]
    assert seen.dead == {"other mark"}
    assert await place.store().put(name, fence, StoredToken("new", "new mark", LONG, 0.0))


@in_its_time
async def test_a_token_is_dropped_twice(place: Place, name: str) -> None:
    """Who drops a token that is gone does not end the lease under which the next is got."""
    await kept(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    fence = await claimed(place.store(), name)
    before = await stands(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    assert await stands(place.store(), name) == before
    assert await place.store().put(name, fence, OTHER)


@in_its_time
async def test_a_drop_is_forgotten(place: Place, name: str) -> None:
    """A mark is known for so many seconds, from the last drop on."""
    store = place.store()
    await store.drop(name, "mark", LONG)
    await store.drop(name, "mark", SHORT)
    await store.drop(name, "other mark", LONG)
    seen = await wait_until(
        lambda seen: "mark" not in seen.dead, store, name, ("mark", "other mark")
    )
    assert seen.dead == {"other mark"}


# Listening


async def _put(store: TokenStore, name: str, fence: int) -> None:
    assert await store.put(name, fence, TOKEN)


async def _release(store: TokenStore, name: str, fence: int) -> None:
    await store.release(name, fence)


async def _fail(store: TokenStore, name: str, fence: int) -> None:
    await store.release(name, fence, "failure", LONG)


async def _drop(store: TokenStore, name: str, fence: int) -> None:
    await store.drop(name, "mark", LONG)


NEWS = {"token": _put, "release": _release, "failure": _fail, "drop": _drop}


@pytest.mark.parametrize("news", NEWS)
@in_its_time
async def test_listeners_hear_the_news(place: Place, name: str, news: str) -> None:
    """Who waits for news is woken by what another process does, and sees it then."""
    fence = await claimed(place.store(), name)
    before = await stands(place.store(), name)
    store = place.store()
    async with store.listen(name) as wait_for_news, trio.open_nursery() as nursery:
        nursery.start_soon(NEWS[news], place.store(), name, fence)
        while await stands(store, name) == before:
            await wait_for_news()


@pytest.mark.parametrize("news", NEWS)
@in_its_time
async def test_listeners_hear_of_what_happened_between(place: Place, name: str, news: str) -> None:
    """No news are missed while nobody waits, neither before the first call nor between two."""
    store = place.store()
    async with store.listen(name) as wait_for_news:
        for _ in range(3):
            fence = 0 if news == "drop" else await claimed(place.store(), name)
            await NEWS[news](place.store(), name, fence)
            await wait_for_news()


@in_its_time
async def test_several_listen(place: Place, name: str) -> None:
    """All listeners of all stores hear the same news, also beside those of another name."""
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


# Opening and closing


@in_its_time
async def test_a_store_is_opened_more_than_once(place: Place, name: str) -> None:
    """A store that several managers use works until each has closed it, and can be opened anew."""
    store = place.store()
    await store.open()
    await store.open()
    await kept(store, name)
    await store.aclose()
    before = await stands(store, name)
    assert before[1] == ("record", "mark", LONG)
    await store.aclose()
    await store.open()
    assert await stands(store, name) == before
    assert await stands(place.store(), name) == before
    await store.aclose()


@in_its_time
async def test_a_store_that_has_lost_everything(place: Place, name: str) -> None:
    """No version comes again after all is lost, and what was begun before is not kept."""
    store = place.store()
    for _ in range(3):
        await kept(store, name)
    lost = await claimed(store, name)
    # So many claims take longer elsewhere than in virtual time.
    await trio.sleep(SHORT)
    place.empty()
    assert not await store.put(name, lost, OTHER)
    assert not await store.renew(name, lost, LONG)
    await store.release(name, lost, "failure", LONG)
    seen = await store.look(name, ("mark",))
    assert seen == Look(seen.version)
    assert seen.version >= lost
    assert await kept(place.store(), name) > lost


@in_its_time
async def test_a_store_that_is_replaced_by_an_old_copy(place: Place, name: str) -> None:
    """No fence comes again, so what was begun before is not kept in place of a later token."""
    store = place.store()
    await kept(store, name)
    put_back = place.copy()
    late = await claimed(store, name)
    await trio.sleep(SHORT)
    put_back()
    store = place.store()
    fence = await claimed(store, name)
    assert fence > late
    assert not await store.put(name, late, OTHER)
    assert await store.put(name, fence, TOKEN)


# What is kept


TEXTS = {
    "empty": "",
    "unicode": "Ключ → 🔑 \N{ZERO WIDTH JOINER}e\N{COMBINING ACUTE ACCENT}",
    "quotes": "'); DROP TABLE entries; --\"\\%s{}",
    "controls": "line\r\nline\0after\x7f\u2028",
    "json": '{"version": 1}',
    "64 KiB": "x" * 65536,
    "64 KiB of unicode": "🔑" * 16384,
}


@pytest.mark.parametrize("kind", TEXTS)
@in_its_time
async def test_texts_come_back_as_they_were(place: Place, name: str, kind: str) -> None:
    """Records, marks and owners may be any text."""
    text = TEXTS[kind]
    store = place.store()
    seen = await store.look(name)
    fence = await store.claim(name, text, seen.version, LONG)
    assert fence is not None
    assert (await place.store().look(name)).owner == text
    await store.release(name, fence, text, LONG)
    assert standing(await place.store().look(name))[4] == (text, fence, True)
    await kept(store, name, StoredToken(text, text, LONG, 0.0))
    assert standing(await place.store().look(name))[1] == (text, text, LONG)
    await store.drop(name, text, LONG)
    assert (await place.store().look(name, (text,))).dead == {text}


# Checkpoints and cancellation


async def _look(store: TokenStore, name: str, fence: int) -> None:
    await store.look(name)


async def _claim(store: TokenStore, name: str, fence: int) -> None:
    await store.claim(name, "claimer", fence, SHORT)


async def _renew(store: TokenStore, name: str, fence: int) -> None:
    await store.renew(name, fence, SHORT)


async def _open(store: TokenStore, name: str, fence: int) -> None:
    await store.open()


async def _close(store: TokenStore, name: str, fence: int) -> None:
    await store.aclose()


async def _listen(store: TokenStore, name: str, fence: int) -> None:
    async with store.listen(name):
        pass


INTENTS: dict[str, Callable[[TokenStore, str, int], Awaitable[None]]] = {
    "put": _put,
    "release": _release,
    "fail": _fail,
    "drop": _drop,
    "look": _look,
    "claim": _claim,
    "renew": _renew,
    "open": _open,
    "aclose": _close,
    "listen": _listen,
}


@pytest.mark.parametrize("intent", INTENTS)
@in_its_time
async def test_each_method_is_a_checkpoint(place: Place, name: str, intent: str) -> None:
    """Each method lets others run, also where it changes nothing."""
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
async def test_what_is_cancelled_is_done_or_not_done(place: Place, name: str, intent: str) -> None:
    """Wherever a method is cancelled, it is done as a whole or not at all, and the store works."""

    async def prepare(name: str, store: TokenStore) -> int:
        await kept(store, name)
        fence = await claimed(store, name)
        if intent == "claim":
            await store.release(name, fence)
        return fence

    async def act(store: TokenStore, name: str, fence: int) -> None:
        if intent == "wait":
            async with store.listen(name) as wait_for_news:
                await _put(store, name, fence)
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
        # A short lease may be over by now.
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
        if not strike.fell:
            break
    assert nth > 0


# All of it together


class Pair:
    """Is a store beside its model, which take the same steps.

    Attributes:
        extra: seconds by which all lasts longer in a place whose clock is not moved.
    """

    def __init__(self, place: Place) -> None:
        self.name = secrets.token_hex(16)
        self.model = Model()
        self.extra = 0.0 if place.is_virtual else LONG
        self.stores = itertools.cycle([place.store(), place.store()])
        # What the store calls the model's versions.
        self.versions: list[int] = []

    async def compare(self) -> None:
        """Look at both."""
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
        """Return what passes with time."""
        age = None if seen.token is None else seen.token.age
        pause = None if seen.failure is None else seen.failure.pause
        return seen.leased_for, age, pause

    async def take(self, step: Step) -> None:
        """Take a step on both sides."""
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


# The examples share a place, and have names of their own.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@in_its_time
async def test_a_store_does_as_its_model(place: Place, steps: list[Step]) -> None:
    """Whatever is done in whatever order, each store answers as a naive model does."""
    pair = Pair(place)
    await pair.compare()
    for step in steps:
        await pair.take(step)
        await pair.compare()
