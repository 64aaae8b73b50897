"""Tests of how a session calls observers: their order, their exceptions and hidden secrets."""

from __future__ import annotations

import contextlib
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs
import httpx
import pytest
import trio
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.helpers import FakeTokenManager, make_config, run_virtually
from tests.lazy import an_async_function
from trio_anon_session import (
    AnonymousSession,
    Closed,
    Config,
    CredentialsRejectedError,
    Event,
    Granted,
    Invalidated,
    RefreshFailed,
    RevocationError,
    Revoked,
    SessionClosedError,
    StateChanged,
    TokenManager,
    TokenRequestError,
    TokenState,
    TokenUnavailableError,
)
from trio_anon_session._secrets import basic_credentials
from trio_anon_session.testing import Fault, FaultPlan, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from trio_anon_session import TokenInfo, TokenRequestOptions

SECRET = "hush-hush+secret/0123456789"

# Observers that raise


class OwnError(Exception):
    """An exception whose `str()` raises."""

    def __str__(self) -> str:
        raise ZeroDivisionError(SECRET)


OUTCOMES = st.lists(
    st.sampled_from(
        [None, TokenUnavailableError("down"), CredentialsRejectedError("no"), KeyError("x"), "junk"]
    ),
    max_size=6,
)


class TakesTurns(FakeTokenManager):
    """A token manager that grants a new token for each None among the outcomes."""

    async def get_tokens_client_credentials_grant(
        self, options: TokenRequestOptions | None = None
    ) -> TokenInfo:
        """Grant a token, or raise or return the next outcome."""
        outcome, left = self.outcomes[:1], self.outcomes[1:]
        self.outcomes = [] if outcome == [None] else outcome
        try:
            return await super().get_tokens_client_credentials_grant(options)
        finally:
            self.outcomes = left


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        OwnError(),
        trio.WouldBlock(),
        TokenUnavailableError(SECRET),
        SessionClosedError(),
        ExceptionGroup(SECRET, [KeyError(SECRET)]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_observer_that_raises_changes_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """If an observer raises, session and other observers go on, and the log has only the type."""
    manager = FakeTokenManager(make_config(refresh="on_request"))
    manager.outcomes = [TokenUnavailableError("down")]
    manager.revoke_outcomes = [RevocationError("no", retryable=False)]
    behind: list[str] = []

    def fail(event: Event) -> None:
        raise error

    observers = [fail, lambda event: behind.append(type(event).__name__)]
    async with AnonymousSession(manager.config, manager, observers=observers) as session:
        assert await session.get_access_token() == "token-1"
        session.invalidate("token-1")
        assert await session.get_access_token() == "token-2"
        with pytest.raises(RevocationError):
            await session.revoke_tokens()
        assert await session.get_access_token() == "token-3"
        await trio.sleep(3100.0)
        assert await session.get_access_token() == "token-3"
        await trio.sleep(1.0)
        assert await session.get_access_token() == "token-4"
    assert manager.revoked == ["token-2"]
    changed, granted = "StateChanged", "Granted"
    assert behind == [
        *("RefreshFailed", changed, granted),
        *(changed, "Invalidated", changed, granted),
        *(changed, "Revoked", changed, granted),
        *(changed, changed, granted, "Closed"),
    ]
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in said] == [
        f"an observer raised {type(error).__name__} on the event {kind}; the session continues"
        for kind in behind
    ]
    assert not any(record.exc_info for record in said)


async def test_an_interrupt_of_an_observer_propagates_from_the_call(
    autojump_clock: MockClock,
) -> None:
    """An observer's interrupt propagates from ``invalidate``, which still drops the token."""
    manager = FakeTokenManager(make_config())
    heard: list[Event] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, Invalidated):
            raise KeyboardInterrupt
        heard.append(event)

    async with AnonymousSession(manager.config, manager, observers=[interrupt]) as session:
        await session.get_access_token()
        with pytest.raises(KeyboardInterrupt):
            session.invalidate("token-1")
        assert await session.get_access_token() == "token-2"
        assert session.statistics().invalidations == 1
    kinds = [type(event) for event in heard]
    assert kinds == [StateChanged, Granted, StateChanged, StateChanged, Granted, Closed]


