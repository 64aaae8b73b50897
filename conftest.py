"""Settings of all tests, and the README's code blocks as tests."""

from __future__ import annotations

import os
import queue
import random
import threading
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from trio_anon_session.testing import TokenServer, open_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md"],
    fixtures=["served_environment"],
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
