"""A real Valkey or Redis server on loopback, which a test can stop, restart and pause."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.ports import server_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("valkey-server", "redis-server")
"""Names of server programs; the first one that is installed is used."""
PATIENCE = 30.0
"""Seconds within which a working server does anything."""


def find_program() -> str:
    """Return the path of the server program.

    If none is installed, the test is skipped, or fails if ``CI`` is set.
    """
    # VALKEY_SERVER selects another version.
    chosen = os.environ.get("VALKEY_SERVER")
    program = shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        missing = "no valkey-server and no redis-server: apt-get install valkey-server"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return program


class ServerError(Exception):
    """An error that the server answered."""


class Connection:
    """A minimal client, independent of the code under test."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def do(self, *words: str | bytes | int) -> Any:
        """Return what the server answers to a command: bytes, int, None or a list."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        sent = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%s" % (len(parts), sent))
        return self._answer()

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line:
            raise ConnectionError("the server has hung up")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b"-":
                raise ServerError(rest.decode())
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
            case _:
                return [self._answer() for _ in range(int(rest))]


class Valkey:
    """A server for a test, in its own process.

    Attributes:
        port: the port of 127.0.0.1 on which it listens, also after a restart.
        folder: its working directory; it saves no data there on its own.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        *options: str,
        tls: bool = False,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.port = port
        # The command that starts the server program, if any.
        self._prefix = prefix
        self._options = options
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server, without user and password."""
        scheme = "rediss" if self._tls else "redis"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> Path:
        """The path of the Unix socket on which it also listens."""
        return self.folder / "socket"

    def start(self) -> None:
        """Start it, and wait until it answers, also with an error."""
        ports = ["0", "--tls-port", str(self.port)] if self._tls else [str(self.port)]
        command = [*self._prefix, find_program(), "--port", *ports, "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.socket_path)]
        command += ["--save", "", "--appendonly", "no"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdout=log, stderr=subprocess.STDOUT
            )
        give_up_at = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            if self._tls:
                socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
            else:
                self.do("PING")
        except ServerError:
            return True
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Kill it, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it hang: it keeps running, but does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def connect(self) -> Connection:
        """Return a new connection; this does not work for a server with TLS."""
        return Connection(self.port)

    def do(self, *words: str | bytes | int) -> Any:
        """Run one command, and return its answer."""
        with self.connect() as connection:
            return connection.do(*words)

    async def has_clients(self, count: int) -> None:
        """Wait until it has exactly `count` connections of clients."""
        with self.connect() as connection, trio.fail_after(PATIENCE):
            # One of the lines is about this connection itself.
            while connection.do("CLIENT", "LIST").count(b"\n") != count + 1:  # noqa: ASYNC110  # servers send no event for it
                await trio.sleep(0.01)

    def key_names(self) -> list[bytes]:
        """Return the names of all keys, sorted."""
        return sorted(self.do("KEYS", "*"))

    def all_that_it_holds(self) -> bytes:
        """Return all keys with their values, as the server would write them to a disk."""
        with self.connect() as connection:
            # Compression would hide the texts that tests search for.
            connection.do("CONFIG", "SET", "rdbcompression", "no")
            return b"\n".join(key + b"\t" + connection.do("DUMP", key) for key in self.key_names())


@contextmanager
def run_valkey(
    folder: Path, *options: str, tls: bool = False, prefix: tuple[str, ...] = ()
) -> Iterator[Valkey]:
    """Run a server while the block lasts."""
    with server_port() as port:
        server = Valkey(folder, port, *options, tls=tls, prefix=prefix)
        try:
            server.start()
            yield server
        finally:
            server.stop()
