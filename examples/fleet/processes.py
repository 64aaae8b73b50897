"""Processes that read commands and write reports as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HERE = Path(__file__).parent


@attrs.define
class Lines:
    """Reader for lines of JSON from a stream."""

    stream: trio.abc.ReceiveStream
    _received: bytes = b""

    async def read(self) -> dict[str, Any] | None:
        """Return the content of the next line, or None at the end."""
        while b"\n" not in self._received:
            chunk = await self.stream.receive_some()
            if not chunk:
                return None
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        content: dict[str, Any] = json.loads(line)
        return content


def report(**what: object) -> None:
    """Write a line to the parent process."""
    print(json.dumps(what), flush=True)


def commands() -> trio.lowlevel.FdStream:
    """Return the stream of commands, which ends when the parent process ends."""
    return trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))


@attrs.define(eq=False)
class Child:
    """A program of this folder in its own process.

    Attributes:
        process: the process.
        reports: its reports.
    """

    process: trio.Process
    reports: Lines

    async def say(self, **what: object) -> None:
        """Send a command to the process."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps(what).encode() + b"\n")

    async def hang_up(self) -> None:
        """Close the stream of commands, so that the process ends."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()


@asynccontextmanager
async def open_child(program: str, environ: Mapping[str, str]) -> AsyncIterator[Child]:
    """Run a program of this folder while the block lasts.

    Args:
        program: name of the file.
        environ: environment variables, in addition to those of this process.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, str(HERE / program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environ},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            yield Child(process, Lines(process.stdout))
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