async def test_an_interrupt_discards_the_events_that_wait(autojump_clock: MockClock) -> None:
    """If an observer raises an interrupt, observers never get the events that waited behind it."""
    manager = FakeTokenManager(make_config())
    heard: list[Event] = []

    def interrupt(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Granted):
            session.invalidate("token-1")
            raise SystemExit

    session = AnonymousSession(manager.config, manager, observers=[interrupt])
    with pytest.raises(SystemExit):
        async with session:
            await session.get_access_token()
    assert [type(event) for event in heard] == [StateChanged, Granted, Closed]
    assert session.statistics().invalidations == 1


class Interrupting:
    """Raises SystemExit at all events of these kinds."""

    def __init__(self, *kinds: type[Event]) -> None:
        self.kinds = kinds
        self.heard: list[Event] = []
        self.raised: list[SystemExit] = []

    def __call__(self, event: Event) -> None:
        """Record the event, and raise if it is of these kinds."""
        self.heard.append(event)
        if isinstance(event, self.kinds):
            self.raised.append(SystemExit(type(event).__name__))
            raise self.raised[-1]


async def end_by_interrupts(
    kinds: set[type[Event]], outcomes: list[object], leave_at: float, revokes: bool
) -> None:
    """Leave a session whose observer interrupts it, and check callers, tokens and exceptions."""
    config = make_config(revoke_on_exit=revokes, max_retries=0)
    manager = TakesTurns(config, latency=1.0)
    manager.outcomes = outcomes
    observer = Interrupting(*kinds)
    ended: list[str] = []

    async def use(place: str) -> None:
        try:
            while True:
                with contextlib.suppress(TokenRequestError):
                    await session.get_access_token()
                await trio.sleep(70.7)
        except SessionClosedError:
            ended.append(place)

    caught = None
    with trio.fail_after(leave_at + 100.0):
        async with trio.open_nursery() as outside:
            try:
                session = AnonymousSession(config, manager, observers=[observer])
                async with session, trio.open_nursery() as inside:
                    for _ in range(3):
                        inside.start_soon(use, "inside")
                        outside.start_soon(use, "outside")
                    await trio.sleep(leave_at)
                    inside.cancel_scope.cancel()
            except SystemExit as error:
                caught = error
    assert ended.count("outside") == 3
    assert session.statistics().getters_held == 0
    assert caught is (observer.raised[0] if observer.raised else None)
    assert observer.heard.count(Closed()) == 1
    assert manager.in_flight == 0
    # The last token is the one at the end, even if its event was not delivered.
    held = [f"token-{manager.granted}"] if revokes and manager.granted else []
    assert manager.revoked == held
    assert sum(isinstance(event, Revoked) for event in observer.heard) == len(held)


@given(
    kinds=st.sets(st.sampled_from([Granted, RefreshFailed, StateChanged, Revoked, Closed])),
    outcomes=st.lists(st.sampled_from([None, TokenUnavailableError("down")]), max_size=3),
    leave_at=st.sampled_from([0.0, 0.5123, 10.7171, 3000.5123, 3117.0]),
    revokes=st.booleans(),
)
@example({Granted, RefreshFailed, StateChanged, Revoked, Closed}, [], 5.0, True)
@example({Granted}, [], 5.0, False)
@example({RefreshFailed}, [TokenUnavailableError("down")], 5.0, False)
@example({StateChanged}, [], 5.0, False)
@example({Closed}, [], 0.5123, True)
def test_promise_19_interrupts_of_an_observer_strand_no_caller(
    kinds: set[type[Event]], outcomes: list[object], leave_at: float, revokes: bool
) -> None:
    """Whatever an observer interrupts, waiting callers end, and the first interrupt propagates."""
    run_virtually(end_by_interrupts, kinds, list(outcomes), leave_at, revokes)


