"""The examples with threads, run as commands."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from . import EXAMPLES, LIMIT, run_example

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("served_environment")]

PROGRAMS = ["trio_program.py", "thread_program.py"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_files_are_looked_up(program: str) -> None:
    """Each program prints what the API answers about each file."""
    ended = run_example(f"threads/{program}", 11, 22)
    assert ended.stderr == ""
    assert ended.returncode == 0
    assert ended.stdout == "{'type': 'file', 'id': '11'}\n{'type': 'file', 'id': '22'}\n"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"BOX_CLIENT_SECRET": "wrong"},
            "the token endpoint rejected the client 'test-client'",
        ),
        ({"BOX_CLIENT_ID": ""}, "client_id must be set: export BOX_CLIENT_ID with"),
    ],
)
def test_wrong_settings(program: str, environ: dict[str, str], said: str) -> None:
    """Each program ends with one sentence about wrong or missing credentials."""
    ended = run_example(f"threads/{program}", 11, environ=environ)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"{program}: {said}")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_the_endpoint_hangs(program: str) -> None:
    """On Ctrl-C, the program ends although threads still wait for a token."""
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        url = f"http://127.0.0.1:{endpoint.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, EXAMPLES / "threads" / program, "11", "22"],
            env={**os.environ, "BOX_API_ROOT_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                endpoint.settimeout(LIMIT)
                connection, _ = endpoint.accept()
                with connection:
                    # The token request has arrived.
                    connection.recv(1)
                    process.send_signal(signal.SIGINT)
                    _, said = process.communicate(timeout=LIMIT / 4)
            finally:
                process.kill()
    assert said.splitlines()[-1] == "KeyboardInterrupt"
