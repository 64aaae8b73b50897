"""What servers refuse, break and hide, and what becomes of it: a `StoreError` in plain words."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import coredis
import pytest
import trio
import trustme

from tests.helpers import FakeTokenManager, make_config
from tests.ports import closed_port, server_port
from trio_anon_session import ConfigError
from trio_anon_session.stores import RedisStore, SharedTokenManager, StoredToken, StoreError

from .answering import GREETING, open_answering
from .cluster import SLOTS, is_whole, run_cluster, slot_of
from .valkey import PATIENCE, ServerError, Valkey, run_valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

NAME = "0123abcd"
MARK = "mark-1"
TOKEN = StoredToken("the record", MARK, 3600.0, 10.0)
PASSWORD = "p@ss/word%?#"
ENCODED = "p%40ss%2Fword%25%3F%23"


def with_user(server: Valkey, user: str) -> str:
    """Return a server's URL with user and password."""
    return server.url.replace("//", f"//{user}@")


async def round_trip(store: RedisStore, name: str = NAME) -> None:
    """Do all that a fleet does, and hear of it."""
    async with store.listen(name) as wait_for_news:
        seen = await store.look(name, [MARK])
        fence = await store.claim(name, "me", seen.version, 5.0)
        assert fence is not None
        assert await store.renew(name, fence, 5.0)
        assert await store.put(name, fence, TOKEN)
        with trio.fail_after(PATIENCE):
            await wait_for_news()
        await store.drop(name, MARK, 60.0)
        seen = await store.look(name, [MARK])
        assert seen.dead == {MARK}
        fence = await store.claim(name, "me", seen.version, 5.0)
        assert fence is not None
        await store.release(name, fence, "a failure", 3.0)
        assert (await store.look(name)).failure is not None


async def refusal(asked: Awaitable[object]) -> str:
    """Return in which words a store says that it fails."""
    with pytest.raises(StoreError) as caught:
        await asked
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return str(caught.value).partition(": ")[2]


async def listening(store: RedisStore) -> None:
    """Begin to listen, and go."""
    async with store.listen(NAME):
        pass


# Ways to a server


async def test_a_server_by_its_socket(server: Valkey) -> None:
    """A server of the same machine is spoken to by its socket."""
    await round_trip(RedisStore(f"unix://{server.socket_path}"))
    assert server.key_names()


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


@pytest.mark.parametrize("user", [f":{ENCODED}", f"default:{ENCODED}"])
async def test_a_password_is_sent_as_it_is_meant(server: Valkey, user: str) -> None:
    """What is percent-encoded in the URL is not in what the server is told."""
    server.do("CONFIG", "SET", "requirepass", PASSWORD)
    await round_trip(RedisStore(with_user(server, user)))
    await round_trip(RedisStore(f"unix://{user}@{server.socket_path}"))
    assert await refusal(RedisStore(server.url).look(NAME)) == "answers NOAUTH"
    assert await refusal(listening(RedisStore(server.url))) == "answers NOAUTH"
    wrong = RedisStore(with_user(server, f"{user}x"))
    assert await refusal(wrong.look(NAME)) == "answers WRONGPASS"
    assert await refusal(listening(wrong)) == "answers WRONGPASS"


async def test_a_server_of_a_cluster(tmp_path: Path) -> None:
    """All keys of a name are in one slot of a cluster, and are told to it beforehand."""
    with (
        # By itself, its other port would be one of those that systems give to clients.
        server_port() as other,
        run_valkey(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(other)) as server,
    ):
        store = RedisStore(server.url)
        assert await refusal(store.look(NAME)) == "answers CLUSTERDOWN"
        with server.connect() as connection:
            connection.do("CLUSTER", "ADDSLOTS", *range(SLOTS))
        await is_whole(server)
        await round_trip(store)
        await round_trip(RedisStore(server.url))


