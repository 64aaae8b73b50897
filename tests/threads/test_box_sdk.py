"""Tests of `SessionAuthentication` with clients of Box's SDK, in threads and on real sockets."""

from __future__ import annotations

import importlib
import linecache
import pickle
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import requests
from box_sdk_gen import (
    AccessToken,
    BaseUrls,
    BoxAPIError,
    BoxCCGAuth,
    BoxClient,
    BoxNetworkClient,
    BoxRetryStrategy,
    BoxSDKError,
    CCGConfig,
    FetchOptions,
    FetchResponse,
    InMemoryTokenStorage,
    NetworkSession,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config
from tests.ports import served_in_thread
from tests.threads.kit import until
from trio_anon_session import (
    AnonymousSession,
    ConfigError,
    CredentialsRejectedError,
    RevocationError,
    SessionClosedError,
    TokenRequestError,
    TokenUnavailableError,
)
from trio_anon_session.boxsdk import SessionAuthentication
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer
from trio_anon_session.threads import SessionThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from box_sdk_gen import Authentication

THREADS = 30
VARIANTS: list[Callable[[BoxClient], BoxClient]] = [
    lambda client: client,
    lambda client: client.with_as_user_header("1"),
    lambda client: client.with_extra_headers(extra_headers={"X-Extra": "1"}),
    lambda client: client.with_suppressed_notifications(),
]


@contextmanager
def open_client(auth: Authentication, url: str, attempts: int = 5) -> Iterator[BoxClient]:
    """Open a client of the SDK that does not pause between its attempts."""
    with requests.Session() as http:
        yield BoxClient(
            auth,
            network_session=NetworkSession(
                network_client=BoxNetworkClient(http),
                base_urls=BaseUrls(base_url=url),
                retry_strategy=BoxRetryStrategy(retry_base_interval=0, max_attempts=attempts),
            ),
        )


class Scene:
    """A server, a session in a thread, and a client of the SDK."""

    def __init__(self, server: TokenServer, attempts: int = 5, **settings: Any) -> None:
        self.server = server
        self._attempts = attempts
        self._settings = {"min_refresh_interval": 0.01} | settings

    def __enter__(self) -> Scene:
        with ExitStack() as stack:
            url = stack.enter_context(served_in_thread(self.server))
            config = self.server.config(url, **self._settings)
            self.session = stack.enter_context(SessionThread(config))
            self.auth = SessionAuthentication(self.session)
            self.client = stack.enter_context(open_client(self.auth, url, self._attempts))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def look_up(self, number: int) -> str:
        """Request a file, with a client that may be a copy with other headers."""
        client = VARIANTS[number % len(VARIANTS)](self.client)
        return client.files.get_file_by_id(str(number)).id

    def look_up_forbidden(self, client: BoxClient | None = None) -> None:
        """Request a path without permission, and expect the SDK's error."""
        url = f"{self.session.config.api_root_url}/2.0/forbidden"
        with pytest.raises(BoxAPIError) as caught:
            (client or self.client).make_request(FetchOptions(url=url, method="GET"))
        assert caught.value.response_info.status_code == 401


def in_threads(function: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """Call a function in this many threads, which all start at the same time."""
    barrier = threading.Barrier(count)

    def call(number: int) -> Any:
        barrier.wait(30)
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def end_tokens(server: TokenServer, how: str) -> None:
    """Make all tokens invalid at the server, without the session."""
    for token in server.tokens.values():
        if how == "revoked":
            token.revoked_at = token.issued_at
        else:
            token.lifetime = 0.0


# One token for all threads


@pytest.mark.slow
@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_threads_share_a_token(how: str) -> None:
    """30 threads cause one token request, and one more after their token is invalid.

    Two attempts are enough, because no thread gets a rejected token again.
    """
    with Scene(TokenServer(), attempts=2) as scene:
        expected = [str(number) for number in range(THREADS)]
        assert in_threads(scene.look_up) == expected
        assert scene.server.grants == 1
        end_tokens(scene.server, how)
        assert in_threads(scene.look_up) == expected
        assert scene.server.grants == 2
        assert scene.server.verdicts["good"] == 2 * THREADS


@pytest.mark.slow
def test_the_authentication_of_the_sdk_does_not_share_a_token() -> None:
    """With the SDK's own authentication, 30 threads can cause 30 token requests."""
    barrier = threading.Barrier(THREADS)

    class Storage(InMemoryTokenStorage):
        def get(self) -> AccessToken | None:
            token = super().get()
            # All threads read before one of them stores a token.
            barrier.wait(30)
            return token

    server = TokenServer(clients=[Client(subject_types=frozenset({"enterprise"}))])
    with served_in_thread(server) as url:
        config = server.config(url)
        assert isinstance(config.client_secret, str)
        auth = BoxCCGAuth(
            CCGConfig(
                config.client_id, config.client_secret, enterprise_id="1", token_storage=Storage()
            )
        )
        with open_client(auth, url) as client:
            in_threads(lambda number: client.files.get_file_by_id(str(number)))
    assert server.grants == THREADS


# Missing permissions


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "calls", "attempts"), [(1, 3, 5), (THREADS, 2, 3)])
def test_missing_permissions_replace_the_token_once(
    threads: int, calls: int, attempts: int
) -> None:
    """Calls without permission replace the token only once, in any number of threads."""
    with Scene(TokenServer(), attempts) as scene:

        def look_up(_: int) -> None:
            for _ in range(calls):
                scene.look_up_forbidden()

        in_threads(look_up, threads)
        assert scene.server.grants == 2
        assert scene.server.verdicts == {"good": threads * calls * attempts}


