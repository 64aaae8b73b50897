"""Counted instructions.

Valgrind's callgrind counts the instructions of a processor in a separate program. In that program,
only the order in which Trio runs tasks depends on chance. Instructions in the kernel are not
counted, such as those with which Trio looks for events at each checkpoint. Everything runs once
before the count, so that Python has compiled the code, and garbage is not collected during the
count.

A waiting caller is a task that is started, waits and ends. A refresh is that of a token that lives
for 100 s of virtual time; its base is a task that only sleeps for as long. An import includes all
modules that it imports, compiled beforehand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks import counted
from benchmarks.measure import BRIEF, Comparison, Contender, Effort, compare
from benchmarks.scenes import LeftOutError
from benchmarks.sources import CONFIG, Grants
from trio_anon_session import AnonymousSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
LIFETIME = 100.0
"""Seconds; half of it, after which a session refreshes, is less than the session's sleep."""
CHECKPOINT = "trio.lowlevel.checkpoint"


Piece = Callable[[int], None]


@attrs.frozen
class Figure:
    """A counted figure of each contender.

    Attributes:
        base: the contender that the ratios refer to.
        most: the maximum number of calls, callers or refreshes of which the count is the mean.
        pieces: functions that run a number of these; each marks where its counted part begins and
            ends.
    """

    base: str
    most: int
    pieces: Mapping[Contender, Piece]

    def number(self, at_most: int) -> int:
        """Return the number that the pieces get."""
        return min(self.most, at_most)


def run(effort: Effort) -> Sequence[Comparison]:
    """Count the instructions."""
    if shutil.which("valgrind") is None:
        raise LeftOutError("needs valgrind")
    names = list(FIGURES) if effort.crowd > BRIEF.crowd else list(FIGURES)[:1]
    with TemporaryDirectory() as folder:
        counts = _count(effort.calls, names, Path(folder))
    imports = {
        Contender(counted.OUR_IMPORT, is_ours=True): [
            float(counts[counted.BASE_IMPORT] + counts[counted.OUR_IMPORT])
        ],
        Contender(counted.BASE_IMPORT): [float(counts[counted.BASE_IMPORT])],
    }
    return [
        *(_compare(name, effort.calls, counts) for name in names),
        compare("an import", "instructions", imports, base=counted.BASE_IMPORT),
    ]


def _compare(name: str, at_most: int, counts: Mapping[str, int]) -> Comparison:
    figure = FIGURES[name]
    number = figure.number(at_most)
    measured = {
        who: [counts[counted.piece_name(name, who.subject)] / number] for who in figure.pieces
    }
    return compare(name, "instructions", measured, base=figure.base)


def _count(at_most: int, figures: Sequence[str], folder: Path) -> dict[str, int]:
    """Return how many instructions each piece of these figures takes, by its name."""
    program = [sys.executable, "-m", "benchmarks.counted", str(at_most), *figures]
    out = folder / "counts"
    valgrind = ["valgrind", "-q", "--tool=callgrind", "--dump-before=getppid"]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # The first run counts nothing, but compiles all modules to bytecode.
    for before in ([], [*valgrind, f"--callgrind-out-file={out}"]):
        printed = subprocess.run(
            [*before, *program], cwd=ROOT, env=environment, capture_output=True, check=True
        ).stdout
    names = json.loads(printed)
    return {name: _total(Path(f"{out}.{n}")) for n, name in enumerate(names, start=1) if name}


def _total(path: Path) -> int:
    found = re.search(r"^totals: (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return int(found[1])


# The pieces of code that are counted


async def _take_nowait(number: int) -> None:
    async with AnonymousSession(CONFIG, Grants()) as session:
        await session.get_access_token()
        counted.mark()
        for _ in range(number):
            session.get_access_token_nowait()
        counted.mark()


async def _take(number: int) -> None:
    async with AnonymousSession(CONFIG, Grants()) as session:
        await session.get_access_token()
        counted.mark()
        for _ in range(number):
            await session.get_access_token()
        counted.mark()


async def _pass_checkpoints(number: int) -> None:
    counted.mark()
    for _ in range(number):
        await trio.lowlevel.checkpoint()
    counted.mark()


async def _refresh(number: int) -> None:
    async with AnonymousSession(CONFIG, Grants(lifetime=LIFETIME)) as session:
        await session.get_access_token()
        counted.mark()
        await trio.sleep(number * LIFETIME / 2)
        counted.mark()


async def _sleep(number: int) -> None:
    counted.mark()
    for _ in range(number):
        await trio.sleep(LIFETIME / 2)
    counted.mark()


def _held_at(gate_name: str) -> Piece:
    async def hold(number: int) -> None:
        # Import here, because these imports take longer to count than all figures of a brief run.
        from benchmarks import crowds
        from benchmarks.scenes.release import GATES

        async with GATES[gate_name]() as gate:
            counted.mark()
            async with trio.open_nursery() as nursery:
                await crowds.gather(nursery, gate, number)
                await gate.open()
            counted.mark()

    return _run(hold)


def _run(async_fn: Callable[[int], Awaitable[None]]) -> Piece:
    return lambda number: trio.run(async_fn, number)


def _run_in_virtual_time(async_fn: Callable[[int], Awaitable[None]]) -> Piece:
    def run(number: int) -> None:
        # Import here, for the same reason.
        from trio.testing import MockClock

        trio.run(async_fn, number, clock=MockClock(autojump_threshold=0))

    return run


FIGURES = {
    "a call": Figure(
        CHECKPOINT,
        5_000,
        {
            Contender("get_access_token_nowait", is_ours=True): _run(_take_nowait),
            Contender("get_access_token", is_ours=True): _run(_take),
            Contender(CHECKPOINT): _run(_pass_checkpoints),
        },
    ),
    "a waiting caller": Figure(
        "trio.Event",
        2_000,
        {
            Contender(name, is_ours=name == "get_access_token"): _held_at(name)
            for name in ("get_access_token", "trio.Event", "trio.Condition, notify_all")
        },
    ),
    "a refresh": Figure(
        "trio.sleep",
        500,
        {
            Contender("AnonymousSession", is_ours=True): _run_in_virtual_time(_refresh),
            Contender("trio.sleep"): _run_in_virtual_time(_sleep),
        },
    ),
}
