"""Ways to run the command: in process, as a process, on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import attrs
from click.testing import CliRunner, Result

from trio_anon_session._cli import cli
from trio_anon_session.testing import Client, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SECRET = "hush-hush+secret/0123456789"
LIMIT = 60.0
"""Seconds; what no subprocess of a test may outlive."""
COMMAND = (sys.executable, "-m", "trio_anon_session")
_DRAWING = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"}


def invoke(
    *args: object,
    environ: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    color: bool = False,
) -> Result:
    """Run the command in process."""
    return CliRunner().invoke(
        cli,
        [str(arg) for arg in args],
        env=environ,
        input=stdin,
        color=color,
        prog_name="trio-anon-session",
    )


def assert_failed(result: Result, code: int, *words: str) -> None:
    """Check that a command ended with this code, one line on stderr, and nothing else."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("trio-anon-session: ")
    for word in words:
        assert word in line
    assert SECRET not in result.output


def write_box_json(path: Path, client_id: str = "id", secret: str = SECRET) -> Path:
    """Write a settings file as Box's developer console does."""
    app = {"clientID": client_id, "clientSecret": secret}
    path.write_text(json.dumps({"boxAppSettings": app, "enterpriseID": "0"}))
    return path


class Served:
    """A token server on loopback, in a thread with a Trio run of its own."""

    def __init__(self) -> None:
        self.server = TokenServer(clients=[Client("id", SECRET)])
        self.url = ""

    @property
    def environ(self) -> dict[str, str]:
        """Return the variables that point a program at the server."""
        return {
            "BOX_API_ROOT_URL": self.url,
            "BOX_CLIENT_ID": "id",
            "BOX_CLIENT_SECRET": SECRET,
        }

    def forms(self) -> list[dict[str, str]]:
        """Return the forms of all token requests."""
        return [request.form for request in self.server.token_requests()]


def plain_environ(**changes: str) -> dict[str, str]:
    """Return the environment without what tells rich to draw otherwise."""
    return {name: value for name, value in os.environ.items() if name not in _DRAWING} | changes


def run_python(*args: str, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run this Python to its end."""
    return subprocess.run(
        [sys.executable, *args],
        env=plain_environ(**environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def run_shell(script: str, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run a script of bash to its end, in which ``$command`` is the command."""
    return subprocess.run(
        ["bash", "-c", script],
        env=plain_environ(command=" ".join(COMMAND), **environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@contextlib.contextmanager
def running(*args: str, environ: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
    """Run the command beside the block, and end it with the block at the latest."""
    with subprocess.Popen(
        [*COMMAND, *args],
        env=plain_environ(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # It also ends the reads of a process that says nothing.
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


@attrs.frozen
class OnTerminal:
    """What came of a process on a terminal: its exit code, all that it wrote, its echo."""

    code: int
    text: str
    echoes: bool


def run_on_terminal(
    *args: str,
    environ: Mapping[str, str] = {},
    when: Callable[[str], bool] = lambda text: False,
    type_: bytes = b"",
) -> OnTerminal:
    """Run the command on a pseudo-terminal of 100 by 40.

    Args:
        *args: the command line.
        environ: variables.
        when: asked again and again with what was written so far; once it is so,
        type_: this is typed.
    """
    # Where there are no pseudo-terminals, there is no module either.
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    written, chunk = bytearray(), b""
    environ = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environ}
    # In a session whose terminal this is, so that ^C is an interrupt.
    with subprocess.Popen(
        [*COMMAND, *args],
        env=plain_environ(**environ),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            while process.poll() is None or chunk:
                chunk = _read(ours) if _is_readable(ours) else b""
                written += chunk
                if type_ and when(written.decode(errors="replace")):
                    os.write(ours, type_)
                    type_ = b""
            echoes = bool(termios.tcgetattr(theirs)[3] & termios.ECHO)
        finally:
            limit.cancel()
            process.kill()
            os.close(theirs)
            os.close(ours)
    return OnTerminal(process.returncode, written.decode(), echoes)


def _is_readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0.1)[0])


def _read(descriptor: int) -> bytes:
    return os.read(descriptor, 65536)
