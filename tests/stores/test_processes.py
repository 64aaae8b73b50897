"""Tests with real processes that share a token: concurrent, killed, stopped, with other clocks.

The token server runs in the process of the test, so the test sees each request and decides when
the server answers. Each step waits for an event: a request that has arrived, or a line that a
process has written. A lease ends in real time.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.children import Child, run_child
from tests.stores.working import PATIENT, open_store
from trio_anon_session.stores._records import mark_of, name_of
from trio_anon_session.testing import TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from tests.stores.valkey import Valkey
    from trio_anon_session.stores import Look

    Message = MutableMapping[str, Any]

pytestmark = pytest.mark.slow

CODE = Path(__file__).with_name("working.py")
LIMIT = 100.0
"""Seconds; the limit for a test, also on a slow machine."""
HOUR = 3600.0
ROUNDING = 0.01
"""Seconds; more than the rounding errors of stores and clocks."""
SOON = 1.0
"""Seconds of a lease in tests that do not depend on its length."""


class SlowServer(TokenServer):
    """A token server whose test waits for requests, and decides when answers are sent."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._gate = trio.Event()
        self._gate.set()
        self._arrived, self._arrivals = trio.open_memory_channel[None](1000)

    def hold_answers(self) -> trio.Event:
        """Answer no later token request until the event is set."""
        self._gate = trio.Event()
        return self._gate

    def answer_at_once(self) -> None:
        """Answer later token requests immediately."""
        self.hold_answers().set()

    async def wait_for_request(self) -> None:
        """Return when the next token request has arrived and its answer is ready."""
        await self._arrivals.receive()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one ASGI connection."""
        if scope.get("path") == "/oauth2/token":
            gate = self._gate

            async def send_later(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._arrived.send_nowait(None)
                    await gate.wait()
                await send(message)

            await super().__call__(scope, receive, send_later)
        else:
            await super().__call__(scope, receive, send)


class Scene:
    """A token server, a store, and the processes that a test has started."""

    def __init__(
        self, server: SlowServer, url: str, where: dict[str, str], stack: AsyncExitStack
    ) -> None:
        self.server = server
        self.where = where
        self._url = url
        self._stack = stack
        self._name = name_of(server.config(url))

    async def start(
        self,
        count: int = 1,
        *,
        prefix: tuple[str, ...] = (),
        where: dict[str, str] | None = None,
        **settings: Any,
    ) -> list[Child]:
        """Start `count` processes, and return them when all are ready."""
        said = {"store": where or self.where, "url": self._url, "config": {}, **settings}
        children = [
            await self._stack.enter_async_context(run_child(CODE, json.dumps(said), prefix=prefix))
            for _ in range(count)
        ]
        for child in children:
            assert await child.receive("ready") == child.process.pid
        return children

    async def look(self) -> Look:
        """Look into the store."""
        return await open_store(self.where).look(self._name)

    async def has(self, token: str) -> bool:
        """Return whether the store has this token."""
        seen = await self.look()
        return seen.token is not None and seen.token.mark == mark_of(token)

    def ends_at(self, token: str) -> float:
        """Return when this token expires, on a clock that all processes share."""
        left = self.server.tokens[token].left_at(trio.current_time())
        return time.monotonic() + left

    def is_valid(self, token: str) -> bool:
        """Return whether the token server accepts this token now."""
        return self.server.tokens[token].verdict_at(trio.current_time()) == "good"


@asynccontextmanager
async def open_scene(where: dict[str, str], **settings: Any) -> AsyncIterator[Scene]:
    """Serve tokens while the block lasts, and end all processes afterwards."""
    with trio.fail_after(LIMIT):
        server = SlowServer(**({"lifetime": HOUR} | settings))
        async with open_loopback(server) as url, AsyncExitStack() as stack:
            yield Scene(server, url, where, stack)


async def ask(*children: Child) -> None:
    """Make each process get the token."""
    for child in children:
        await child.send(do="get")


async def answer_of(child: Child) -> str:
    """Return the token that a process got, and assert that the call did not fail."""
    got = await child.receive("got")
    assert "error" not in got
    token: str = got["token"]
    return token


async def get(child: Child) -> str:
    """Make a process get the token, and return the token."""
    await ask(child)
    return await answer_of(child)


async def wait_for_store(child: Child, seconds: float) -> None:
    """Set how many seconds a process waits for an answer of the store."""
    await child.send(do="wait", seconds=seconds)
    assert await child.receive("waits") == seconds


def failures_of(child: Child) -> int:
    """Return how many failures of the store a process has logged."""
    return sum("the token store fails" in said for said in child.received["logged"])


@pytest.fixture
def valkey(server: Valkey) -> Valkey:
    """Return the store's server; in this file, ``server`` is the token server."""
    return server


