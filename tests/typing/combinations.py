"""Every documented combination of the public parts, as a user's type checker sees it.

This file is only checked, never run. `api.py` checks the public names one by one; this file checks
how the pages combine them.
"""

from __future__ import annotations

import functools
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import httpx
import httpx2
import pytest
import trio
from hypothesis import given
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import trio_anon_session as tas
from trio_anon_session import httpx2 as tas_httpx2
from trio_anon_session import testing
from trio_anon_session.otel import OpenTelemetryObserver
from trio_anon_session.stores import (
    ConfiguredTokenSource,
    Look,
    MemoryStore,
    RedisStore,
    SharedTokenManager,
    SQLiteStore,
    StoredToken,
    StoreStatus,
    TokenStore,
)
from trio_anon_session.testing import strategies

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Collection,
        Sequence,
    )

    from trio_anon_session.testing.plugin import VirtualTime

# Settings


def by_hand(attempt: int, error: tas.TokenRequestError) -> float | None:
    return None if error.status_code == 503 else 2.0 * attempt


def scaled(factor: float, attempt: int, error: tas.TokenRequestError) -> float:
    return factor * attempt


class Backoff:
    def __call__(self, attempt: int, error: tas.TokenRequestError) -> int:
        return 1

    def pause(self, attempt: int, error: Exception) -> float:
        return 1.0


async def asynchronous(attempt: int, error: tas.TokenRequestError) -> float | None:
    return 1.0


def settings() -> list[tas.Config]:
    config = tas.Config(client_id="id", client_secret="secret")
    retry: list[Callable[[int, tas.TokenRequestError], float | None]] = [
        by_hand,
        functools.partial(scaled, 2.0),
        Backoff(),
        Backoff().pause,
        lambda attempt, error: error.retry_after,
        lambda attempt, error: None,
    ]
    tas.Config(client_id="i", client_secret="s", retry_strategy=asynchronous)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return [
        tas.Config.from_env(),
        tas.Config.from_env(os.environ),
        tas.Config.from_env({"BOX_CLIENT_ID": "id"}),
        tas.Config.from_box_json("settings.json"),
        tas.Config.from_box_json(Path("settings.json")),
        config.replace(stale_buffer=60, retry_strategy=by_hand),
        tas.Config(
            client_id="id",
            client_secret="secret",
            token_url="https://id.example/token",
            revoke_url="https://id.example/revoke",
            auth_method="client_secret_basic",
            scope="files.read",
            box_subject_type="enterprise",
            box_subject_id="1",
            extra_params={"audience": "https://a", "resource": ["https://a", "https://b"]},
            refresh="on_request",
            retry_strategy=lambda attempt, error: 1.0,
            idle_timeout=60,
        ),
        *(tas.Config(client_id="id", client_secret="s", retry_strategy=each) for each in retry),
    ]


class OwnManager:
    """A user's token manager without a config."""

    async def get_tokens_client_credentials_grant(
        self, options: tas.TokenRequestOptions | None = None
    ) -> tas.TokenInfo:
        raise NotImplementedError

    async def revoke_tokens(
        self, token: str, options: tas.TokenRequestOptions | None = None
    ) -> None: ...


class ConfiguredManager(OwnManager):
    """A user's token manager that can be shared: it has a config."""

    def __init__(self, config: tas.Config) -> None:
        self.config = config


class DerivedManager(tas.TokenManager):
    """A subclass of the library's token manager."""


class OwnStore:
    """A user's store."""

    async def open(self) -> None: ...

    async def aclose(self) -> None: ...

    async def look(self, name: str, marks: Collection[str] = ()) -> Look:
        return Look(version=0)

    async def claim(self, name: str, owner: str, seen: int, seconds: float) -> int | None:
        return None

    async def renew(self, name: str, fence: int, seconds: float) -> bool:
        return True

    async def put(self, name: str, fence: int, token: StoredToken) -> bool:
        return True

    async def release(
        self, name: str, fence: int, failure: str | None = None, pause: float = 0.0
    ) -> None: ...

    async def drop(self, name: str, mark: str, seconds: float) -> None: ...

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        yield trio.lowlevel.checkpoint


