"""A Valkey, or a Redis, of one's own on a free port of this machine, which keeps nothing."""

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
    """Return the program, or None where there is none."""
    return shutil.which("valkey-server") or shutil.which("redis-server")


@attrs.define
class Valkey:
    """Is a server while the block lasts.

    Attributes:
        program: which is run.
        port: where it listens.
    """

    program: str
    port: int = attrs.field(factory=lambda: _free_port())
    _process: trio.Process | None = None

    @property
    def url(self) -> str:
        """What `RedisStore` takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it, with nothing in it, and return when it answers."""
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
        """End it; what was in it is gone."""
        assert self._process is not None
        self._process.terminate()
        with trio.CancelScope(shield=True):
            await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Shielded within, and short.
        await self.stop()  # noqa: ASYNC102


def _free_port() -> int:
    """Return a port that nobody has, and that no client is given while the server is away."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 20,000 and 30,000")
