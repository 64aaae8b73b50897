"""Tests of threads that use a session after the main thread has ended.

Python 3.12 starts no thread then, and Trio needs one to look up a host name or to read a file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trio_anon_session.testing import TokenServer

from ..ports import served_in_thread

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
PROGRAM = """
import logging, socket, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio

from trio_anon_session import AnonymousSession, Config, SecretFile, TokenManager
from trio_anon_session.stores import SharedTokenManager, SQLiteStore
from trio_anon_session.testing import TokenServer
from trio_anon_session.threads import SessionThread

logging.basicConfig(level=logging.WARNING)
url, folder = sys.argv[1:]
named = url.replace("127.0.0.1", "localhost")
store = SQLiteStore(Path(folder) / "tokens.db")

def open_session(url, token_manager=None, **settings):
    session = SessionThread(TokenServer().config(url, **settings), token_manager)
    return session.__enter__()

def keep_threads_busy():
    # Trio keeps idle threads for ten seconds. So that none is idle, each of them gets a job that
    # does not end.
    for _ in range(8):
        try:
            trio.lowlevel.start_thread_soon(threading.Event().wait, print)
        except RuntimeError:
            break

def work(session):
    # Python still waits for this thread.
    threading.main_thread().join()
    keep_threads_busy()
    session.get_access_token()
    session.revoke_tokens()
    session.get_access_token()

def work_in_pool(session):
    # The pool ends its threads while the main thread is still alive, but ends.
    while not sys.modules["concurrent.futures.thread"]._shutdown:
        pass
    keep_threads_busy()
    session.get_access_token()
    session.revoke_tokens()
    session.get_access_token()
"""

# Each program, and the token requests and revocations that it sends.
PROGRAMS = {
    "a thread": (
        """
threading.Thread(target=work, args=[open_session(named)]).start()
""",
        (2, 1),
    ),
    "a pool of threads": (
        """
ThreadPoolExecutor().submit(work_in_pool, open_session(named)).add_done_callback(
    lambda future: future.result()
)
""",
        (2, 1),
    ),
    "a revocation at the end of the program": (
        """
session = open_session(url, revoke_url=named + "/oauth2/revoke", revoke_on_exit=True)
session.get_access_token()
""",
        (1, 1),
    ),
    "a revocation at the end of a program whose last thread has ended": (
        """
threading.Thread(target=work, args=[open_session(named, revoke_on_exit=True)]).start()
""",
        (2, 2),
    ),
    "a secret in a file": (
        """
secret = Path(folder) / "secret"
secret.write_text("test-secret")
session = open_session(url, client_secret=SecretFile(secret))
threading.Thread(target=work, args=[session]).start()
""",
        (2, 1),
    ),
    "a store in a file": (
        """
session = open_session(named, lambda config: SharedTokenManager(TokenManager(config), store))
threading.Thread(target=work, args=[session]).start()
""",
        (2, 1),
    ),
    "an auth": (
        """
import httpx

session = open_session(named)

def send():
    threading.main_thread().join()
    keep_threads_busy()
    with httpx.Client(auth=session.auth(), base_url=named) as client:
        assert client.get("/2.0/users/me").status_code == 200

threading.Thread(target=send).start()
""",
        (1, 0),
    ),
}


def run(program: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], tuple[int, int]]:
    """Run a program. Return how it ended, and the token requests and revocations it sent."""
    server = TokenServer()
    with served_in_thread(server) as url:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM + program, url, folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    return ended, (server.grants, server.revocations)


@pytest.mark.parametrize("what", PROGRAMS)
def test_after_the_main_thread(what: str, tmp_path: Path) -> None:
    """Threads get tokens and revoke them after the main thread has ended, on every Python."""
    program, sent = PROGRAMS[what]
    ended, counted = run(program, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert counted == sent
