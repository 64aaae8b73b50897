"""Tests of `SessionThread`: one token for all threads, and the results of its calls."""

from __future__ import annotations

import math
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import trio

from trio_anon_session import (
    AnonymousSessionError,
    CredentialsRejectedError,
    Event,
    Granted,
    RevocationError,
    SessionClosedError,
    TokenInfo,
    TokenRequestOptions,
    TokenState,
)
from trio_anon_session.testing import TokenServer
from trio_anon_session.threads import SessionThread

from ..helpers import FakeTokenManager, make_config
from ..ports import served_in_thread
from .kit import fake_manager, thread_on, until

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 30


def session_threads() -> list[threading.Thread]:
    """Return the threads of all sessions."""
    return [thread for thread in threading.enumerate() if thread.name == "SessionThread"]


@pytest.mark.slow
def test_on_a_real_server() -> None:
    """Without a given token manager, it requests and revokes tokens over HTTP."""
    server = TokenServer()
    with served_in_thread(server) as url:
        config = server.config(url, revoke_on_exit=True)
        with SessionThread(config) as session, ThreadPoolExecutor(THREADS) as pool:
            tokens = list(pool.map(lambda _: session.get_access_token(), range(THREADS)))
    assert server.grants == len(set(tokens)) == 1
    assert server.revocations == 1


def test_threads_share_the_token() -> None:
    """All threads get one token, and another one after all of them have reported it."""
    manager = fake_manager()
    with thread_on(manager) as session, ThreadPoolExecutor(THREADS) as pool:
        for number in (1, 2):
            tokens = list(pool.map(lambda _: session.get_access_token(), range(THREADS)))
            assert tokens == [f"token-{number}"] * THREADS
            list(pool.map(session.invalidate, tokens))
            assert session.state is TokenState.EMPTY
    assert manager.most_in_flight == 1


def test_a_fresh_token_does_not_need_the_thread() -> None:
    """A thread gets a FRESH token even if the session's thread is busy."""
    is_busy, go_on = threading.Event(), threading.Event()

    def observe(event: Event) -> None:
        if isinstance(event, Granted):
            is_busy.set()
            go_on.wait()

    with thread_on(fake_manager(), observers=[observe]) as session, ThreadPoolExecutor(1) as pool:
        first = pool.submit(session.get_access_token)
        is_busy.wait()
        assert session.get_access_token() == "token-1"
        assert not first.done()
        go_on.set()


def test_an_unusable_token_is_not_returned() -> None:
    """No thread gets a token that was revoked or has expired."""
    # On a busy machine, a token may have expired when it arrives.
    manager = fake_manager(refresh="on_request", expired_buffer=0.0, max_retries=1000)
    manager.lifetime = 0.01
    with thread_on(manager) as session:
        first = session.get_access_token()
        until(lambda: session.state is TokenState.EXPIRED)
        manager.lifetime = 3600.0
        second = session.get_access_token()
        session.revoke_tokens()
        assert manager.revoked == [second]
        assert len({first, second, session.get_access_token()}) == 3


def test_a_token_from_before_a_suspend_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that has expired according to the wall clock is not returned."""
    true_time = time.time
    with thread_on(fake_manager(refresh="on_request")) as session:
        first = session.get_access_token()
        monkeypatch.setattr(time, "time", lambda: true_time() + 86400.0)
        assert session.get_access_token() != first


def test_a_fresh_token_counts_as_use() -> None:
    """A thread that gets a FRESH token ends the idle time of a session."""
    with thread_on(fake_manager(idle_timeout=0.01)) as session:
        session.get_access_token()
        until(lambda: session.statistics().next_refresh_in is None)

        def is_awake() -> bool:
            session.get_access_token()
            return session.statistics().next_refresh_in is not None

        # Other processes can make the program wait until the session is idle again.
        assert any(is_awake() for _ in range(1000))


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout(timeout: float) -> None:
    """A thread waits at most for its timeout, and the token request continues."""
    manager = fake_manager(latency=math.inf)
    with ThreadPoolExecutor(1) as pool, thread_on(manager) as session:
        other = pool.submit(session.get_access_token)
        until(lambda: manager.in_flight)
        with pytest.raises(TimeoutError, match=f"^no token within {timeout} s$"):
            session.get_access_token(timeout)
        assert manager.in_flight == 1
        assert not other.done()


class OldTokens(FakeTokenManager):
    """A manager whose tokens are 50 minutes old."""

    def new_token(self, sent_at: float) -> TokenInfo:
        """Return the next token."""
        return super().new_token(sent_at - 3000.0)


def test_a_stale_token_needs_no_time() -> None:
    """With a timeout of 0 s, a thread gets a STALE token."""
    manager = OldTokens(make_config(refresh="on_request", min_refresh_interval=1e-6))
    with thread_on(manager) as session:
        session.get_access_token()
        assert session.state is TokenState.STALE
        assert session.get_access_token(0).startswith("token-")


def test_a_timeout_of_a_revocation() -> None:
    """A thread waits at most for its timeout, and the token is dropped."""
    manager = fake_manager()
    manager.revoke_latency = math.inf
    with thread_on(manager) as session:
        session.get_access_token()
        with pytest.raises(TimeoutError, match=r"^the token was not revoked within 0\.01 s$"):
            session.revoke_tokens(0.01)
        assert session.state is TokenState.EMPTY


def test_errors_of_the_session() -> None:
    """Each thread gets its own object of the session's error."""
    manager = fake_manager()
    manager.outcomes = [CredentialsRejectedError("no") for _ in range(THREADS)]
    with thread_on(manager) as session, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(session.get_access_token) for _ in range(THREADS)]
        errors = [future.exception() for future in futures]
    assert {type(error) for error in errors} == {CredentialsRejectedError}
    assert len(set(map(id, errors))) == THREADS


