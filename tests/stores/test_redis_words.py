"""Tests of what a Valkey server says: no word of it is logged, raised or looked up as a host."""

from __future__ import annotations

import logging
import socket
from typing import NoReturn

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session.stores import RedisStore, SharedTokenManager

from .answering import GREETING, open_answering, slot_map
from .kit import NAME, listening, refusal

pytestmark = pytest.mark.slow

SECRETS = ["SECRETTOKEN", "SECRET-x", "-SECRET", "secret9token"]
PLACES = {
    "first word": "-{} said\r\n",
    "only word": "-{}\r\n",
    "blob error": "!{length}\r\n{}\r\n",
    "host of MOVED": "-MOVED 3999 {}:6379\r\n",
    "port of MOVED": "-MOVED 3999 127.0.0.1:{}\r\n",
    "slot of MOVED": "-MOVED {} 127.0.0.1:6379\r\n",
    "all of MOVED": "-MOVED {}\r\n",
    "host of ASK": "-ASK 3999 {}:6379\r\n",
    "all of ASK": "-ASK {}\r\n",
    "text of WRONGPASS": "-WRONGPASS invalid {}\r\n",
    "text of NOPERM": "-NOPERM {}: {}\r\n",
    "text of ERR": "-ERR {}: {}\r\n",
    "code in a script's error": "-ERR Error running script: @user_script: 1: -{} no\r\n",
    "unknown command": "-ERR unknown command '{}'\r\n",
    "too many clients": "-ERR max number of clients reached {}\r\n",
    "simple string": "+{}\r\n",
    "big number": "({}\r\n",
    "length": "${}\r\n",
    "no type": "{}\r\n",
    "verbatim string": "={length}\r\n{}\r\n",
    "members": "*11\r\n" + "+{}\r\n" * 11,
}


def answer_in(place: str, secret: str) -> bytes:
    """Return an answer with the secret in a place."""
    return PLACES[place].format(*[secret] * 11, length=len(secret.encode())).encode()


class Resolver(trio.abc.HostnameResolver):
    """A resolver that knows no host, and keeps the names that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def getaddrinfo(self, host: object, *args: object, **kwargs: object) -> NoReturn:
        self.asked.append(host)
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *args: object, **kwargs: object) -> NoReturn:
        raise AssertionError


@pytest.fixture(autouse=True)
def all_records(caplog: pytest.LogCaptureFixture) -> None:
    """Collect log records of all levels."""
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize("when", ["greeting", "answer"])
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", PLACES)
async def test_no_word_of_a_server_is_shown(
    place: str, secret: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No exception, log record or name look-up contains a word that the server sent."""
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    said = answer_in(place, secret)
    async with open_answering(*([GREETING] if when == "answer" else []), said, said, None) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        shown = [await refusal(store.look(NAME))]
        # A subscription waits after an answer that is no error, and then times out.
        if said[:1] in b"-!":
            shown.append(await refusal(store.claim(NAME, "me", 1, 5.0)))
            shown.append(await refusal(listening(store)))
    shown += [caplog.text, *map(str, resolver.asked)]
    assert [text for text in shown if "SECR" in text.upper()] == []


async def test_trouble_shows_no_word_of_a_server(caplog: pytest.LogCaptureFixture) -> None:
    """The problem that a manager logs and returns as `trouble` shows no word of the server."""
    async with open_answering(GREETING, b"-SECRETTOKEN\r\n", None) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        async with SharedTokenManager(FakeTokenManager(make_config()), store) as manager:
            await manager.get_tokens_client_credentials_grant()
            assert "answers ERR" in str(manager.trouble)
    assert "SECRET" not in caplog.text


NOT_LISTED = ", to a server that its slot map does not list"
LISTINGS = {
    "another host": (slot_map("10.0.0.9", 6379), NOT_LISTED),
    "another port": (slot_map("valkey.example", 1), NOT_LISTED),
    "nothing": (b"*0\r\n", NOT_LISTED),
    "a text": (b"+OK\r\n", NOT_LISTED),
    "wrong types": (b"*3\r\n:1\r\n*3\r\n:1\r\n:2\r\n:3\r\n*0\r\n", NOT_LISTED),
    "no permission": (b"-NOPERM no\r\n", ", and its slot map cannot be read: answers NOPERM"),
    "a redirect": (b"-MOVED 1 evil:1\r\n", ", and its slot map cannot be read: answers MOVED"),
}


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_redirect_to_a_server_that_is_not_in_the_slot_map(
    listing: str,
) -> None:
    """The store does not follow a redirect to a host or port that the slot map does not list."""
    slots, said = LISTINGS[listing]
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    async with open_answering(GREETING, b"-MOVED 3999 valkey.example:6379\r\n", slots) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == f"answers MOVED{said}"
    assert "valkey.example" not in str(resolver.asked)


@pytest.mark.parametrize("host", ["?", "a b", "the-password.example", "x" * 300])
async def test_a_listed_host_that_cannot_be_one(host: str) -> None:
    """The store looks up no host that is not a host name or that contains the password."""
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    async with open_answering(
        GREETING, b"-MOVED 3999 %s:6379\r\n" % host.encode(), slot_map(host, 6379)
    ) as port:
        store = RedisStore(f"redis://:the-password@127.0.0.1:{port}")
        assert host not in await refusal(store.look(NAME))
    assert host not in map(str, resolver.asked)


async def test_a_redirect_within_the_slot_map() -> None:
    """The store follows a redirect to a server that the slot map lists."""
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    async with open_answering(
        GREETING, b"-MOVED 3999 valkey.example:6379\r\n", slot_map("valkey.example", 6379)
    ) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        assert await refusal(store.look(NAME)) == "the host's name cannot be looked up"
    assert "valkey.example" in str(resolver.asked)
