"""Runs with broken sessions: each run ends, and reports the broken promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from trio_anon_session import AnonymousSession, AnonymousSessionError, Config
from trio_anon_session.testing import strategies
from trio_anon_session.testing._timelines import run
from trio_anon_session.testing._timelines.log import Stopped
from trio_anon_session.testing.strategies import (
    Answer,
    BrokenPromiseError,
    Get,
    Invalidate,
    Timeline,
    run_timeline,
)

from .kit import IDLE, global_state, seen

if TYPE_CHECKING:
    from trio_anon_session import Observer
    from trio_anon_session._manager import TokenSource


class BrokenSession:
    """A correct session, of which a subclass breaks one thing."""

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

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # The inner session shields its own awaits.
        await self.inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Sleeper(BrokenSession):
    """Never returns from a call."""

    async def get_access_token(self) -> str:
        await trio.sleep_forever()
        raise AssertionError


class Spinner(BrokenSession):
    """Runs in an endless loop of checkpoints."""

    async def get_access_token(self) -> str:
        while True:  # noqa: ASYNC110  # without end, on purpose
            await trio.lowlevel.checkpoint()


class Hammer(BrokenSession):
    """Sends token requests in an endless loop."""

    async def get_access_token(self) -> str:
        while True:
            await self.manager.get_tokens_client_credentials_grant()


class Hoarder(BrokenSession):
    """Returns its first token indefinitely."""

    kept: str | None = None

    async def get_access_token(self) -> str:
        await trio.lowlevel.checkpoint()
        self.kept = self.kept or await self.inner.get_access_token()
        return self.kept


class Sharer(BrokenSession):
    """Raises the same exception object for all callers."""

    error: AnonymousSessionError | None = None

    async def get_access_token(self) -> str:
        try:
            return await self.inner.get_access_token()
        except AnonymousSessionError as error:
            self.error = self.error or error
        raise self.error


class Refuser(BrokenSession):
    """Raises WouldBlock although it has a usable token."""

    def get_access_token_nowait(self) -> str:
        raise trio.WouldBlock


class Believer(BrokenSession):
    """Drops the current token at each report, also at a late one."""

    def invalidate(self, access_token: str) -> None:
        if self.inner.token_info is not None:
            self.inner.invalidate(self.inner.token_info.access_token)


class Swallower(BrokenSession):
    """Ignores a cancellation while it waits."""

    async def get_access_token(self) -> str:
        tokens = []
        with trio.CancelScope(shield=True):
            tokens.append(await self.inner.get_access_token())
        return tokens[0]


class Wrapper(BrokenSession):
    """Wraps the exception of the block in a group."""

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await super().__aexit__(kind, error, traceback)
        if isinstance(error, Exception):
            raise ExceptionGroup("from the block", [error])


class Lingerer(BrokenSession):
    """Takes 10 s longer to leave the block."""

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await super().__aexit__(kind, error, traceback)
        with trio.CancelScope(shield=True):
            await trio.sleep(10.0)


def misreads(**changes: Any) -> type[BrokenSession]:
    """Return a session with other settings than those of the timeline."""

    class Misreader(BrokenSession):
        def misread(self, config: Config) -> Config:
            return config.replace(**changes)

    return Misreader


@pytest.mark.parametrize(
    ("session", "why"),
    [
        (Sleeper, "a task waits indefinitely"),
        (Spinner, "endless loop"),
        (Hammer, "without a pause"),
    ],
)
def test_a_run_that_would_never_end_is_stopped(
    monkeypatch: pytest.MonkeyPatch, session: type[BrokenSession], why: str
) -> None:
    """Endless waits, endless loops and endless requests are stopped, with the reason."""
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
    "one exception for all": (Sharer, FAILING, 12),
    "nothing for nowait": (Refuser, CALM, 2),
    "late reports": (Believer, REPORTS, 16),
    "a cancellation lost": (
        Swallower,
        Timeline(then=Answer(latency=2.0), actions=[Get(at=0.0, gives_up=1.0)], leaves_at=5.0),
        9,
    ),
    "a group": (Wrapper, Timeline(leaves_at=5.0, leaves_by="raise"), 20),
    "a late end": (Lingerer, IDLE, 19),
    "no eager refresh": (misreads(refresh="on_request"), CALM, 3),
    "parking": (misreads(idle_timeout=1.0), CALM, 3),
    "more retries": (misreads(max_retries=3), FAILING, 10),
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
    """A broken session breaks a promise on a timeline on which a correct one breaks none."""
    run_timeline(timeline)
    monkeypatch.setattr(run, "AnonymousSession", session)

    with pytest.raises(BrokenPromiseError) as broken:
        run_timeline(timeline)

    assert broken.value.promise == promise


def test_a_broken_promise_can_be_read_and_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the broken promise, has the picture, and ends with the timeline."""
    monkeypatch.setattr(run, "AnonymousSession", Hoarder)
    with pytest.raises(BrokenPromiseError) as broken:
        run_timeline(CALM)

    first, *_, last = str(broken.value).splitlines()
    assert "a getter got A" in first
    assert "promise 1 broken at 3590 s" in str(broken.value)
    assert broken.value.outcome.text() in str(broken.value)
    assert eval(last, vars(strategies)) == CALM
