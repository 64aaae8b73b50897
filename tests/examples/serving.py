"""Programs of the examples that hypercorn or Gunicorn serves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from . import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio_anon_session.testing import TokenServer


@contextmanager
def hypercorn(app: str, *args: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run hypercorn's Trio workers until the block is left.

    Args:
        app: the app, as hypercorn loads it; its folder is ``web`` or ``mcp``.
        *args: further arguments of the command line.
        environ: variables, in addition to those of this process.
    """
    folder = "mcp" if app.startswith("mcp_") else "web"
    command = ["hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:0", *args, app]
    with _run(command, EXAMPLES / folder, environ) as process:
        yield process


@contextmanager
def gunicorn(
    app: str, *args: str, folder: Path = EXAMPLES / "wsgi", environ: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run Gunicorn until the block is left.

    Args:
        app: the app, as Gunicorn loads it.
        *args: further arguments of the command line.
        folder: the folder in which Gunicorn starts and finds its settings.
        environ: variables, in addition to those of this process.
    """
    # The control socket would be a file of the user who runs the tests.
    command = ["gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket", *args, app]
    with _run(command, folder, environ) as process:
        yield process


@contextmanager
def _run(
    command: list[str], folder: Path, environ: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *command],
        cwd=folder,
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_url(process: subprocess.Popen[str]) -> str:
    """Return the URL that a worker of hypercorn, or Gunicorn itself, prints when it is ready."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search("(?:Running on|Listening at:) (http://[^ ]+)", line)
        if found:
            return found[1]
    pytest.fail("the server has ended")


def environ_of(server: TokenServer, url: str) -> dict[str, str]:
    """Return the variables that a program needs."""
    [client] = server.clients.values()
    return {
        "BOX_CLIENT_ID": client.client_id,
        "BOX_CLIENT_SECRET": client.client_secret or "",
        "BOX_API_ROOT_URL": url,
    }
