"""Tests of encrypted records that somebody with access to the server copies, moves or edits."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import Config, TokenInfo
from trio_anon_session.stores import RedisStore, SharedTokenManager, StoredToken
from trio_anon_session.stores._records import mark_of, name_of, token_record
from trio_anon_session.stores._sealing import Sealing

from .kit import claimed

if TYPE_CHECKING:
    from .valkey import Valkey

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("patient_stores")]

KEY = bytes(range(32))
LIFETIME = 3600.0
FIELDS = ("record", "mark", "lifetime", "fence", "ends")


def key_of(config: Config) -> str:
    """Return the server's key of a token."""
    return f"tas:{{{name_of(config)}}}:token"


async def put(store: RedisStore, config: Config, text: str, left: float) -> None:
    """Put a token into the store that expires in `left` seconds."""
    token = TokenInfo.from_answer(text, LIFETIME, 0.0, config)
    stored = StoredToken(
        token_record(token, config, "host/1/2"), mark_of(text), LIFETIME, LIFETIME - left
    )
    name = name_of(config)
    assert await store.put(name, await claimed(store, name, 5.0), stored)


def write_old_format(server: Valkey, config: Config, text: str) -> None:
    """Write a record as an earlier version did: bound only to its name and purpose."""
    token = TokenInfo.from_answer(text, LIFETIME, 0.0, config)
    record = token_record(token, config, "host/1/2")
    fields = {
        "record": Sealing(KEY).seal(record, name_of(config), "token"),
        "mark": mark_of(text),
        "lifetime": repr(LIFETIME),
    }
    server.do("DEL", key_of(config))
    server.do("HSET", key_of(config), *(part for pair in fields.items() for part in pair))
    server.do("PEXPIRE", key_of(config), 3_000_000)


@attrs.frozen
class Edit:
    """Something that is done to the token of one entry.

    Attributes:
        kind: what is done.
        field: the field to which it is done, if it is not done to the whole entry.
        value: the new value of the field.
    """

    kind: str
    field: str = ""
    value: str = ""

    def do(self, server: Valkey, own: Config, other: Config) -> None:
        """Edit the entry of `own`, partly with the content of the entry of `other`."""
        key, source = key_of(own), key_of(other)
        found = server.do("HGET", key, self.field) or b""
        replacement = server.do("HGET", source, self.field) or b""
        match self.kind:
            case "set":
                server.do("HSET", key, self.field, self.value)
            case "remove":
                server.do("HDEL", key, self.field)
            case "copy" if replacement:
                server.do("HSET", key, self.field, replacement)
            case "damage":
                record = server.do("HGET", key, "record")
                server.do("HSET", key, "record", record[:-8] + found)
            case "swap" if server.do("EXISTS", source):
                server.do("RENAME", source, key)
            case "persist":
                server.do("PERSIST", key)
            case "old format":
                write_old_format(server, own, "old-token")
            case "shift" if found.isdigit():
                server.do("HSET", key, self.field, int(found) + int(self.value))
        if self.kind != "persist":
            # More than this would be refused because of the lifetime, whatever the seal says.
            server.do("PEXPIRE", key, int(LIFETIME * 1000) - 1)


# A record without encryption, or with another key, belongs to another fleet, and is not replaced.
EDITS = st.one_of(
    st.builds(Edit, st.just("set"), st.sampled_from(FIELDS[1:]), st.text("0129.-e", max_size=14)),
    st.builds(Edit, st.just("remove"), st.sampled_from(FIELDS[1:])),
    st.builds(Edit, st.just("copy"), st.sampled_from(FIELDS)),
    st.builds(Edit, st.just("damage"), st.sampled_from(FIELDS[1:])),
    st.builds(
        Edit,
        st.just("shift"),
        st.sampled_from(["fence", "ends"]),
        st.integers(-(10**7), 10**7).map(str),
    ),
    st.sampled_from([Edit("extend"), Edit("persist"), Edit("swap"), Edit("old format")]),
)


@given(edits=st.lists(EDITS, min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
@example([Edit("extend")])
@example([Edit("persist")])
@example([Edit("swap")])
@example([Edit("old format")])
@example([Edit("shift", "ends", "3600000")])
@example([Edit("shift", "fence", "1")])
@example([Edit("copy", field) for field in FIELDS])
@example([Edit("copy", "record")])
def test_an_edited_record_is_refused_and_replaced(one_server: Valkey, edits: list[Edit]) -> None:
    """No process uses an expired or foreign token from an edited entry, and the next replaces it.

    The token in the entry has five seconds left, and the edits give it a longer remaining life.
    """

    async def main() -> None:
        own, other = (make_config(client_id=token_hex(8)) for _ in range(2))
        store = RedisStore(one_server.url, encryption_key=KEY)
        # Five seconds are less than `expired_buffer`, so no process uses it.
        await put(store, own, "expiring-token", 5.0)
        await put(store, other, "foreign-token", LIFETIME - 10.0)
        for edit in edits:
            edit.do(one_server, own, other)
        source = FakeTokenManager(own)
        async with SharedTokenManager(source, store) as manager:
            token = await manager.get_tokens_client_credentials_grant()
            assert token.access_token == "token-1"
            assert manager.statistics().refused_records == 1
            assert manager.trouble is None
        async with SharedTokenManager(source, store) as another:
            token = await another.get_tokens_client_credentials_grant()
            assert token.access_token == "token-1"
            assert another.statistics().refused_records == 0
        assert len(source.sent) == 1

    trio.run(main)


@pytest.mark.parametrize("left", [5.0, 1000.0])
async def test_a_copied_token_is_as_old_as_before(one_server: Valkey, left: float) -> None:
    """Within the accepted lateness, the record decides about the age, and not the key's TTL."""
    config = make_config(client_id=token_hex(8))
    store = RedisStore(one_server.url, encryption_key=KEY)
    await put(store, config, "a-token", left)
    one_server.do("PEXPIRE", key_of(config), int(left * 1000) + 500)
    seen = (await store.look(name_of(config))).token
    assert seen is not None
    assert seen.age >= LIFETIME - left


async def test_a_failure_that_was_copied_is_ignored(one_server: Valkey) -> None:
    """A failure under another fence than its own is no answer to a later attempt."""
    name = token_hex(16)
    store = RedisStore(one_server.url, encryption_key=KEY)
    await store.release(name, await claimed(store, name), "the failure", 3.0)
    assert (await store.look(name)).failure is not None
    one_server.do("HINCRBY", f"tas:{{{name}}}:failure", "fence", 1)
    assert (await store.look(name)).failure is None
