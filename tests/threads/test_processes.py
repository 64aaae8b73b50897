"""Tests of forks, and of programs that end without leaving the block, in processes."""

from __future__ import annotations

import shutil
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


def run(program: str, *prefix: str) -> tuple[int, list[str], str]:
    """Return a program's exit code, the lines that it prints, and its errors."""
    ended = subprocess.run(
        [*prefix, sys.executable, "-u", "-c", OPEN + program],
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


FORKED = """
import httpx, httpx2, warnings
from box_sdk_gen import BaseUrls, BoxClient, NetworkSession
import trio_anon_session.httpx2
from trio_anon_session.boxsdk import SessionAuthentication
from trio_anon_session.threads import SessionThread, SessionThreadAuth
from tests.threads.test_session_thread import USES

# Python 3.12 warns about each fork of a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)
root = session.config.api_root_url
REFUSED = {"www-authenticate": 'Bearer error="invalid_token"'}

def send(auth, http=httpx):
    transport = http.MockTransport(lambda request: http.Response(200))
    http.Client(transport=transport, auth=auth).get(root)

def answer_401(http, auth):
    flow = auth.sync_auth_flow(http.Request("GET", root))
    request = next(flow)
    return lambda: flow.send(http.Response(401, headers=REFUSED, request=request))

session.__enter__()
session.get_access_token()
auth, timed = session.auth(), session.auth(timeout=10.0)
auth2 = trio_anon_session.httpx2.SessionThreadAuth(session)
sdk = SessionAuthentication(session)
# All tokens that follow are requested, but never arrive.
manager.latency = float("inf")
uses = {
    **{f"method {number}": (lambda use=use: use(session)) for number, use in enumerate(USES)},
    "with": session.__enter__,
    "auth made before": lambda: send(auth),
    "auth with a timeout": lambda: send(timed),
    "auth made after": lambda: send(session.auth()),
    "SessionThreadAuth made after": lambda: send(SessionThreadAuth(session)),
    "httpx2": lambda: send(auth2, httpx2),
    "401 of a request sent before": answer_401(httpx, auth),
    "401 of a request sent before, httpx2": answer_401(httpx2, auth2),
    "SDK: retrieve": sdk.retrieve_token,
    "SDK: refresh": sdk.refresh_token,
    "SDK: header": sdk.retrieve_authorization_header,
    "SDK: revoke": sdk.revoke_token,
    "SDK: client": lambda: BoxClient(
        auth=sdk, network_session=NetworkSession(base_urls=BaseUrls(base_url=root))
    ).users.get_user_me(),
}

def fork():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    for name, use in uses.items():
        try:
            use()
        except RuntimeError as error:
            if "before a fork" not in str(error):
                print(name, "was refused with:", error)
        else:
            print(name, "was not refused")
    # A worker may need the settings to open a session of its own.
    print(len(uses), session.config is manager.config, session)
    session.__exit__(None, None, None)
    os._exit(0)
"""

# Each program, and the tokens that were revoked at its end.
FORKS = {
    "by the main thread": ("fork()", ["token-1"]),
    "by another thread": (
        """
forker = threading.Thread(target=fork)
forker.start()
forker.join()
""",
        ["token-1"],
    ),
    "by the session's own thread": ("session._run.call_sync(fork)", ["token-1"]),
    "by C code, which does not call Python's functions after a fork": (
        """
import ctypes

os.fork = ctypes.PyDLL(None).fork
fork()
""",
        ["token-1"],
    ),
    "while threads wait for a token": (
        """
session.invalidate("token-1")
for _ in range(3):
    threading.Thread(target=keep_asking, daemon=True).start()
until(lambda: session.statistics().getters_held == 3)
fork()
""",
        [],
    ),
    "while a thread of the SDK replaces its token": (
        """
sdk.retrieve_token()
with sdk._lock:
    fork()
""",
        ["token-1"],
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("how", FORKS)
def test_each_use_after_a_fork(how: str) -> None:
    """A forked child gets the error of a fork for each use, whatever has forked it."""
    program, revoked = FORKS[how]
    code, lines, errors = run(FORKED + program)
    # One of the uses ends with a 401, of which the parent's log has a record.
    assert all(line.endswith("which was reported invalid") for line in errors.splitlines())
    assert code == 0
    assert lines == ["18 True <SessionThread for 'id'>", f"revoked: {revoked}"]


UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]


def has_namespaces() -> bool:
    """Return whether this user may create PID namespaces."""
    if not shutil.which(UNSHARE[0]):
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.quick
@pytest.mark.skipif(not has_namespaces(), reason="this user may not create PID namespaces")
def test_a_child_with_the_id_of_its_parent() -> None:
    """A child is refused although both processes have the id 1, each in its own namespace."""
    code, lines, errors = run(
        FORKED
        + """
import ctypes

CLONE_NEWPID = 0x20000000
assert not ctypes.CDLL(None).unshare(CLONE_NEWPID)
print(os.getpid())
os.register_at_fork(after_in_child=lambda: print(os.getpid()))
fork()
""",
        *UNSHARE,
    )
    assert (code, errors) == (0, "")
    assert lines == ["1", "1", "18 True <SessionThread for 'id'>", "revoked: ['token-1']"]
