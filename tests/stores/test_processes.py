"""Real processes that share a token: started at once, killed, stopped, cut off, and apart in time.

The token server is in the test's own process, so that the test sees each request and decides when
it is answered. What happens next waits for what has happened: for a request that has come in, or
for a line that a process has written. A lease ends in real time.
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
"""Seconds; what no test may outlast, on however slow a machine."""
HOUR = 3600.0
ROUNDING = 0.01
"""Seconds; more than stores and clocks round by."""
SOON = 1.0
"""Seconds of a lease, where a test is not about how long it is."""


class SlowServer(TokenServer):
    """A token server whose test sees each request come, and decides when answers go."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._gate = trio.Event()
        self._gate.set()
        self._arrived, self._arrivals = trio.open_memory_channel[None](1000)

    def hold_answers(self) -> trio.Event:
        """Answer no token request that comes from now on, until the event is set."""
        self._gate = trio.Event()
        return self._gate

    def answer_at_once(self) -> None:
        """Let the answers go to what comes from now on."""
        self.hold_answers().set()

    async def wait_for_request(self) -> None:
        """Return when the next token request has come in and was judged."""
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
        """Start so many processes, and return them when all are ready."""
        said = {"store": where or self.where, "url": self._url, "config": {}, **settings}
        children = [
            await self._stack.enter_async_context(run_child(CODE, json.dumps(said), prefix=prefix))
            for _ in range(count)
        ]
        for child in children:
            assert await child.hear("ready") == child.process.pid
        return children

    async def look(self) -> Look:
        """Look into the store."""
        return await open_store(self.where).look(self._name)

    async def has(self, token: str) -> bool:
        """Whether this is the token that the store has."""
        seen = await self.look()
        return seen.token is not None and seen.token.mark == mark_of(token)

    def ends_at(self, token: str) -> float:
        """Return when the token server ends this token, on a clock that all processes share."""
        left = self.server.tokens[token].left_at(trio.current_time())
        return time.monotonic() + left

    def is_good(self, token: str) -> bool:
        """Whether the token server would take this token now."""
        return self.server.tokens[token].verdict_at(trio.current_time()) == "good"


@asynccontextmanager
async def open_scene(where: dict[str, str], **settings: Any) -> AsyncIterator[Scene]:
    """Serve tokens while the block lasts, and end all processes after it."""
    with trio.fail_after(LIMIT):
        server = SlowServer(**({"lifetime": HOUR} | settings))
        async with open_loopback(server) as url, AsyncExitStack() as stack:
            yield Scene(server, url, where, stack)


async def ask(*children: Child) -> None:
    """Have each of them get the token."""
    for child in children:
        await child.say(do="get")


async def answer_of(child: Child) -> str:
    """Return the token that a process has got; no getter fails."""
    got = await child.hear("got")
    assert "error" not in got
    token: str = got["token"]
    return token


async def get(child: Child) -> str:
    """Have a process get the token, and return it."""
    await ask(child)
    return await answer_of(child)


async def wait_for_store(child: Child, seconds: float) -> None:
    """Have a process wait so long for an answer of the store."""
    await child.say(do="wait", seconds=seconds)
    assert await child.hear("waits") == seconds


def failures_of(child: Child) -> int:
    """Return how many failures of the store a process has logged."""
    return sum("the token store fails" in said for said in child.told["logged"])


@pytest.fixture
def valkey(server: Valkey) -> Valkey:
    """Call the store's server so: here, a server is the one that gives tokens."""
    return server


