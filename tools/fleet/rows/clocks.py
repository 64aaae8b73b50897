"""Rows 4, 5 and 6: clocks that start again, and clocks that are set back."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.stores.valkey import Valkey, run_valkey

from .scene import Lab, Line, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS = 6
"""Trio runs of each process. Their clocks start at random, so some start before the last one."""
LIFETIME, AGE, STEP = 30.0, 20.0, 15
"""Seconds: the lifetime of a token, its age when the clock is set back, and the step."""
REQUEST_TIMEOUT = 10.0


async def second_run(lab: Lab) -> list[Line]:
    """Use each manager in several Trio runs, one after the other."""
    path = lab.subfolder("sqlite") / "tokens.db"
    async with lab.scene(f"sqlite:{path}") as scene:
        workers = await scene.open(runs=RUNS)
        times = [
            Seconds(await worker.receive("waited"), await worker.receive("is_cut"))
            for worker in workers
            for _ in range(RUNS)
        ]
    what = f"a manager in {RUNS} Trio runs, which each drop their token"
    return [Line(what, str(Seconds.longest(times)), "s that a caller waits, at most")]


async def set_back(lab: Lab) -> list[Line]:
    """Set the server's clock back by less than the token's age."""
    with _run_valkey(lab) as (valkey, set_clock):
        async with lab.scene(valkey.url, lifetime=LIFETIME) as scene:
            buffers: dict[str, Any] = {"stale_buffer": 1.0, "expired_buffer": 0.5}
            first, *_ = await scene.start(**buffers)
            (newcomer,) = await scene.open(1, **buffers)
            token = first.tokens[-1]
            ends_at = scene.ends_at(token)
            await trio.sleep(ends_at - (LIFETIME - AGE) - time.monotonic())
            set_clock(-STEP)
            await newcomer.do("begin")
            await trio.sleep(ends_at - time.monotonic())
            last = await scene.last_use(token, [newcomer], ends_at)
    what = f"Valkey's clock is set back by {STEP} s, the token is {AGE:g} s old"
    return [Line(what, str(last), "s after its end, a new process uses the token")]


async def killed_and_set_back(lab: Lab) -> list[Line]:
    """Kill the process that has the lease, and set the server's clock back."""
    with _run_valkey(lab) as (valkey, set_clock):
        async with lab.scene(valkey.url) as scene:
            answers = scene.server.hold_answers()
            workers = await scene.open(request_timeout=REQUEST_TIMEOUT)
            for worker in workers:
                await worker.do("begin")
            await scene.server.wait_for_request()
            owner = valkey.do("HGET", f"tas:{{{scene.name}}}:state", "owner").decode()
            pid = int(owner.split("/")[1])
            (holder,) = (each for each in workers if each.child.process.pid == pid)
            others = [each for each in workers if each is not holder]
            await holder.child.kill()
            killed_at = time.monotonic()
            set_clock(-60)
            scene.server.answer_at_once()
            times = [Seconds(await each.receive("at") - killed_at) for each in others]
            answers.set()
    what = "the holder of the lease is killed, and Valkey's clock is set back by 60 s"
    unit = f"s until the others have a token; request_timeout is {REQUEST_TIMEOUT:g} s"
    return [Line(what, str(Seconds.longest(times)), unit)]


@contextmanager
def _run_valkey(lab: Lab) -> Iterator[tuple[Valkey, Callable[[int], None]]]:
    """Run a server, and return it with a function that sets its clock off by a number of seconds.

    Raises:
        FileNotFoundError: no C compiler is installed.
    """
    folder = lab.subfolder("valkey")
    library, offset = folder / "clock.so", folder / "offset"
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler for clock.c: apt-get install gcc")
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)

    def set_clock(seconds: int) -> None:
        offset.with_name("new").write_text(str(seconds))
        # A rename is atomic, so a process that reads the clock finds a whole file.
        offset.with_name("new").replace(offset)

    set_clock(0)
    prefix = "env", f"LD_PRELOAD={library}", f"CLOCK_OFFSET_FILE={offset}"
    with run_valkey(folder, prefix=prefix) as valkey:
        yield valkey, set_clock