@pytest.fixture(params=["sqlite", "valkey"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the location of the store."""
    if request.param == "sqlite":
        return {"path": str(tmp_path / "tokens.db")}
    valkey: Valkey = request.getfixturevalue("valkey")
    return {"url": valkey.url}


async def pause_outside_of_a_transaction(child: Child, where: dict[str, str]) -> None:
    """Pause a process while it does not hold the lock of the file."""
    if "path" not in where:
        await child.pause()
        return
    with closing(sqlite3.connect(where["path"], timeout=LIMIT, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        await child.pause()
        database.execute("ROLLBACK")


@pytest.mark.quick
async def test_eight_processes_that_start_together(where: dict[str, str]) -> None:
    """Eight processes that find an empty store at the same time send one token request."""
    async with open_scene(where) as scene:
        children = await scene.start(8)
        await ask(*children)
        tokens = {await answer_of(child) for child in children}
        assert len(tokens) == 1
        assert scene.server.grants == 1


@pytest.mark.parametrize("answered", ["while it is stopped", "when it has woken"])
async def test_a_holder_that_is_stopped(where: dict[str, str], answered: str) -> None:
    """A process that continues after its lease uses the newer token, and does not replace it."""
    async with open_scene(where) as scene:
        server = scene.server
        holder, other = await scene.start(2, lease=SOON)
        late = server.hold_answers()
        await ask(holder)
        await server.wait_for_request()
        await pause_outside_of_a_transaction(holder, where)
        if answered == "while it is stopped":
            late.set()
        server.answer_at_once()
        newer = await get(other)
        assert server.grants == 2
        holder.resume()
        late.set()
        assert await answer_of(holder) == newer
        assert await scene.has(newer)
        assert server.grants == 2


async def test_killed_at_any_moment(where: dict[str, str]) -> None:
    """After a process is killed at any step, the others can still share tokens in the store."""
    async with open_scene(where) as scene:
        (survivor,) = await scene.start(lease=SOON, config={"min_refresh_interval": 0.01})
        for rounds in range(4):
            (busy,) = await scene.start(lease=SOON, config={"min_refresh_interval": 0.01})
            token = await get(busy)
            for _ in range(rounds):
                await busy.send(do="invalidate", token=token)
                token = await get(busy)
            # Kill the process during this call, at any step of it.
            await busy.send(do="invalidate", token=token)
            await ask(busy)
            await busy.kill()
            token = await get(survivor)
            await survivor.send(do="invalidate", token=token)
            token = await get(survivor)
            assert await scene.has(token)
            assert scene.is_valid(token)


async def test_a_restart_during_a_grant(valkey: Valkey) -> None:
    """A restart of the store's server during a request costs one grant per process at most.

    No caller gets an error, and a new process takes the shared token over.
    """
    async with open_scene({"url": valkey.url}) as scene:
        server = scene.server
        holder, other = await scene.start(2)
        answers = server.hold_answers()
        await ask(holder)
        await server.wait_for_request()
        await ask(other)
        valkey.stop()
        # This request comes from the other process, which cannot wait for a lease now.
        await server.wait_for_request()
        valkey.start()
        answers.set()
        kept = await answer_of(holder)
        alone = await answer_of(other)
        assert scene.is_valid(kept)
        assert scene.is_valid(alone)
        assert server.grants <= 3
        assert await scene.has(kept)
        before = server.grants
        (newcomer,) = await scene.start()
        assert await get(newcomer) == kept
        assert server.grants == before
        assert failures_of(other) == 1


async def test_a_store_that_hangs(where: dict[str, str], request: pytest.FixtureRequest) -> None:
    """While the store hangs, each process gets its own token and logs one failure.

    Afterwards, they share a token again.
    """
    async with open_scene(where) as scene, AsyncExitStack() as stack:
        children = await scene.start(2, config={"min_refresh_interval": 0.01})
        old = await get(children[0])
        assert await get(children[1]) == old
        if "path" in where:
            lock = json.dumps({"lock": where["path"]})
            hanging = await stack.enter_async_context(run_child(CODE, lock))
            assert await hanging.receive("locked")
            await hanging.pause()
        else:
            valkey: Valkey = request.getfixturevalue("valkey")
            valkey.pause()
        for child in children:
            await wait_for_store(child, 2.0)
            await child.send(do="invalidate", token=old)
        own = [await get(child) for child in children]
        assert len({old, *own}) == 3
        assert [failures_of(child) for child in children] == [1, 1]
        if "path" in where:
            await hanging.kill()
        else:
            valkey.resume()
        for child, token in zip(children, own, strict=True):
            await wait_for_store(child, PATIENT)
            await child.send(do="invalidate", token=token)
        await ask(*children)
        shared = {await answer_of(child) for child in children}
        assert len(shared) == 1
        assert await scene.has(shared.pop())
        # There is one grant for each of four tokens. A fifth one is discarded if the second process
        # reports its drop during the request, because a drop discards requests that began before
        # it.
        assert scene.server.grants in (4, 5)


# Clocks that differ


@pytest.mark.parametrize(
    ("where", "wall", "grants"),
    [
        pytest.param("valkey", -HOUR, 1, id="server, set back"),
        pytest.param("valkey", HOUR, 1, id="server, set forward"),
        pytest.param("sqlite", -HOUR, 1, id="file, set back"),
        pytest.param("sqlite", HOUR / 4, 1, id="file, set forward, within the lifetime"),
        pytest.param("sqlite", HOUR, 2, id="file, set forward, past the lifetime"),
    ],
    indirect=["where"],
)
async def test_wall_clocks_that_are_set_apart(
    where: dict[str, str], wall: float, grants: int
) -> None:
    """With different wall clocks, no process uses a token for longer than its lifetime.

    If the token has expired by the second process's clock, it costs one more request.
    """
    async with open_scene(where, lifetime=HOUR / 2) as scene:
        (first,) = await scene.start()
        (second,) = await scene.start(wall=wall)
        await ask(first)
        got = await first.receive("got")
        await ask(second)
        found = await second.receive("got")
        assert (found["token"] == got["token"]) == (grants == 1)
        assert scene.server.grants == grants
        assert found["ends_at"] <= scene.ends_at(found["token"]) + ROUNDING
        # With a server, only the server's clock counts.
        if "url" in where:
            assert found["ends_at"] > scene.ends_at(found["token"]) - LIMIT


@pytest.mark.parametrize("wall", [-HOUR, 0.0, HOUR])
async def test_a_token_that_has_expired(where: dict[str, str], wall: float) -> None:
    """No process hands out an expired token, whatever its wall clock shows."""
    async with open_scene(where, lifetime=2.0) as scene:
        (first,) = await scene.start(wall=-wall)
        dead = await get(first)
        await first.kill()
        (second,) = await scene.start(wall=wall)
        issued = scene.server.tokens[dead]
        await trio.sleep_until(issued.issued_at + issued.lifetime)
        assert not scene.is_valid(dead)
        await ask(second)
        got = await second.receive("got")
        assert got["token"] != dead
        assert got["at"] < scene.ends_at(got["token"])


# Read-only stores


async def test_a_read_only_file(tmp_path: Path) -> None:
    """A process that cannot write the file gets its own token, and the shared one once it can."""
    folder = tmp_path / "shared"
    folder.mkdir()
    file = folder / "tokens.db"
    async with open_scene({"path": str(file)}) as scene:
        (writer,) = await scene.start()
        shared = await get(writer)
        await writer.kill()
        file.chmod(0o400)
        folder.chmod(0o500)
        (reader,) = await scene.start(prefix=without_privileges())
        token = await get(reader)
        assert token != shared
        assert scene.is_valid(token)
        folder.chmod(0o700)
        file.chmod(0o600)
        assert await scene.has(shared)
        await reader.send(do="invalidate", token=token)
        assert await get(reader) == shared
        assert scene.server.grants == 2
        assert failures_of(reader) == 1


def without_privileges() -> tuple[str, ...]:
    """Return the command that starts a program for which file modes count, even for root."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root writes everywhere, and there is no setpriv (util-linux) to forbid it")
    return setpriv, "--bounding-set=-dac_override"


async def test_a_server_user_with_read_only_rights(valkey: Valkey) -> None:
    """A process with read-only rights takes shared tokens over, and writes once it can."""
    rights = "on >pass ~* &* +@read +@connection +eval +time +subscribe"
    valkey.do("ACL", "SETUSER", "reader", *rights.split())
    reading = {"url": valkey.url.replace("://", "://reader:pass@")}
    async with open_scene({"url": valkey.url}) as scene:
        (writer,) = await scene.start()
        (reader,) = await scene.start(where=reading)
        shared = await get(writer)
        assert await get(reader) == shared
        await writer.send(do="invalidate", token=shared)
        assert await reader.receive("dropped") is not None
        # The reader finds no token, and cannot take a lease.
        own = await get(reader)
        assert scene.is_valid(own)
        assert not await scene.has(own)
        newer = await get(writer)
        assert newer not in (shared, own)
        assert await scene.has(newer)
        valkey.do("ACL", "SETUSER", "reader", "+@all")
        await reader.send(do="invalidate", token=own)
        assert await get(reader) == newer
        await reader.send(do="invalidate", token=newer)
        last = await get(reader)
        assert await scene.has(last)
        assert scene.server.grants == 4
        assert failures_of(reader) == 1
