"""Tests of which server `RedisStore` calls: a socket, a database, several servers, a cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from tests.ports import closed_port
from trio_anon_session.stores import RedisStore

from .answering import GREETING, open_answering, slot_map
from .cluster import SLOTS, run_cluster, slot_of, wait_for_cluster
from .kit import MARK, NAME, refusal, round_trip
from .valkey import PATIENCE, Valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow


async def test_another_database_and_the_name_of_a_client(server: Valkey) -> None:
    """The store uses the database of the URL, and sets the URL's client name."""
    for url in (f"{server.url}/3", f"{server.url}?db=4", f"unix://{server.socket_path}?db=5"):
        await round_trip(RedisStore(url))
    assert server.key_names() == []
    with server.connect() as connection:
        for database in (3, 4, 5):
            connection.do("SELECT", database)
            assert connection.do("DBSIZE") > 0
    async with RedisStore(f"{server.url}?client_name=fleet").listen(NAME):
        assert b"name=fleet" in server.do("CLIENT", "LIST", "TYPE", "pubsub")


# Several servers


async def test_the_first_of_several_servers_hangs(server: Valkey, other_server: Valkey) -> None:
    """After one call to a server that hangs, the store calls the next server first."""
    store = RedisStore(f"{server.url},127.0.0.1:{other_server.port}")
    assert repr(store) == f"<RedisStore at 127.0.0.1:{server.port},127.0.0.1:{other_server.port}>"
    await store.look(NAME)
    server.pause()
    with trio.move_on_after(0.2) as limit:
        await store.look(NAME)
    assert limit.cancelled_caught
    with trio.fail_after(PATIENCE):
        await round_trip(store)
    assert other_server.key_names()
    server.resume()
    await round_trip(store)
    other_server.stop()
    await round_trip(store)


async def test_concurrent_calls_go_to_the_same_server(server: Valkey, other_server: Valkey) -> None:
    """While the first server has not answered yet, concurrent calls go to it, too."""
    store = RedisStore(f"{server.url},127.0.0.1:{other_server.port}")
    async with trio.open_nursery() as nursery:
        for name in (NAME, NAME, "a name", "another"):
            nursery.start_soon(store.look, name)
    assert other_server.key_names() == []


async def test_the_first_of_several_servers_cannot_serve(
    server: Valkey, other_server: Valkey
) -> None:
    """If the first server refuses to write, the store calls the next one."""
    with closed_port() as port:
        server.do("REPLICAOF", "127.0.0.1", port)
        store = RedisStore(f"{server.url},127.0.0.1:{other_server.port}")
        assert (await store.look(NAME)).token is None
        await round_trip(store)
        other_server.stop()
        assert await refusal(store.look(NAME)) == "answers READONLY"
        server.stop()
        assert await refusal(store.look(NAME)) == "the request failed (ConnectionRefusedError)"


async def test_a_name_that_leads_to_another_server(server: Valkey) -> None:
    """After a server refuses to write, the store calls it again over a new connection."""
    sent: list[bytes] = []

    def serve(question: bytes) -> bytes:
        sent.append(question)
        # The second request on a connection is refused, as by a server that is no longer the
        # primary.
        return b":1\r\n" if len(sent) != 2 else b"-READONLY You can't write\r\n"

    async with open_answering(GREETING, serve, serve) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        await store.open()
        assert await store.renew(NAME, 1, 5.0)
        assert await store.renew(NAME, 1, 5.0)
        assert len(sent) == 3
        await store.aclose()


# Clusters


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[Valkey, ...]]:
    """Run a cluster of two servers."""
    # The servers do not end their service after one of them has stopped for 15 s.
    with run_cluster(tmp_path, "--cluster-node-timeout", "600000") as servers:
        await wait_for_cluster(*servers)
        yield servers


