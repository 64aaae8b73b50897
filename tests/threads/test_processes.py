"""Tests of forks, and of programs that end without leaving the block, in processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
OPEN = """
import atexit, os, sys, threading, time
from contextlib import suppress
from trio_anon_session import SessionClosedError
from tests.threads.kit import fake_manager, thread_on, until

manager = fake_manager(revoke_on_exit=True)
session = thread_on(manager)
atexit.register(lambda: print("revoked:", manager.revoked))

def keep_asking():
    # The program may end before the thread gets its error.
    with suppress(SessionClosedError):
        while True:
            session.get_access_token()
"""


def run(program: str) -> tuple[int, list[str], str]:
    """Return a program's exit code, the lines that it prints, and its errors."""
    ended = subprocess.run(
        [sys.executable, "-u", "-c", OPEN + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


# Each program, and what it prints before the tokens that were revoked at its end.
PROGRAMS = {
    "a module that opens the session": (
        """
session.__enter__()
print(session.get_access_token())
""",
        ["token-1"],
    ),
    "a daemon thread that is still asking": (
        """
session.__enter__()
print(session.get_access_token())
threading.Thread(target=keep_asking, daemon=True).start()
""",
        ["token-1"],
    ),
    "a daemon thread that waits for a token": (
        """
manager.latency = float("inf")
session.__enter__()
threading.Thread(target=keep_asking, daemon=True).start()
until(lambda: manager.in_flight)
""",
        [],
    ),
    "a thread that works after the end of the main thread": (
        """
def work():
    threading.main_thread().join()
    print(session.get_access_token())

session.__enter__()
threading.Thread(target=work).start()
""",
        ["token-1"],
    ),
    "an exit in the block": (
        """
with session:
    print(session.get_access_token())
    sys.exit()
""",
        ["token-1"],
    ),
    "an observer that never returns": (
        """
from trio_anon_session.threads import _session_thread

_session_thread._EXIT_LIMIT = 0.0
session = thread_on(
    fake_manager(shutdown_timeout=0.01), observers=[lambda event: time.sleep(1e6)]
)
session.__enter__()
threading.Thread(target=keep_asking, daemon=True).start()
until(lambda: session.statistics().getters_held_total)
""",
        [],
    ),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_the_end_of_a_program(what: str) -> None:
    """A program ends and revokes its token, although it does not leave the session's block."""
    program, printed = PROGRAMS[what]
    code, lines, errors = run(program)
    assert (code, errors) == (0, "")
    assert lines == [*printed, f"revoked: {sorted(set(printed))}"]


@pytest.mark.quick
def test_after_a_fork() -> None:
    """In a forked child, each use is refused immediately, and leaving the block does nothing."""
    code, lines, errors = run(
        """
import warnings
from trio_anon_session.threads import SessionThread
from tests.threads.test_session_thread import USES

# Python 3.12 warns about each fork of a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)
with session:
    print(session.get_access_token())
    child = os.fork()
    if not child:
        for use in [*USES, SessionThread.__enter__]:
            try:
                use(session)
            except RuntimeError as error:
                print(str(error).replace(str(os.getppid()), "PARENT"))
        with thread_on(manager) as other:
            print(other.get_access_token())
    else:
        os.waitpid(child, 0)
        print(session.get_access_token())
"""
    )
    said = (
        "this SessionThread was opened in process PARENT, before a fork, and its thread does not "
        "exist in this process: open a SessionThread in each worker after the fork, for example "
        "in Gunicorn's post_worker_init hook"
    )
    assert (code, errors) == (0, "")
    assert lines == [
        "token-1",
        *[said] * 6,
        "token-2",
        "revoked: ['token-2']",
        "token-1",
        "revoked: ['token-1']",
    ]
