"""A Valkey or Redis server on a free port of this machine, which saves nothing to disk."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Self

import attrs
import trio

if TYPE_CHECKING:
    from types import TracebackType


def find_server() -> str | None:
    """Return the path of the program, or None if it is not installed."""
    return shutil.which("valkey-server") or shutil.which("redis-server")


@attrs.define
class Valkey:
    """A server that runs while the block lasts.

    Attributes:
        program: path of the server program.
    """

    program: str
    _held: socket.socket = attrs.field(factory=lambda: _hold_port(), repr=False)
    _process: trio.Process | None = None

    @property
    def port(self) -> int:
        """The port on which it listens."""
        port: int = self._held.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The URL for `RedisStore`."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start the server without data, and return when it answers."""
        options = f"--bind 127.0.0.1 --port {self.port} --appendonly no --loglevel warning"
        self._process = await trio.lowlevel.open_process(
            [self.program, *options.split(), "--save", ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while not await self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.program} ended with {self._process.returncode}")
            await trio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(b"PING\r\n")
                return (await stream.receive_some()).startswith(b"+PONG")
        except (OSError, trio.BrokenResourceError):
            return False

    async def stop(self) -> None:
        """Stop the server. Its data is lost."""
        assert self._process is not None
        self._process.terminate()
        with trio.CancelScope(shield=True):
            await self._process.wait()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self._held.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._held:
            # stop() is shielded, and short.
            await self.stop()  # noqa: ASYNC102


def _hold_port() -> socket.socket:
    """Return a socket that reserves a port for the server, also while the server is down.

    The port is outside of the range for clients: a client that got this port could connect to
    itself.
    """
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
            continue
        # On Linux, sockets with this option may share a port until one of them listens.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return held
    raise RuntimeError("no free port between 20,000 and 30,000")