def test_a_revocation_that_fails() -> None:
    """A thread gets the RevocationError, and the token is dropped."""
    manager = fake_manager()
    manager.revoke_outcomes = [RevocationError("no", retryable=False)]
    with thread_on(manager) as session:
        session.get_access_token()
        with pytest.raises(RevocationError, match="no"):
            session.revoke_tokens()
        assert session.state is TokenState.EMPTY


# Leaving the block


def ends_of_threads(
    ask: Callable[[SessionThread], object], *, latency: float
) -> set[tuple[type[BaseException], str]]:
    """Leave the block while threads call it, and return the errors of these and later calls."""
    with ThreadPoolExecutor(THREADS) as pool:
        with thread_on(fake_manager(latency=latency)) as session:
            futures = [pool.submit(ask, session) for _ in range(THREADS)]
            until(lambda: session.statistics().getters_held in (0, THREADS))
        futures.append(pool.submit(session.get_access_token))
        futures.append(pool.submit(session.revoke_tokens))
        errors = [future.exception() for future in futures]
    # Reporting a token to a closed session does nothing.
    session.invalidate("token-1")
    assert session.state is TokenState.EMPTY
    return {(type(error), str(error)) for error in errors if error is not None}


CLOSED = (
    SessionClosedError,
    "the session is closed: use it inside the 'with' block of the SessionThread, or open a new one",
)


def test_leaving_while_threads_wait() -> None:
    """Every thread that waits for a token gets a SessionClosedError."""
    ends = ends_of_threads(SessionThread.get_access_token, latency=math.inf)
    assert ends == {CLOSED}


def test_leaving_while_threads_revoke() -> None:
    """Every thread that waits for a revocation gets a SessionClosedError."""
    manager = fake_manager()
    manager.revoke_latency = math.inf
    with ThreadPoolExecutor(THREADS) as pool:
        with thread_on(manager) as session:
            session.get_access_token()
            futures = [pool.submit(session.revoke_tokens) for _ in range(THREADS)]
            until(lambda: manager.revoked)
        errors = [future.exception() for future in futures]
    assert {(type(error), str(error)) for error in errors} == {CLOSED}


def test_leaving_while_threads_are_busy() -> None:
    """Each thread that keeps calling the session gets a SessionClosedError."""

    def keep_asking(session: SessionThread) -> None:
        while True:
            session.invalidate(session.get_access_token())

    for _ in range(5):
        assert ends_of_threads(keep_asking, latency=0.0) == {CLOSED}


