"""Which server `RedisStore` asks: by socket and database, of several, and of a cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from tests.ports import closed_port
from trio_anon_session.stores import RedisStore

from .answering import GREETING, open_answering
from .cluster import SLOTS, is_whole, run_cluster, slot_of
from .kit import MARK, NAME, refusal, round_trip
from .valkey import PATIENCE, Valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow


async def test_another_database_and_the_name_of_a_client(server: Valkey) -> None:
    """The database of the URL is used, and its name for a client shown in the server's list."""
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
    """One that says nothing costs one question, and the others are asked before it from then on."""
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


async def test_questions_at_once_go_to_the_same_of_several_servers(
    server: Valkey, other_server: Valkey
) -> None:
    """A server that has been asked, and has yet to answer, is no reason to ask another one."""
    store = RedisStore(f"{server.url},127.0.0.1:{other_server.port}")
    async with trio.open_nursery() as nursery:
        for name in (NAME, NAME, "a name", "another"):
            nursery.start_soon(store.look, name)
    assert other_server.key_names() == []


async def test_the_first_of_several_servers_cannot_serve(
    server: Valkey, other_server: Valkey
) -> None:
    """A server that has done nothing, and says so, is left for the next one."""
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
    """After a server refuses to write, its name is looked up again despite a connection."""
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
        await is_whole(*servers)
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
    """Whichever of them the URL names, the one that has the keys is asked, also once they move."""
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
    """The server that has the keys is asked until it is gone; then the store finds the next one."""
    heirs = [server, other_server]
    said: list[int] = []

    def redirect(_: bytes) -> bytes:
        said.append(heirs[0].port)
        return b"-MOVED 3999 127.0.0.1:%d\r\n" % said[-1]

    async with open_answering(GREETING, redirect) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        for _ in range(3):
            assert (await store.look(NAME)).token is None
        assert said == [server.port]
        heirs.pop(0).stop()
        for _ in range(3):
            assert (await store.look(NAME)).token is None
        assert said == [server.port, other_server.port]


async def test_servers_that_send_each_other_round(caplog: pytest.LogCaptureFixture) -> None:
    """A store that is sent from server to server, or to the same one, gives up."""
    caplog.set_level(logging.DEBUG)
    async with open_answering(GREETING, lambda _: b"-MOVED 3999 :%d\r\n" % port) as port:
        store = RedisStore(f"redis://:secret@127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == "answers MOVED"
    assert not caplog.records


async def test_each_name_has_its_server(cluster: tuple[Valkey, ...]) -> None:
    """Where the keys of several names are is known for each of them, and not asked again."""
    store = RedisStore(cluster[0].url)

    async def look_at_all() -> list[bytes]:
        for name in names_of(cluster):
            await store.look(name)
        return [server.do("INFO", "errorstats") for server in cluster]

    sent_elsewhere = await look_at_all()
    assert b"errorstat_MOVED" in b"".join(sent_elsewhere)
    assert await look_at_all() == sent_elsewhere


async def test_a_dead_server_of_a_cluster_is_not_needed(cluster: tuple[Valkey, ...]) -> None:
    """A store that knows where the keys are does not need the server that the URL names."""
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
    """While the keys go from server to server, the same one is asked until it sends there."""
    answers = [answer] * 3

    def direct(_: bytes) -> bytes:
        return answers.pop() if answers else b"-MOVED 3999 127.0.0.1:%d\r\n" % server.port

    async with open_answering(GREETING, direct, direct, direct, direct) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        assert (await store.look(NAME)).token is None
    assert not answers


async def test_a_slot_that_is_moved(cluster: tuple[Valkey, ...]) -> None:
    """A fleet goes on, a moment later, when its keys move to another server of the cluster."""
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