async def end_with_two_tokens(
    manager: FakeTokenManager, observer: Interrupting, outcomes: list[BaseException | None]
) -> None:
    """Leave a session while two tokens must be revoked. The observer's first exception comes out.

    Args:
        manager: the manager of the session.
        observer: raises on events.
        outcomes: the results of the two revocations at the end.
    """
    session = AnonymousSession(manager.config, manager, observers=[observer])
    with pytest.raises(SystemExit) as caught:
        async with session, trio.open_nursery() as nursery:
            await session.get_access_token()
            manager.revoke_latency = 2.0
            nursery.start_soon(session.revoke_tokens)
            await trio.sleep(0.1)
            assert await session.get_access_token() == "token-2"
            manager.revoke_outcomes = outcomes
            nursery.cancel_scope.cancel()
    assert manager.revoked == ["token-1", "token-1", "token-2"]
    assert caught.value is observer.raised[0]


@pytest.mark.parametrize("kinds", [(Revoked, Closed), (Revoked,)])
async def test_all_tokens_are_revoked_although_an_observer_interrupts(
    autojump_clock: MockClock, kinds: tuple[type[Event], ...]
) -> None:
    """Both tokens are revoked at the end, although an observer interrupts each revocation."""
    manager = FakeTokenManager(make_config(revoke_on_exit=True))
    observer = Interrupting(*kinds)
    await end_with_two_tokens(manager, observer, [])
    assert [type(event) for event in observer.heard[-3:]] == [Closed, Revoked, Revoked]


