"""Running a timeline: it replays, it ends, it tells, and it finds a session that is broken."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, find, given, settings

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config, TokenUnavailableError
from trio_anon_session.testing import strategies
from trio_anon_session.testing._timelines import run
from trio_anon_session.testing._timelines.log import (
    Asked,
    Cancelling,
    Decided,
    Failed,
    GaveUp,
    Got,
    Leaving,
    Left,
    Presented,
    Reported,
    Stopped,
)
from trio_anon_session.testing.strategies import (
    Answer,
    BrokenPromiseError,
    Crash,
    Get,
    Invalidate,
    Kill,
    Outcome,
    RefusedTokenError,
    Revoke,
    Suspend,
    Timeline,
    run_timeline,
    timelines,
)

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

    from trio_anon_session import Observer, SessionStatistics, TokenInfo
    from trio_anon_session._manager import TokenSource

BUSY = Timeline(
    answers=[Answer(kind="unavailable"), Answer(latency=1.0)],
    actions=[Get(at=0.0, count=3), Get(at=4.0, ask="use"), Kill(at=5.0), Invalidate(at=6.0)],
    leaves_at=8000.0,
    refresh_jitter=100.0,
)
IDLE = Timeline(leaves_at=10.0)


def seen(outcome: Outcome, kind: type[Any]) -> list[Any]:
    """Return what was seen of a kind."""
    return [entry.what for entry in outcome.log if isinstance(entry.what, kind)]


# Replay


def test_equal_timelines_run_alike() -> None:
    """A timeline with random pauses, jitter and a drawn order of turns runs the same twice."""
    first, again = (run_timeline(Timeline(**FIELDS, seed=7)) for _ in range(2))

    assert repr(first.log) == repr(again.log)
    assert first.story == again.story
    assert first.text() == again.text()
    assert first.svg() == again.svg()


FIELDS: dict[str, Any] = {
    "answers": BUSY.answers,
    "actions": BUSY.actions,
    "leaves_at": BUSY.leaves_at,
    "refresh_jitter": BUSY.refresh_jitter,
}


@pytest.mark.slow
@settings(max_examples=30)
@given(timeline=timelines())
def test_whatever_is_drawn_replays(timeline: Timeline) -> None:
    """Each timeline runs the same twice, whatever ran before."""
    first = run_timeline(timeline)
    random.random()
    run_timeline(BUSY)

    assert repr(run_timeline(timeline).log) == repr(first.log)


def test_the_seed_decides_the_order_of_turns() -> None:
    """With 0 tasks run in the order of their start, else in one that the seed decides."""

    def order(seed: int) -> tuple[int, ...]:
        actions = [Get(at=float(number % 2)) for number in range(8)]
        log = run_timeline(Timeline(actions=actions, leaves_at=5.0, seed=seed)).log
        return tuple(e.what.getter for e in log if isinstance(e.what, Decided) and e.at == 1.0)

    assert order(0) == (5, 6, 7, 8)
    assert len({order(seed) for seed in range(10)}) > 5


def test_the_seed_decides_the_jitter() -> None:
    """Two seeds draw two stale boundaries."""
    boundaries = {
        run_timeline(Timeline(**FIELDS, seed=seed)).story.tokens[0].stale_at for seed in range(5)
    }
    assert len(boundaries) == 5


# What happens


def test_an_empty_timeline_asks_for_nothing() -> None:
    """Nobody asks, and nothing is sent until the block is left."""
    outcome = run_timeline(IDLE)

    assert [(entry.at, type(entry.what)) for entry in outcome.log] == [
        (10.0, Leaving),
        (10.0, Left),
    ]
    assert not outcome.server.requests


def test_what_a_token_manager_can_do_wrong_is_done() -> None:
    """It raises, or answers with nonsense; both are failed attempts, and their kinds are told."""
    outcome = run_timeline(
        Timeline(
            answers=[Answer(kind="raises", latency=1.0), Answer(kind="nonsense")],
            then=Answer(kind="raises"),
            max_retries=1,
            actions=[Get(at=0.0)],
            leaves_at=10.0,
        )
    )

    assert [attempt.outcome for attempt in outcome.story.attempts[:2]] == ["raises", "nonsense"]
    assert outcome.story.attempts[0].ended_at == 1.0
    (failed,) = seen(outcome, Failed)
    assert isinstance(failed.error, TokenUnavailableError)
    assert "str" in str(failed.error)
    # Neither has come to the server.
    assert not outcome.server.requests


def test_a_crash_ends_the_session() -> None:
    """A BaseException of the token manager comes out of the block, at once."""
    timeline = Timeline(then=Answer(kind="crash", latency=1.0), actions=[Get(at=0.0), Get(at=2.0)])
    outcome = run_timeline(timeline)

    (left,) = seen(outcome, Left)
    assert isinstance(left.error, Crash)
    assert outcome.story.ends_at == 1.0
    assert [getter.kind for getter in outcome.story.getters] == ["closed", "closed"]


def test_what_a_manager_does_wrong_takes_no_answer_from_the_server() -> None:
    """The answers after it are those of the timeline, one by one."""
    outcome = run_timeline(
        Timeline(
            answers=[Answer(kind="raises"), Answer(kind="unavailable"), Answer(kind="malformed")],
            actions=[Get(at=0.0)],
            leaves_at=60.0,
        )
    )
    outcomes = [attempt.outcome for attempt in outcome.story.attempts]
    assert outcomes == ["raises", "unavailable", "malformed", "A"]


def test_a_revocation_goes_wrong_as_told() -> None:
    """Revocations have answers of their own, a token manager's misdeeds among them."""
    outcome = run_timeline(
        Timeline(
            revocations=[Answer(kind="unavailable"), Answer(kind="raises", latency=1.0)],
            actions=[Get(at=0.0), Revoke(at=1.0), Revoke(at=1.5, gives_up=0.25)],
            leaves_at=60.0,
        )
    )
    marks = [mark.text for mark in outcome.story.marks]
    assert marks == [
        "revoke A",
        "revocation of A sent",
        "revoke",
        *["revocation of A sent"] * 2,
        "the block is left",
    ]


