"""The program that measures memory over time, with small loads."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import run_virtually
from tools.endurance import memory
from tools.endurance.memory import FAILURES, LEAST, LOADS, measure, open_moody
from trio_anon_session import AnonymousSession, TokenManager, TokenRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.endurance.memory import Load, Note
    from trio_anon_session import Config

pytestmark = pytest.mark.nightly


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect no reference cycles while the block runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def small(load: Load) -> int:
    """Return how many repetitions are enough for this test.

    Deadlines of a minute must pass in the first third, and a round takes a second.
    """
    return LEAST.get(load, min(1000, LOADS[load] // 30))


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_memory_is_flat(load: Load) -> None:
    """After the start of a load, its memory no longer grows."""
    course = measure(load, small(load))
    assert course.is_flat, course.table()


def test_a_leak_of_a_hundred_bytes_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak of 100 bytes for each session is detected, also with few sessions."""
    kept: list[bytes] = []

    def open_leaky(config: Config, manager: TokenManager) -> AnonymousSession:
        # With the overhead of Python, each object takes 100 bytes.
        kept.append(bytes(67))
        return AnonymousSession(config, manager)

    monkeypatch.setattr(memory, "AnonymousSession", open_leaky)
    course = measure(memory.sessions, small(memory.sessions))
    assert not course.is_flat, course.table()


@pytest.mark.parametrize("kind", FAILURES)
def test_errors_of_a_failed_round_are_freed(kind: str) -> None:
    """When the next round fails, the errors of a round and their cause are already freed."""

    async def main() -> None:
        remains: list[weakref.ref[BaseException]] = []

        async def get() -> None:
            try:
                await session.get_access_token()
            except TokenRequestError as error:
                remains.extend(weakref.ref(each) for each in (error, error.__cause__) if each)

        async with open_moody(max_retries=1) as (session, moody):
            for number in range(3):
                moody.behave(FAILURES[kind])
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(get)
                    nursery.start_soon(get)
                assert len(remains) == 4 * (number + 1)
                # The session keeps the cause for callers that come during the pause.
                last = remains[-1]
                assert {ref for ref in remains if ref() is not None} == {last}
                await trio.sleep(60.0)

    with memory.quiet(), without_collector():
        run_virtually(main)


def test_memory_that_grows_is_detected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If memory grows, the program exits with 1 and names the load and the type of the objects."""
    kept: list[memory.Reading] = []

    async def hoarding(count: int, note: Note) -> None:
        """Keep everything."""
        for done in range(1, count + 1):
            kept.append(memory.Reading(done, 0, None, 0))
            await trio.lowlevel.checkpoint()
            note(done)

    monkeypatch.setattr(memory, "LOADS", {hoarding: 1000})
    assert memory.main([]) == 1
    printed = capsys.readouterr().out
    assert "GROWS" in printed
    assert "tools.endurance.memory.Reading" in printed
    assert "memory grows under: hoarding" in printed
