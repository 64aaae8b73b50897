"""Contract tests: what the docstrings of `TokenStore` promise for every store.

Each test runs with each store. Some stores work in real time only, so times that must not end
during a test are LONG, and times that must end are SHORT, and the test waits for their end.
"""

from __future__ import annotations

import pytest
import trio

from tests.stores.kit import LONG, TOKEN, claimed, kept, standing, stands
from tests.stores.places import Place, in_its_time, wait_until
from trio_anon_session.stores import Look, StoredFailure, StoredToken, TokenStore

SHORT = 0.2
ROUNDING = 0.01
"""Seconds; some clocks count in milliseconds."""

SEEN = (TOKEN.record, TOKEN.mark, TOKEN.lifetime)
OTHER = StoredToken("other record", "other mark", LONG, 0.0)


async def lapsed(store: TokenStore, name: str) -> int:
    """Take the lease, wait until it expires, and return its fence."""
    fence = await claimed(store, name, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)
    return fence


async def assert_is_over(store: TokenStore, name: str, fence: int) -> None:
    """Assert that no method changes anything with the fence of a lease that has ended."""
    before = await stands(store, name)
    assert not await store.put(name, fence, OTHER)
    assert not await store.renew(name, fence, 10 * LONG)
    await store.release(name, fence)
    await store.release(name, fence, "failure", LONG)
    assert await stands(store, name) == before


# Looking


@in_its_time
async def test_a_new_name_has_nothing(place: Place, name: str) -> None:
    """A name without data has only a version, which a second look does not change."""
    seen = await place.store().look(name, ("mark",))
    assert seen == Look(seen.version)
    assert await place.store().look(name) == seen


@in_its_time
async def test_names_are_independent(place: Place, name: str) -> None:
    """Calls with one name do not change the data of another name."""
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
async def test_a_look_reports_only_the_marks_asked_about(place: Place, name: str) -> None:
    """A look reports only those dropped tokens whose marks the caller asked about."""
    store = place.store()
    for mark in ("a", "b", "c"):
        await store.drop(name, mark, LONG)
    assert (await store.look(name)).dead == frozenset()
    assert (await store.look(name, ["a", "c", "d"])).dead == {"a", "c"}
    assert (await store.look(name, {"d"})).dead == frozenset()


# Claiming


@in_its_time
async def test_a_claim_is_a_new_version(place: Place, name: str) -> None:
    """A claim makes a larger version, which is the fence of the lease."""
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
async def test_a_claim_that_gets_nothing(place: Place, name: str) -> None:
    """A claim fails while another process has the lease, or if it names another version."""
    store = place.store()
    before = await store.look(name)
    fence = await claimed(place.store(), name)
    assert await store.claim(name, "another", fence, LONG) is None
    assert await place.store().put(name, fence, TOKEN)
    assert await store.claim(name, "late", before.version, LONG) is None
    assert await store.claim(name, "early", fence + 1, LONG) is None
    assert standing(await store.look(name))[:4] == (fence, SEEN, False, None)


@in_its_time
async def test_one_of_many_claims_succeeds(place: Place, name: str) -> None:
    """Of ten claims at the same time, exactly one gets the lease."""
    seen = await place.store().look(name)
    got: list[tuple[str, int | None]] = []

    async def claim(owner: str) -> None:
        got.append((owner, await place.store().claim(name, owner, seen.version, LONG)))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(claim, f"owner-{number}")
    ((owner, fence),) = [(owner, fence) for owner, fence in got if fence is not None]
    assert len(got) == 10
    after = await place.store().look(name)
    assert (after.owner, after.version) == (owner, fence)


@in_its_time
async def test_versions_grow(place: Place, name: str) -> None:
    """Each lease makes a larger version, however it ends, and so does the drop of a token."""
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
    """A lease that is not renewed expires, and another process can claim."""
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
    """A renewed lease lasts for the new time, which may be longer or shorter than the old one."""
    store = place.store()
    fence = await claimed(store, name, LONG)
    assert await store.renew(name, fence, 10 * LONG)
    seen = await store.look(name)
    assert LONG < seen.leased_for <= 10 * LONG
    assert (seen.owner, seen.version) == ("owner", fence)
    assert await store.renew(name, fence, SHORT)
    await wait_until(lambda seen: not seen.leased_for, store, name)


@in_its_time
async def test_a_lease_that_has_lapsed(place: Place, name: str) -> None:
    """A holder can still renew an expired lease, or put a token, if no other process took it."""
    store = place.store()
    fence = await lapsed(store, name)
    assert await store.renew(name, fence, LONG)
    seen = await store.look(name)
    assert seen.leased_for > SHORT
    assert seen.owner == "owner"
    await store.release(name, fence)
    fence = await lapsed(store, name)
    assert await store.put(name, fence, TOKEN)
    assert standing(await store.look(name))[:2] == (fence, SEEN)


# Putting


@in_its_time
async def test_a_token_is_kept(place: Place, name: str) -> None:
    """A token that was put is visible to all processes, and its lease ends."""
    fence = await claimed(place.store(), name)
    assert await place.store().put(name, fence, TOKEN)
    seen = await place.store().look(name, ("mark",))
    assert standing(seen) == (fence, SEEN, False, None, None, frozenset())
    await claimed(place.store(), name)
    assert standing(await place.store().look(name))[1] == SEEN