async def test_servers_of_a_cluster(tmp_path: Path) -> None:
    """Whichever of them the URL names, the one that has the keys is asked, also once they move."""
    with run_cluster(tmp_path) as (first, second):
        await is_whole(first, second)
        slots = {name: slot_of(first, name) for name in map(str, range(100))}
        near = next(name for name, slot in slots.items() if slot < SLOTS // 2)
        far = next(name for name, slot in slots.items() if slot >= SLOTS // 2)
        store = RedisStore(first.url)
        for name in (near, far):
            await round_trip(store, name)
            await round_trip(RedisStore(second.url), name)
            async with store.listen(name) as wait_for_news:
                await RedisStore(second.url).drop(name, "a mark", 60.0)
                with trio.fail_after(PATIENCE):
                    await wait_for_news()
            assert (await store.look(name, ["a mark"])).dead == {"a mark"}
        assert [len(server.key_names()) > 0 for server in (first, second)] == [True, True]
        # As after a failover: another one has the slot, and nothing of what was in it.
        second.do("FLUSHALL")
        first_id = first.do("CLUSTER", "MYID")
        for server in (first, second):
            server.do("CLUSTER", "SETSLOT", slots[far], "NODE", first_id)
        await round_trip(store, far)
        assert second.key_names() == []
        second.stop()
        await round_trip(store, far)


async def test_a_server_that_is_gone_is_asked_no_longer(tmp_path: Path) -> None:
    """The server that has the keys is asked until it is gone; then the store finds the next one."""
    heirs = []
    with ExitStack() as stack:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            heirs.append(stack.enter_context(run_valkey(tmp_path / name)))
        said: list[int] = []

        def redirect(_: bytes) -> bytes:
            said.append(heirs[0].port)
            return b"-MOVED 3999 127.0.0.1:%d\r\n" % said[-1]

        async with open_answering(GREETING, redirect) as port:
            store = RedisStore(f"redis://127.0.0.1:{port}")
            for _ in range(3):
                assert (await store.look(NAME)).token is None
            assert said == [heirs[0].port]
            gone = heirs.pop(0)
            gone.stop()
            for _ in range(3):
                assert (await store.look(NAME)).token is None
            assert said == [gone.port, heirs[0].port]


async def test_servers_that_send_each_other_round(caplog: pytest.LogCaptureFixture) -> None:
    """Who is sent from server to server, or to the same one, gives up."""
    caplog.set_level(logging.DEBUG)
    async with open_answering(GREETING, lambda _: b"-MOVED 3999 :%d\r\n" % port) as port:
        store = RedisStore(f"redis://:{ENCODED}@127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == "answers MOVED"
    assert not caplog.records


async def test_each_name_has_its_server(tmp_path: Path) -> None:
    """Where the keys of several names are is known for each of them, and not asked again."""
    with run_cluster(tmp_path) as servers:
        await is_whole(*servers)
        store = RedisStore(servers[0].url)
        names = [str(number) for number in range(10)]
        assert {slot_of(servers[0], name) < SLOTS // 2 for name in names} == {True, False}

        async def look_at_all() -> list[bytes]:
            for name in names:
                await store.look(name)
            return [server.do("INFO", "errorstats") for server in servers]

        sent_elsewhere = await look_at_all()
        assert b"errorstat_MOVED" in b"".join(sent_elsewhere)
        assert await look_at_all() == sent_elsewhere


async def test_a_dead_server_of_a_cluster_is_not_needed(tmp_path: Path) -> None:
    """Who knows where the keys are does not need the server that the URL names."""
    with run_cluster(tmp_path) as (first, second):
        await is_whole(first, second)
        far = next(name for name in map(str, range(100)) if slot_of(first, name) >= SLOTS // 2)
        store = RedisStore(first.url)
        await round_trip(store, far)
        first.stop()
        await round_trip(store, far)
        # Of the others, there is only one that answers at all.
        await round_trip(store, far)
        await round_trip(RedisStore(f"{first.url},127.0.0.1:{second.port}"), far)


async def test_the_first_of_several_servers_hangs(server: Valkey, tmp_path: Path) -> None:
    """One that says nothing costs one question, and the others are asked before it from then on."""
    (tmp_path / "other").mkdir()
    with run_valkey(tmp_path / "other") as other:
        store = RedisStore(f"{server.url},127.0.0.1:{other.port}")
        assert repr(store) == f"<RedisStore at 127.0.0.1:{server.port},127.0.0.1:{other.port}>"
        await store.look(NAME)
        server.pause()
        with trio.move_on_after(0.2) as limit:
            await store.look(NAME)
        assert limit.cancelled_caught
        with trio.fail_after(PATIENCE):
            await round_trip(store)
        assert other.key_names()
        server.resume()
        await round_trip(store)
        other.stop()
        await round_trip(store)


async def test_questions_at_once_go_to_the_same_of_several_servers(
    server: Valkey, tmp_path: Path
) -> None:
    """A server that has been asked, and has yet to answer, is no reason to ask another one."""
    (tmp_path / "other").mkdir()
    with run_valkey(tmp_path / "other") as other:
        store = RedisStore(f"{server.url},127.0.0.1:{other.port}")
        async with trio.open_nursery() as nursery:
            for name in (NAME, NAME, "a name", "another"):
                nursery.start_soon(store.look, name)
        assert other.key_names() == []


async def test_the_first_of_several_servers_cannot_serve(server: Valkey, tmp_path: Path) -> None:
    """A server that has done nothing, and says so, is left for the next one."""
    (tmp_path / "other").mkdir()
    with run_valkey(tmp_path / "other") as other, closed_port() as port:
        server.do("REPLICAOF", "127.0.0.1", port)
        store = RedisStore(f"{server.url},127.0.0.1:{other.port}")
        assert (await store.look(NAME)).token is None
        await round_trip(store)
        other.stop()
        assert await refusal(store.look(NAME)) == "answers READONLY"
        server.stop()
        assert await refusal(store.look(NAME)) == "cannot be asked (ConnectionRefusedError)"


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


async def test_a_slot_that_is_moved(tmp_path: Path) -> None:
    """A fleet goes on, a moment later, when its keys move to another server of the cluster."""
    with run_cluster(tmp_path) as (first, second):
        await is_whole(first, second)
        near = next(name for name in map(str, range(100)) if slot_of(first, name) < SLOTS // 2)
        slot, store = slot_of(first, near), RedisStore(first.url)
        await store.open()
        await round_trip(store, near)
        ids = [server.do("CLUSTER", "MYID") for server in (first, second)]
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


async def test_a_name_that_leads_to_another_server(server: Valkey) -> None:
    """After a server refuses to write, its name is looked up again despite a connection."""
    sent: list[bytes] = []

    def serve(question: bytes) -> bytes:
        sent.append(question)
        # The second question of a connection is refused, as by a primary that is one no more.
        return b":1\r\n" if len(sent) != 2 else b"-READONLY You can't write\r\n"

    async with open_answering(GREETING, serve, serve) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        await store.open()
        assert await store.renew(NAME, 1, 5.0)
        assert await store.renew(NAME, 1, 5.0)
        assert len(sent) == 3
        await store.aclose()


# TLS


class Authority:
    """Is a certificate authority of the test's own, and the files of what it has certified."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def files_for(self, identity: str) -> tuple[str, str]:
        """Return the certificate and the key of a host, or of somebody else."""
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        issued = self._authority.issue_cert(identity)
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make an authority."""
    return Authority(tmp_path)


def tls_options(authority: Authority, identity: str, *, clients: str = "no") -> list[str]:
    """Return the options of a server with a certificate."""
    certificate, key = authority.files_for(identity)
    authorities = str(authority.file)
    options = ["--tls-cert-file", certificate, "--tls-key-file", key]
    return [*options, "--tls-ca-cert-file", authorities, "--tls-auth-clients", clients]


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path, authority: Authority) -> None:
    """The authority of the URL is believed; without it the server is told nothing."""
    options = tls_options(authority, "127.0.0.1")
    with run_valkey(tmp_path, *options, tls=True) as server:
        await round_trip(RedisStore(f"{server.url}?ssl_ca_certs={authority.file}"))
        await round_trip(RedisStore(f"{server.url}?ssl_cert_reqs=none"))
        unknown = await refusal(RedisStore(server.url).look(NAME))
        assert unknown.startswith("cannot be asked (SSLCertVerificationError")
        assert await refusal(listening(RedisStore(server.url))) == unknown
        plain = RedisStore(server.url.replace("rediss", "redis"))
        assert await refusal(plain.look(NAME))


async def test_tls_with_an_authority_of_the_environment(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the URL names none, the system's authorities are believed."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    options = tls_options(authority, "127.0.0.1")
    with run_valkey(tmp_path, *options, tls=True) as server:
        await round_trip(RedisStore(server.url))


async def test_tls_with_the_certificate_of_another(tmp_path: Path, authority: Authority) -> None:
    """A certificate has to be the host's, unless the URL says otherwise."""
    options = tls_options(authority, "elsewhere.example")
    with run_valkey(tmp_path, *options, tls=True) as server:
        url = f"{server.url}?ssl_ca_certs={authority.file}"
        problem = await refusal(RedisStore(url).look(NAME))
        assert "SSLCertVerificationError" in problem
        assert "IP address mismatch" in problem
        await round_trip(RedisStore(f"{url}&ssl_check_hostname=false"))


async def test_tls_with_a_certificate_of_the_client(tmp_path: Path, authority: Authority) -> None:
    """A server that wants to know its clients is shown the certificate of the URL."""
    options = tls_options(authority, "127.0.0.1", clients="yes")
    with run_valkey(tmp_path, *options, tls=True) as server:
        url = f"{server.url}?ssl_ca_certs={authority.file}"
        assert await refusal(RedisStore(url).look(NAME))
        certificate, key = authority.files_for("me.example")
        url += f"&ssl_certfile={certificate}&ssl_keyfile={key}"
        await round_trip(RedisStore(url))


def test_tls_files_that_cannot_be_read_are_told_at_once(authority: Authority) -> None:
    """A file that is not there, or holds something else, is a matter of the settings."""
    certificate, _key = authority.files_for("me.example")
    other = authority.folder / "other.pem"
    other.write_text("no certificate")
    for option in (
        f"ssl_ca_certs={authority.folder / 'missing'}",
        f"ssl_ca_certs={other}",
        f"ssl_certfile={other}",
        f"ssl_certfile={certificate}&ssl_keyfile={other}",
    ):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            RedisStore(f"rediss://127.0.0.1?{option}")
        assert caught.value.field == "url"


# Users with few rights


def acl_commands() -> list[list[str]]:
    """Return the commands that the docstring gives, which make a user."""
    docstring = inspect.getdoc(RedisStore) or ""
    commands = [line.split() for line in docstring.splitlines() if "ACL SETUSER" in line]
    return [[word.replace("PASSWORD", PASSWORD) for word in command] for command in commands]


async def test_the_user_of_the_docstring_suffices(server: Valkey) -> None:
    """A user who may do what the docstring says can do everything, and nothing else."""
    for command in acl_commands():
        server.do(*command)
    await round_trip(RedisStore(with_user(server, f"tas:{ENCODED}")))
    with server.connect() as connection:
        connection.do("AUTH", "tas", PASSWORD)
        for command in (["GET", "tas:1"], ["TTL", "tas:1"], ["TYPE", "other"], ["KEYS", "*"]):
            with pytest.raises(ServerError, match="NOPERM"):
                connection.do(*command)
        with pytest.raises(ServerError, match="NOPERM"):
            connection.do("SUBSCRIBE", "other")


RIGHTS = [word for command in acl_commands() for word in command if word.startswith("+")]
NEWS = ["+publish", "+subscribe", "&tas:*"]


@pytest.mark.parametrize("right", [right for right in RIGHTS if right not in NEWS])
async def test_each_right_of_the_docstring_is_needed(server: Valkey, right: str) -> None:
    """Without any one of the rights that it lists, something is refused."""
    for command in acl_commands():
        server.do(*command)
    server.do("ACL", "SETUSER", "tas", right.replace("+", "-"))
    store = RedisStore(with_user(server, f"tas:{ENCODED}"))
    # Of a keepalive, where there were no news for a while.
    with pytest.raises(StoreError, match="answers NOPERM"), trio.fail_after(PATIENCE):
        async with store.listen(NAME) as wait_for_news:
            await round_trip(store)
            while True:
                await wait_for_news()


@pytest.mark.parametrize("right", NEWS)
async def test_a_user_without_news_can_do_all_else(server: Valkey, right: str) -> None:
    """Who may not publish or subscribe shares a token all the same."""
    for command in acl_commands():
        server.do(*command)
    taken = ["resetchannels"] if right.startswith("&") else [right.replace("+", "-")]
    server.do("ACL", "SETUSER", "tas", *taken)
    store = RedisStore(with_user(server, f"tas:{ENCODED}"))
    # One that cannot be proved is of no use.
    assert await refusal(listening(store)) == "answers NOPERM"
    seen = await store.look(NAME)
    fence = await store.claim(NAME, "me", seen.version, 5.0)
    assert fence is not None
    assert await store.put(NAME, fence, TOKEN)
    await store.drop(NAME, MARK, 60.0)
    assert (await store.look(NAME, [MARK])).dead == {MARK}


# Servers that cannot do what they are asked


async def test_a_full_server(server: Valkey) -> None:
    """A server without memory says so; what it has is still there, and can be dropped."""
    store = RedisStore(server.url)
    seen = await store.look(NAME)
    fence = await store.claim(NAME, "me", seen.version, 5.0)
    assert fence is not None
    assert await store.put(NAME, fence, TOKEN)
    server.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    assert (await store.look(NAME)).token is not None
    assert await refusal(store.claim(NAME, "me", fence, 5.0)) == "answers OOM"
    assert await refusal(store.look("other")) == "answers OOM"
    await store.drop(NAME, MARK, 60.0)
    seen = await store.look(NAME, [MARK])
    assert seen.version > fence
    assert seen.token is None
    assert seen.dead == {MARK}


async def test_a_replica(server: Valkey, tmp_path: Path) -> None:
    """A replica can be looked at, and says that it takes nothing."""
    store = RedisStore(server.url)
    seen = await store.look(NAME)
    with closed_port() as port:
        server.do("REPLICAOF", "127.0.0.1", port)
        assert await store.look(NAME) == seen
        assert await refusal(store.claim(NAME, "me", seen.version, 5.0)) == "answers READONLY"
        assert await refusal(store.drop(NAME, MARK, 5.0)) == "answers READONLY"
        assert await refusal(store.look("other")) == "answers READONLY"
        server.do("REPLICAOF", "NO", "ONE")
    await round_trip(store)


async def test_a_server_that_is_loading(tmp_path: Path) -> None:
    """A server that reads what it has from a disk says so."""
    with run_valkey(tmp_path, "--rdbcompression", "no") as server:
        with server.connect() as connection:
            for number in range(1000):
                connection.do("SET", f"key-{number}", "x" * 2000)
            connection.do("SAVE")
        server.stop()
        # Some 20 s in all, and a look at its clients after each key.
        delays = "--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"
        server.start(*delays)
        assert await refusal(RedisStore(server.url).look(NAME)) == "answers LOADING"


ANSWERS = {
    "-ASK 3999 10.0.0.1:6381\r\n": "answers ASK",
    "-CLUSTERDOWN Hash slot not served\r\n": "answers CLUSTERDOWN",
    "-TRYAGAIN Multiple keys request during rehashing of slot\r\n": "answers TRYAGAIN",
    "-LOADING Valkey is loading the dataset in memory\r\n": "answers LOADING",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.\r\n": (
        "answers MASTERDOWN"
    ),
    "-MISCONF Errors writing to the AOF file: No space left on device\r\n": "answers MISCONF",
    "-NOREPLICAS Not enough good replicas to write.\r\n": "answers NOREPLICAS",
    "-BUSY Valkey is busy running a script.\r\n": "answers BUSY",
    "-ERR unknown command 'EVAL', with args beginning with: 'the record' \r\n": (
        "answers ERR unknown command"
    ),
    "-ERR Protocol error: the record\r\n": "answers ERR",
    # As Redis 6 says it.
    "-ERR Error running script (call to f_01ab): @user_script:1: @user_script: 1: "
    "-READONLY You can't write against a read only replica.\r\n": "answers READONLY",
    "-ERR Error running script (call to f_01ab): @user_script:1: @user_script: 1: "
    "-OOM command not allowed when used memory > 'maxmemory'.\r\n": "answers OOM",
    "-ERR Error running script (call to f_01ab): @user_script:1: "
    "WRONGTYPE Operation against a key holding the wrong kind of value\r\n": "answers WRONGTYPE",
    "-ERR Error running script (call to f_01ab): @user_script:1: @user_script: 1: "
    "The user executing the script can't run this command or subcommand\r\n": "answers NOPERM",
    "-ERR Error running script (call to f_01ab): @user_script:1: @user_script: 1: "
    "Unknown Redis command called from Lua script\r\n": "answers ERR",
    # What is no answer.
    "": "the connection was lost",
    "the record\r\n": "cannot be asked (InvalidResponse)",
    "+OK\r\n": "gives an answer that makes no sense",
    ":1\r\n": "gives an answer that makes no sense",
    "*1\r\n+the record\r\n": "gives an answer that makes no sense",
    "*11\r\n" + "+the record\r\n" * 11: "gives an answer that makes no sense",
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_error_is_its_code(answer: str) -> None:
    """Of what a server answers, the code is told, and no other word: it may quote anything."""
    async with open_answering(GREETING, answer.encode() or None) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == ANSWERS[answer]


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (None, "the connection was lost"),
        (b"-ERR unknown command 'HELLO'\r\n", "answers ERR unknown command"),
        (b"-NOPROTO unsupported protocol version\r\n", "answers NOPROTO"),
        (b"-ERR max number of clients reached\r\n", "cannot be asked (ConnectionError)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "cannot be asked (InvalidResponse)"),
        (b"+OK\r\n", "cannot be asked (AssertionError)"),
    ],
)
async def test_a_greeting_that_is_none(
    greeting: bytes | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no server, or takes nobody more, is told as briefly, and nothing is logged."""
    caplog.set_level(logging.DEBUG)
    async with open_answering(greeting) as port:
        store = RedisStore(f"redis://:{ENCODED}@127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == said
        assert await refusal(listening(store)) == said
    assert caplog.records == []


class Nameless(trio.abc.HostnameResolver):
    """Knows no host."""

    async def getaddrinfo(self, *args: object, **kwargs: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *args: object, **kwargs: object) -> NoReturn:
        raise AssertionError


async def test_a_name_that_nobody_knows() -> None:
    """A slip in the host's name is told as one, and not as the name of a C function."""
    trio.socket.set_custom_hostname_resolver(Nameless())
    store = RedisStore("redis://valkey.example")
    assert await refusal(store.look(NAME)) == "the host's name cannot be looked up"
    assert await refusal(listening(store)) == "the host's name cannot be looked up"


async def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """Each question is one attempt, and coredis logs none of them."""
    caplog.set_level(logging.DEBUG)
    with closed_port() as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        for _ in range(10):
            assert await refusal(store.look(NAME)) == "cannot be asked (ConnectionRefusedError)"
            assert await refusal(listening(store)) == "cannot be asked (ConnectionRefusedError)"
    store = RedisStore("unix:///does/not/exist")
    assert await refusal(store.look(NAME)) == "cannot be asked (FileNotFoundError)"
    assert caplog.records == []


async def test_clients_of_others_are_logged_as_before(caplog: pytest.LogCaptureFixture) -> None:
    """What coredis logs of the program's own clients is left alone, also at the same time."""
    async with open_answering(b"+OK\r\n") as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")

        async def ask() -> None:
            await refusal(store.look(NAME))

        async def use_own_client() -> None:
            with pytest.raises(ExceptionGroup):
                async with coredis.Redis(host="127.0.0.1", port=port) as client:
                    await client.ping()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(use_own_client)
    assert {record.name for record in caplog.records} == {"coredis"}


# Servers that hang


async def test_a_server_that_hangs(server: Valkey) -> None:
    """A question to a server that says nothing ends when its asker has waited long enough."""
    store = RedisStore(server.url)
    server.pause()
    with trio.move_on_after(0.2) as limit:
        await store.look(NAME)
    assert limit.cancelled_caught
    with trio.move_on_after(0.2) as limit:
        await listening(store)
    assert limit.cancelled_caught


async def test_a_server_that_hangs_after_its_greeting() -> None:
    """The same where the connection is there already."""
    async with open_answering(GREETING, b"*2\r\n:1\r\n", b"") as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        with trio.move_on_after(0.2) as limit:
            await store.look(NAME)
        assert limit.cancelled_caught


async def test_a_server_that_nobody_reaches() -> None:
    """Where no connection comes about, that is told before the asker loses patience."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        # With a queue that is full, so that who comes next gets no answer.
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        store = RedisStore(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with trio.fail_after(PATIENCE):
            assert await refusal(store.look(NAME)) == "cannot be asked (TimeoutError)"


# What a session makes of it


async def test_a_restart_in_the_middle(server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """While the server is away each process has a token of its own, and says so once."""
    managers = [FakeTokenManager(make_config()) for _ in range(2)]
    for number, manager in enumerate(managers):
        manager.granted = 100 * number
    async with (
        SharedTokenManager(managers[0], RedisStore(server.url)) as first,
        SharedTokenManager(managers[1], RedisStore(server.url)) as second,
    ):
        shared = [first, second]
        tokens = [await one.get_tokens_client_credentials_grant() for one in shared]
        assert tokens[0].access_token == tokens[1].access_token
        server.stop()
        for _ in range(3):
            tokens = [await one.get_tokens_client_credentials_grant() for one in shared]
            assert tokens[0].access_token != tokens[1].access_token
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2
        assert set(said) == {
            f"the token store fails (127.0.0.1:{server.port}: cannot be asked "
            "(ConnectionRefusedError)): until it answers again, this process gets its own tokens"
        }
        server.start()
        caplog.clear()
        caplog.set_level(logging.INFO)
        tokens = [await one.get_tokens_client_credentials_grant() for one in shared]
        assert tokens[0].access_token == tokens[1].access_token
        assert [record.getMessage() for record in caplog.records] == [
            "the token store answers again"
        ] * 2


async def test_a_server_that_hangs_costs_a_getter_two_seconds(server: Valkey) -> None:
    """A getter is served while the server hangs, and the token is shared once it goes on."""
    async with (
        SharedTokenManager(FakeTokenManager(make_config()), RedisStore(server.url)) as shared,
        SharedTokenManager(FakeTokenManager(make_config()), RedisStore(server.url)) as other,
    ):
        server.pause()
        with trio.fail_after(PATIENCE):
            token = await shared.get_tokens_client_credentials_grant()
        assert token.access_token == "token-1"
        server.resume()
        token = await shared.get_tokens_client_credentials_grant()
        assert (
            await other.get_tokens_client_credentials_grant()
        ).access_token == token.access_token


# Interrupts


@pytest.mark.parametrize("does", ["look", "listen"])
def test_a_real_interrupt(tmp_path: Path, does: str) -> None:
    """Ctrl-C in the middle of a question comes out as what it is."""
    with run_valkey(tmp_path) as server:
        store = RedisStore(server.url)
        questions: dict[str, Callable[[], Awaitable[object]]] = {
            "look": lambda: store.look(NAME),
            "listen": lambda: listening(store),
        }

        async def main() -> None:
            # The signal comes while all tasks wait, and so to the main one.
            interrupter.start()
            await questions[does]()

        interrupter = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
        server.pause()
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
        interrupter.join()