def test_pauses_of_the_sdk() -> None:
    """By default, the SDK repeats a request four times, with 30 seconds of pauses on average."""
    strategy = BoxRetryStrategy(retry_randomization_factor=0)
    options = FetchOptions("https://api.box.com/2.0/files/1", "GET")
    failed = FetchResponse(status=500, headers={})
    goes_on = [strategy.should_retry(options, failed, attempt) for attempt in range(1, 6)]
    assert goes_on == [True, True, True, True, False]
    assert sum(strategy.retry_after(options, failed, attempt) for attempt in range(1, 5)) == 30


@pytest.mark.slow
@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_an_interval_of_0_replaces_each_refused_token(attempts: int) -> None:
    """Without an interval, each attempt after a 401 has a new token."""
    with Scene(TokenServer()) as scene:
        auth = SessionAuthentication(scene.session, replacement_interval=0)
        with open_client(auth, scene.session.config.api_root_url, attempts) as client:
            scene.look_up_forbidden(client)
        assert scene.server.grants == attempts
        assert len({seen.access_token for seen in scene.server.presented}) == attempts


@given(
    interval=st.sampled_from([0, 1e6]),
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["retrieve", "refresh", "expire"])),
        max_size=20,
    ),
)
def test_which_tokens_are_replaced(interval: float, steps: list[tuple[int, str]]) -> None:
    """A refresh replaces the token only if its thread has the current one, once per interval."""
    manager = FakeTokenManager(make_config())
    config = make_config(min_refresh_interval=1e-9)
    current, last = 1, [0, 0, 0]
    is_over = True
    with ExitStack() as stack:
        session = stack.enter_context(SessionThread(config, lambda _: nullcontext(manager)))
        auth = SessionAuthentication(session, replacement_interval=interval)
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in last]
        for nth, step in steps:
            if step == "expire":
                # Another part of the program replaces the token.
                session.invalidate(f"token-{current}")
                current = manager.granted + 1
                continue
            if step == "refresh" and last[nth] == current and is_over:
                current += 1
                is_over = interval == 0
            last[nth] = current
            method = auth.retrieve_token if step == "retrieve" else auth.refresh_token
            token = pools[nth].submit(method).result()
            assert token.access_token == f"token-{current}"