def names_of(cluster: tuple[Valkey, ...]) -> tuple[str, str]:
    """Return a name whose keys are at the first server, and one whose keys are at the second."""
    names = [str(number) for number in range(100)]
    near, far = (
        next(name for name in names if (slot_of(cluster[0], name) >= SLOTS // 2) == is_far)
        for is_far in (False, True)
    )
    return near, far


async def test_servers_of_a_cluster(cluster: tuple[Valkey, ...]) -> None:
    """The store calls the server with the keys, whichever server the URL names.

    It finds the new server after a slot has moved.
    """
    first, second = cluster
    near, far = names_of(cluster)
    store = RedisStore(first.url)
    for name in (near, far):
        await round_trip(store, name)
        await round_trip(RedisStore(second.url), name)
        async with store.listen(name) as wait_for_news:
            await RedisStore(second.url).drop(name, "a mark", 60.0)
            with trio.fail_after(PATIENCE):
                await wait_for_news()
        assert (await store.look(name, ["a mark"])).dead == {"a mark"}
    assert [len(server.key_names()) > 0 for server in cluster] == [True, True]
    # As after a failover, another server has the slot, but not its data.
    second.do("FLUSHALL")
    first_id = first.do("CLUSTER", "MYID")
    # The second server first: until it gives up the slot, its messages can take it back, because
    # its epoch is larger.
    for server in (second, first):
        server.do("CLUSTER", "SETSLOT", slot_of(first, far), "NODE", first_id)
    await round_trip(store, far)
    assert second.key_names() == []
    second.stop()
    await round_trip(store, far)


async def test_a_server_that_is_gone_is_asked_no_longer(
    server: Valkey, other_server: Valkey
) -> None:
    """The store keeps calling the server with the keys, and finds the next one if it is gone."""
    heirs = [server, other_server]
    said: list[int] = []

    def redirect(_: bytes) -> bytes:
        said.append(heirs[0].port)
        return b"-MOVED 3999 127.0.0.1:%d\r\n" % said[-1]

    def listing(_: bytes) -> bytes:
        return slot_map("127.0.0.1", said[-1])

    async with open_answering(GREETING, redirect, listing) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        for _ in range(3):
            assert (await store.look(NAME)).token is None
        assert said == [server.port]
        heirs.pop(0).stop()
        for _ in range(3):
            assert (await store.look(NAME)).token is None
        assert said == [server.port, other_server.port]


async def test_a_server_that_redirects_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A store gives up if a server redirects it to itself again and again."""
    caplog.set_level(logging.DEBUG)
    async with open_answering(
        GREETING, lambda _: b"-MOVED 3999 :%d\r\n" % port, lambda _: slot_map("", port)
    ) as port:
        store = RedisStore(f"redis://:secret@127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == "answers MOVED"
    assert not caplog.records


async def test_each_name_has_its_server(cluster: tuple[Valkey, ...]) -> None:
    """The store remembers the server of each name, and is not redirected again."""
    store = RedisStore(cluster[0].url)

    async def look_at_all() -> list[bytes]:
        for name in names_of(cluster):
            await store.look(name)
        return [server.do("INFO", "errorstats") for server in cluster]

    sent_elsewhere = await look_at_all()
    assert b"errorstat_MOVED" in b"".join(sent_elsewhere)
    assert await look_at_all() == sent_elsewhere


async def test_a_dead_server_of_a_cluster_is_not_needed(cluster: tuple[Valkey, ...]) -> None:
    """A store that knows the server with the keys does not need the server of the URL."""
    first, second = cluster
    _, far = names_of(cluster)
    store = RedisStore(first.url)
    await round_trip(store, far)
    first.stop()
    await round_trip(store, far)
    # Only one of the other servers answers.
    await round_trip(store, far)
    await round_trip(RedisStore(f"{first.url},127.0.0.1:{second.port}"), far)


@pytest.mark.parametrize("answer", [b"-TRYAGAIN wait\r\n", b"-ASK 3999 127.0.0.1:1\r\n"])
async def test_keys_that_are_moved_are_waited_for(server: Valkey, answer: bytes) -> None:
    """While the keys move, the store repeats the call until the server redirects it."""
    answers = [answer] * 3

    def direct(_: bytes) -> bytes:
        return answers.pop() if answers else b"-MOVED 3999 127.0.0.1:%d\r\n" % server.port

    listing = slot_map("127.0.0.1", server.port)
    async with open_answering(GREETING, direct, listing) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        assert (await store.look(NAME)).token is None
    assert not answers


async def test_a_slot_that_is_moved(cluster: tuple[Valkey, ...]) -> None:
    """Calls succeed while their keys move to another server of the cluster, and afterwards."""
    first, second = cluster
    near, _ = names_of(cluster)
    slot, store = slot_of(first, near), RedisStore(first.url)
    await store.open()
    await round_trip(store, near)
    ids = [server.do("CLUSTER", "MYID") for server in cluster]
    second.do("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    first.do("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])

    async def move() -> None:
        for key in first.key_names():
            await trio.sleep(0.05)
            first.do("MIGRATE", "127.0.0.1", second.port, key, 0, 1000)
        for server in (second, first):
            server.do("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(move)
        await trio.sleep(0.07)
        assert (await store.look(near, [MARK])).dead == {MARK}
    assert first.key_names() == []
    await round_trip(store, near)
    await store.aclose()