@pytest.mark.parametrize(
    ("gives_up", "seen_of_it"),
    [
        (0.0, [Cancelling, Asked, GaveUp]),
        (1.0, [Asked, Decided, Cancelling, GaveUp]),
        ("at release", [Asked, Decided, Cancelling, GaveUp]),
        (None, [Asked, Decided, Got]),
    ],
)
def test_getters_give_up_as_told(gives_up: Any, seen_of_it: list[type[Any]]) -> None:
    """They do so before they begin, while they are held, in the moment of the release, or never."""
    timeline = Timeline(
        then=Answer(latency=2.0), actions=[Get(at=0.0, gives_up=gives_up)], leaves_at=5.0
    )
    log = run_timeline(timeline).log

    of_getter = [entry for entry in log if hasattr(entry.what, "getter")]
    assert [type(entry.what) for entry in of_getter] == seen_of_it
    assert of_getter[-1].at == {None: 2.0, "at release": 2.0}.get(gives_up, gives_up)


def test_use_reports_a_dead_token_and_asks_again() -> None:
    """A getter that uses its token does what SessionAuth does with a 401."""
    timeline = Timeline(actions=[Get(at=0.0), Kill(at=1.0), Get(at=2.0, ask="use")], leaves_at=5.0)
    outcome = run_timeline(timeline)

    (presented,) = seen(outcome, Presented)
    assert presented.verdict == "revoked"
    assert len(seen(outcome, Reported)) == 1
    tokens = [getter.outcome for getter in outcome.story.getters]
    assert tokens == ["A", "A", "B"]


@pytest.mark.parametrize("leaves_by", ["return", "raise", "cancel"])
def test_the_block_is_left_as_told(leaves_by: Any) -> None:
    """It is left by return, by an exception, or by cancellation, and at the moment that is told."""
    outcome = run_timeline(Timeline(actions=[Get(at=0.0)], leaves_at=7.0, leaves_by=leaves_by))

    (leaving,), (left,) = seen(outcome, Leaving), seen(outcome, Left)
    assert leaving.how == leaves_by
    assert (left.error is not None) == (leaves_by == "raise")
    assert left.error is left.expected
    assert outcome.log[-1].at == 7.0


