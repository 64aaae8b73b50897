"""Tests of misuse: each mistake causes its own error or warning, which says what to do."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
import weakref
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from trio.testing import Sequencer, assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import FakeTokenManager, make_config, traceback_with_locals
from tests.ports import closed_port
from trio_anon_session import (
    AnonymousSession,
    ConfigError,
    SessionAuth,
    SessionClosedError,
    SessionStatistics,
    TokenInfo,
    TokenManager,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session.stores import MemoryStore, SharedTokenManager
from trio_anon_session.testing import TokenServer, open_test_session
from trio_anon_session.threads import SessionThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from trio.testing import MockClock

    Use = Callable[[AnonymousSession], Awaitable[object]]


async def ask_nowait(session: AnonymousSession) -> object:
    """Call `get_access_token_nowait`."""
    return session.get_access_token_nowait()


async def invalidate(session: AnonymousSession) -> object:
    """Report the current token."""
    session.invalidate("token-1")
    return None


async def send_request(session: AnonymousSession) -> object:
    """Send a request with the session's token."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport, auth=SessionAuth(session)) as client:
        return await client.get("https://api.box.com/2.0/files/1")


USES: dict[str, Use] = {
    "get_access_token": lambda session: session.get_access_token(),
    "get_access_token_nowait": ask_nowait,
    "exchange_token": lambda session: session.exchange_token("item_read"),
    "revoke_tokens": lambda session: session.revoke_tokens(),
    "invalidate": invalidate,
    "SessionAuth": send_request,
}


async def outcome_of(use: Use, session: AnonymousSession) -> BaseException | None:
    """Return the exception that a use raises, or None."""
    try:
        await use(session)
    except Exception as error:
        return error
    return None


def open_fake(**settings: Any) -> tuple[FakeTokenManager, AnonymousSession]:
    """Return a fake token manager, and a session that uses it."""
    manager = FakeTokenManager(make_config(**settings))
    return manager, AnonymousSession(manager.config, manager)


# Wrong time


@pytest.mark.parametrize("use", USES)
async def test_use_before_enter_says_what_to_do(autojump_clock: MockClock, use: str) -> None:
    """Before the block, every method raises a ``RuntimeError`` that says what to write."""
    manager, session = open_fake()
    with pytest.raises(RuntimeError, match="the session is not open: write 'async with"):
        await USES[use](session)
    assert not manager.sent
    assert not manager.revoked
    async with session:
        assert await session.get_access_token() == "token-1"


@pytest.mark.parametrize("use", sorted(USES.keys() - {"invalidate"}))
def test_use_after_the_block_is_an_error(use: str) -> None:
    """After the block, methods raise ``SessionClosedError``, in this Trio run or a later one."""
    manager, session = open_fake(max_retries=0)
    # A closed session does not repeat how its last round failed.
    manager.outcomes = [TokenUnavailableError("down")]

    async def main() -> None:
        async with session:
            with pytest.raises(TokenUnavailableError):
                await session.get_access_token()
        assert isinstance(await outcome_of(USES[use], session), SessionClosedError)
        session.invalidate("token-1")

    trio.run(main)
    assert isinstance(trio.run(outcome_of, USES[use], session), SessionClosedError)
    assert len(manager.sent) == session.statistics().getters_held_total == 1
    with pytest.raises(SessionClosedError):
        session.get_access_token_nowait()


async def test_a_session_is_entered_once(autojump_clock: MockClock) -> None:
    """Entering a session twice raises an error that says to create a new one."""
    _, session = open_fake()
    async with session:
        with pytest.raises(RuntimeError, match="create a new AnonymousSession"):
            await session.__aenter__()
        assert await session.get_access_token() == "token-1"
    with pytest.raises(RuntimeError, match="create a new AnonymousSession"):
        await session.__aenter__()
    assert session.state is TokenState.EMPTY


async def test_both_ends_of_the_block_are_checkpoints(autojump_clock: MockClock) -> None:
    """Entering and leaving the block are checkpoints."""
    _, session = open_fake()
    with assert_checkpoints():
        await session.__aenter__()
    with assert_checkpoints():
        await session.__aexit__(None, None, None)


# Wrong place