def stores(path: Path) -> list[TokenStore]:
    return [
        MemoryStore(),
        SQLiteStore("tokens.db"),
        SQLiteStore(path),
        RedisStore("redis://localhost"),
        RedisStore("redis://localhost", encryption_key=None),
        RedisStore("redis://localhost", encryption_key=b"0" * 32),
        RedisStore("redis://localhost", encryption_key="base64"),
        RedisStore("redis://localhost", encryption_key=[b"0" * 32, b"1" * 32]),
        RedisStore("redis://localhost", encryption_key=["new", "old"]),
        OwnStore(),
    ]


def token_managers(config: tas.Config, client: httpx.AsyncClient) -> Sequence[tas.TokenSource]:
    memory = MemoryStore()
    sources: list[ConfiguredTokenSource] = [
        tas.TokenManager(config),
        tas.TokenManager(config, http_client=client),
        DerivedManager(config),
        ConfiguredManager(config),
        # A shared manager has a config too.
        SharedTokenManager(tas.TokenManager(config), memory),
    ]
    return [
        OwnManager(),
        *sources,
        *(SharedTokenManager(source, store) for source in sources for store in stores(Path("a"))),
        SharedTokenManager(tas.TokenManager(config), SQLiteStore("tokens.db")),
        SharedTokenManager(DerivedManager(config), RedisStore("redis://localhost")),
        SharedTokenManager(ConfiguredManager(config), OwnStore()),
        SharedTokenManager(OwnManager(), memory),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        SharedTokenManager(tas.TokenManager(config), MemoryStore),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ]


def sessions(config: tas.Config, client: httpx.AsyncClient) -> list[tas.AnonymousSession]:
    return [
        tas.AnonymousSession(config),
        tas.AnonymousSession(config, None),
        tas.AnonymousSession(config, OwnManager()),
        tas.AnonymousSession(config, token_manager=DerivedManager(config)),
        tas.AnonymousSession(config, SharedTokenManager(tas.TokenManager(config), MemoryStore())),
        *(tas.AnonymousSession(config, manager) for manager in token_managers(config, client)),
    ]


async def share(config: tas.Config, store: TokenStore) -> str:
    async with (
        SharedTokenManager(tas.TokenManager(config), store) as manager,
        tas.AnonymousSession(config, manager) as session,
    ):
        assert_type(manager, SharedTokenManager)
        assert_type(await manager.look_at_store(), StoreStatus)
        assert_type(manager.config, tas.Config)
        assert_type(manager.trouble, str | None)
        shared: tas.SharedTokenSource = manager
        token = await session.exchange_token("scope")
        stop = shared.on_drop(print)
        shared.drop(token)
        stop()
        return await session.get_access_token()