def line_of(thread: threading.Thread) -> str:
    """Return the line of code in which a thread is now."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "" if frame is None else linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def test_a_thread_waits_while_another_replaces_its_token() -> None:
    """If two threads report a token, the second one does not get it again before it is dropped."""
    entered, may_drop = threading.Event(), threading.Event()
    tokens: list[str | None] = []

    class Slow(SessionThread):  # type: ignore[misc]  # a fake of a session that drops tokens late
        def invalidate(self, access_token: str) -> None:
            entered.set()
            assert may_drop.wait(30)
            super().invalidate(access_token)

    def report() -> None:
        auth.retrieve_token()
        barrier.wait(30)
        tokens.append(auth.refresh_token().access_token)

    config = make_config(min_refresh_interval=1e-9)
    barrier = threading.Barrier(2)
    with Slow(config, lambda _: nullcontext(FakeTokenManager(config))) as session:
        auth = SessionAuthentication(session)
        threads = [threading.Thread(target=report) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert entered.wait(30)
        # The other thread waits for the lock, or it has a token already.
        until(lambda: tokens or any("with self._lock" in line_of(thread) for thread in threads))
        may_drop.set()
        for thread in threads:
            thread.join()
    assert tokens == ["token-2", "token-2"]


# Errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (Fault.server_error(503), TokenUnavailableError, 2),
        (Fault(cut="before_headers"), TokenUnavailableError, 2),
        (Fault.refusal("invalid_client"), CredentialsRejectedError, 1),
        (Fault.refusal("invalid_scope"), TokenRequestError, 1),
    ],
)
def test_errors_of_the_token_endpoint(
    fault: Fault, error: type[TokenRequestError], requests: int
) -> None:
    """An error is one of the session and of the SDK, which does not retry."""
    server = TokenServer(FaultPlan(token_then=fault))
    with (
        Scene(server, max_retries=1, retry_interval=0.01) as scene,
        pytest.raises(error, match="token") as caught,
    ):
        scene.look_up(1)
    assert len(server.token_requests()) == requests
    assert not server.presented
    problem = caught.value
    assert isinstance(problem, BoxSDKError)
    assert problem.message == str(problem)
    assert problem.timestamp is not None
    assert "".join(traceback.format_exception(problem)).count(str(problem)) == 1


@pytest.mark.slow
def test_a_failed_replacement_shows_no_token() -> None:
    """If a replacement fails, neither its error nor a local variable shows the old token."""
    with Scene(TokenServer(), max_retries=0) as scene:
        token = scene.auth.retrieve_authorization_header().removeprefix("Bearer ")
        scene.server.faults = FaultPlan(token_then=Fault.server_error(503))
        with pytest.raises(BoxSDKError) as caught:
            scene.auth.refresh_token()
        # The frame of this test has the token.
        rest = caught.value.__traceback__
        assert rest is not None
        shown = traceback.TracebackException(
            type(caught.value), caught.value, rest.tb_next, capture_locals=True
        )
        assert token not in "".join(shown.format())
        assert token not in repr(vars(scene.auth))


@pytest.mark.slow
def test_revoking() -> None:
    """After a revocation, the next request has another token; a failed one is an SDK error."""
    with Scene(TokenServer(), max_retries=0) as scene:
        old = scene.auth.retrieve_token()
        scene.auth.revoke_token()
        assert scene.server.revocations == 1
        assert scene.look_up(1) == "1"
        assert scene.auth.retrieve_token().access_token != old.access_token
        scene.server.faults = FaultPlan(revoke_then=Fault.server_error(503))
        with pytest.raises(RevocationError) as caught:
            scene.auth.revoke_token()
        assert isinstance(caught.value, BoxSDKError)


@pytest.fixture
def auth() -> Iterator[SessionAuthentication]:
    """Return an authentication whose session does not need a server."""
    config = make_config(min_refresh_interval=1e-9)
    with SessionThread(config, lambda _: nullcontext(FakeTokenManager(config))) as session:
        yield SessionAuthentication(session)


@pytest.mark.parametrize("name", ["retrieve_token", "refresh_token", "revoke_token"])
def test_a_closed_session(name: str) -> None:
    """All methods raise a SessionClosedError that is an error of the SDK."""
    config = make_config()
    with SessionThread(config, lambda _: nullcontext(FakeTokenManager(config))) as session:
        auth = SessionAuthentication(session)
    with pytest.raises(SessionClosedError, match="the session is closed") as caught:
        getattr(auth, name)()
    assert isinstance(caught.value, BoxSDKError)


def test_downscoping_is_refused(auth: SessionAuthentication) -> None:
    """Downscoping raises an error that says what to use instead."""
    with pytest.raises(BoxSDKError, match=r"sends no token exchange.*Config\(scope=\.\.\.\)"):
        auth.downscope_token(["item_preview"], resource="https://api.box.com/2.0/files/1")


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("https://api.box.com", None),
        ("https://API.box.com:443/", None),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://api.box.com", "http://api.box.com"),
        ("https://api.box.com.example", "https://api.box.com.example"),
        ("api.box.com", "a URL without a host"),
    ],
)
def test_the_token_goes_to_the_server_of_the_session(
    auth: SessionAuthentication, base_url: str, said: str | None
) -> None:
    """The auth refuses a network session with another server than that of the session."""
    network = NetworkSession(base_urls=BaseUrls(base_url=base_url))
    for method in (auth.retrieve_token, auth.refresh_token, auth.retrieve_authorization_header):
        if said is None:
            assert method(network_session=network)
            continue
        with pytest.raises(ConfigError) as caught:
            method(network_session=network)
        assert str(caught.value) == (
            "base_urls.base_url must be on the same server as the session's api_root_url "
            f"(BOX_API_ROOT_URL), https://api.box.com, got {said}"
        )


# Arguments, repr and import


def test_wrong_arguments(auth: SessionAuthentication) -> None:
    """A wrong argument raises an error that names it, and says what it must be."""
    not_a_thread: Any = AnonymousSession(make_config())
    with pytest.raises(TypeError, match="session_thread must be a SessionThread, not Anonymous"):
        SessionAuthentication(not_a_thread)
    session = SessionThread(make_config())
    for interval in (-1, float("nan"), float("inf"), "1", None, True):
        wrong: Any = interval
        with pytest.raises(ConfigError, match=r"^replacement_interval must be a finite number of"):
            SessionAuthentication(session, replacement_interval=wrong)


def test_the_repr_shows_no_token(auth: SessionAuthentication) -> None:
    """The repr has the client id and no token, and pickling is refused."""
    header = auth.retrieve_authorization_header()
    assert header == "Bearer token-1"
    assert repr(auth) == "<SessionAuthentication of <SessionThread for 'id'>>"
    with pytest.raises(TypeError, match="cannot pickle a SessionAuthentication"):
        pickle.dumps(auth)


def test_without_the_extra_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK, importing the module raises an error with the command that installs it."""
    monkeypatch.delitem(sys.modules, "trio_anon_session.boxsdk")
    monkeypatch.setitem(sys.modules, "box_sdk_gen", None)
    with pytest.raises(ImportError, match=r"pip install 'trio_anon_session\[box\]'") as caught:
        importlib.import_module("trio_anon_session.boxsdk")
    assert caught.value.name == "box_sdk_gen"
    assert caught.value.__suppress_context__