@pytest.mark.parametrize("state", ["EMPTY", "FRESH", "STALE"])
@pytest.mark.parametrize("use", USES)
async def test_use_from_another_trio_run(use: str, state: str) -> None:
    """In another Trio run, every method raises an error and changes nothing, in each state."""
    # The session refreshes only on request, so that a STALE token stays STALE.
    manager, session = open_fake(refresh="on_request")
    async with session:
        if state == "STALE":
            now = trio.current_time()
            manager.outcomes = [TokenInfo("token-1", 7200.0, now, now, now + 3600.0)]
        if state != "EMPTY":
            await session.get_access_token()
        before = session.statistics()
        error = await trio.to_thread.run_sync(trio.run, outcome_of, USES[use], session)
        assert isinstance(error, RuntimeError)
        assert "another Trio run: open one session in each run" in str(error)
        after = session.statistics()
        assert (after.grants, after.getters_held_total, after.invalidations) == (
            before.grants,
            before.getters_held_total,
            before.invalidations,
        )
        assert session.state is TokenState[state]
    assert not manager.revoked


@pytest.mark.parametrize("use", ["get_access_token_nowait", "invalidate"])
async def test_use_from_a_thread(use: str) -> None:
    """The error in a thread names ``trio.from_thread``, and calls through that succeed."""
    manager, session = open_fake()
    calls: dict[str, Callable[[], object]] = {
        "get_access_token_nowait": session.get_access_token_nowait,
        "invalidate": lambda: session.invalidate("token-1"),
    }
    async with session:
        await session.get_access_token()
        with pytest.raises(RuntimeError, match=r"call trio\.from_thread\.run") as caught:
            await trio.to_thread.run_sync(calls[use])
        assert caught.value.__context__ is None
        assert session.token_info is not None
        token = await trio.to_thread.run_sync(
            lambda: trio.from_thread.run(session.get_access_token)
        )
        assert token == "token-1"
        await trio.to_thread.run_sync(trio.from_thread.run_sync, session.invalidate, token)
        assert session.token_info is None
    assert len(manager.sent) == 1


@pytest.mark.parametrize("use", USES)
async def test_use_under_asyncio(use: str) -> None:
    """On asyncio, every method raises an error that says to start the program with ``trio.run``."""
    _, session = open_fake()
    async with session:
        await session.get_access_token()

        def run() -> BaseException | None:
            return asyncio.run(outcome_of(USES[use], session))

        error = await trio.to_thread.run_sync(run)
    assert isinstance(error, RuntimeError)
    assert "works only on Trio" in str(error)
    assert ": start the program with trio.run(main)" in str(error)


def test_enter_under_asyncio() -> None:
    """On asyncio, entering a session raises an error; the session can still be opened on Trio."""
    _, session = open_fake()
    with pytest.raises(RuntimeError, match="works only on Trio"):
        asyncio.run(session.__aenter__())
    with pytest.raises(RuntimeError, match="works only on Trio"):
        asyncio.run(session.get_access_token())

    async def main() -> str:
        async with session:
            return await session.get_access_token()

    assert trio.run(main) == "token-1"


async def test_reading_from_a_thread() -> None:
    """State, statistics, token and repr can be read in a thread, as a metrics exporter does."""
    _, session = open_fake()

    def look() -> tuple[TokenState, float | None, str]:
        statistics = session.statistics()
        assert session.token_info is not None
        return session.state, statistics.expires_in, repr(session)

    async with session:
        await session.get_access_token()
        state, expires_in, shown = await trio.to_thread.run_sync(look)
        assert state is TokenState.FRESH
        assert expires_in is not None
        assert 3500.0 < expires_in <= 3570.0
        assert shown == "<AnonymousSession for 'id', open>"


async def test_reading_while_the_token_is_dropped(autojump_clock: MockClock) -> None:
    """``statistics`` succeeds in a thread even if the session drops its token between two lines."""
    _, session = open_fake()
    steps, at_step = 0, 1

    def trace(frame: FrameType, what: str, _: object) -> Callable[..., Any]:
        # This simulates that the session's thread runs between two lines of this thread.
        nonlocal steps
        steps += what == "line"
        if steps == at_step:
            session.invalidate(token)
        return trace

    async with session:
        while True:
            token = await session.get_access_token()
            steps, before = 0, sys.gettrace()
            sys.settrace(trace)
            try:
                seen = session.statistics()
            finally:
                sys.settrace(before)
            assert seen.grants
            if steps < at_step:
                break
            at_step += 1
    assert at_step > 20


