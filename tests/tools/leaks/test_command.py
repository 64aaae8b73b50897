"""Promise 21 for the output of the command."""

from __future__ import annotations

import itertools
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tools.leaks.canaries import (
    CLIENT_ID,
    PLACES,
    SECRET_CORE,
    SPELLINGS,
    TOKEN_CORE,
    Echo,
    leaks_in,
)
from trio_anon_session._cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = f"p@ss 'w/ö\"rd+%41&<\\>{SECRET_CORE}'ß"
TOKEN = f"tok/en+With~Odd%Chars=={TOKEN_CORE}"


class _Server(socketserver.TCPServer):
    """Sends its answer on each connection, and closes it."""

    answer = b""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        length = 0
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self.rfile.read(length)
        self.wfile.write(self.server.answer)


@contextmanager
def _serving() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (["token", "--max-retries", "0"], None),
        (["token", "--show-config"], None),
        (["doctor"], None),
        (["doctor", "--json"], None),
        (["revoke", "--max-retries", "0"], TOKEN),
        (["watch", "--seconds", "0.05", "--max-retries", "0"], None),
    ],
)
def test_promise_21_no_command_prints_what_a_server_echoes(
    args: list[str], stdin: str | None
) -> None:
    """Only `token` prints the token, to standard output; no command shows a secret."""
    tokens_printed = 0
    # `test_leaks.py` tests each spelling in each place. This test uses one spelling at a time.
    spellings = itertools.cycle(SPELLINGS)
    with _serving() as server:
        host, port = server.server_address[:2]
        environ = {
            "BOX_API_ROOT_URL": f"http://{host!s}:{port}",
            "BOX_CLIENT_ID": CLIENT_ID,
            "BOX_CLIENT_SECRET": SECRET,
        }
        for place, status in itertools.product(PLACES, (200, 400)):
            server.answer = Echo(place, next(spellings), status).answer(SECRET, TOKEN)
            result = CliRunner().invoke(cli, args, env=environ, input=stdin)
            shown = result.output
            if args == ["token", "--max-retries", "0"]:
                printed = f"{TOKEN}\n" if result.exit_code == 0 else ""
                tokens_printed += bool(printed)
                assert result.stdout == printed
                shown = result.stderr
            assert leaks_in(shown) == []
    if args == ["token", "--max-retries", "0"]:
        assert 0 < tokens_printed < 2 * len(PLACES)
