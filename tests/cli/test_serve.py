"""``serve``: what it prints, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .running import LIMIT, invoke, run_python, running

if TYPE_CHECKING:
    import subprocess

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


def start_serving(process: subprocess.Popen[str]) -> dict[str, str]:
    """Read what ``serve`` says at its start, and return the variables in it."""
    assert process.stdout is not None
    first, *exports = [process.stdout.readline() for _ in range(4)]
    assert re.fullmatch(r"Serving on http://127\.0\.0\.1:\d+; Ctrl-C ends it\. .*\n", first)
    matches = [re.fullmatch(r"  export (\w+)=(\S+)\n", line) for line in exports]
    environ = {match[1]: match[2] for match in matches if match is not None}
    assert set(environ) == {"BOX_API_ROOT_URL", "BOX_CLIENT_ID", "BOX_CLIENT_SECRET"}
    assert environ["BOX_API_ROOT_URL"] in first
    return environ


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_serve_until_a_signal(name: str) -> None:
    """``serve`` prints what points a program at it, serves, and ends with 0 on a signal."""
    with running("serve", "--port", "0", "--client-id", "me", "--lifetime", "100") as process:
        environ = start_serving(process)
        assert environ["BOX_CLIENT_ID"] == "me"
        result = invoke("token", environ=environ)
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=LIMIT)
    assert result.exit_code == 0, result.output
    assert process.returncode == 0
    assert errors == ""
    assert rest == "1 grants, 0 revocations\n"


@pytest.mark.slow
def test_what_the_tutorial_shows() -> None:
    """What ``serve`` prints is what the tutorial shows, but for the port."""
    with running("serve", "--port", "0") as process:
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(4))
    with_port = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", printed)
    indented = re.sub("^", "    ", with_port, flags=re.MULTILINE).rstrip()
    assert f"    $ trio-anon-session serve\n{indented}\n\n" in TUTORIAL.read_text()


@pytest.mark.slow
def test_serve_on_a_port_in_use() -> None:
    """A port that is taken is exit code 1, and one line that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_python("-m", "trio_anon_session", "serve", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"trio-anon-session: port {port}: ")
    assert "in use" in line