# A program of one's own


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_program_gets_session_and_client() -> None:
    """It uses the session as any program does, and the client reaches the session's server."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        answer = await client.get("/2.0/files/1", auth=session.auth())
        assert answer.status_code == 200

    outcome = run_timeline(Timeline(leaves_at=10.0), program)

    assert outcome.server.verdicts == {"good": 1}
    assert [(getter.ask, getter.outcome) for getter in outcome.story.getters] == [("use", "A")]


def test_the_run_is_over_when_the_program_is() -> None:
    """A program that returns ends the run, whatever the timeline had in store."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await trio.sleep(3.0)

    timeline = Timeline(actions=[Invalidate(at=1.0), Revoke(at=2.0), Kill(at=5.0)])
    outcome = run_timeline(timeline, program)

    assert outcome.story.ends_at == 3.0
    assert [mark.text for mark in outcome.story.marks] == [
        "invalidate another token",
        "revoke",
        "the block is left",
    ]


def test_a_program_is_cancelled_at_the_end() -> None:
    """A program that does not return is cancelled at leaves_at."""
    ended_at = []

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended_at.append(trio.current_time())

    run_timeline(IDLE, program)

    assert ended_at == [IDLE.leaves_at]


def test_a_program_does_its_own_getting() -> None:
    """The timeline's getters are not run beside a program."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await trio.sleep(1.0)

    outcome = run_timeline(Timeline(actions=[Get(at=0.0)]), program)

    assert not outcome.server.requests


async def careless(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    """Keep a token for longer than it lives."""
    headers = bearer(await session.get_access_token())
    await trio.sleep(60.5)
    await client.get("/2.0/files/1", headers=headers)


def test_an_expired_token_that_the_program_presents_is_told() -> None:
    """The error has the picture, the timeline, and no promise of ours."""
    timeline = Timeline(lifetime=60.0, leaves_at=100.0)
    with pytest.raises(RefusedTokenError, match=r"0\.5 s after its end") as refused:
        run_timeline(timeline, careless)

    assert refused.value.promise is None
    assert "token A 0.5 s" in str(refused.value)
    assert refused.value.outcome.timeline == timeline
    assert str(refused.value.outcome) in str(refused.value)
    assert "A: expired" in str(refused.value)
    assert str(refused.value).endswith(repr(timeline))


def test_the_token_that_was_presented_is_drawn_among_many() -> None:
    """The picture leaves tokens out, but not the one that it is about."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        headers = bearer(await session.get_access_token())
        while True:
            await client.get("/2.0/files/1", headers=headers)
            await trio.sleep(300.0)

    with pytest.raises(RefusedTokenError) as refused:
        run_timeline(Timeline(lifetime=60.0), program)

    picture = str(refused.value.outcome)
    assert re.search(r"^  \+\d+ tokens ", picture, re.MULTILINE)
    assert re.search(r"^▶ token A .*╢", picture, re.MULTILINE)
    assert re.search(r"^▶ getter 2 ", picture, re.MULTILINE)


def test_a_token_has_expired_in_the_moment_of_its_end() -> None:
    """The boundary belongs to the end, and the text does not speak of 0 s."""
    with pytest.raises(RefusedTokenError, match="in the moment of its end"):
        run_timeline(Timeline(lifetime=60.5, leaves_at=100.0), careless)


def test_an_expired_token_explains_what_else_the_program_raised() -> None:
    """What the program raised after it is the cause."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await careless(session, client)
        raise OSError("no file")

    with pytest.raises(RefusedTokenError) as refused:
        run_timeline(Timeline(lifetime=60.0, leaves_at=100.0), program)

    assert isinstance(refused.value.__cause__, OSError)


def test_a_token_that_was_revoked_or_forged_is_the_programs_own_business() -> None:
    """Only a token that had expired is ever held against a program."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        headers = bearer(await session.get_access_token())
        await trio.sleep(2.0)
        assert (await client.get("/2.0/files/1", headers=headers)).status_code == 401
        await client.get("/2.0/files/1", headers=bearer("forged"))
        await client.get("/2.0/files/1")

    outcome = run_timeline(Timeline(actions=[Kill(at=1.0)]), program)

    assert [getter.outcome for getter in outcome.story.getters] == [
        "A: revoked",
        "?: unknown",
        "?: missing",
    ]


