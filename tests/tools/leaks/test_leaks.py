"""Promise 21: a hunt for secrets in everything that the library shows."""

from __future__ import annotations

import base64
import gc
import itertools
import json
import logging
import signal
import traceback
import weakref
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, run_virtually
from tests.stores.faulty import FaultyStore
from tools.leaks.canaries import (
    CLIENT_ID,
    PLACES,
    SECRET_CORE,
    SPELLINGS,
    TOKEN_CORE,
    Echo,
    good_answer,
    leaks_in,
)
from tools.leaks.hunt import PLAIN, Life, Shown, find_leaks, hunt, listening, lives, open_client
from trio_anon_session import (
    AnonymousSession,
    Config,
    MalformedTokenResponseError,
    RevocationError,
    TokenInfo,
    TokenManager,
    TokenRequestError,
)
from trio_anon_session.stores import Look, SharedTokenManager, StoredFailure, StoredToken
from trio_anon_session.testing import Client, Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from trio.testing import MockClock


@given(life=lives)
def test_promise_21_nothing_leaks(life: Life) -> None:
    """Whatever a server echoes, no sink shows the secret or a token."""
    assert find_leaks(hunt(life), leaks_in) == {}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_promise_21_no_echo_of_an_answer_leaks(place: str) -> None:
    """No sink shows a secret that a server echoes in any spelling, in any place of an answer."""
    spellings = itertools.cycle(SPELLINGS)
    # Each place begins with another spelling, so that each kind of answer gets each spelling.
    for _ in range(PLACES.index(place)):
        next(spellings)
    for number in range(-(-len(SPELLINGS) // 3)):
        status = (200, 400)[number % 2]
        life = attrs.evolve(
            PLAIN,
            secret=f" p@ss 'w/ö\"rd+%41&<\\>{SECRET_CORE}'ß ",
            token=f"tok/en+With~Odd%Chars=={TOKEN_CORE}",
            grant=Echo(place, next(spellings), status),
            revocation=Echo(place, next(spellings), status),
            resource=Echo(place, next(spellings), status),
        )
        assert find_leaks(hunt(life), leaks_in) == {}


# Sensitivity of the hunt


@pytest.mark.parametrize("core", [SECRET_CORE, TOKEN_CORE])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_is_found(spelling: str, core: str) -> None:
    """The hunt finds each spelling of a secret or token."""
    text = SPELLINGS[spelling](f"a'\"%{core} ß")
    assert leaks_in(f"before{text}after")


@given(before=st.binary(), after=st.binary())
def test_base64_is_found_anywhere(before: bytes, after: bytes) -> None:
    """The hunt finds a secret in base64, whatever bytes surround it."""
    assert leaks_in(base64.b64encode(before + SECRET_CORE.encode() + after).decode())


def test_the_hunt_fills_all_sinks() -> None:
    """The hunt fills each of the listed sinks."""
    refusal = Echo("error_description", "raw", 400)
    lives = [
        PLAIN,
        attrs.evolve(PLAIN, grant=refusal, revocation=refusal, ends="exception"),
        attrs.evolve(PLAIN, resource=Echo("chunk", "raw", 401), ends="interrupt"),
        attrs.evolve(PLAIN, http=httpx2),
        attrs.evolve(PLAIN, store=0.0),
        attrs.evolve(PLAIN, store=0.6, grant=refusal),
    ]
    filled = {sink for life in lives for sink, texts in hunt(life).texts.items() if any(texts)}
    for kind in SINKS:
        assert any(kind in sink for sink in filled), kind
    assert all(
        f"{what} of {thing}" in filled
        for thing in (
            *("a config", "a manager", "a session", "an auth", "a token", "statistics"),
            *(
                "a shared manager",
                "a manager of another process",
                "a token of the fleet",
                "a store",
            ),
        )
        for what in ("repr", "str", "pprint", "attributes")
    )


SINKS = (
    "log of trio_anon_session",
    "log of httpx",
    "log of httpcore",
    "log of httpx2",
    "log of httpcore2",
    "metrics",
    "spans",
    "repr of the event Granted",
    "repr of the event RefreshFailed",
    "repr of the event Revoked",
    "repr of the event StateChanged",
    "repr of the event Closed",
    "repr of options",
    "repr of states",
    "repr of a closed session",
    "str of a ConfigError",
    "locals of a ConfigError",
    "str of an error of options",
    "locals of an error of invalidate",
    "locals of a cancellation of a manager's grant",
    "locals of a cancellation of a manager's revocation",
    "locals of a cancellation of a shared manager's grant",
    "locals of a cancellation of a shared manager's revocation",
    "locals of a crash of a store",
    "locals of an error of a manager's grant",
    "locals of an error of a manager's revocation",
    "locals of a getter's error",
    "repr of a getter's error, chained",
    "traceback of a getter's error",
    "attributes of a getter's error",
    "traceback of an error of a revocation",
    "locals of our frames in an error of a request",
    "locals of an error of a request after the end",
    "str of the error of pickle of a session",
    "str of the error of copy.deepcopy of a session",
    "str of the error of pickle of a token",
    "copy.copy of a config",
    "repr of the body's exception",
)


@pytest.mark.parametrize("method", ["open", "look", "claim", "renew", "put", "release", "drop"])
async def test_promise_21_a_crash_of_a_store_shows_no_token(
    method: str, autojump_clock: MockClock
) -> None:
    """The traceback of a store's crash has our frames, whose locals show no token."""
    source = FakeTokenManager(make_config(client_secret=SECRET_CORE), latency=3.0)
    store = FaultyStore()
    if method == "release":
        source.outcomes = [OSError()]
    else:
        source.outcomes = [TokenInfo.from_answer(TOKEN_CORE, 3600.0, 0.0, source.config)]
    store.fails, store.error = {method}, SystemExit()
    with pytest.raises(SystemExit) as caught:
        async with SharedTokenManager(source, store) as manager:
            await manager.get_tokens_client_credentials_grant()
            await manager.revoke_tokens(TOKEN_CORE)
    shown = Shown()
    shown.look_at_error("a crash", caught.value)
    assert find_leaks(shown, leaks_in) == {}
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert "ask" in frames


@given(record=st.text() | st.sampled_from(["{}", "[]"]), mark=st.text(max_size=3))
def test_promise_21_the_content_of_a_store_is_not_shown(record: str, mark: str) -> None:
    """No error or repr shows the content of a damaged token or failure in the store."""
    echoes = [spell(SECRET_CORE) for spell in SPELLINGS.values()]
    failure = json.dumps(
        {"count": 1, "status_code": 503, "message": record, "error_description": " ".join(echoes)}
    )
    stored = StoredToken(f"{record}{TOKEN_CORE}", mark, 3600.0, 1.0)
    shown = Shown()

    async def main() -> None:
        source = FakeTokenManager(make_config(client_id=CLIENT_ID, client_secret=SECRET_CORE))
        store = FaultyStore()
        store.lies = {"look": Look(7, token=stored, failure=StoredFailure(failure, 7, 30.0))}
        async with SharedTokenManager(source, store) as manager:
            try:
                await manager.get_tokens_client_credentials_grant()
            except TokenRequestError as error:
                shown.look_at_error("an error of the fleet", error)
            shown.look_at("a manager", manager)

    with listening(shown):
        run_virtually(main)
    assert "repr of an error of the fleet" in shown.texts
    assert find_leaks(shown, leaks_in) == {}


# Tests without the hunt


async def test_promise_21_log_records_of_others_are_unchanged(
    http: ModuleType, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Only log records of token requests are masked, and not those of other requests."""
    caplog.set_level(logging.DEBUG)
    config = Config(client_id="id", client_secret="secret", api_root_url="http://localhost")

    def answer_to(sent: bytes) -> bytes:
        return (
            b"HTTP/1.1 200 Fine-secret\r\nX-Mine: header-secret\r\n"
            + good_answer("t").partition(b"\r\n")[2]
        )

    async with (
        open_client(answer_to, http) as client,
        TokenManager(config, http_client=client) as manager,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.get_tokens_client_credentials_grant)
            nursery.start_soon(client.get, "http://localhost/mine")
        await client.get("http://localhost/mine")
    lines = [record.getMessage() for record in caplog.records]
    assert sum("Fine-secret" in line for line in lines if line.startswith("HTTP Request")) == 2
    assert sum("header-secret" in line for line in lines) == 2
    [ours] = [line for line in lines if "oauth2/token" in line]
    assert ours == 'HTTP Request: POST http://localhost/oauth2/token "HTTP/1.1 200 ***'
    assert sum("receive_response_headers.complete return_value= ***" in line for line in lines) == 1


@pytest.mark.parametrize("call", ["grant", "revocation"])
def test_promise_21_an_interrupt_shows_no_locals(http: ModuleType, call: str) -> None:
    """The traceback of Ctrl-C during a token manager's request shows no secret or token."""
    token = f"t{TOKEN_CORE}"

    def interrupt(sent: bytes) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return good_answer(token)

    async def main() -> None:
        secret = f"s{SECRET_CORE}"
        config = Config(client_id="id", client_secret=secret, api_root_url="http://localhost")
        async with (
            open_client(interrupt, http) as client,
            TokenManager(config, http_client=client) as manager,
        ):
            if call == "grant":
                await manager.get_tokens_client_credentials_grant()
            else:
                await manager.revoke_tokens(token)

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    frames = [
        f"{frame.f_locals!r}"
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_code.co_filename != __file__
    ]
    assert len(frames) >= 2
    assert not leaks_in("\n".join(frames))


def test_promise_21_errors_of_settings_show_no_secret() -> None:
    """Errors of `Config`, `from_env` and `replace` do not show the secret in their locals."""
    secret = f"s{SECRET_CORE}"
    good = Config(client_id="id", client_secret=secret)
    environ = {"BOX_CLIENT_SECRET": secret}
    attempts: list[Callable[[], object]] = [
        lambda: Config(client_id="id", client_secret=secret, max_retries=-1),
        lambda: Config(client_id="id", client_secret=secret, no_such=1),  # type: ignore[call-arg]  # wrong on purpose
        lambda: good.replace(client_secret=secret, max_retries=-1),
        lambda: good.replace(client_secret=secret, no_such=1),
        lambda: Config.from_env(environ),
    ]
    for attempt in attempts:
        with pytest.raises((ValueError, TypeError)) as caught:
            attempt()
        shown = Shown()
        shown.look_at_error("error", caught.value)
        assert find_leaks(shown, leaks_in) == {}


async def test_promise_21_a_lone_surrogate_in_an_error(autojump_clock: MockClock) -> None:
    """A token with a lone surrogate is masked in the server's error, which has no context."""
    token = b"\\ud800" + TOKEN_CORE.encode()
    body = b'{"error": "invalid_scope", "access_token": "%b", "error_description": "not %b"}'
    body %= (token, token)
    server = TokenServer(
        FaultPlan(token_then=Fault(status=400, body=body)),
        clients=[Client(client_secret="secret-of-its-own")],
    )
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
        TokenManager(server.config(), http_client=client) as manager,
    ):
        with pytest.raises(httpx.RequestError, match=r"invalid_scope: not \*\*\*") as caught:
            await manager.get_tokens_client_credentials_grant()
    assert caught.value.__context__ is None


@pytest.mark.parametrize("http", [httpx, pytest.param(httpx2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("call", ["grant", "revocation"])
async def test_promise_21_the_form_ends_with_its_request(
    http: ModuleType, call: str, autojump_clock: MockClock
) -> None:
    """After a request, no request object with the form is left for the garbage collector."""

    def requests() -> list[int]:
        return [id(each) for each in gc.get_objects() if type(each).__name__ == "Request"]

    async with (
        open_client(lambda sent: good_answer("t"), http) as client,
        TokenManager(make_config(api_root_url="http://localhost"), http_client=client) as manager,
    ):
        gc.collect()
        gc.disable()
        try:
            before = requests()
            if call == "grant":
                await manager.get_tokens_client_credentials_grant()
            else:
                await manager.revoke_tokens("t")
            assert requests() == before
        finally:
            gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["ours", "foreign"])
@pytest.mark.parametrize("failing", ["grant", "revocation"])
async def test_promise_21_a_failure_ends_with_its_session(
    failing: str, owner: str, autojump_clock: MockClock
) -> None:
    """After a failure, no session, token, form or error is left for the garbage collector."""

    class Foreign(FakeTokenManager):
        async def get_tokens_client_credentials_grant(self, options: object = None) -> TokenInfo:
            if failing == "grant":
                raise OSError
            return await super().get_tokens_client_credentials_grant()

        async def revoke_tokens(self, token: str, options: object = None) -> None:
            raise TokenRequestError("no", retryable=False)

    remains: list[weakref.ref[Any]] = []

    def requests() -> set[int]:
        return {id(each) for each in gc.get_objects() if type(each).__name__ == "Request"}

    async def live(session: AnonymousSession) -> None:
        remains.append(weakref.ref(session))
        async with session:
            try:
                await session.get_access_token()
                remains.append(weakref.ref(session.token_info))
                await session.revoke_tokens()
            except TokenRequestError as error:
                remains.append(weakref.ref(error))

    refusal = Echo("error_description", "raw", 400).answer("no", "")

    def answer_to(sent: bytes) -> bytes:
        is_grant = sent.startswith(b"POST /oauth2/token")
        return refusal if is_grant is (failing == "grant") else good_answer("t")

    config = make_config(api_root_url="http://localhost", max_retries=0)
    async with (
        open_client(answer_to) as client,
        TokenManager(config, http_client=client) as own,
    ):
        gc.collect()
        gc.disable()
        before = requests()
        try:
            await live(AnonymousSession(config, own if owner == "ours" else Foreign(config)))
            assert len(remains) >= 2
            assert [what for ref in remains if (what := ref()) is not None] == []
            assert requests() == before
        finally:
            gc.enable()


async def test_promise_21_an_unsupported_token_is_not_shown(autojump_clock: MockClock) -> None:
    """A token of an unsupported type is masked in the error."""
    token = f"t{TOKEN_CORE}"
    body = json.dumps({"access_token": token, "token_type": "mac"}).encode()
    fault = Fault(
        status=200,
        body=body,
        headers={"BOX-REQUEST-ID": f"for {token}", "Content-Type": f"text/{token}"},
    )
    server = TokenServer(FaultPlan(token_then=fault))
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(server)) as client,
        TokenManager(server.config(), http_client=client) as manager,
    ):
        with pytest.raises(MalformedTokenResponseError, match=r"status 200, \*\*\*") as caught:
            await manager.get_tokens_client_credentials_grant()
    assert caught.value.request_id == "***"
    assert not leaks_in(repr(vars(caught.value)))


async def test_promise_21_wrong_options_show_no_token(autojump_clock: MockClock) -> None:
    """A TypeError about the options shows neither the token nor the secret."""
    options: Any = "192.0.2.1"
    token = f"t{TOKEN_CORE}"
    async with TokenManager(make_config(client_secret=f"s{SECRET_CORE}")) as manager:
        for call in (
            lambda: manager.get_tokens_client_credentials_grant(options),
            lambda: manager.revoke_tokens(token, options),
        ):
            with pytest.raises(TypeError, match="options must be a TokenRequestOptions") as caught:
                await call()
            shown = Shown()
            shown.look_at_error("error", caught.value)
            assert find_leaks(shown, leaks_in) == {}


async def test_promise_21_errors_of_a_custom_revocation(
    autojump_clock: MockClock,
) -> None:
    """The error of a custom token manager's revocation is masked, or left out if unreadable."""

    class UnreadableError(TokenRequestError):
        def __str__(self) -> str:
            raise ZeroDivisionError

    class Foreign(FakeTokenManager):
        async def revoke_tokens(self, token: str, options: object = None) -> None:
            self.revoked.append(token)
            if len(self.revoked) > 1:
                raise UnreadableError("x", retryable=False)
            raise TokenRequestError(
                f"no end of {token}, {SECRET_CORE}",
                error_description=f"said {SECRET_CORE}",
                retryable=False,
            )

    manager = Foreign(make_config(client_secret=SECRET_CORE))
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        with pytest.raises(RevocationError, match=r"no end of \*\*\*$") as caught:
            await session.revoke_tokens()
        assert caught.value.error_description == "said ***"
        await session.get_access_token()
        with pytest.raises(RevocationError, match="could not be revoked"):
            await session.revoke_tokens()
