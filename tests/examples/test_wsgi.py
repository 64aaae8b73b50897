"""The apps of Flask and Django, served by Gunicorn with the settings of the page."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.ports import served_in_thread
from trio_anon_session.testing import TokenServer

from . import EXAMPLES, LIMIT
from .serving import environ_of, gunicorn, wait_for_url

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

WORKERS, THREADS = 2, 8
OPENS_EARLY = """
import warnings
from box_api import session
from flask_app import app

# Python 3.12 warns about each fork of a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)
session.__enter__()
"""


class PatientServer(TokenServer):
    """A token server that answers token requests only after each worker has sent one."""

    def __init__(self) -> None:
        super().__init__()
        self._missing = WORKERS
        self._is_complete = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope.get("path") == "/oauth2/token":
            self._missing -= 1
            if self._missing == 0:
                self._is_complete.set()
            await self._is_complete.wait()
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize(
    ("app", "args"),
    [("flask_app:app", []), ("flask_app:app", ["--preload"]), ("django_app:app", [])],
    ids=["flask", "flask-preload", "django"],
)
def test_each_worker_has_a_token(app: str, args: list[str]) -> None:
    """Each worker requests one token for all of its threads, and revokes it on SIGTERM."""
    server = PatientServer()
    # A worker accepts as many connections as it has threads, so all workers get requests.
    args = [*args, "--worker-connections", str(THREADS)]
    paths = [f"/files/{number}" for number in range(WORKERS * THREADS)]
    with (
        served_in_thread(server) as url,
        gunicorn(app, *args, environ=environ_of(server, url)) as process,
        httpx.Client(trust_env=False, base_url=wait_for_url(process), timeout=LIMIT) as user,
        ThreadPoolExecutor(len(paths)) as pool,
    ):
        answers = [answer.json() for answer in pool.map(user.get, paths)]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=LIMIT)
    assert [answer["id"] for answer in answers] == [str(number) for number in range(len(paths))]
    assert process.returncode == 0
    assert "Traceback" not in said
    assert (server.grants, server.revocations) == (WORKERS, WORKERS)


def test_a_worker_does_not_wait_for_a_token_when_it_ends() -> None:
    """On SIGQUIT, which Ctrl-C also causes, a request that waits for a token gets an error."""
    is_asked = threading.Event()

    class SilentServer(TokenServer):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope.get("path") == "/oauth2/token":
                is_asked.set()
                await trio.sleep_forever()
            await super().__call__(scope, receive, send)

    server = SilentServer()
    with (
        served_in_thread(server) as url,
        gunicorn("flask_app:app", environ=environ_of(server, url)) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(httpx.get, wait_for_url(process) + "/files/1", trust_env=False, timeout=LIMIT)
        assert is_asked.wait(LIMIT)
        process.send_signal(signal.SIGQUIT)
        _, said = process.communicate(timeout=LIMIT)
    assert "SessionClosedError: the session is closed" in said
    assert "TimeoutError: no token within" not in said


def test_a_session_opened_before_the_fork(tmp_path: Path) -> None:
    """If the session is opened before the fork, a worker answers 500; the log says what to do."""
    (tmp_path / "opens_early.py").write_text(OPENS_EARLY)
    args = ["--preload", "--pythonpath", str(EXAMPLES / "wsgi")]
    server = TokenServer()
    with (
        served_in_thread(server) as url,
        gunicorn(
            "opens_early:app", *args, folder=tmp_path, environ=environ_of(server, url)
        ) as process,
    ):
        response = httpx.get(wait_for_url(process) + "/files/1", trust_env=False, timeout=LIMIT)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=LIMIT)
    assert response.status_code == 500
    assert f"RuntimeError: this SessionThread was opened in process {process.pid}" in said
    assert "in Gunicorn's post_worker_init hook" in said
    assert server.grants == 0
