"""Tests of encrypted records: keys, the server's data, and secrets that must not leak."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, traceback_with_locals
from tests.ports import closed_port
from trio_anon_session import AnonymousSession, ConfigError, TokenInfo
from trio_anon_session.stores import (
    MemoryStore,
    RedisStore,
    SharedTokenManager,
    StoredToken,
    StoreError,
    TokenStore,
    _access,
    _link,
    _watch,
)
from trio_anon_session.stores._records import name_of
from trio_anon_session.stores._sealing import Sealing, is_sealed

from .answering import GREETING, open_answering
from .kit import MARK, NAME, claimed, kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from trio.testing import MockClock

    from .valkey import Valkey

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))
RECORDS = st.text(st.characters(exclude_categories=["Cs"]))


# Keys


@given(st.binary(min_size=32, max_size=32), RECORDS)
def test_a_key_may_be_spelt_in_several_ways(key: bytes, record: str) -> None:
    """A key can be bytes, or base64 in either alphabet, with or without padding."""
    sealed = Sealing(key).seal(record, NAME, "token")
    for text in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        for spelling in (text, text.decode(), text.decode().rstrip("="), f"{text.decode()}\n"):
            assert Sealing(spelling).open(sealed, NAME, "token") == record
            assert Sealing([THIRD, spelling]).open(sealed, NAME, "token") == record


NO_KEYS: list[object] = [
    *("", b"", [], (), "passwordpassword", b"k3y" * 10, b"k3y" * 11 + b"k", "k3y " * 8),
    *(bytes(31), bytes(33), base64.b64encode(bytes(31)), base64.b64encode(bytes(33))),
    *("ü" * 32, "k3y!" * 11, 32, {FIRST}, [FIRST, "k3y"], [FIRST, None], [[FIRST]]),
]


@pytest.mark.parametrize("keys", NO_KEYS, ids=range(len(NO_KEYS)))
def test_an_invalid_key_is_rejected_and_not_shown(keys: object) -> None:
    """The error for an invalid key does not show it, also not in the frames of its traceback."""
    with pytest.raises(ConfigError) as caught:
        RedisStore("redis://cache", encryption_key=keys)  # type: ignore[arg-type]  # wrong types, too
    assert caught.value.field == "encryption_key"
    shown = "".join(traceback_with_locals(caught.value))
    assert "k3y" not in shown
    assert repr(FIRST)[2:-1] not in shown
    assert caught.value.__context__ is None


def test_no_key_is_shown_or_written_down() -> None:
    """The repr shows only the number of keys, and pickles and copies raise a TypeError."""
    sealing = Sealing([FIRST, SECOND])
    assert repr(sealing) == "<Sealing with 2 keys>"
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle"):
            write(sealing)


# Keys that open a record


@given(RECORDS, st.lists(st.sampled_from([FIRST, SECOND, THIRD]), min_size=1, unique=True))
def test_the_first_key_seals_and_all_open(record: str, keys: list[bytes]) -> None:
    """A record is encrypted with the first key, and any list with that key decrypts it."""
    sealed = Sealing(keys).seal(record, NAME, "token")
    assert is_sealed(sealed)
    for others in ([keys[0]], [THIRD, SECOND, FIRST], keys):
        assert Sealing(others).open(sealed, NAME, "token") == record
    rest = [key for key in (FIRST, SECOND, THIRD) if key != keys[0]]
    with pytest.raises(StoreError):
        Sealing(rest).open(sealed, NAME, "token")


def test_no_two_sealed_records_are_the_same() -> None:
    """Encrypting the same record again gives another text."""
    sealing = Sealing(FIRST)
    assert len({sealing.seal("the record", NAME, "token") for _ in range(100)}) == 100


WRONG = re.escape("the stored record cannot be decrypted with the encryption keys given")


@given(st.data())
def test_a_record_that_was_changed_does_not_open(data: st.DataObject) -> None:
    """An encrypted record with a changed or missing character cannot be decrypted."""
    sealing = Sealing([FIRST, SECOND])
    sealed = sealing.seal("the record", NAME, "token")
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.text(max_size=2).filter(lambda text: text != sealed[place]))
    changed = sealed[:place] + other + sealed[place + 1 :]
    try:
        opened = sealing.open(changed, NAME, "token")
    except StoreError as error:
        shown = str(error), error.__context__
        assert shown == (
            "the stored record cannot be decrypted with the encryption keys given",
            None,
        )
    else:
        # The last character of base64 has unused bits.
        assert opened == "the record"
        assert place == len(sealed.rstrip("=")) - 1


@given(RECORDS)
def test_what_was_never_sealed_does_not_open(record: str) -> None:
    """With a key, plain records are rejected, also if they have the prefix of encrypted ones."""
    for text in (record, f"sealed1.{record}", f"sealed1.{record}.{record}"):
        with pytest.raises(StoreError, match=WRONG):
            Sealing(FIRST).open(text, NAME, "token")


@pytest.mark.parametrize("place", [("other", "token"), (NAME, "failure"), ("", f"{NAME}token")])
def test_a_record_opens_only_in_its_place(place: tuple[str, str]) -> None:
    """A record that was moved to another name or another kind cannot be decrypted."""
    sealing = Sealing(FIRST)
    sealed = sealing.seal("the record", NAME, "token")
    with pytest.raises(StoreError, match=WRONG):
        sealing.open(sealed, *place)


# With a server


async def fail(store: RedisStore) -> None:
    """Release a lease with a failure."""
    await store.release(NAME, await claimed(store), "the failure", 3.0)


@pytest.mark.slow
async def test_a_record_that_was_moved_is_refused(server: Valkey) -> None:
    """A token or failure that was moved to another key of the server is read as no token."""
    store = RedisStore(server.url, encryption_key=FIRST)
    await kept(store)
    await fail(store)
    server.do("RENAME", f"tas:{{{NAME}}}:token", "tas:{other}:token")
    refused = StoredToken("", "", 0.0, 0.0)
    assert (await store.look("other")).token == refused
    failure = server.do("HGET", f"tas:{{{NAME}}}:failure", "record")
    server.do("HSET", "tas:{other}:token", "record", failure)
    server.do("RENAME", "tas:{other}:token", f"tas:{{{NAME}}}:token")
    assert (await store.look(NAME)).token == refused


@pytest.mark.slow
@pytest.mark.parametrize("leave", [kept, fail])
async def test_keys_are_changed_one_after_the_other(
    server: Valkey, leave: Callable[[RedisStore], Awaitable[object]]
) -> None:
    """A store with the old and the new key decrypts the records of either one."""
    old, both, new, new_alone = (
        RedisStore(server.url, encryption_key=keys)
        for keys in (FIRST, [FIRST, SECOND], [SECOND, FIRST], SECOND)
    )
    for writer in (old, both):
        await leave(writer)
        for reader in (old, both, new):
            await reader.look(NAME)
        with pytest.raises(StoreError, match=WRONG):
            await new_alone.look(NAME)
    server.do("FLUSHALL")
    await leave(new)
    for reader in (both, new, new_alone):
        await reader.look(NAME)
    with pytest.raises(StoreError, match=WRONG):
        await old.look(NAME)


@pytest.mark.slow
@pytest.mark.usefixtures("patient_stores")
async def test_processes_with_and_without_a_key_do_not_disturb_each_other(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Processes that cannot read a record log why, get their own tokens, and do not replace it."""

    def shared(number: int, store: RedisStore) -> SharedTokenManager:
        manager = FakeTokenManager(make_config())
        manager.granted = 100 * number
        return SharedTokenManager(manager, store)

    key = f"tas:{{{name_of(shared(0, RedisStore(server.url)).config)}}}:token"
    plain = [RedisStore(server.url) for _ in range(2)]
    sealed = [RedisStore(server.url, encryption_key=FIRST) for _ in range(2)]
    stranger = RedisStore(server.url, encryption_key=SECOND)
    for own, others, problem in (
        (plain, [*sealed, stranger], "cannot be decrypted with the encryption keys given"),
        (sealed, [*plain], "is encrypted, and this process has no encryption key"),
        (sealed, [stranger], "cannot be decrypted with the encryption keys given"),
    ):
        server.do("FLUSHALL")
        caplog.clear()
        async with AsyncExitStack() as stack:
            managers = [
                await stack.enter_async_context(shared(number, store))
                for number, store in enumerate([*own, *others])
            ]
            tokens = [await one.get_tokens_client_credentials_grant() for one in managers]
            found = server.do("HGET", key, "record")
            tokens = [await one.get_tokens_client_credentials_grant() for one in managers]
        assert server.do("HGET", key, "record") == found
        texts = [token.access_token for token in tokens]
        assert texts[0] == texts[1] == "token-1"
        assert len(set(texts)) == 1 + len(others)
        assert len(caplog.records) == len(others)
        for record in caplog.records:
            assert f"the token store fails (the stored record {problem})" in record.getMessage()


