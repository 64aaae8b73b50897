"""Subscriptions over real sockets that bring no news: the process notices, and subscribes again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import FakeTokenManager, make_config
from trio_anon_session import AnonymousSession, TokenState
from trio_anon_session.stores import (
    RedisStore,
    SharedTokenManager,
    _access,
    _coredis,
    _link,
    _redis,
)

from .faulty import get_all
from .relay import Relay, open_relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .valkey import Valkey

pytestmark = pytest.mark.slow

TEST_AFTER, RENEW_AFTER = 0.5, 1.0
"""Seconds, here; ten times less than usual."""


@pytest.fixture(autouse=True)
def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    monkeypatch.setattr(_redis, "TEST_AFTER", TEST_AFTER)
    monkeypatch.setattr(_coredis, "RENEW_AFTER", RENEW_AFTER)
    monkeypatch.setattr(_coredis, "LISTEN_TIMEOUT", 0.5)


@asynccontextmanager
async def open_pair(relay: Relay) -> AsyncIterator[tuple[AnonymousSession, AnonymousSession]]:
    """Two sessions that share a token through a relay, as two processes would."""
    source = FakeTokenManager(make_config(refresh="on_request"))
    url = f"valkey://127.0.0.1:{relay.port}"
    async with (
        SharedTokenManager(source, RedisStore(url)) as one,
        SharedTokenManager(source, RedisStore(url)) as two,
        AnonymousSession(source.config, one) as first,
        AnonymousSession(source.config, two) as second,
    ):
        yield first, second


async def drop_is_heard(dropping: AnonymousSession, other: AnonymousSession, dead: str) -> float:
    """Drop a token, and return the seconds until the other session no longer has it."""
    began_at = trio.current_time()
    dropping.invalidate(dead)
    with trio.fail_after(30.0):
        await other.states.wait_value(TokenState.EMPTY)
    return trio.current_time() - began_at


@pytest.mark.parametrize("what", ["forgets", "leads elsewhere"])
async def test_promise_17_a_drop_is_heard_after_a_connection_was_lost_unnoticed(
    server: Valkey, other_server: Valkey, what: str
) -> None:
    """A router that forgets connections, and a name that leads to another server."""
    async with open_relay(server.port) as relay, open_pair(relay) as (dropping, other):
        await get_all([dropping, other])
        made_before = relay.count
        if what == "forgets":
            relay.forget()
        else:
            relay.target = other_server.port
        # After this time, each connection was tested or replaced, unless the machine is busy.
        await trio.sleep(RENEW_AFTER + 2 * TEST_AFTER + 2.0)
        # Without these tests, the processes would only look from time to time, and get no
        # notifications.
        with trio.fail_after(60.0):
            while len([each for each in relay.subscribers if each >= made_before]) < 2:  # noqa: ASYNC110  # the relay has no event for it
                await trio.sleep(0.01)
        dead = await dropping.get_access_token()
        assert await other.get_access_token() == dead
        assert await drop_is_heard(dropping, other, dead) < 1.0


async def test_a_connection_from_before_proves_nothing(
    server: Valkey, other_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a name moves, the connection for questions is old too: both lead to the old server."""
    monkeypatch.setattr(_coredis, "RENEW_AFTER", 60.0)
    monkeypatch.setattr(_redis, "TEST_MAX_AGE", 0.1)
    async with open_relay(server.port) as relay, open_pair(relay) as pair:
        await get_all([*pair])
        made_before = relay.count
        relay.target = other_server.port
        with trio.fail_after(10.0):
            while len([each for each in relay.subscribers if each >= made_before]) < 2:  # noqa: ASYNC110  # the relay has no event for it
                await trio.sleep(0.01)


async def test_promise_17_a_drop_is_heard_where_nobody_may_publish(
    server: Valkey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes look for themselves, and say so."""
    # On a busy machine, an answer of the store may take longer than usual.
    for module in (_access, _link):
        monkeypatch.setattr(module, "STORE_TIMEOUT", 20.0)
    server.do("ACL", "SETUSER", "default", "-publish")
    async with open_relay(server.port) as relay, open_pair(relay) as (dropping, other):
        (dead,) = set(await get_all([dropping, other]))
        assert await drop_is_heard(dropping, other, dead) < 1.0
        await trio.sleep(1.5)
    assert "sends no notifications" in caplog.text
    assert "NOPERM" in caplog.text
