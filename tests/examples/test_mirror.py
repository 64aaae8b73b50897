"""The example of a mirror, and the claims of the pages about it."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from trio_anon_session.testing import TokenServer
from trio_anon_session.testing.strategies import (
    Outcome,
    RefusedTokenError,
    Timeline,
    run_timeline,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_anon_session import AnonymousSession

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

MIRROR = Path(__file__).parents[2] / "examples" / "mirror"
LINKS = [f"https://app.box.com/s/{number}" for number in range(20)]


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Keep log records about drawn outages out of the report."""
    caplog.set_level(logging.CRITICAL)


def load(name: str) -> Any:
    """Return a module of the example."""
    spec = importlib.util.spec_from_file_location(name, MIRROR / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_mirror(name: str, timeline: Timeline, seconds: float) -> tuple[Outcome, list[str]]:
    """Run one of the two programs, and return the outcome and the files that were kept."""
    kept = []

    async def keep(file_id: str, _content: bytes) -> None:
        await trio.sleep(seconds)
        kept.append(file_id)

    async def program(session: Any, client: Any) -> None:
        await load(name).mirror(session, client, LINKS, keep)

    return run_timeline(timeline, program), kept


@pytest.mark.parametrize(("seconds", "is_slow"), [(12.0, False), (16.0, True), (60.0, True)])
def test_the_fix_keeps_all_files(seconds: float, is_slow: bool) -> None:
    """With a slow disk, the buggy program sends an expired token; the fixed one keeps all files."""
    timeline = Timeline(lifetime=60.0)
    with pytest.raises(RefusedTokenError) if is_slow else contextlib.nullcontext():
        run_mirror("mirror_buggy", timeline, seconds)
    outcome, kept = run_mirror("mirror", timeline, seconds)
    assert len(kept) == 20
    assert outcome.server.verdicts == {"good": 40}


def test_the_fix_is_a_few_lines() -> None:
    """The fixed program has five new lines, and neither program is longer than 65 lines."""
    buggy, fixed = (
        (MIRROR / f"{name}.py").read_text().splitlines() for name in ("mirror_buggy", "mirror")
    )
    changes = [line for line in difflib.ndiff(buggy, fixed) if line.startswith("+ ")]
    assert len(changes) == 5
    assert max(len(buggy), len(fixed)) <= 65


def test_a_service_is_cancelled_after_four_hours() -> None:
    """Without ``leaves_at``, a program that never returns ends after four hours."""

    async def serve(session: AnonymousSession, client: httpx.AsyncClient) -> None:
        await trio.sleep_forever()

    assert run_timeline(Timeline(), serve).story.ends_at == 4 * 3600.0


async def test_httpx_has_no_timeouts_in_process(autojump_clock: MockClock) -> None:
    """A client's time-out does nothing over ``ASGITransport``; Trio's does."""
    server = TokenServer(resource_latency=60.0)
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, timeout=1.0) as client:
        await client.get("http://localhost/2.0/files/1")
        assert trio.current_time() == 60.0
        with pytest.raises(trio.TooSlowError), trio.fail_after(1.0):
            await client.get("http://localhost/2.0/files/1")


def test_the_example_in_a_new_project(pytester: pytest.Pytester) -> None:
    """In a new project, the example's own test finds the bug and reports the timeline."""
    shutil.copy(MIRROR / "mirror_buggy.py", pytester.path)
    test = (MIRROR / "test_mirror.py").read_text()
    assert test.count("from mirror import mirror\n") == 1
    buggy = test.replace("from mirror import", "from mirror_buggy import")
    # Do not shrink: it takes minutes, and any failure is enough for this test.
    buggy = buggy.replace("deadline=None", "deadline=None, phases=[Phase.generate]")
    pytester.makepyfile(buggy.replace("import given", "import Phase, given"))
    result = pytester.runpytest_subprocess("--show-capture=no", "--hypothesis-seed=0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*RefusedTokenError: the program presented token *",
            "*broken at *: the program presented token *",
            "*seconds *┴*",
            "*token A *",
            "*broken here, at *",
            "*Timeline(*",
        ]
    )
