"""Tests of subscriptions over real sockets that get no notifications, and are opened again."""

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
    _coredis,
    _redis,
)

from .faulty import get_all
from .places import PATIENCE
from .relay import Relay, open_relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .valkey import Valkey

pytestmark = pytest.mark.slow

TEST_AFTER, RENEW_AFTER = 0.5, 1.0
"""Seconds; a tenth of the usual values."""


@pytest.fixture(autouse=True)
def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts of subscriptions."""
    monkeypatch.setattr(_redis, "TEST_AFTER", TEST_AFTER)
    monkeypatch.setattr(_coredis, "RENEW_AFTER", RENEW_AFTER)
    monkeypatch.setattr(_coredis, "LISTEN_TIMEOUT", 0.5)


@asynccontextmanager
async def open_pair(relay: Relay) -> AsyncIterator[tuple[AnonymousSession, AnonymousSession]]:
    """Open two sessions that share a token through a relay, like two processes."""
    source = FakeTokenManager(make_config(refresh="on_request"))
    url = f"valkey://127.0.0.1:{relay.port}"
    async with (
        SharedTokenManager(source, RedisStore(url)) as one,
        SharedTokenManager(source, RedisStore(url)) as two,
        AnonymousSession(source.config, one) as first,
        AnonymousSession(source.config, two) as second,
    ):
        yield first, second


async def has_listeners(server: Valkey, count: int) -> None:
    """Wait until `count` connections to a server have subscribed."""
    with trio.fail_after(PATIENCE):
        while server.do("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n") != count:  # noqa: ASYNC110  # servers send no event for it
            await trio.sleep(0.01)


async def drop_arrives(dropping: AnonymousSession, other: AnonymousSession, dead: str) -> None:
    """Drop a token, and wait until the other session no longer has it."""
    dropping.invalidate(dead)
    with trio.fail_after(PATIENCE):
        await other.states.wait_value(TokenState.EMPTY)


@pytest.mark.parametrize("what", ["forgets", "leads elsewhere"])
async def test_promise_17_a_drop_arrives_after_an_unnoticed_loss(
    server: Valkey, other_server: Valkey, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop is notified after a router lost the connections, or a name moved to another server."""
    async with open_relay(server.port) as relay, open_pair(relay) as (dropping, other):
        await get_all([dropping, other])
        await has_listeners(server, 2)
        if what == "forgets":
            relay.forget()
        else:
            relay.target = other_server.port
        # After this time, each connection was tested or replaced, unless the machine is busy.
        await trio.sleep(RENEW_AFTER + 2 * TEST_AFTER + 2.0)
        # Without these tests, the processes would only look from time to time, and get no
        # notifications.
        if what == "forgets":
            # The server does not know that the two connections from before are lost.
            await has_listeners(server, 4)
        else:
            await has_listeners(other_server, 2)
        # From now on, a process that gets no notification does not notice that in time.
        monkeypatch.setattr(_redis, "TEST_AFTER", 10 * PATIENCE)
        monkeypatch.setattr(_coredis, "LISTEN_TIMEOUT", 10 * PATIENCE)
        dead = await dropping.get_access_token()
        assert await other.get_access_token() == dead
        await drop_arrives(dropping, other, dead)


async def test_a_connection_from_before_proves_nothing(
    server: Valkey, other_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test message over an old connection does not count as proof that a subscription works.

    After a name has moved, both connections may lead to the old server.
    """
    monkeypatch.setattr(_coredis, "RENEW_AFTER", 60.0)
    monkeypatch.setattr(_redis, "TEST_MAX_AGE", 0.1)
    async with open_relay(server.port) as relay, open_pair(relay) as pair:
        await get_all([*pair])
        await has_listeners(server, 2)
        relay.target = other_server.port
        await has_listeners(other_server, 2)


@pytest.mark.usefixtures("patient_stores")
async def test_promise_17_a_drop_arrives_without_the_right_to_publish(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to publish, the processes find a drop by polling, and log that."""
    server.do("ACL", "SETUSER", "default", "-publish")
    async with open_relay(server.port) as relay, open_pair(relay) as (dropping, other):
        (dead,) = set(await get_all([dropping, other]))
        await drop_arrives(dropping, other, dead)
        with trio.fail_after(PATIENCE):
            while "sends no notifications" not in caplog.text:  # noqa: ASYNC110  # a log has no event
                await trio.sleep(0.01)
    assert "NOPERM" in caplog.text