async def test_reading_while_the_session_is_entered_and_left() -> None:
    """Another thread can read the statistics before any line of entering and leaving the block."""
    _, session = open_fake(revoke_on_exit=True)
    seen: list[SessionStatistics] = []

    def trace(frame: FrameType, what: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != sys.modules[AnonymousSession.__module__].__file__:
            return None
        if what == "line" and threading.current_thread() is here:
            thread = threading.Thread(target=lambda: seen.append(session.statistics()))
            looks.append(thread)
            thread.start()
            thread.join()
        return trace

    looks: list[threading.Thread] = []
    here, before = threading.current_thread(), sys.gettrace()
    sys.settrace(trace)
    try:
        async with session:
            await session.get_access_token()
    finally:
        sys.settrace(before)
    # A read that raised would be missing here.
    assert len(seen) == len(looks) > 40
    assert {look.state for look in seen} == {TokenState.EMPTY, TokenState.FRESH}


# Two sessions, or one opened twice


async def test_two_tasks_enter_at_the_same_time(autojump_clock: MockClock) -> None:
    """If two tasks enter a session, one opens it, and the other gets an error."""
    _, session = open_fake()
    errors: list[str] = []
    sequence = Sequencer()

    async def enter() -> None:
        try:
            await session.__aenter__()
        except RuntimeError as error:
            errors.append(str(error))
        else:
            async with sequence(0):
                assert await session.get_access_token() == "token-1"
            async with sequence(1):
                await session.__aexit__(None, None, None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter)
        nursery.start_soon(enter)
        await wait_all_tasks_blocked()
    assert errors == [
        "a session can be opened only once, and this one was: create a new AnonymousSession"
    ]


async def test_a_nested_session_with_an_equal_config(autojump_clock: MockClock) -> None:
    """A session inside one with an equal config causes a warning at the line that opens it."""
    config = make_config()
    async with AnonymousSession(config):
        with pytest.warns(RuntimeWarning, match="pass on the outer session") as caught:
            async with AnonymousSession(make_config()):
                pass
        assert caught[0].filename == __file__

        async def handle_request() -> None:
            async with AnonymousSession(config):
                pass

        with pytest.warns(RuntimeWarning, match="requests its own tokens") as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle_request)
                nursery.start_soon(handle_request)
        assert len(caught) == 2


async def test_a_nested_session_with_others_in_between(autojump_clock: MockClock) -> None:
    """A nested session with an equal config causes a warning, even with others in between."""
    config = make_config()
    between = AnonymousSession(make_config(scope="other"))
    async with AnonymousSession(config), trio.open_nursery() as nursery:
        may_open = trio.Event()

        async def outlive() -> None:
            await may_open.wait()
            with pytest.warns(RuntimeWarning, match="pass on the outer session"):
                async with AnonymousSession(config):
                    pass

        async with between, AnonymousSession(make_config(scope="third")):
            with pytest.warns(RuntimeWarning, match="pass on the outer session") as caught:
                async with AnonymousSession(config):
                    pass
            assert len(caught) == 1
            nursery.start_soon(outlive)
        del between
        gc.collect()
        may_open.set()


@pytest.mark.parametrize("owns_manager", [False, True])
async def test_a_task_of_the_block_does_not_keep_the_session(
    autojump_clock: MockClock, owns_manager: bool
) -> None:
    """A task that was started in the block, and outlives it, does not keep the session alive."""

    async def use_for_a_moment() -> weakref.ref[AnonymousSession]:
        config = make_config()
        manager = None if owns_manager else FakeTokenManager(config)
        async with AnonymousSession(config, manager) as session:
            nursery.start_soon(trio.sleep_forever)
            if manager is not None:
                await session.get_access_token()
            return weakref.ref(session)

    async with trio.open_nursery() as nursery:
        there = await use_for_a_moment()
        gc.collect()
        assert there() is None
        nursery.cancel_scope.cancel()


async def test_nested_sessions_with_given_managers(autojump_clock: MockClock) -> None:
    """Sessions with token managers of the caller's add nothing to the context of its tasks."""
    config = make_config()
    manager = FakeTokenManager(config)
    outside = dict(copy_context().items())
    async with AnonymousSession(config, manager), AnonymousSession(config, manager):
        assert dict(copy_context().items()) == outside