@pytest.fixture(params=["sqlite", "valkey"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return where the token is shared."""
    if request.param == "sqlite":
        return {"path": str(tmp_path / "tokens.db")}
    valkey: Valkey = request.getfixturevalue("valkey")
    return {"url": valkey.url}


async def pause_outside_of_a_transaction(child: Child, where: dict[str, str]) -> None:
    """Pause a process while it does not hold the lock of the file, which others need."""
    if "path" not in where:
        await child.pause()
        return
    with closing(sqlite3.connect(where["path"], timeout=LIMIT, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        await child.pause()
        database.execute("ROLLBACK")


@pytest.mark.quick
async def test_eight_that_start_at_once(where: dict[str, str]) -> None:
    """Eight processes that meet an empty store at the same moment send one grant."""
    async with open_scene(where) as scene:
        children = await scene.start(8)
        await ask(*children)
        tokens = {await answer_of(child) for child in children}
        assert len(tokens) == 1
        assert scene.server.grants == 1


@pytest.mark.parametrize("answered", ["while it is stopped", "when it has woken"])
async def test_a_holder_that_is_stopped(where: dict[str, str], answered: str) -> None:
    """One that wakes after its lease does not overwrite the newer token, and takes it over."""
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
    """Processes that are killed wherever they are leave a store with which the others go on."""
    async with open_scene(where) as scene:
        (survivor,) = await scene.start(lease=SOON, config={"min_refresh_interval": 0.01})
        for rounds in range(4):
            (busy,) = await scene.start(lease=SOON, config={"min_refresh_interval": 0.01})
            token = await get(busy)
            for _ in range(rounds):
                await busy.say(do="invalidate", token=token)
                token = await get(busy)
            # Kill the process during this call, at any step of it.
            await busy.say(do="invalidate", token=token)
            await ask(busy)
            await busy.kill()
            token = await get(survivor)
            await survivor.say(do="invalidate", token=token)
            token = await get(survivor)
            assert await scene.has(token)
            assert scene.is_good(token)


async def test_a_restart_during_a_grant(valkey: Valkey) -> None:
    """It costs no more than one grant for each process, no getter fails, and all is well again."""
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
        assert scene.is_good(kept)
        assert scene.is_good(alone)
        assert server.grants <= 3
        assert await scene.has(kept)
        before = server.grants
        (newcomer,) = await scene.start()
        assert await get(newcomer) == kept
        assert server.grants == before
        assert failures_of(other) == 1


async def test_a_store_that_hangs(where: dict[str, str], request: pytest.FixtureRequest) -> None:
    """Each process gets a token of its own, says so once, and shares again when it is over."""
    async with open_scene(where) as scene, AsyncExitStack() as stack:
        children = await scene.start(2, config={"min_refresh_interval": 0.01})
        old = await get(children[0])
        assert await get(children[1]) == old
        if "path" in where:
            lock = json.dumps({"lock": where["path"]})
            hanging = await stack.enter_async_context(run_child(CODE, lock))
            assert await hanging.hear("locked")
            await hanging.pause()
        else:
            valkey: Valkey = request.getfixturevalue("valkey")
            valkey.pause()
        for child in children:
            await wait_for_store(child, 2.0)
            await child.say(do="invalidate", token=old)
        own = [await get(child) for child in children]
        assert len({old, *own}) == 3
        assert [failures_of(child) for child in children] == [1, 1]
        if "path" in where:
            await hanging.kill()
        else:
            valkey.resume()
        for child, token in zip(children, own, strict=True):
            await wait_for_store(child, PATIENT)
            await child.say(do="invalidate", token=token)
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
        pytest.param("valkey", -HOUR, 1, id="a server beside a clock that is set back"),
        pytest.param("valkey", HOUR, 1, id="a server beside a clock that is set forward"),
        pytest.param("sqlite", -HOUR, 1, id="set back"),
        pytest.param("sqlite", HOUR / 4, 1, id="set forward, within the token's life"),
        pytest.param("sqlite", HOUR, 2, id="set forward, past the token's life"),
    ],
    indirect=["where"],
)
async def test_wall_clocks_that_are_set_apart(
    where: dict[str, str], wall: float, grants: int
) -> None:
    """A token is taken over with no more than what is left of its life, or costs one more grant."""
    async with open_scene(where, lifetime=HOUR / 2) as scene:
        (first,) = await scene.start()
        (second,) = await scene.start(wall=wall)
        await ask(first)
        got = await first.hear("got")
        await ask(second)
        found = await second.hear("got")
        assert (found["token"] == got["token"]) == (grants == 1)
        assert scene.server.grants == grants
        assert found["ends_at"] <= scene.ends_at(found["token"]) + ROUNDING
        # With a server, only the server's clock counts.
        if "url" in where:
            assert found["ends_at"] > scene.ends_at(found["token"]) - LIMIT


@pytest.mark.parametrize("wall", [-HOUR, 0.0, HOUR])
async def test_a_token_that_has_run_out(where: dict[str, str], wall: float) -> None:
    """No process hands out a token that has run out, whatever its wall clock says."""
    async with open_scene(where, lifetime=2.0) as scene:
        (first,) = await scene.start(wall=-wall)
        dead = await get(first)
        await first.kill()
        (second,) = await scene.start(wall=wall)
        issued = scene.server.tokens[dead]
        await trio.sleep_until(issued.issued_at + issued.lifetime)
        assert not scene.is_good(dead)
        await ask(second)
        got = await second.hear("got")
        assert got["token"] != dead
        assert got["at"] < scene.ends_at(got["token"])


# Read-only stores


async def test_a_file_that_may_be_read_alone(tmp_path: Path) -> None:
    """A process that cannot write works beside those that can, and writes again when it may."""
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
        assert scene.is_good(token)
        folder.chmod(0o700)
        file.chmod(0o600)
        assert await scene.has(shared)
        await reader.say(do="invalidate", token=token)
        assert await get(reader) == shared
        assert scene.server.grants == 2
        assert failures_of(reader) == 1


def without_privileges() -> tuple[str, ...]:
    """Return what starts a program that has to ask before it writes, as root need not."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root writes everywhere, and there is no setpriv (util-linux) to forbid it")
    return setpriv, "--bounding-set=-dac_override"


async def test_a_user_of_the_server_who_may_read_alone(valkey: Valkey) -> None:
    """A process without the right to write shares what is there, and writes again when it may."""
    rights = "on >pass ~* &* +@read +@connection +eval +time +subscribe"
    valkey.do("ACL", "SETUSER", "reader", *rights.split())
    reading = {"url": valkey.url.replace("://", "://reader:pass@")}
    async with open_scene({"url": valkey.url}) as scene:
        (writer,) = await scene.start()
        (reader,) = await scene.start(where=reading)
        shared = await get(writer)
        assert await get(reader) == shared
        await writer.say(do="invalidate", token=shared)
        assert await reader.hear("dropped") is not None
        # The reader finds no token, and cannot take a lease.
        own = await get(reader)
        assert scene.is_good(own)
        assert not await scene.has(own)
        newer = await get(writer)
        assert newer not in (shared, own)
        assert await scene.has(newer)
        valkey.do("ACL", "SETUSER", "reader", "+@all")
        await reader.say(do="invalidate", token=own)
        assert await get(reader) == newer
        await reader.say(do="invalidate", token=newer)
        last = await get(reader)
        assert await scene.has(last)
        assert scene.server.grants == 4
        assert failures_of(reader) == 1