@pytest.mark.parametrize("error", [OSError("no file"), AssertionError("2 == 3")])
def test_what_the_program_raises_comes_out_with_the_picture(error: Exception) -> None:
    """It is the very exception, and the picture is a note of it."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await session.get_access_token()
        raise error

    with pytest.raises(type(error)) as raised:
        run_timeline(IDLE, program)

    assert raised.value is error
    (note,) = error.__notes__
    assert "token A" in note
    assert note.endswith(f"\n\n{IDLE!r}")


class Verdict(BaseException):
    """Is raised like what pytest.fail raises, which is no Exception."""


@pytest.mark.parametrize("error", [Verdict(), KeyboardInterrupt(), SystemExit(1)])
def test_what_the_program_raises_comes_out_if_it_is_no_exception_too(error: BaseException) -> None:
    """A test that fails by pytest.fail fails, and one that is interrupted is over."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run_timeline(IDLE, program)

    assert raised.value is error


def test_what_the_program_raises_when_it_is_cancelled_comes_out() -> None:
    """Also from a nursery, where the cancellation is beside it."""

    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("no file")

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # it is the point
            nursery.start_soon(clean_up_badly)

    with pytest.raises(BaseExceptionGroup) as raised:
        run_timeline(IDLE, program)

    assert raised.group_contains(OSError, match="no file")


@pytest.mark.slow
def test_a_program_that_runs_in_circles_is_told() -> None:
    """It is stopped, though no time passes, and the test does not pass."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        while True:  # noqa: ASYNC110  # without end, on purpose
            await trio.lowlevel.checkpoint()

    with pytest.raises(strategies.BrokenTimelineError, match="turns without end"):
        run_timeline(IDLE, program)


async def wait_for_a_thread(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    """Wait for something of which virtual time knows nothing."""
    finished = threading.Event()

    async def watch() -> None:
        # Not before the run has tried to end the program, and the clock has gone on.
        await trio.sleep(2 * run.GRACE + IDLE.leaves_at)
        finished.set()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as shielded:
                shielded.start_soon(watch)
                await trio.to_thread.run_sync(finished.wait)
        nursery.cancel_scope.cancel()


def test_a_program_that_waits_for_a_thread_is_told() -> None:
    """Time goes by while it waits, and what it does afterwards has not been tested."""
    with pytest.raises(strategies.BrokenTimelineError, match="does not wait for threads"):
        run_timeline(IDLE, wait_for_a_thread)


@pytest.mark.parametrize(
    ("timeline", "program", "words"),
    [
        (timelines(), careless, "timeline: wants a Timeline, drawn by @given"),
        (Timeline, careless, "timeline: wants a Timeline"),
        (IDLE, "careless", "program: wants an async function itself, not a call of it; got str"),
        (IDLE, lambda *_: None, "program: wants an async function, with async def"),
    ],
    ids=["a strategy", "a class", "no function", "no async function"],
)
def test_what_cannot_be_run_is_refused(timeline: Any, program: Any, words: str) -> None:
    """A slip is told in words that say what to do."""
    with pytest.raises(TypeError, match=words):
        run_timeline(timeline, program)


async def test_an_async_test_cannot_run_a_timeline() -> None:
    """It says so, and not that a run is inside a run."""
    with pytest.raises(RuntimeError, match="call it in a test that is not async"):
        run_timeline(IDLE)


# What is left behind


def global_state() -> tuple[object, ...]:
    core: Any = trio._core._run
    return random.getstate(), time.time, core._r, core._ALLOW_DETERMINISTIC_SCHEDULING


async def fail(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    random.random()
    raise OSError("no file")


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("actions", [[], [Suspend(at=1.0)]], ids=["calm", "suspended"])
def test_a_run_leaves_nothing_behind(seed: int, actions: list[Any]) -> None:
    """Random numbers, the wall clock and Trio's order are as before, after a failure too."""
    before = global_state()
    timeline = Timeline(actions=actions, leaves_at=5.0, seed=seed)

    run_timeline(timeline)
    assert global_state() == before

    with pytest.raises(OSError, match="no file"):
        run_timeline(timeline, fail)
    assert global_state() == before


# Sessions that are broken


class BrokenSession:
    """Is a session that does all as it should, but for what a subclass does."""

    def __init__(
        self, config: Config, manager: TokenSource, *, observers: tuple[Observer, ...] = ()
    ) -> None:
        self.manager = manager
        self.inner = AnonymousSession(self.misread(config), manager, observers=observers)

    def misread(self, config: Config) -> Config:
        return config

    async def __aenter__(self) -> BrokenSession:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It shields what it awaits.
        await self.inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102

    @property
    def token_info(self) -> TokenInfo | None:
        return self.inner.token_info

    def statistics(self) -> SessionStatistics:
        return self.inner.statistics()

    async def get_access_token(self) -> str:
        return await self.inner.get_access_token()

    def get_access_token_nowait(self) -> str:
        return self.inner.get_access_token_nowait()

    async def exchange_token(self, scopes: str) -> TokenInfo:
        return await self.inner.exchange_token(scopes)

    def invalidate(self, access_token: str) -> None:
        self.inner.invalidate(access_token)

    async def revoke_tokens(self) -> None:
        await self.inner.revoke_tokens()