async def test_an_interrupted_revocation_at_the_end_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A KeyboardInterrupt ends the revocations, and an earlier crash still propagates."""
    manager = FakeTokenManager(make_config(revoke_on_exit=True))
    observer = Interrupting(Revoked)
    await end_with_two_tokens(manager, observer, [None, KeyboardInterrupt()])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "a token was not revoked on exit: the program was interrupted")
    ]


async def test_an_error_of_this_package_is_shown_whole(autojump_clock: MockClock) -> None:
    """An error of this package is shown whole: an odd client id in it is not taken for a secret."""
    heard: list[Event] = []
    server = TokenServer(FaultPlan(token_then=Fault.refusal("invalid_client")))
    config = server.config(client_id="app+1%2F", max_retries=0)
    transport = httpx.ASGITransport(app=server)
    async with (
        httpx.AsyncClient(transport=transport) as client,
        TokenManager(config, http_client=client) as manager,
        AnonymousSession(config, manager, observers=[heard.append]) as session,
    ):
        with pytest.raises(CredentialsRejectedError) as caught:
            await session.get_access_token()
    (failed,) = (event for event in heard if isinstance(event, RefreshFailed))
    assert "rejected the client 'app+1%2F'" in failed.error
    assert failed.error.endswith(str(caught.value.__cause__) + f". {caught.value.next_step}")


@pytest.mark.parametrize("code", ["invalid_client", "invalid_grant", "invalid_scope", "strange"])
async def test_advice_names_the_variables_of_the_prefix(
    autojump_clock: MockClock, code: str
) -> None:
    """The advice for a config from other variables has no name of a variable of Box."""
    server = TokenServer(FaultPlan(token_then=Fault.refusal(code)))
    given = server.config()
    environ = {
        "ACME_CLIENT_ID": given.client_id,
        "ACME_CLIENT_SECRET": str(given.client_secret),
        "ACME_TOKEN_URL": given.token_url,
        "ACME_API_ROOT_URL": given.api_root_url,
    }
    config = Config.from_env(environ, prefix="ACME_").replace(max_retries=0)
    transport = httpx.ASGITransport(app=server)
    async with (
        httpx.AsyncClient(transport=transport) as client,
        TokenManager(config, http_client=client) as manager,
        AnonymousSession(config, manager) as session,
    ):
        with pytest.raises(TokenRequestError) as caught:
            await session.get_access_token()
    assert "BOX_" not in str(caught.value)
    assert ("(ACME_" in str(caught.value)) == (code in ("invalid_client", "invalid_grant"))


@given(data=st.data(), code=st.sampled_from(["invalid_client", "invalid_scope", "server_error"]))
def test_a_short_secret_changes_neither_code_nor_advice(data: st.DataObject, code: str) -> None:
    """A secret that occurs by chance in the error code or the advice is not hidden there."""

    async def fail(secret: str) -> RefreshFailed:
        heard: list[Event] = []
        server = TokenServer(FaultPlan(token_then=Fault.refusal(code)))
        config = server.config(client_secret=secret, max_retries=0)
        transport = httpx.ASGITransport(app=server)
        async with (
            httpx.AsyncClient(transport=transport) as client,
            TokenManager(config, http_client=client) as manager,
            AnonymousSession(config, manager, observers=[heard.append]) as session,
        ):
            with pytest.raises(TokenRequestError):
                await session.get_access_token()
        return next(event for event in heard if isinstance(event, RefreshFailed))

    usual = run_virtually(partial(fail, "an-ordinary-client-secret"))
    _, _, end = usual.error.partition(f"{code}")
    at = data.draw(st.integers(0, len(code + end) - 1))
    length = data.draw(st.integers(1, 7))
    secret = (code + end)[at : at + length].strip()
    assume(secret)
    failed = run_virtually(partial(fail, secret))
    assert (failed.kind, failed.retryable) == (usual.kind, usual.retryable)
    assert code in failed.error
    assert failed.error.endswith(end.partition(". ")[2])


async def test_an_error_of_a_foreign_manager_shows_no_earlier_token(
    autojump_clock: MockClock,
) -> None:
    """The session hides tokens that it received, and possible secrets, in foreign messages."""
    manager = FakeTokenManager(make_config(max_retries=0))
    token = attrs.evolve(manager.new_token(0.0), access_token="sesame")
    unknown = "4Q2x9Zp7Lm0Tk8Vw1b"
    manager.outcomes = [token, TokenUnavailableError(f"the password sesame is not {unknown}")]
    heard: list[Event] = []
    async with AnonymousSession(manager.config, manager, observers=[heard.append]) as session:
        await session.get_access_token()
        await trio.sleep(3100.0)
    (failed,) = (event for event in heard if isinstance(event, RefreshFailed))
    assert failed.error.endswith("the password *** is not ***")


async def test_a_failed_revocation_is_logged_at_the_default_level(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that shows only warnings sees why a token was not revoked."""
    manager = FakeTokenManager(make_config())
    manager.revoke_outcomes = [RevocationError("no", retryable=False)]
    with caplog.at_level(logging.WARNING, logger="trio_anon_session"):
        async with AnonymousSession(manager.config, manager) as session:
            await session.get_access_token()
            with pytest.raises(RevocationError):
                await session.revoke_tokens()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith("no")


# The order of events


class Acting:
    """Acts on the session at the events with the given numbers."""

    def __init__(self, acts: dict[int, str]) -> None:
        self.acts = acts
        self.events: list[Event] = []
        # The test sets these later.
        self.session: AnonymousSession
        self.nursery: trio.Nursery

    def __call__(self, event: Event) -> None:
        """Record the event, and act if its number has an action."""
        self.events.append(event)
        token = self.session.token_info
        match self.acts.get(len(self.events)):
            case "invalidate" if token is not None:
                self.session.invalidate(token.access_token)
            case "nowait":
                self.session.get_access_token_nowait()
            case "revoke":
                self.nursery.start_soon(self.revoke)

    async def revoke(self) -> None:
        """Revoke the token, unless the session is closed first."""
        with contextlib.suppress(SessionClosedError, RevocationError):
            await self.session.revoke_tokens()