async def use_store(store: RedisStore, token: StoredToken) -> None:
    # The decorated methods keep their types.
    assert_type(await store.look("name"), Look)
    assert_type(await store.look("name", ["mark"]), Look)
    assert_type(await store.put("name", 1, token), bool)
    await store.release("name", 1, pause=1.0)
    await store.look(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.put("name", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with store.listen("name") as wait_for_news:
        await wait_for_news()


def observe(event: tas.Event) -> None: ...


def observe_with(prefix: str, event: tas.Event) -> int:
    return len(prefix)


class Listener:
    def __call__(self, event: tas.Event) -> bool:
        return True

    def note(self, event: object) -> None: ...


def observers(config: tas.Config) -> list[tas.AnonymousSession]:
    events: list[tas.Event] = []
    send, _ = trio.open_memory_channel[tas.Event](100)
    meters, tracers = MeterProvider(), TracerProvider()
    telemetry = OpenTelemetryObserver(meters, tracers, {"box.app": "mirror"})
    each: list[tas.Observer] = [
        observe,
        print,
        events.append,
        send.send_nowait,
        functools.partial(observe_with, "session"),
        Listener(),
        Listener().note,
        lambda event: None,
        OpenTelemetryObserver(),
        OpenTelemetryObserver(tracer_provider=tracers, attributes={"part": "uploads"}),
        telemetry,
    ]
    session = tas.AnonymousSession(config, OwnManager(), observers=[lambda event: print(event)])
    telemetry.watch(session)
    return [
        session,
        tas.AnonymousSession(config, observers=tuple(each)),
        tas.AnonymousSession(config, observers=(one for one in each)),
        tas.AnonymousSession(config, observers={observe, telemetry}),
        tas.AnonymousSession(config, observers=[telemetry, observe, events.append]),
    ]


def is_usable(state: tas.TokenState) -> bool:
    return state in (tas.TokenState.FRESH, tas.TokenState.STALE)


def is_new(new: tas.TokenState, old: tas.TokenState) -> bool:
    return new is tas.TokenState.FRESH and old is not tas.TokenState.FRESH


async def states(session: tas.AnonymousSession) -> None:
    view = session.states
    assert_type(view.value, tas.TokenState)
    assert_type(await view.wait_value(is_usable), tas.TokenState)
    assert_type(await view.wait_value(lambda state: state is tas.TokenState.EMPTY), tas.TokenState)
    await view.wait_value(is_new)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for new, old in view.transitions():
        assert_type(new, tas.TokenState)
        assert_type(old, tas.TokenState)
    async for _ in view.transitions(tas.TokenState.STALE):
        break
    async for _ in view.transitions(lambda new, old: new is old):
        break
    assert_type(await anext(view.transitions(is_new)), tuple[tas.TokenState, tas.TokenState])


async def tasks(session: tas.AnonymousSession, options: tas.TokenRequestOptions) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.get_access_token)
        nursery.start_soon(session.get_access_token, options)
        nursery.start_soon(session.revoke_tokens)
        nursery.start_soon(session.states.wait_value, tas.TokenState.FRESH)
    assert_type(await session.exchange_token({"item_read"}), tas.TokenInfo)
    assert_type(await session.exchange_token("item_read", None, options), tas.TokenInfo)


def thread(session: tas.AnonymousSession, token: trio.lowlevel.TrioToken) -> str:
    trio.from_thread.run_sync(session.invalidate, "token", trio_token=token)
    return trio.from_thread.run(session.get_access_token, trio_token=token)


async def use_httpx(session: tas.AnonymousSession) -> None:
    auths: list[httpx.Auth] = [
        session.auth(),
        session.auth(["https://api.box.com"]),
        session.auth(origins={"https://api.box.com"}),
        session.auth(origins=(origin for origin in ["https://api.box.com"])),
        tas.SessionAuth(session),
    ]
    async with httpx.AsyncClient(auth=auths[0], base_url=session.config.api_root_url) as client:
        assert_type(await client.get("/2.0/files/1"), httpx.Response)
        await client.get("/2.0/files/1", auth=tas.SessionAuth(session))
        async with client.stream("GET", "/2.0/files/1", auth=session.auth()) as response:
            response.extensions.get("trio_anon_session.not_replayed")
    # httpx.Client accepts any auth; SessionAuth raises at the first request.
    httpx.Client(auth=session.auth()).close()
    httpx.AsyncClient(auth=tas_httpx2.SessionAuth(session))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def use_httpx2(session: tas.AnonymousSession) -> None:
    auth = tas_httpx2.SessionAuth(session, origins={"https://api.box.com"})
    async with httpx2.AsyncClient(auth=auth, base_url=session.config.api_root_url) as client:
        request = client.build_request("GET", "https://api.box.com/2.0/files/1")
        await client.send(request, auth=tas_httpx2.SessionAuth(session))
        async with client.stream("GET", "/1", auth=tas_httpx2.SessionAuth(session)):
            pass
    httpx2.Client(auth=tas_httpx2.SessionAuth(session)).close()
    httpx2.AsyncClient(auth=session.auth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


DOWN = testing.Fault.server_error(503)


def servers() -> list[testing.TokenServer]:
    plan = testing.FaultPlan(
        token=[None, DOWN, testing.Fault.rate_limited("10"), testing.Fault.rate_limited(shape="A")],
        token_then=testing.Fault.hang(),
        revoke=(testing.Fault.refusal("invalid_token", "gone"),),
        revoke_then=testing.Fault.redirect("https://elsewhere.example"),
        resource=[testing.Fault(delay=1, keep=10, cut="after_headers")] * 2,
        resource_then=testing.Fault(
            headers={"A": "b"}, body=b"", fields={"expires_in": "NaN", "scope": None}, lifetime=60.0
        ),
    )
    return [
        testing.TokenServer(faults=plan, lifetime=3600, clients=[testing.Client("app", "secret")]),
        testing.TokenServer(
            clients=(testing.Client(subject_ids=frozenset({"1"}), scopes=frozenset({"read"})),),
            auth_methods={"client_secret_basic"},
            resource_latency=1.0,
            revoke_unknown=400,
            reuses_tokens=True,
            single_token=True,
            seed=1,
            keep=10,
        ),
    ]


async def kit(server: testing.TokenServer) -> None:
    events: list[tas.Event] = []
    async with testing.open_test_session(
        server, observers=[events.append], stale_buffer=1.0, retry_strategy=by_hand
    ) as session:
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(server), auth=tas_httpx2.SessionAuth(session)
        ) as client2:
            await client2.get("http://localhost/2.0/files/1")
    config = server.config(stale_buffer=60.0)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
        SharedTokenManager(tas.TokenManager(config, http_client=client), MemoryStore()) as manager,
        tas.AnonymousSession(config, manager) as session,
    ):
        server.revoke(await session.get_access_token())
    async with testing.open_loopback(server) as url, tas.AnonymousSession(server.config(url)):
        server.revoke_all()
        server.faults = testing.FaultPlan(token_then=DOWN)
    assert_type(server.verdicts["good"], int)
    assert_type(server.token_requests()[0].form, dict[str, str])
    assert_type(server.tokens["token"], testing.IssuedToken)