class Sleeper(BrokenSession):
    """Never comes back."""

    async def get_access_token(self) -> str:
        await trio.sleep_forever()
        raise AssertionError


class Spinner(BrokenSession):
    """Looks again and again."""

    async def get_access_token(self) -> str:
        while True:  # noqa: ASYNC110  # without end, on purpose
            await trio.lowlevel.checkpoint()


class Hammer(BrokenSession):
    """Asks again and again."""

    async def get_access_token(self) -> str:
        while True:
            await self.manager.get_tokens_client_credentials_grant()


class Hoarder(BrokenSession):
    """Keeps its first token for ever."""

    kept: str | None = None

    async def get_access_token(self) -> str:
        await trio.lowlevel.checkpoint()
        self.kept = self.kept or await self.inner.get_access_token()
        return self.kept


class Dawdler(BrokenSession):
    """Makes everybody wait."""

    async def get_access_token(self) -> str:
        token = await self.inner.get_access_token()
        await trio.sleep(0.5)
        return token


class Sharer(BrokenSession):
    """Raises one exception object for all."""

    error: AnonymousSessionError | None = None

    async def get_access_token(self) -> str:
        try:
            return await self.inner.get_access_token()
        except AnonymousSessionError as error:
            self.error = self.error or error
        raise self.error


class Refuser(BrokenSession):
    """Has nothing for those who do not wait."""

    def get_access_token_nowait(self) -> str:
        raise trio.WouldBlock


class Believer(BrokenSession):
    """Believes every report, late ones too."""

    def invalidate(self, access_token: str) -> None:
        if self.inner.token_info is not None:
            self.inner.invalidate(self.inner.token_info.access_token)


class Doubter(BrokenSession):
    """Believes no report."""

    def invalidate(self, access_token: str) -> None:
        return