async def test_a_nested_session_if_warnings_are_errors(autojump_clock: MockClock) -> None:
    """If warnings are errors, the nested session is not opened, and the outer one stays open."""
    server = TokenServer()
    inner = AnonymousSession(server.config())
    async with AnonymousSession(server.config()) as outer:
        with pytest.raises(RuntimeWarning):
            await inner.__aenter__()
        with pytest.raises(RuntimeError, match="the session is not open: write 'async with"):
            await inner.get_access_token()
        assert outer.state is TokenState.EMPTY


async def test_sessions_that_cause_no_warning(autojump_clock: MockClock) -> None:
    """Other configs, given token managers, and sessions one after another cause no warning."""
    config = make_config()
    manager = FakeTokenManager(config)
    may_open = trio.Event()

    async def outlive() -> None:
        await may_open.wait()
        async with AnonymousSession(config):
            pass

    # A session that is still referenced, but closed.
    closed = AnonymousSession(config)
    async with trio.open_nursery() as nursery:
        async with closed:
            nursery.start_soon(outlive)
            await wait_all_tasks_blocked()
        may_open.set()
    async with AnonymousSession(config):
        async with AnonymousSession(make_config(scope="root_readonly")):
            pass
        async with AnonymousSession(config, manager):
            pass
    async with AnonymousSession(config, manager), AnonymousSession(config):
        pass
    async with AnonymousSession(config):
        pass
    async with open_test_session() as one, open_test_session() as other:
        assert one.config == other.config
    assert closed.state is TokenState.EMPTY


# A forgotten `aclose`


@pytest.mark.slow
async def test_a_forgotten_aclose() -> None:
    """A token manager that is deleted with its own client open warns, and says what to do."""
    # Nothing listens on this port, so no connection is left behind.
    with closed_port() as port:
        manager = TokenManager(TokenServer().config(f"http://127.0.0.1:{port}"))
        with pytest.raises(TokenUnavailableError):
            await manager.get_tokens_client_credentials_grant()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del manager
        gc.collect()
    said = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    [ours] = [text for text in said if "TokenManager" in text]
    assert "was not closed: use it with 'async with', or await its aclose()" in ours
    assert "test-secret" not in "".join(said)


async def test_managers_that_need_no_aclose(autojump_clock: MockClock) -> None:
    """A manager that was closed, sent nothing, or was given its client causes no warning."""
    server = TokenServer()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            manager = TokenManager(server.config(), http_client=client)
            await manager.get_tokens_client_credentials_grant()
            manager = TokenManager(server.config())
            await manager.aclose()
            manager = TokenManager(server.config())
            del manager
            gc.collect()
    assert not [warning for warning in caught if "TokenManager" in str(warning.message)]


# Wrong arguments


@pytest.mark.parametrize("options", ["192.0.2.1", 0])
async def test_options_of_a_wrong_type(autojump_clock: MockClock, options: Any) -> None:
    """Options of a wrong type raise a ``TypeError`` in each method, and reach no request."""
    manager, session = open_fake()
    async with session:
        wants = f"options must be a TokenRequestOptions or None, not {type(options).__name__}$"
        for _ in ("EMPTY", "STALE"):
            for call in (
                lambda: session.get_access_token(options),
                lambda: session.exchange_token("scope", options=options),
                lambda: session.revoke_tokens(options),
            ):
                with pytest.raises(TypeError, match=wants):
                    await call()
            assert await session.get_access_token() == "token-1"
            await trio.sleep(3000.0)
    assert manager.revoked == []
    assert set(manager.options) == {None}


@pytest.mark.parametrize(
    "make",
    [
        AnonymousSession,
        TokenManager,
        lambda config: AnonymousSession(config, FakeTokenManager(make_config())),
    ],
    ids=["session", "manager", "session with a manager"],
)
@pytest.mark.parametrize("config", ["secret", None, make_config])
def test_config_of_a_wrong_type(make: Any, config: Any) -> None:
    """The error names the type of the wrong ``config``, and does not show its value."""
    with pytest.raises(
        TypeError, match=f"config must be a Config, not {type(config).__name__}$"
    ) as caught:
        make(config)
    assert "secret" not in str(caught.value)
    # A refused manager must not cause a warning that it was left open, because a warning is an
    # error here.
    gc.collect()


