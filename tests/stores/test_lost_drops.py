"""Tests of drops that the store has lost, and that the processes report again."""

from __future__ import annotations

import copy
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import run_virtually
from trio_anon_session.stores import MemoryStore
from trio_anon_session.stores._records import mark_of, name_of

from .faulty import FaultyStore, get_all, make_source, open_fleet

LOSSES = ("flushed", "replaced by an old copy", "without its last write")


def entries_of(store: FaultyStore) -> Any:
    """Return a copy of a store's entries."""
    assert isinstance(store.store, MemoryStore)
    return copy.deepcopy(store.store._entries)


def lose(how: str, store: FaultyStore, before: Any) -> None:
    """Let a store lose a drop.

    Args:
        how: one of `LOSSES`.
        store: the store; listeners lose their connections.
        before: its entries from before the drop.
    """
    store.flush()
    assert isinstance(store.store, MemoryStore)
    if how == "replaced by an old copy":
        store.store._entries = before
    elif how == "without its last write":
        for entry in before.values():
            entry.token = None
        store.store._entries = before


@given(
    how=st.sampled_from(LOSSES),
    who=st.integers(0, 2),
    leaves=st.booleans(),
    pause=st.floats(0.0, 100.0),
)
def test_promise_17_a_drop_that_the_store_loses_is_reported_again(
    how: str, who: int, leaves: bool, pause: float
) -> None:
    """A process that knows of a lost drop reports it again, so new processes get another token."""

    async def main() -> None:
        source, store = make_source(), FaultyStore()
        async with open_fleet(2, source, store) as stay:
            async with open_fleet(1, source, store) as leave:
                sessions = [*stay, *leave]
                (dead,) = set(await get_all(sessions))
                await trio.sleep(10.0)
                before = entries_of(store)
                sessions[who].invalidate(dead)
                await trio.sleep(0.1 if leaves else 0.1 + pause)
                if not leaves:
                    lose(how, store, before)
            if leaves:
                lose(how, store, before)
            # Wait for two looks after the loss of the connection.
            await trio.sleep(2.0)
            seen = await store.store.look(name_of(source.config), [mark_of(dead)])
            assert seen.dead == {mark_of(dead)}
            async with open_fleet(1, source, store) as (newcomer,):
                assert await newcomer.get_access_token() != dead

    run_virtually(main)


async def test_a_store_that_forgets_each_drop_causes_no_hot_loop(
    autojump_clock: object,
) -> None:
    """With a store that forgets each drop, the rates of reports and looks are limited."""
    source, store = make_source(), FaultyStore()
    async with open_fleet(2, source, store) as sessions:
        (dead,) = set(await get_all(sessions))
        await trio.sleep(10.0)
        store.lies["drop"] = None
        sessions[0].invalidate(dead)
        await trio.sleep(600.0)
        assert len(store.times("drop")) < 2 * 600.0
        assert len(store.times("look")) < 2 * 2 * 600.0
