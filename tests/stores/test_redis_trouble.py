"""Tests of `RedisStore` with servers that refuse calls, break or hang: errors and their texts."""

from __future__ import annotations

import inspect
import logging
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

import coredis
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config
from tests.ports import closed_port
from trio_anon_session.stores import RedisStore, SharedTokenManager, StoreError

from .answering import GREETING, open_answering
from .kit import MARK, NAME, kept, listening, refusal, round_trip
from .valkey import PATIENCE, ServerError, Valkey, run_valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

PASSWORD = "p@ss/word%?#"
ENCODED = "p%40ss%2Fword%25%3F%23"


def with_user(server: Valkey, user: str) -> str:
    """Return the URL of a server with user and password."""
    return server.url.replace("//", f"//{user}@")


# Users


@pytest.mark.parametrize("user", [f":{ENCODED}", f"default:{ENCODED}"])
async def test_a_password_is_sent_decoded(server: Valkey, user: str) -> None:
    """The server gets the password without the percent-encoding of the URL."""
    server.do("CONFIG", "SET", "requirepass", PASSWORD)
    await round_trip(RedisStore(with_user(server, user)))
    await round_trip(RedisStore(f"unix://{user}@{server.socket_path}"))
    assert await refusal(RedisStore(server.url).look(NAME)) == "answers NOAUTH"
    assert await refusal(listening(RedisStore(server.url))) == "answers NOAUTH"
    wrong = RedisStore(with_user(server, f"{user}x"))
    assert await refusal(wrong.look(NAME)) == "answers WRONGPASS"
    assert await refusal(listening(wrong)) == "answers WRONGPASS"


def acl_commands() -> list[list[str]]:
    """Return the commands in the docstring of `RedisStore` that create a user."""
    docstring = inspect.getdoc(RedisStore) or ""
    commands = [line.split() for line in docstring.splitlines() if "ACL SETUSER" in line]
    return [[word.replace("PASSWORD", PASSWORD) for word in command] for command in commands]


def as_user(server: Valkey, *changes: str) -> RedisStore:
    """Return a store that connects as the docstring's user, after these changes of its rights."""
    for command in acl_commands():
        server.do(*command)
    server.do("ACL", "SETUSER", "tas", *changes)
    return RedisStore(with_user(server, f"tas:{ENCODED}"))


async def test_the_user_of_the_docstring_suffices(server: Valkey) -> None:
    """A user with the rights of the docstring can do all that a store needs, and nothing else."""
    await round_trip(as_user(server))
    with server.connect() as connection:
        connection.do("AUTH", "tas", PASSWORD)
        for command in (["GET", "tas:1"], ["TTL", "tas:1"], ["TYPE", "other"], ["KEYS", "*"]):
            with pytest.raises(ServerError, match="NOPERM"):
                connection.do(*command)
        with pytest.raises(ServerError, match="NOPERM"):
            connection.do("SUBSCRIBE", "other")


RIGHTS = [word for command in acl_commands() for word in command if word.startswith("+")]
NEWS = ["+publish", "+subscribe"]
"""Rights that only notifications need: see test_check_store_with_a_server."""


@pytest.mark.parametrize("right", [right for right in RIGHTS if right not in NEWS])
async def test_each_right_of_the_docstring_is_needed(server: Valkey, right: str) -> None:
    """Without any one of the rights in the docstring, a call fails with NOPERM."""
    store = as_user(server, right.replace("+", "-"))
    # Some permissions are needed only for a keepalive, after some time without notifications.
    with pytest.raises(StoreError, match="answers NOPERM"), trio.fail_after(PATIENCE):
        async with store.listen(NAME) as wait_for_news:
            await round_trip(store)
            while True:
                await wait_for_news()


# Servers that refuse requests


async def test_a_full_server(server: Valkey) -> None:
    """A server without memory rejects new data, but its token can still be read and dropped."""
    store = RedisStore(server.url)
    fence = await kept(store)
    server.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    assert (await store.look(NAME)).token is not None
    assert await refusal(store.claim(NAME, "owner", fence, 5.0)) == "answers OOM"
    assert await refusal(store.look("other")) == "answers OOM"
    await store.drop(NAME, MARK, 60.0)
    seen = await store.look(NAME, [MARK])
    assert seen.version > fence
    assert seen.token is None
    assert seen.dead == {MARK}


async def test_a_replica(server: Valkey, tmp_path: Path) -> None:
    """A replica answers looks at known names, and rejects writes with READONLY."""
    store = RedisStore(server.url)
    seen = await store.look(NAME)
    with closed_port() as port:
        server.do("REPLICAOF", "127.0.0.1", port)
        assert await store.look(NAME) == seen
        assert await refusal(store.claim(NAME, "owner", seen.version, 5.0)) == "answers READONLY"
        assert await refusal(store.drop(NAME, MARK, 5.0)) == "answers READONLY"
        assert await refusal(store.look("other")) == "answers READONLY"
        server.do("REPLICAOF", "NO", "ONE")
    await round_trip(store)