def test_an_interrupt_while_the_main_thread_waits() -> None:
    """Ctrl-C ends the wait for a token, and the block can be left."""
    manager = fake_manager(latency=math.inf)
    main = threading.get_ident()

    def interrupt() -> None:
        until(lambda: manager.in_flight)
        signal.pthread_kill(main, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        with thread_on(manager) as session:
            pool.submit(interrupt)
            session.get_access_token()
    assert not session_threads()


class Crash(BaseException):
    """An error that is not an `Exception`."""


def test_a_session_that_crashes() -> None:
    """A thread that waits gets a SessionClosedError, and the with statement raises the crash."""
    manager = fake_manager()
    manager.outcomes = [Crash("broken")]
    with pytest.raises(Crash, match="broken") as caught:
        with thread_on(manager) as session:
            with pytest.raises(SessionClosedError):
                session.get_access_token()
            until(lambda: not session_threads())
            with pytest.raises(SessionClosedError, match="has crashed with Crash: leave") as later:
                session.get_access_token()
            raise later.value
    assert later.value.__cause__ is caught.value


class CrashesAfterRevocations(FakeTokenManager):
    """A manager whose revocations all end a few turns before a token request crashes."""

    def __init__(self, count: int) -> None:
        super().__init__(fake_manager().config)
        self._count = count
        self._ends = trio.Event()

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Grant a token, or crash if all revocations are in progress."""
        if len(self.revoked) == self._count:
            self._ends.set()
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            raise Crash
        return await super().get_tokens_client_credentials_grant(options)

    async def revoke_tokens(self, token: str, options: TokenRequestOptions | None = None) -> None:
        """Revoke a token as soon as the session is about to crash."""
        self.revoked.append(token)
        await self._ends.wait()


def test_a_call_that_trio_cancels_at_the_end_of_its_run() -> None:
    """A thread that is still on its way through many revocations gets a SessionClosedError."""
    count = 100
    manager = CrashesAfterRevocations(count)
    with pytest.raises(Crash), ThreadPoolExecutor(1) as pool:
        with thread_on(manager) as session:
            for _ in range(count - 1):
                session.get_access_token()
                with pytest.raises(TimeoutError):
                    session.revoke_tokens(timeout=0)
            session.get_access_token()
            waiting = pool.submit(session.revoke_tokens)
            until(lambda: len(manager.revoked) == count)
            with pytest.raises(SessionClosedError):
                session.get_access_token()
    assert type(waiting.exception()) is SessionClosedError


@pytest.mark.parametrize("error", [ValueError("no"), Crash("no")])
def test_a_session_that_cannot_be_opened(error: BaseException) -> None:
    """The with statement raises the error, and no thread is left."""

    def fail(config: object) -> None:
        raise error

    manager = fake_manager()
    with pytest.raises(type(error), match="no"):
        with SessionThread(manager.config, fail):  # type: ignore[arg-type]  # returns nothing
            pytest.fail("it was opened")
    assert not session_threads()


# Misuse


def test_where_it_cannot_be_used() -> None:
    """Outside of its block, in a second block and in a Trio run, an error says what to do."""
    session = thread_on(fake_manager())
    for use in USES:
        with pytest.raises(RuntimeError, match="write 'with SessionThread"):
            use(session)
    with session:
        with pytest.raises(RuntimeError, match="only once"):
            session.__enter__()
        for use in USES:
            with pytest.raises(RuntimeError, match=r"would block this Trio run.*to_thread"):
                trio.run(in_trio, use, session)
    with pytest.raises(RuntimeError, match="only once"):
        session.__enter__()
    with pytest.raises(RuntimeError, match="would block this Trio run"):
        trio.run(in_trio, SessionThread.__enter__, thread_on(fake_manager()))


USES: list[Callable[[SessionThread], object]] = [
    SessionThread.get_access_token,
    SessionThread.revoke_tokens,
    SessionThread.statistics,
    lambda session: session.invalidate("token"),
    lambda session: session.state,
]


async def in_trio(use: Callable[[SessionThread], object], session: SessionThread) -> None:
    """Call a function in a Trio task."""
    use(session)


def test_an_observer_cannot_use_it() -> None:
    """An observer that calls the SessionThread gets an error, because the call would block."""
    seen: list[tuple[str, str]] = []

    def observe(event: Event) -> None:
        try:
            session.get_access_token()
        except RuntimeError as error:
            seen.append((threading.current_thread().name, str(error)[:44]))

    with thread_on(fake_manager(), observers=[observe], name="tokens") as session:
        session.get_access_token()
        assert "tokens" in [thread.name for thread in threading.enumerate()]
    assert set(seen) == {("tokens", "a SessionThread would block this Trio run: u")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"config": None}, "config must be a Config, not NoneType"),
        ({"token_manager": 1}, "token_manager must be a function .*, not int"),
        ({"observers": 1}, "observers must be an iterable of callables, not int"),
        ({"name": b"x"}, "name must be a str, not bytes"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], said: str) -> None:
    """An argument of a wrong type is a TypeError that names it."""
    with pytest.raises(TypeError, match=said):
        SessionThread(**({"config": fake_manager().config} | arguments))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("timeout", "kind", "said"),
    [
        ("1", TypeError, "timeout must be a number of seconds or None, not str"),
        (True, TypeError, "timeout must be a number of seconds or None, not bool"),
        (-1, ValueError, "timeout must be a number of seconds ≥ 0, or None, got -1"),
        (math.nan, AnonymousSessionError, "≥ 0, or None, got nan"),
    ],
)
def test_wrong_timeouts(timeout: float, kind: type[Exception], said: str) -> None:
    """A timeout that is no number of seconds ≥ 0 is refused by each call that accepts one."""
    session = thread_on(fake_manager())
    calls = (session.get_access_token, session.revoke_tokens, lambda t: session.auth(timeout=t))
    for call in calls:
        with pytest.raises(kind, match=said):
            call(timeout)
