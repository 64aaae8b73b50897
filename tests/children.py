"""Programs in processes of their own, which tell what they do in lines of JSON."""

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
    """A program in a process of its own.

    Attributes:
        process: the process.
        told: all that it has told so far, by the first word of each line.
    """

    process: trio.Process
    told: defaultdict[str, list[Any]] = attrs.field(factory=lambda: defaultdict(list))
    _heard: Counter[str] = attrs.field(factory=Counter)
    _said: bytearray = attrs.field(factory=bytearray)

    async def hear(self, word: str) -> Any:
        """Return what it tells next by this word; None at its end. Nothing else is missed."""
        while self._heard[word] == len(self.told[word]):
            if not await self._hear_line():
                return None
        self._heard[word] += 1
        return self.told[word][self._heard[word] - 1]

    async def _hear_line(self) -> bool:
        assert self.process.stdout is not None
        while b"\n" not in self._said:
            more = await self.process.stdout.receive_some()
            if not more:
                return False
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        for word, what in json.loads(line).items():
            self.told[word].append(what)
        return True

    async def say(self, **what: object) -> None:
        """Tell it what to do."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps(what).encode() + b"\n")

    async def pause(self) -> None:
        """Stop it (SIGSTOP), and return when it has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill it (SIGKILL), and return when it is gone."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def run_child(
    code: Path, *args: object, prefix: tuple[str, ...] = ()
) -> AsyncIterator[Child]:
    """Run a program of Python while the block lasts.

    Args:
        code: the file.
        *args: of its command line.
        prefix: what runs it in another way than Python alone.
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
