"""``watch`` of a shared token: what it shows of the store and of other processes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

from tests.helpers import FakeTokenManager
from trio_anon_session import AnonymousSession, TokenInfo, TokenManager
from trio_anon_session._cli._fleet import Fleet
from trio_anon_session._cli._view import View
from trio_anon_session._cli._watch import run_watch
from trio_anon_session._secrets import fingerprint
from trio_anon_session.stores import MemoryStore, SharedTokenManager, StoredToken, StoreError
from trio_anon_session.stores._records import mark_of, name_of, token_record
from trio_anon_session.testing import Fault, FaultPlan, TokenServer, virtual_time

from .running import drawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

    from trio_anon_session import Config

SELF = f"{socket.gethostname()}/{os.getpid()}"


@attrs.frozen
class Other:
    """The session of another process, with the store and the config that it has."""

    session: AnonymousSession
    store: Store
    config: Config


class Store(MemoryStore):
    """A store that a test can switch off."""

    is_down = False

    async def _do(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        if self.is_down:
            raise StoreError("nobody is there")
        return await super()._do(*args, **kwargs)  # type: ignore[arg-type]  # as they came


def watch(
    server: TokenServer,
    seconds: float,
    other: Callable[[Other], Awaitable[None]],
    *,
    head_start: float = 0.0,
) -> tuple[int, list[str]]:
    """Watch while another process works, and return the exit code and the lines.

    Args:
        server: the token server of both.
        seconds: how long the watcher runs.
        other: what the other process does.
        head_start: the seconds before the watcher starts.
    """

    @virtual_time
    async def run() -> int:
        config, store = server.config(), Store()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client:

            def member() -> SharedTokenManager:
                return SharedTokenManager(TokenManager(config, http_client=client), store)

            async def run_other() -> None:
                async with member() as manager, AnonymousSession(config, manager) as session:
                    await other(Other(session, store, config))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_other)
                await trio.sleep(head_start)
                async with member() as manager:
                    code = await run_watch(config, seconds, 10.0, manager, Fleet(manager, "here"))
                nursery.cancel_scope.cancel()
        return code

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run()
    return code, printed.getvalue().splitlines()


def news(lines: list[str]) -> list[str]:
    """Return the lines about events, without their times and without the lines about the state."""
    return [line[9:] for line in lines if line[9:10] in "+-~!"]


async def do_nothing(other: Other) -> None:
    """Leave the store as it is."""


async def keep_a_token(other: Other) -> None:
    """Ask for the token again and again."""
    while True:
        await other.session.get_access_token()
        await trio.sleep(0.5)


def test_alone() -> None:
    """Without another process, the watcher gets the token itself."""
    server = TokenServer(lifetime=3600.0)
    code, lines = watch(server, 15.0, do_nothing)
    (token,) = map(fingerprint, server.tokens)
    assert code == 0
    assert lines == [
        "  0.0 s  client 'test-client' at http://localhost/oauth2/token",
        f"  0.0 s  EMPTY   [{'·' * 32}]  waiting 0, grants 0, taken over 0, failures 0",
        "         store here",
        f"  0.0 s  + token {token} after 0.00 s, valid for 3570.0 s",
        f" 10.0 s  FRESH   [█{'·' * 25}S{'·' * 4}E]  waiting 0, grants 1, taken over 0, failures 0",
        f"         store here; shared token {token}, 10.0 s old, got by {SELF} (this process); "
        "lease free",
        "watched for 15.0 s: 1 grant, 0 taken over, 0 failures; the token was FRESH at the end",
    ]


def test_each_token_of_another_process() -> None:
    """Each token of another process is shown as taken over, and is not counted as a grant."""
    server = TokenServer(lifetime=60.0)
    code, lines = watch(server, 100.0, keep_a_token, head_start=5.0)
    tokens = [fingerprint(token) for token in server.tokens]
    assert len(tokens) == server.grants == 4
    shown = news(lines)
    for token in tokens:
        came = [line for line in shown if line.startswith(f"~ {SELF} got token {token}, ")]
        had = [line for line in shown if line.startswith(f"+ token {token} taken over from {SELF}")]
        assert len(came) <= 1
        assert len(had) == 1
        # The view does not show the arrival of a token that the session already has.
        assert not came or shown.index(came[0]) < shown.index(had[0])
    assert len(shown) > len(tokens)
    assert "lifetime 60 s" in next(line for line in shown if line.startswith("~"))
    assert "0 grants, 4 taken over, 0 failures" in lines[-1]
    assert code == 0


def test_dropped_elsewhere() -> None:
    """A token that another process invalidates is shown as dropped, and a new one follows."""
    server = TokenServer(lifetime=3600.0)

    async def report(other: Other) -> None:
        token = await other.session.get_access_token()
        await trio.sleep(5)
        other.session.invalidate(token)
        # The session reports the token to the store only while it is open.
        await trio.sleep(1)

    _, lines = watch(server, 10.0, report, head_start=1.0)
    dead, new = map(fingerprint, server.tokens)
    told = news(lines)
    assert told[1] == f"- token {dead} was invalidated by another process"
    assert told[2].startswith(f"+ token {new} after 0.0")
    assert len(told) == 3


def test_a_token_that_is_stored_and_dropped() -> None:
    """The watcher shows that another process stores a token, and that this token is dropped."""
    server = TokenServer(lifetime=3600.0)
    owner = "elsewhere/1/2345"

    async def renew_and_drop(other: Other) -> None:
        await trio.sleep(5)
        store, name = other.store, name_of(other.config)
        fence = await store.claim(name, owner, (await store.look(name)).version, 5.0)
        assert fence is not None
        await trio.sleep(2)
        new = TokenInfo.from_answer("new", 60.0, trio.current_time(), other.config)
        record = token_record(new, other.config, owner)
        assert await store.put(name, fence, StoredToken(record, mark_of("new"), 60.0, 0.0))
        await trio.sleep(2)
        await store.drop(name, mark_of("new"), 60.0)

    _, lines = watch(server, 20.0, renew_and_drop)
    token = fingerprint("new")
    assert news(lines)[1:] == [
        "~ elsewhere/1 sends a token request",
        f"~ elsewhere/1 got token {token}, lifetime 60 s",
        f"- token {token} is no longer in the store",
    ]


def test_an_expired_token_in_the_store() -> None:
    """An expired token is not shown as dropped; age and lease advance between two looks."""

    @virtual_time
    async def look() -> tuple[list[str], dict[str, str], dict[str, str]]:
        config, store = TokenServer().config(), Store()
        manager = SharedTokenManager(FakeTokenManager(config), store)
        other = SharedTokenManager(FakeTokenManager(config, lifetime=10.2), store)
        async with other:
            await other.get_tokens_client_credentials_grant()
        said: list[str] = []
        fleet = Fleet(manager, "here")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.follow, said.append)
            await trio.sleep(1.3)
            between_looks = fleet.rows()
            await trio.sleep(20)
            name = name_of(config)
            assert await store.claim(name, "elsewhere/1/2", (await store.look(name)).version, 5.0)
            await trio.sleep(1.4)
            leased = fleet.rows()
            nursery.cancel_scope.cancel()
        return said, between_looks, leased

    said, between_looks, leased = look()
    assert said == ["~ elsewhere/1 sends a token request"]
    assert ", 1.3 s old, got by " in between_looks["shared token"]
    assert leased["shared token"] == "none"
    assert leased["lease"] == "elsewhere/1, for 3.6 s more"


def test_a_pause() -> None:
    """The pause after a failure is shown with its length and its reason."""
    faults = FaultPlan(token=[Fault(), Fault.rate_limited("20")])
    server = TokenServer(faults, lifetime=3600.0)

    async def report(other: Other) -> None:
        token = await other.session.get_access_token()
        await trio.sleep(5)
        other.session.invalidate(token)
        with contextlib.suppress(Exception):
            await other.session.get_access_token()

    _, lines = watch(server, 30.0, report, head_start=1.0)
    assert any(
        re.match(r"! no process sends a token request for (20\.0|19\.\d) s: .*status 429", line)
        for line in news(lines)
    )
    assert re.search(r"; pause 1\d\.\d s more: .*status 429", "\n".join(lines))


def test_a_store_that_is_down_for_a_while() -> None:
    """A failure of the store is shown once, and its end once; the exit code is still 0."""
    server = TokenServer(lifetime=60.0)

    async def break_down(other: Other) -> None:
        await trio.sleep(5)
        other.store.is_down = True
        await trio.sleep(60)
        other.store.is_down = False

    code, lines = watch(server, 100.0, break_down)
    told = [line for line in news(lines) if "+ token" not in line]
    assert code == 0
    assert told[0].startswith("! the token store fails (nobody is there)")
    assert told[-1] == "~ the token store works again"
    assert len([line for line in told if line.startswith("! the token store fails")]) == 1
    assert re.search(r"store here; trouble the token store fails", "\n".join(lines))
    assert "1 taken over" not in lines[-1]


async def test_a_dropped_token_is_not_the_shared_token(autojump_clock: MockClock) -> None:
    """A token that was shown as dropped is no longer shown as the shared token."""
    config, store = TokenServer().config(), Store()
    source = FakeTokenManager(config)
    async with (
        SharedTokenManager(source, store) as manager,
        SharedTokenManager(source, store) as other,
    ):
        fleet = Fleet(manager, "here")
        async with (
            AnonymousSession(config, manager, observers=[fleet.describe]) as session,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(fleet.follow, lambda _: None)
            for _ in range(2):
                token = await session.exchange_token("x")
                await other.get_tokens_client_credentials_grant()
                await trio.sleep(1.1)
                assert fleet.rows()["shared token"].startswith(fingerprint(token.access_token))
                other.drop(token)
                await trio.sleep(0.1)
                assert fleet.rows()["shared token"] == "none"
                # The server grants the same token again.
                source.granted -= 1
                await trio.sleep(1.0)
            nursery.cancel_scope.cancel()


async def test_the_panel(autojump_clock: MockClock) -> None:
    """The panel shows the store, the shared token, the lease and a failure of the store."""
    server = TokenServer()
    config = server.config()
    store = Store()
    inner = FakeTokenManager(config, latency=1.0)
    manager = SharedTokenManager(inner, store)
    other = SharedTokenManager(FakeTokenManager(config), store)
    async with other:
        token = await other.get_tokens_client_credentials_grant()
    await trio.sleep(3)
    fleet = Fleet(manager, "here")
    view = View(0.0, fleet=fleet)
    view.session = AnonymousSession(config, manager)

    async with manager, trio.open_nursery() as nursery:
        nursery.start_soon(fleet.follow, view.say)
        await trio.sleep(1)
        shown = drawn(view, 100)
        mark = fingerprint(token.access_token)
        assert "store here" in shown
        assert f"shared token {mark}, 4.0 s old, got by {SELF} lease free" in shown
        assert "0 grants, 0 taken over, 0 failures" in shown
        async with SharedTokenManager(FakeTokenManager(config), store) as third:
            third.drop(token)
        nursery.start_soon(manager.get_tokens_client_credentials_grant)
        await trio.sleep(0.8)
        shown = drawn(view, 100)
        assert re.search(
            rf"shared token none lease {SELF} \(this process\), for 4\.\d s more", shown
        )
        store.is_down = True
        await trio.sleep(1)
        shown = drawn(view, 100)
        assert "shared token" not in shown
        assert "trouble the token store fails (nobody is there)" in shown
        nursery.cancel_scope.cancel()