# Leaks

PASSWORD = "Pw9canaryPasswordX4"
ACCESS_TOKEN = "Vw3canaryTokenZ5"
KEY = b"Ek5canaryKeyH2" + bytes(18)
# The canaries as plain text, in base64 at each offset, and in hexadecimal digits.
CANARIES = [
    form
    for canary in (PASSWORD, ACCESS_TOKEN, "Ek5canaryKeyH2")
    for form in (
        canary,
        canary.encode().hex(),
        *(base64.b64encode(bytes(shift) + canary.encode()).decode()[4:-4] for shift in range(3)),
    )
]


class CanaryManager(FakeTokenManager):
    """A token manager whose tokens contain a canary."""

    def new_token(self, sent_at: float) -> TokenInfo:
        """Return a new token."""
        self.granted += 1
        text = f"{ACCESS_TOKEN}-{self.granted}"
        return TokenInfo.from_answer(text, self.lifetime, sent_at, self.config)


def canaries_in(text: str) -> list[str]:
    """Return the canaries that a text contains."""
    return [canary for canary in CANARIES if canary in text]


@pytest.mark.slow
@pytest.mark.usefixtures("patient_stores")
@pytest.mark.parametrize("keys", [None, KEY, [KEY, FIRST]])
async def test_the_data_in_the_server(server: Valkey, keys: Sequence[bytes] | None) -> None:
    """With an encryption key, the server's data do not contain the token.

    Without a key, they contain it until it is dropped.
    """
    store = RedisStore(server.url, encryption_key=keys)
    async with SharedTokenManager(CanaryManager(make_config()), store) as shared:
        token = await shared.get_tokens_client_credentials_grant()
        assert len(server.key_names()) == 2
        assert token.access_token.startswith(ACCESS_TOKEN)
        held = server.all_that_it_holds().decode("latin-1")
        assert canaries_in(held) == ([ACCESS_TOKEN] if keys is None else [])
        shared.drop(token)
    assert canaries_in(server.all_that_it_holds().decode("latin-1")) == []