class Forgetter(BrokenSession):
    """Forgets a token, and does not revoke it."""

    async def revoke_tokens(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.inner.token_info is not None:
            self.inner.invalidate(self.inner.token_info.access_token)


class Swallower(BrokenSession):
    """Takes a cancellation for itself."""

    async def get_access_token(self) -> str:
        tokens = []
        with trio.CancelScope(shield=True):
            tokens.append(await self.inner.get_access_token())
        return tokens[0]


class Wrapper(BrokenSession):
    """Wraps what the block raises."""

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # It shields what it awaits.
        await self.inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102
        if isinstance(error, Exception):
            raise ExceptionGroup("from the block", [error])


class Lingerer(BrokenSession):
    """Takes its time to leave."""

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # It shields what it awaits.
        await self.inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102
        with trio.CancelScope(shield=True):
            await trio.sleep(10.0)


def misreads(**changes: Any) -> type[BrokenSession]:
    """Return a session that has some settings wrong."""

    class Misreader(BrokenSession):
        def misread(self, config: Config) -> Config:
            return config.replace(**changes)

    return Misreader


@pytest.mark.parametrize(
    ("session", "why"),
    [
        (Sleeper, "somebody waits for ever"),
        (Spinner, "turns without end"),
        (Hammer, "without a pause"),
    ],
)
def test_a_run_that_would_never_end_is_stopped(
    monkeypatch: pytest.MonkeyPatch, session: type[BrokenSession], why: str
) -> None:
    """Eternal waits, loops of tasks and loops of requests are stopped, and told."""
    monkeypatch.setattr(run, "AnonymousSession", session)
    before = global_state()

    with pytest.raises(BrokenPromiseError) as broken:
        run_timeline(Timeline(actions=[Get(at=0.0, count=2)], leaves_at=10.0))

    assert any(why in stopped.why for stopped in seen(broken.value.outcome, Stopped))
    assert global_state() == before


FIRST = Get(at=0.0)
CALM = Timeline(actions=[FIRST, Get(at=1.0, ask="nowait"), Get(at=3590.0)], leaves_at=3700.0)
REPORTS = Timeline(
    actions=[FIRST, Invalidate(at=1.0), Get(at=2.0), Invalidate(at=3.0, age=1)], leaves_at=5.0
)
FAILING = Timeline(
    then=Answer(kind="unavailable"), max_retries=2, actions=[Get(at=0.0, count=2)], leaves_at=300.0
)
SHORT_LIVES = Timeline(
    lifetime=4.0, min_refresh_interval=5.0, actions=[FIRST, Get(at=4.0)], leaves_at=9.0
)

PLANTED: dict[str, tuple[type[BrokenSession], Timeline, int]] = {
    "an old token": (Hoarder, CALM, 1),
    "a wait": (Dawdler, CALM, 10),
    "one exception for all": (Sharer, FAILING, 12),
    "nothing for nowait": (Refuser, CALM, 2),
    "late reports": (Believer, REPORTS, 16),
    "reports of tokens that never were": (
        Believer,
        Timeline(actions=[FIRST, Invalidate(at=1.0, age=9)], leaves_at=5.0),
        16,
    ),
    "no reports": (Doubter, REPORTS, 17),
    "no revocation": (Forgetter, Timeline(actions=[FIRST, Revoke(at=1.0)], leaves_at=5.0), 18),
    "a cancellation lost": (
        Swallower,
        Timeline(then=Answer(latency=2.0), actions=[Get(at=0.0, gives_up=1.0)], leaves_at=5.0),
        9,
    ),
    "a group": (Wrapper, Timeline(leaves_at=5.0, leaves_by="raise"), 20),
    "a late end": (Lingerer, IDLE, 19),
    "no eager refresh": (misreads(refresh="on_request"), CALM, 3),
    "an eager refresh": (
        misreads(refresh="eager"),
        Timeline(refresh="on_request", actions=[FIRST], leaves_at=3700.0),
        3,
    ),
    "no parking": (
        misreads(idle_timeout=None),
        Timeline(idle_timeout=100.0, actions=[FIRST], leaves_at=3700.0),
        4,
    ),
    "parking": (misreads(idle_timeout=1.0), CALM, 3),
    "more retries": (misreads(max_retries=3), FAILING, 10),
    "fewer retries": (misreads(max_retries=1), FAILING, 12),
    "short pauses": (misreads(retry_interval=0.125), FAILING, 12),
    "long pauses": (misreads(retry_interval=16.0), FAILING, 12),
    "other pauses": (misreads(retry_strategy=lambda *_: 9.0), FAILING, 12),
    "no gap": (misreads(min_refresh_interval=0.125), SHORT_LIVES, 7),
    "a long revocation on exit": (
        misreads(shutdown_timeout=60.0),
        Timeline(
            revoke_on_exit=True, revocations=[Answer(kind="hang")], actions=[FIRST], leaves_at=5.0
        ),
        19,
    ),
}


@pytest.mark.parametrize(("session", "timeline", "promise"), PLANTED.values(), ids=PLANTED)
def test_a_broken_session_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    session: type[BrokenSession],
    timeline: Timeline,
    promise: int,
) -> None:
    """What is wrong with a session breaks a promise on a timeline that a good one keeps."""
    run_timeline(timeline)
    monkeypatch.setattr(run, "AnonymousSession", session)

    with pytest.raises(BrokenPromiseError) as broken:
        run_timeline(timeline)

    assert broken.value.promise == promise


def test_a_broken_promise_can_be_read_and_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says what is broken, draws it, and ends with a timeline that can be run."""
    monkeypatch.setattr(run, "AnonymousSession", Hoarder)
    with pytest.raises(BrokenPromiseError) as broken:
        run_timeline(CALM)

    first, *_, last = str(broken.value).splitlines()
    assert "a getter got A" in first
    assert "promise 1 broken at 3590 s" in str(broken.value)
    assert broken.value.outcome.text() in str(broken.value)
    assert eval(last, vars(strategies)) == CALM


def test_drawn_timelines_find_a_broken_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn breaks it soon: the first few hundred examples are enough."""
    monkeypatch.setattr(run, "AnonymousSession", Swallower)

    def breaks(timeline: Timeline) -> bool:
        try:
            run_timeline(timeline)
        except BrokenPromiseError as broken:
            return broken.promise == 9
        return False

    # Not made smaller: that would run hundreds.
    once = settings(
        max_examples=300,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    assert find(timelines(), breaks, settings=once).actions