async def act_on_events(
    acts: dict[int, str], outcomes: list[object], by_predicate: bool
) -> list[Event]:
    """Return the events of a session while an observer acts on it."""
    manager = TakesTurns(make_config(max_retries=1), latency=0.25)
    manager.outcomes = outcomes
    observer, behind = Acting(acts), list[Event]()
    observers: list[Callable[[Event], object]] = [observer, behind.append]
    session = AnonymousSession(manager.config, manager, observers=observers)
    reported = False

    def report_once(state: TokenState) -> bool:
        nonlocal reported
        token = session.token_info
        if state is TokenState.FRESH and token is not None and not reported:
            reported = True
            session.invalidate(token.access_token)
        return False

    async def watch() -> None:
        with contextlib.suppress(SessionClosedError):
            await session.states.wait_value(report_once)

    async with trio.open_nursery() as nursery:
        observer.session, observer.nursery = session, nursery
        async with session:
            if by_predicate:
                nursery.start_soon(watch)
            for _ in range(4):
                with contextlib.suppress(TokenRequestError):
                    await session.get_access_token()
                await trio.sleep(1200.5)
    assert behind == observer.events
    return behind


@given(
    acts=st.dictionaries(st.integers(1, 24), st.sampled_from(["invalidate", "nowait", "revoke"])),
    outcomes=OUTCOMES,
    by_predicate=st.booleans(),
)
@example(dict.fromkeys(range(24), "invalidate"), [], False)
@example({1: "invalidate"}, [], True)
def test_events_come_in_the_order_of_the_changes(
    acts: dict[int, str], outcomes: list[object], by_predicate: bool
) -> None:
    """Each event fits the events before it, whatever an observer does at any event."""
    events = run_virtually(act_on_events, acts, list(outcomes), by_predicate)
    state, current = TokenState.EMPTY, None
    for event in events:
        match event:
            case StateChanged():
                assert event.old is state
                state = event.new
            case Granted():
                assert state is TokenState.FRESH
                current = event.fingerprint
            case Invalidated():
                assert (state, current) == (TokenState.EMPTY, event.fingerprint)
                current = None
    assert events[-1] == Closed() or isinstance(events[-1], Revoked)


# Arguments that are not observers


@pytest.mark.parametrize(
    ("observers", "words"),
    [
        ([7], "callables, not int$"),
        ([print, an_async_function], "plain callables, not an async function: send the events"),
        (print, "an iterable of callables, not builtin_function_or_method$"),
        ("a name", "an iterable of callables, not str$"),
        ("", "an iterable of callables, not str$"),
        (None, "an iterable of callables, not NoneType$"),
    ],
)
def test_a_wrong_observer_is_a_type_error(observers: Any, words: str) -> None:
    """The constructor refuses observers that could never receive an event."""
    with pytest.raises(TypeError, match=f"^observers must be {words}"):
        AnonymousSession(make_config(), observers=observers)


