"""Running a timeline with your own program."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from trio_anon_session.testing import strategies
from trio_anon_session.testing._timelines import run
from trio_anon_session.testing.strategies import (
    Get,
    Invalidate,
    Kill,
    RefusedTokenError,
    Revoke,
    Timeline,
    run_timeline,
    timelines,
)

from .kit import IDLE

if TYPE_CHECKING:
    from trio_anon_session import AnonymousSession


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_program_gets_session_and_client() -> None:
    """The program gets the session, and a client whose requests reach the session's server."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        answer = await client.get("/2.0/files/1", auth=session.auth())
        assert answer.status_code == 200

    outcome = run_timeline(Timeline(leaves_at=10.0), program)

    assert outcome.server.verdicts == {"good": 1}
    assert [(getter.ask, getter.outcome) for getter in outcome.story.getters] == [("use", "A")]


def test_the_run_ends_with_the_program() -> None:
    """A program replaces the timeline's getters, and ends the run when it returns."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await trio.sleep(3.0)

    timeline = Timeline(actions=[Get(at=0.0), Invalidate(at=1.0), Revoke(at=2.0), Kill(at=5.0)])
    outcome = run_timeline(timeline, program)

    assert outcome.story.ends_at == 3.0
    assert [mark.text for mark in outcome.story.marks] == [
        "invalidate another token",
        "revoke",
        "the block is left",
    ]
    assert not outcome.server.requests


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


async def careless(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    """Use a token after its lifetime."""
    headers = bearer(await session.get_access_token())
    await trio.sleep(60.5)
    await client.get("/2.0/files/1", headers=headers)


def test_an_expired_token_that_the_program_presents_is_an_error() -> None:
    """The error has the picture, the timeline, and the program's own exception as its cause."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await careless(session, client)
        raise OSError("no file")

    timeline = Timeline(lifetime=60.0, leaves_at=100.0)
    with pytest.raises(RefusedTokenError, match=r"0\.5 s after it expired") as refused:
        run_timeline(timeline, program)

    text = str(refused.value)
    assert refused.value.promise is None
    assert refused.value.outcome.timeline == timeline
    assert isinstance(refused.value.__cause__, OSError)
    assert "token A 0.5 s" in text
    assert "A: expired" in text
    assert re.search(r"^▶ token A .*╢", text, re.MULTILINE)
    assert re.search(r"^▶ getter 1 ", text, re.MULTILINE)
    assert str(refused.value.outcome) in text
    assert text.endswith(repr(timeline))


def test_a_token_at_the_moment_of_its_expiry() -> None:
    """At the moment of its expiry, a token has expired, and the message says so."""
    with pytest.raises(RefusedTokenError, match="at the moment it expired"):
        run_timeline(Timeline(lifetime=60.5, leaves_at=100.0), careless)


def test_revoked_and_forged_tokens_are_allowed() -> None:
    """A program may present a revoked token, a forged token or no token."""

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


class Verdict(BaseException):
    """An error like that of pytest.fail, which is not an Exception."""


@pytest.mark.parametrize(
    "error",
    [OSError("no file"), AssertionError("2 == 3"), Verdict(), KeyboardInterrupt(), SystemExit(1)],
)
def test_an_exception_of_the_program_has_the_picture(error: BaseException) -> None:
    """Any exception of the program propagates unwrapped, with the picture as a note."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await session.get_access_token()
        raise error

    with pytest.raises(type(error)) as raised:
        run_timeline(IDLE, program)

    assert raised.value is error
    (note,) = error.__notes__
    assert "token A" in note
    assert note.endswith(f"\n\n{IDLE!r}")


def test_a_program_with_its_own_client() -> None:
    """A note explains why a connection of a program's own client fails."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        async with httpx.AsyncClient(trust_env=False) as own_client:
            await own_client.get("http://localhost:1")

    with pytest.raises(httpx.TransportError) as raised:
        run_timeline(IDLE, program)

    assert "the client that run_timeline passes" in raised.value.__notes__[0]


def test_an_exception_of_a_cancelled_program() -> None:
    """An exception that a cancelled program raises in a nursery propagates."""

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
def test_a_program_in_an_endless_loop_is_stopped() -> None:
    """A program in an endless loop is stopped although no time passes, and the run fails."""

    async def program(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        while True:  # noqa: ASYNC110  # without end, on purpose
            await trio.lowlevel.checkpoint()

    with pytest.raises(strategies.BrokenTimelineError, match="endless loop"):
        run_timeline(IDLE, program)


async def wait_for_a_thread(session: AnonymousSession, client: httpx.AsyncClient) -> None:
    """Wait for a thread, which virtual time ignores."""
    finished = threading.Event()

    async def watch() -> None:
        # Wait until the run has tried to end the program, and the clock has advanced.
        await trio.sleep(2 * run.CLEANUP_LIMIT + IDLE.leaves_at)
        finished.set()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as shielded:
                shielded.start_soon(watch)
                await trio.to_thread.run_sync(finished.wait)
        nursery.cancel_scope.cancel()


def test_a_program_that_waits_for_a_thread_fails() -> None:
    """A run whose program waits for a thread fails."""
    with pytest.raises(strategies.BrokenTimelineError, match="does not wait for threads"):
        run_timeline(IDLE, wait_for_a_thread)


@pytest.mark.parametrize(
    ("timeline", "program", "words"),
    [
        (timelines(), careless, "timeline must be a Timeline, not .*; draw one with @given"),
        (Timeline, careless, "timeline must be a Timeline, not "),
        (
            IDLE,
            "careless",
            "program must be an async function, not str; do not call it",
        ),
        (IDLE, lambda *_: None, "program must be an async function; define it with async def"),
    ],
    ids=["a strategy", "a class", "no function", "no async function"],
)
def test_wrong_arguments_are_refused(timeline: Any, program: Any, words: str) -> None:
    """A wrong argument raises TypeError with what to do."""
    with pytest.raises(TypeError, match=words):
        run_timeline(timeline, program)


async def test_an_async_test_cannot_run_a_timeline() -> None:
    """In an async test, ``run_timeline`` raises RuntimeError with what to do."""
    with pytest.raises(RuntimeError, match="call it in a test that is not async"):
        run_timeline(IDLE)