@in_its_time
async def test_a_token_grows_older(place: Place, name: str) -> None:
    """The age of a token is the age with which it was put, plus the time since then."""
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
    """The age of a token is at least the time since its lease was claimed."""
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
    """A look returns no token after its lifetime, also if it had expired when it was put."""
    store = place.store()
    fence = await claimed(store, name)
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, LONG - SHORT))
    seen = await wait_until(lambda seen: seen.token is None, store, name)
    assert seen.version == fence
    fence = await claimed(store, name)
    assert await store.put(name, fence, StoredToken("record", "mark", LONG, LONG + 1.0))
    assert standing(await store.look(name))[:4] == (fence, None, False, None)


@in_its_time
async def test_a_holder_that_has_lost_its_lease(place: Place, name: str) -> None:
    """A holder changes nothing after another process has taken the lease over."""
    late = place.store()
    lost = await lapsed(late, name)
    fence = await claimed(place.store(), name)
    await assert_is_over(late, name, lost)
    assert (await late.look(name)).leased_for <= LONG
    assert await place.store().put(name, fence, TOKEN)
    await assert_is_over(late, name, lost)


@in_its_time
async def test_a_lease_brings_one_token(place: Place, name: str) -> None:
    """After a put or a release, the fence of the lease no longer changes anything."""
    store = place.store()
    await assert_is_over(store, name, await kept(store, name))
    fence = await claimed(store, name)
    await store.release(name, fence)
    seen = await place.store().look(name)
    assert standing(seen) == (fence, SEEN, False, None, None, frozenset())
    await assert_is_over(store, name, fence)


@in_its_time
async def test_a_token_deletes_failure_and_drop(place: Place, name: str) -> None:
    """Putting a token deletes the failure, and the drop of a token with the same mark."""
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
async def test_a_failure_is_left_for_the_others(place: Place, name: str) -> None:
    """A failure is visible to all, with its pause, also after the next claim and release."""
    store = place.store()
    fence = await claimed(store, name)
    await store.release(name, fence, "failure", LONG)
    seen = await place.store().look(name)
    assert standing(seen) == (fence, None, False, None, ("failure", fence, True), frozenset())
    assert seen.failure is not None
    assert seen.failure.pause <= LONG
    following = await claimed(place.store(), name)
    assert standing(await store.look(name))[4] == ("failure", fence, True)
    await store.release(name, following)
    assert standing(await store.look(name))[4] == ("failure", fence, True)


@in_its_time
async def test_a_failure_is_known_after_its_pause(place: Place, name: str) -> None:
    """A failure stays visible after its pause has ended, until the next failure replaces it."""
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


# Dropping


@in_its_time
async def test_the_token_is_dropped(place: Place, name: str) -> None:
    """A dropped token is deleted for all, and its mark is kept; a second drop ends no lease."""
    fence = await kept(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    seen = await place.store().look(name, ("mark", "other mark"))
    assert seen == Look(seen.version, dead=frozenset({"mark"}))
    assert seen.version > fence
    fence = await claimed(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    assert await place.store().put(name, fence, OTHER)
    await place.store().drop(name, "mark", LONG)
    assert standing(await place.store().look(name))[1] == (OTHER.record, OTHER.mark, LONG)


@in_its_time
async def test_a_drop_ends_what_was_begun_before(place: Place, name: str) -> None:
    """A drop of the token ends the lease, and its new version is not the fence of a lease."""
    store = place.store()
    await kept(store, name)
    lost = await claimed(place.store(), name)
    await place.store().drop(name, "mark", LONG)
    await assert_is_over(store, name, lost)
    await assert_is_over(store, name, (await store.look(name)).version)
    await claimed(place.store(), name)


@in_its_time
async def test_a_drop_is_forgotten(place: Place, name: str) -> None:
    """The store forgets a drop after the time that the last call for this mark has set."""
    store = place.store()
    await store.drop(name, "mark", LONG)
    await store.drop(name, "mark", SHORT)
    await store.drop(name, "other mark", LONG)
    seen = await wait_until(
        lambda seen: "mark" not in seen.dead, store, name, ("mark", "other mark")
    )
    assert seen.dead == {"other mark"}


# Opening and closing


@in_its_time
async def test_a_store_is_opened_more_than_once(place: Place, name: str) -> None:
    """A store that was opened twice works until its second close, and can be opened again."""
    store = place.store()
    await store.open()
    await store.open()
    await kept(store, name)
    await store.aclose()
    before = await stands(store, name)
    assert before[1] == SEEN
    await store.aclose()
    await store.open()
    assert await stands(store, name) == before
    assert await stands(place.store(), name) == before
    await store.aclose()


@in_its_time
async def test_a_store_that_has_lost_everything(place: Place, name: str) -> None:
    """After the loss of all data, versions do not repeat, and older leases change nothing."""
    store = place.store()
    for _ in range(3):
        await kept(store, name)
    lost = await claimed(store, name)
    # Versions follow the time, and the claims take no virtual time. So let some time pass.
    await trio.sleep(SHORT)
    place.empty()
    # Do not look before these calls, because a look would make a new version.
    assert not await store.put(name, lost, OTHER)
    assert not await store.renew(name, lost, LONG)
    await store.release(name, lost, "failure", LONG)
    seen = await store.look(name, ("mark",))
    assert seen == Look(seen.version)
    assert seen.version >= lost
    assert await kept(place.store(), name) > lost


@in_its_time
async def test_a_store_that_is_replaced_by_an_old_copy(place: Place, name: str) -> None:
    """After an old copy is restored, fences do not repeat, and a lost lease puts no token."""
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


# Kept data


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
    """Records, marks and owners can be any text, and a look returns them unchanged."""
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