@pytest.mark.parametrize(
    ("missing", "present"),
    [
        ("revoke_tokens", "get_tokens_client_credentials_grant"),
        ("get_tokens_client_credentials_grant", "revoke_tokens"),
    ],
)
def test_token_manager_without_a_method(missing: str, present: str) -> None:
    """The error names the method that a token manager lacks."""

    class Half:
        pass

    manager: Any = Half()
    setattr(manager, present, FakeTokenManager(make_config()).revoke_tokens)
    with pytest.raises(TypeError, match=f"token_manager must have an async method {missing}"):
        AnonymousSession(make_config(), manager)


async def test_an_answer_of_a_wrong_type_is_named(autojump_clock: MockClock) -> None:
    """If a token manager returns no token, the error names the type and does not show the value."""
    manager, session = open_fake(max_retries=0)
    manager.outcomes = [{"access_token": "hush"}]
    async with session:
        with pytest.raises(TokenUnavailableError, match="returned dict, not") as caught:
            await session.get_access_token()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_id", "another"),
        ("token_url", "https://auth.invalid/token"),
        ("api_root_url", "https://api.invalid"),
        ("scope", "item_read"),
        ("extra_params", {"audience": "https://api.invalid"}),
    ],
)
def test_a_manager_for_other_tokens(field: str, value: object) -> None:
    """A session refuses a manager for other tokens; a secret and a refresh mode may differ."""
    config = make_config()
    manager = TokenManager(config.replace(**{field: value}))
    name = "token_url" if field == "api_root_url" else field
    with pytest.raises(ConfigError, match=rf"^{name} must be .* same Config to both$") as caught:
        AnonymousSession(config, manager)
    assert "another" not in str(caught.value)
    own = config.replace(client_secret="new", refresh="on_request")
    AnonymousSession(own, TokenManager(config))


async def test_a_manager_whose_block_was_left(autojump_clock: MockClock) -> None:
    """A session with a closed token manager raises an error immediately, and does not retry."""
    config = make_config()
    async with TokenManager(config) as manager:
        pass
    async with AnonymousSession(config, manager) as session:
        with pytest.raises(TokenRequestError, match="the token manager is closed"):
            await session.get_access_token()
        assert session.statistics().failures == 1
    assert trio.current_time() == 0.0


# Text that is not a token

NO_TOKENS: dict[str, Callable[[TokenInfo], Any]] = {
    "None": lambda info: None,
    "bytes": lambda info: info.access_token.encode(),
    "TokenInfo": lambda info: info,
    "empty": lambda info: "",
    "scheme": lambda info: f"Bearer {info.access_token}",
    "lower case": lambda info: f"bearer  {info.access_token}",
    "header": lambda info: f"Authorization: Bearer {info.access_token}",
    "only the scheme": lambda info: "Bearer ",
}


async def invalidate_in_a_thread(session: AnonymousSession, value: Any) -> None:
    """Invalidate with a `SessionThread`, which passes the token to the session of its thread."""

    def in_a_thread() -> None:
        with SessionThread(make_config()) as thread:
            thread.invalidate(value)

    await trio.to_thread.run_sync(in_a_thread)


async def revoke_by_a_manager(session: AnonymousSession, value: Any) -> None:
    """Revoke with a `TokenManager`, which has no session."""
    async with TokenManager(session.config) as manager:
        await manager.revoke_tokens(value)


async def revoke_in_a_fleet(session: AnonymousSession, value: Any) -> None:
    """Revoke with a `SharedTokenManager`."""
    async with SharedTokenManager(TokenManager(session.config), MemoryStore()) as manager:
        await manager.revoke_tokens(value)


async def invalidate_value(session: AnonymousSession, value: Any) -> None:
    """Invalidate with a session."""
    session.invalidate(value)


@pytest.mark.parametrize("value", NO_TOKENS)
@pytest.mark.parametrize(
    "use", [invalidate_value, invalidate_in_a_thread, revoke_by_a_manager, revoke_in_a_fleet]
)
async def test_what_is_not_a_token_is_refused(
    value: str, use: Callable[[AnonymousSession, Any], Awaitable[None]]
) -> None:
    """The error names the argument and what to pass, and does not show the token."""
    server = TokenServer()
    async with open_test_session(server) as session:
        info = await session.exchange_token("scope")
        error_type = TypeError if value in ("None", "bytes", "TokenInfo") else ValueError
        with pytest.raises(error_type, match=r"^(access_)?token must be ") as caught:
            await use(session, NO_TOKENS[value](info))
        assert session.get_access_token_nowait() == info.access_token
        assert len(server.requests) == 1
        assert info.access_token not in "".join(traceback_with_locals(caught.value))
