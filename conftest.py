"""Settings of all tests, and the code blocks of the README and of docs/ as tests."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, settings
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.sybil import SybilCollection

from trio_anon_session.testing import TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

ROOT = Path(__file__).parent


def run_or_compare(example: Example) -> None:
    """Run a block; one that begins with the name of a file has to be a part of that file."""
    first, _, rest = example.parsed.partition("\n")
    name = first.removeprefix("# ")
    if name.startswith("examples/"):
        assert rest.strip("\n") in (ROOT / name).read_text(), f"{name} has changed"
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    example.namespace["printed"] = printed.getvalue()


def compare_with_printed(example: Example) -> None:
    """Compare a block of text with what the last block of Python has printed."""
    assert example.parsed.strip() == example.namespace["printed"].strip()


pytest_collect_file = SybilCollection(
    [
        Sybil(
            parsers=[PythonCodeBlockParser()],
            patterns=["README.md"],
            fixtures=["served_environment"],
        ),
        Sybil(
            parsers=[
                CodeBlockParser("python", run_or_compare),
                CodeBlockParser("text", compare_with_printed),
            ],
            patterns=["docs/*.md"],
            fixtures=["example_modules", "own_log"],
        ),
    ]
).pytest()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own settings out of every test."""
    for name in tuple(os.environ):
        if name.startswith("BOX_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _same_jitter() -> None:
    """Draw the same jitter each time; Hypothesis seeds its examples by itself."""
    random.seed(0)


@pytest.fixture
def example_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page import the examples' modules."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "mirror")


@pytest.fixture
def own_log() -> Iterator[None]:
    """Let a page set up the log, for itself alone."""
    logger = logging.getLogger("trio_anon_session")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def served_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve a token server on loopback, and set the variables that ``serve`` would print."""
    server = TokenServer()
    ready: queue.SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]]
    ready = queue.SimpleQueue()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with open_loopback(server) as url:
                ready.put((url, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=[serve])
    thread.start()
    url, token, scope = ready.get(timeout=30)
    config = server.config(url)
    monkeypatch.setenv("BOX_API_ROOT_URL", url)
    monkeypatch.setenv("BOX_CLIENT_ID", config.client_id)
    monkeypatch.setenv("BOX_CLIENT_SECRET", config.client_secret)
    yield
    token.run_sync_soon(scope.cancel)
    thread.join()
    assert server.verdicts.keys() <= {"good"}
