"""Programs in their own processes, which send and receive lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@attrs.define(eq=False)
class Child:
    """A program in its own process.

    Attributes:
        process: the process.
        received: everything that it has sent so far, by key.
    """

    process: trio.Process
    received: defaultdict[str, list[Any]] = attrs.field(factory=lambda: defaultdict(list))
    _taken: Counter[str] = attrs.field(factory=Counter)
    _buffer: bytearray = attrs.field(factory=bytearray)

    async def receive(self, word: str) -> Any:
        """Return the next value that the program sends with this key, or None if it ends first."""
        while self._taken[word] == len(self.received[word]):
            if not await self._receive_line():
                return None
        self._taken[word] += 1
        return self.received[word][self._taken[word] - 1]

    async def _receive_line(self) -> bool:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            more = await self.process.stdout.receive_some()
            if not more:
                return False
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        for word, what in json.loads(line).items():
            self.received[word].append(what)
        return True

    async def send(self, **what: object) -> None:
        """Send a command to the program."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps(what).encode() + b"\n")

    async def pause(self) -> None:
        """Stop the program (SIGSTOP), and return when it has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let the program continue (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill the program (SIGKILL), and return when it has ended."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def run_child(
    code: Path, *args: object, prefix: tuple[str, ...] = ()
) -> AsyncIterator[Child]:
    """Run a Python program while the block lasts.

    Args:
        code: the file of the program.
        *args: the arguments of its command line.
        prefix: a command that runs Python, with its arguments.
    """
    process = await trio.lowlevel.open_process(
        [*prefix, sys.executable, str(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            yield Child(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