@pytest.mark.slow
async def test_a_look_that_fails_shows_nothing_of_what_it_found(server: Valkey) -> None:
    """The traceback of a failed look contains no frame that shows the record."""
    await kept(RedisStore(server.url), token=StoredToken(ACCESS_TOKEN, MARK, 3600.0, 0.0))
    with pytest.raises(StoreError, match=WRONG) as caught:
        await RedisStore(server.url, encryption_key=KEY).look(NAME)
    assert canaries_in("".join(traceback_with_locals(caught.value))) == []
    answer = b"*2\r\n+1\r\n+%s\r\n" % ACCESS_TOKEN.encode()
    async with open_answering(GREETING, answer) as port:
        with pytest.raises(StoreError, match="in an unknown format") as caught:
            await RedisStore(f"redis://127.0.0.1:{port}").look(NAME)
    assert canaries_in("".join(traceback_with_locals(caught.value))) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeout of a store that hangs."""
    for module in (_access, _link, _watch):
        monkeypatch.setattr(module, "STORE_TIMEOUT", 0.5)


class Hunt:
    """Searches for secrets in the reprs, errors and log records of a store that fails."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        for name in ("coredis", "anyio", "trio", "trio_anon_session"):
            caplog.set_level(logging.DEBUG, logger=name)
        self._caplog = caplog
        self.errors = 0

    async def use(self, store: TokenStore) -> None:
        """Call each method of a store, and check its errors."""
        config = make_config(min_refresh_interval=0.01)
        shared = SharedTokenManager(CanaryManager(config), store)
        assert canaries_in(f"{store!r} {shared!r} {vars(store)!r}") == []
        async with shared, AnonymousSession(config, shared) as session:
            # This limit is a little longer than a call to a store that hangs.
            with trio.move_on_after(_access.STORE_TIMEOUT + 0.5):
                token = await session.get_access_token()
                await trio.sleep(0.1)
                session.invalidate(token)
                await session.get_access_token()

        async def listen() -> None:
            async with store.listen(NAME) as wait_for_news:
                await wait_for_news()

        asks: list[Callable[[], Awaitable[object]]] = [
            lambda: store.look(NAME),
            lambda: store.claim(NAME, "me", 1, 5.0),
            lambda: store.put(NAME, 1, StoredToken(ACCESS_TOKEN, MARK, 3600.0, 0.0)),
            lambda: store.release(NAME, 1, "failure", 1.0),
            lambda: store.drop(NAME, MARK, 60.0),
            listen,
        ]
        for ask in asks:
            with trio.move_on_after(0.1):
                shown = []
                try:
                    await ask()
                except Exception as error:
                    self.errors += 1
                    shown = traceback_with_locals(error)
                except trio.Cancelled as error:
                    shown = traceback_with_locals(error)
                    raise
                finally:
                    assert canaries_in("".join(shown)) == []

    def check_log(self) -> int:
        """Check the log records, and return their number."""
        shown = logging.Formatter("%(name)s %(message)s %(args)s")
        for record in self._caplog.records:
            assert canaries_in(shown.format(record)) == []
            assert record.name != "coredis"
        return len(self._caplog.records)


