"""Ways to run the command: in process, as a process, on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from click.testing import CliRunner, Result
from rich.console import Console

from trio_anon_session._cli import cli
from trio_anon_session._cli._flags import Source
from trio_anon_session.testing import Client, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trio_anon_session._cli._view import View

SECRET = "hush-hush+secret/0123456789"
COMPLETE = {"BOX_CLIENT_ID": "id", "BOX_CLIENT_SECRET": SECRET}
"""The variables that the command needs."""
LIMIT = 240.0
"""Seconds after which a test kills its subprocess."""
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


def source(**flags: Any) -> Source:
    """Return the settings of a command line that has only these flags."""
    return Source(flags, (), None, None, {})


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
    """A token server on loopback, with the client of `COMPLETE`."""

    def __init__(self) -> None:
        self.server = TokenServer(clients=[Client("id", SECRET)])
        self.url = ""

    @property
    def environ(self) -> dict[str, str]:
        """Return the variables that point a program at the server."""
        return {"BOX_API_ROOT_URL": self.url, **COMPLETE}

    def forms(self) -> list[dict[str, str]]:
        """Return the forms of all token requests."""
        return [request.form for request in self.server.token_requests()]


def plain_environ(**changes: str) -> dict[str, str]:
    """Return the environment without the variables that change how rich draws."""
    return {name: value for name, value in os.environ.items() if name not in _DRAWING} | changes


def run_python(*args: str, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run this Python to its end."""
    return _run([sys.executable, *args], plain_environ(**environ))


def run_shell(script: str, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run a script of bash to its end, in which ``$command`` is the command."""
    return _run(["bash", "-c", script], plain_environ(command=" ".join(COMMAND), **environ))


def _run(args: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        args,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )


_WITHOUT = """
import sys

missing = sys.argv.pop(1)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
from trio_anon_session.__main__ import main
main()
"""


def run_without(
    missing: str, *args: str, environ: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end as if one module were not installed."""
    return run_python("-c", _WITHOUT, missing, *args, environ=environ)


@contextlib.contextmanager
def running(
    *args: str, environ: Mapping[str, str] = {}, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """Run the command while the block lasts, and kill it if it has not ended by then."""
    with subprocess.Popen(
        [*COMMAND, *args],
        env=plain_environ(**environ),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # The kill also ends reads from a process that prints nothing.
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


def read_until(words: str, process: subprocess.Popen[str]) -> str:
    """Return the next line of a process that has these words."""
    assert process.stdout is not None
    return next(line for line in process.stdout if words in line)


def drawn(view: View, width: int) -> str:
    """Return what a panel shows on a terminal of this width, without frame and line breaks."""
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(view.panel(width))
    return " ".join(capture.get().replace("│", " ").split())


def _is_asleep(pid: int) -> bool:
    """Return whether the main thread of a process waits in a system call (proc_pid_stat(5))."""
    stat = Path(f"/proc/{pid}/stat")
    # Other systems than Linux do not show it.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "S"


@attrs.frozen
class OnTerminal:
    """How a process on a terminal ended: exit code, output, and whether the terminal echoes."""

    code: int
    text: str
    echoes: bool


def _shows(words: str) -> Callable[[str], bool]:
    return lambda text: words in text


def run_on_terminal(
    *args: str,
    environ: Mapping[str, str] = {},
    when: Callable[[str], bool] = lambda text: False,
    type_: bytes = b"",
    at_prompt: bool = False,
    then: tuple[str, bytes] | None = None,
) -> OnTerminal:
    """Run the command on a pseudo-terminal of 100 by 40.

    Args:
        *args: the command line.
        environ: variables.
        when: returns whether the text that was written so far is what the test waits for.
        type_: what is typed then.
        at_prompt: whether the text is a prompt, so that the input is sent when the process waits.
            Python notices a signal that comes just before a read only when the read ends, and
            `getpass` discards what was typed before its prompt. Without a prompt, a process with
            much to do would never be seen waiting on a busy machine.
        then: words to wait for after that, and what is typed then.
    """
    # Systems without pseudo-terminals do not have these modules.
    import fcntl
    import pty
    import select
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    written, chunk = bytearray(), b""
    environ = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environ}
    # The new session makes this terminal its controlling terminal, so that ^C is an interrupt.
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
                is_readable = bool(select.select([ours], [], [], 0.1)[0])
                chunk = os.read(ours, 65536) if is_readable else b""
                written += chunk
                is_time = type_ and when(written.decode(errors="replace"))
                if is_time and (not at_prompt or _is_asleep(process.pid)):
                    os.write(ours, type_)
                    type_ = b""
                    if then is not None:
                        when, type_, then = _shows(then[0]), then[1], None
            echoes = bool(termios.tcgetattr(theirs)[3] & termios.ECHO)
        finally:
            limit.cancel()
            process.kill()
            os.close(theirs)
            os.close(ours)
    return OnTerminal(process.returncode, written.decode(), echoes)