@testing.virtual_time
async def life(lifetime: float, *, faults: bool = False) -> str:
    async with testing.open_test_session(testing.TokenServer(lifetime=lifetime)) as session:
        return await session.get_access_token()


assert_type(life(60.0, faults=True), str)
life("60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@given(lifetime=strategies.lifetimes())
@testing.virtual_time
async def test_any_lifetime(lifetime: float) -> None:
    await trio.sleep(lifetime)


async def program(session: tas.AnonymousSession, client: httpx.AsyncClient) -> None:
    await client.get("/2.0/files/1", auth=session.auth())


async def counted(times: int, session: tas.AnonymousSession, client: httpx.AsyncClient) -> int:
    return times


class Service:
    async def __call__(self, s: tas.AnonymousSession, c: httpx.AsyncClient) -> str:
        return await s.get_access_token()


@given(timeline=strategies.timelines(actions=False, faults=False, lifetime=60.0))
def test_timeline(timeline: strategies.Timeline) -> None:
    outcome = strategies.run_timeline(timeline)
    assert_type(outcome, strategies.Outcome)
    assert_type(outcome.text(width=80), str)
    assert_type(outcome.svg(), str)
    strategies.run_timeline(timeline, program)
    strategies.run_timeline(timeline, functools.partial(counted, 1))
    strategies.run_timeline(timeline, Service())
    strategies.run_timeline(timeline, lambda session, client: program(session, client))
    strategies.run_timeline(
        strategies.Timeline(
            lifetime=60.0,
            refresh="on_request",
            strategy=(2.0, None),
            answers=(strategies.Answer(latency=2.0), strategies.Answer(kind="hang")),
            actions=(
                strategies.Get(at=0.0, count=3),
                strategies.Get(at=50.0, gives_up=1.0, ask="nowait"),
                strategies.Invalidate(at=90.0),
                strategies.Revoke(at=91.0),
                strategies.Suspend(at=92.0, seconds=1.0),
            ),
            leaves_by="cancel",
        )
    )


@pytest.mark.token_server(lifetime=3600.0)
async def test_fixtures(
    token_server: testing.TokenServer,
    anonymous_session: tas.AnonymousSession,
    virtual_time: VirtualTime,
) -> None:
    @virtual_time
    async def work(number: int) -> str:
        return str(number)

    assert_type(work(1), str)