ANSWERS = {
    "-ASK 3999 10.0.0.1:6381\r\n": "answers ASK",
    "-CLUSTERDOWN Hash slot not served\r\n": "answers CLUSTERDOWN",
    "-TRYAGAIN Multiple keys request during rehashing of slot\r\n": "answers TRYAGAIN",
    "-LOADING Valkey is loading the dataset in memory\r\n": "answers LOADING",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.\r\n": (
        "answers MASTERDOWN"
    ),
    "-BUSY Valkey is busy running a script.\r\n": "answers BUSY",
    "-ERR unknown command 'EVAL', with args beginning with: 'the record' \r\n": (
        "answers ERR unknown command"
    ),
    "-ERR Protocol error: the record\r\n": "answers ERR",
    # These are the texts of Redis 6.
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
    # These are not valid answers.
    "": "the connection was lost",
    "the record\r\n": "the request failed (InvalidResponse)",
    "+OK\r\n": "sent an answer in an unknown format",
    ":1\r\n": "sent an answer in an unknown format",
    "*1\r\n+the record\r\n": "sent an answer in an unknown format",
    "*11\r\n" + "+the record\r\n" * 11: "sent an answer in an unknown format",
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_error_shows_only_its_code(answer: str) -> None:
    """An error shows only the code of the server's answer, because its text may quote a record."""
    async with open_answering(GREETING, answer.encode() or None) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == ANSWERS[answer]


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (None, "the connection was lost"),
        (b"-ERR unknown command 'HELLO'\r\n", "answers ERR unknown command"),
        (b"-NOPROTO unsupported protocol version\r\n", "answers NOPROTO"),
        (b"-ERR max number of clients reached\r\n", "the request failed (ConnectionError)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the request failed (InvalidResponse)"),
        (b"+OK\r\n", "the request failed (AssertionError)"),
    ],
)
async def test_an_invalid_greeting(
    greeting: bytes | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that rejects clients or is no such server causes a short error, and no log record."""
    caplog.set_level(logging.DEBUG)
    async with open_answering(greeting) as port:
        store = RedisStore(f"redis://:{ENCODED}@127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == said
        assert await refusal(listening(store)) == said
    assert caplog.records == []


class Nameless(trio.abc.HostnameResolver):
    """A resolver that knows no host."""

    async def getaddrinfo(self, *args: object, **kwargs: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *args: object, **kwargs: object) -> NoReturn:
        raise AssertionError


async def test_an_unknown_host_name() -> None:
    """The error for an unknown host name says that the lookup failed."""
    trio.socket.set_custom_hostname_resolver(Nameless())
    store = RedisStore("redis://valkey.example")
    assert await refusal(store.look(NAME)) == "the host's name cannot be looked up"
    assert await refusal(listening(store)) == "the host's name cannot be looked up"


async def test_a_missing_server(caplog: pytest.LogCaptureFixture) -> None:
    """A call to a missing server raises an error with its cause, and logs nothing."""
    caplog.set_level(logging.DEBUG)
    with closed_port() as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        for _ in range(10):
            assert await refusal(store.look(NAME)) == "the request failed (ConnectionRefusedError)"
            assert await refusal(listening(store)) == "the request failed (ConnectionRefusedError)"
    store = RedisStore("unix:///does/not/exist")
    assert await refusal(store.look(NAME)) == "the request failed (FileNotFoundError)"
    assert caplog.records == []


async def test_clients_of_others_are_logged_as_before(caplog: pytest.LogCaptureFixture) -> None:
    """The coredis log of the program's own clients is kept, also during a call of the store."""
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


async def test_a_server_that_accepts_no_connection() -> None:
    """A call to a server that accepts no connection raises a timeout error."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        # The queue is full, so the next client gets no answer.
        listener.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        store = RedisStore(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with trio.fail_after(PATIENCE):
            assert await refusal(store.look(NAME)) == "the request failed (TimeoutError)"


async def test_a_caller_gets_a_token_while_the_server_hangs(server: Valkey) -> None:
    """A caller gets a token while the server hangs, and processes share one when it continues."""
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


@pytest.mark.parametrize("does", ["look", "listen"])
def test_a_real_interrupt(tmp_path: Path, does: str) -> None:
    """Ctrl-C during a call raises KeyboardInterrupt."""
    with run_valkey(tmp_path) as server:
        store = RedisStore(server.url)
        questions: dict[str, Callable[[], Awaitable[object]]] = {
            "look": lambda: store.look(NAME),
            "listen": lambda: listening(store),
        }

        async def interrupt() -> None:
            await wait_all_tasks_blocked()
            # Trio protects its system tasks, so it raises KeyboardInterrupt in the main task.
            signal.raise_signal(signal.SIGINT)

        async def main() -> None:
            trio.lowlevel.spawn_system_task(interrupt)
            await questions[does]()

        server.pause()
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