async def test_an_observer_that_returns_a_coroutine(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The session closes and logs a coroutine of an observer, and calls the next observer."""
    manager = FakeTokenManager(make_config())
    heard: list[str] = []
    coroutines: list[Any] = []

    def send(event: Event) -> Any:
        coroutines.append(an_async_function())
        return coroutines[-1]

    observers = [send, lambda event: heard.append(type(event).__name__)]
    async with AnonymousSession(manager.config, manager, observers=observers) as session:
        assert await session.get_access_token() == "token-1"
    assert heard == ["StateChanged", "Granted", "Closed"]
    assert {inspect.getcoroutinestate(each) for each in coroutines} == {inspect.CORO_CLOSED}
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.ERROR,
            f"an observer must be a plain callable, but returned a coroutine on the event {kind}",
        )
        for kind in heard
    ]


# Secrets that must not be shown


class Echoing(FakeTokenManager):
    """A foreign token manager whose errors contain `echo`."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.echo = ""

    async def get_tokens_client_credentials_grant(self, options: Any = None) -> Any:
        """Grant a token once, then raise an error."""
        if self.granted:
            raise TokenUnavailableError(f"no grant: {self.echo}")
        return await super().get_tokens_client_credentials_grant(options)

    async def revoke_tokens(self, token: str, options: Any = None) -> None:
        """Raise an error."""
        raise TokenRequestError(f"no end of {token}: {self.echo}", retryable=False)


@pytest.mark.parametrize(
    "echo",
    [SECRET, quote(SECRET, safe=""), basic_credentials("id", SECRET), "token-1"],
    ids=["plain", "quoted", "basic", "token"],
)
@pytest.mark.parametrize("ending", ["refresh", "invalidate", "revoke"])
async def test_promise_21_no_error_of_a_foreign_manager_shows_a_secret(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, echo: str, ending: str
) -> None:
    """Secrets and tokens in errors of a foreign token manager are hidden in log and events."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    manager = Echoing(make_config(client_secret=SECRET))
    manager.echo = f"<{echo}>\x1b[31m\nforged line"
    async with AnonymousSession(manager.config, manager, observers=[events.append]) as session:
        token = await session.get_access_token()
        if ending == "revoke":
            with pytest.raises(RevocationError):
                await session.revoke_tokens()
        if ending == "invalidate":
            session.invalidate(token)
        if ending == "refresh":
            await trio.sleep(3001.0)
        else:
            with pytest.raises(TokenUnavailableError):
                await session.get_access_token()
        shown = repr(events) + repr(session.statistics()) + caplog.text
    assert "*** [31m forged line" in shown
    assert any(isinstance(event, Revoked | RefreshFailed) for event in events)
    for secret in (echo, SECRET, "token-1"):
        assert secret not in shown


class UnreadableError(TokenRequestError):
    """An error of this package's type, raised by a foreign manager, whose `str()` raises."""

    def __str__(self) -> str:
        raise ZeroDivisionError(SECRET)


async def test_an_error_whose_str_raises(autojump_clock: MockClock) -> None:
    """An error with a failing `str()` and wrong attributes counts as a failure with defaults."""
    events: list[Event] = []
    manager = FakeTokenManager(make_config())
    error = UnreadableError("x", status_code="teapot", retryable="yes")  # type: ignore[arg-type]  # other libraries may do this
    manager.outcomes = [error]
    async with AnonymousSession(manager.config, manager, observers=[events.append]) as session:
        assert await session.get_access_token() == "token-1"
        assert session.statistics().last_error == "UnreadableError: (its str() raises an error)"
    (failed,) = (event for event in events if isinstance(event, RefreshFailed))
    assert (failed.kind, failed.retryable, failed.status_code) == ("UnreadableError", True, None)


class FrozenError(Exception):
    """A foreign error that does not accept other attributes, like those of frozen classes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


async def test_a_frozen_error_is_the_cause(autojump_clock: MockClock) -> None:
    """The callers' errors have a foreign error as their cause, although it is immutable."""
    manager = FakeTokenManager(make_config(max_retries=0))
    error = FrozenError("x")
    manager.outcomes = [error]
    manager.revoke_outcomes = [error]
    async with AnonymousSession(manager.config, manager) as session:
        with pytest.raises(TokenUnavailableError) as refused:
            await session.get_access_token()
        await trio.sleep(100.0)
        await session.get_access_token()
        with pytest.raises(RevocationError) as kept:
            await session.revoke_tokens()
    assert refused.value.__cause__ is kept.value.__cause__ is error


async def test_a_long_message_is_cut(autojump_clock: MockClock) -> None:
    """The message of a foreign error is cut to 1,000 characters."""
    manager = FakeTokenManager(make_config())
    manager.outcomes = [TokenUnavailableError("page " * 10_000)]
    async with AnonymousSession(manager.config, manager) as session:
        await session.get_access_token()
        last_error = session.statistics().last_error
    kind, _, words = (last_error or "").partition(": ")
    assert kind == "TokenUnavailableError"
    assert len(words) == 1000
    assert words.endswith("…")