@asynccontextmanager
async def closed() -> AsyncIterator[int]:
    """Hold a port on which no server listens."""
    with closed_port() as port:
        yield port


PEERS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "no server": closed,
    "hangs up": lambda: open_answering(None),
    "hangs": open_answering,
    "hangs later": lambda: open_answering(GREETING),
    "breaks off": lambda: open_answering(GREETING, None),
    "hangs in an answer": lambda: open_answering(GREETING, b"$100\r\nx"),
    "talks nonsense": lambda: open_answering(b"HTTP/1.1 200 OK\r\n\r\n"),
    "answers nonsense": lambda: open_answering(GREETING, b"*1\r\n+OK\r\n"),
    "echoes": lambda: open_answering(echo, echo),
    "echoes later": lambda: open_answering(GREETING, echo),
    "echoes in a bulk": lambda: open_answering(
        GREETING, lambda sent: b"$%d\r\n" % len(sent) + sent
    ),
}


def echo(sent: bytes) -> bytes:
    """Answer with an error that quotes the request, as servers do for an unknown command."""
    return b"-ERR unknown command, with args beginning with: %s\r\n" % b" ".join(sent.split())


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("peer", PEERS)
async def test_no_peer_makes_a_store_show_a_secret(
    peer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With any peer, no error, log record or frame shows the password, the token or the key."""
    hunt = Hunt(caplog)
    async with PEERS[peer]() as port:
        for keys in (None, KEY):
            url = f"redis://me:{PASSWORD}@127.0.0.1:{port}"
            await hunt.use(RedisStore(url, encryption_key=keys))
    assert hunt.errors or "hangs" in peer or "echoes in" in peer
    assert hunt.check_log()


PASSWORD_SET = f"CONFIG SET requirepass {PASSWORD}"
TROUBLES = {
    "refuses the password": ["CONFIG SET requirepass another"],
    "forbids all": [f"ACL SETUSER default >{PASSWORD} -@all"],
    "is full": [f"{PASSWORD_SET} maxmemory 1"],
    "is read-only": ["REPLICAOF 127.0.0.1 1", PASSWORD_SET],
    "hangs": [],
    "works": [PASSWORD_SET],
}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_no_trouble_of_a_server_makes_a_store_show_a_secret(
    server: Valkey, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In any state of a server, no error, log record or frame shows password, token or key."""
    hunt = Hunt(caplog)
    for command in TROUBLES[trouble]:
        server.do(*command.split())
    if trouble == "hangs":
        server.pause()
    url = server.url.replace("//", f"//:{PASSWORD}@")
    for keys in (None, KEY):
        await hunt.use(RedisStore(url, encryption_key=keys))
    assert (hunt.errors > 0) is (trouble not in ("hangs", "works"))
    assert hunt.check_log()


async def test_a_cancelled_put_shows_no_token(autojump_clock: MockClock) -> None:
    """The traceback of a cancelled put contains no frame that shows the token."""

    class HangingStore(MemoryStore):
        async def put(self, name: str, fence: int, token: StoredToken) -> bool:
            await trio.sleep_forever()
            return False

    async with SharedTokenManager(CanaryManager(make_config()), HangingStore()) as shared:
        with trio.move_on_after(1.0):
            try:
                await shared.get_tokens_client_credentials_grant()
            except trio.Cancelled as error:
                shown = traceback_with_locals(error)
                raise
    assert canaries_in("".join(shown)) == []
