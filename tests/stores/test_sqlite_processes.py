"""Tests of processes that share a file of `SQLiteStore`: concurrent and forked ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.stores.kit import kept
from tests.stores.places import PATIENCE
from tests.stores.sqlite_kit import assert_fails
from trio_anon_session.stores import SQLiteStore, _sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


CLAIMER = """
    import sys, trio
    from trio_anon_session.stores import SQLiteStore, _sqlite

    _sqlite.BUSY_TIMEOUT = 30.0

    async def main():
        print("ready", flush=True)
        for line in sys.stdin:
            path, seen = line.rsplit(maxsplit=1)
            store = SQLiteStore(path)
            if seen == "look":
                print((await store.look("name")).version, flush=True)
            else:
                print(await store.claim("name", sys.argv[1], int(seen), 1000.0), flush=True)

    trio.run(main)
"""


@contextmanager
def processes(count: int) -> Iterator[Callable[[Path, object], list[str]]]:
    """Start processes, and yield a function that makes all of them do the same call."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CLAIMER), f"owner-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]

    def answers() -> list[str]:
        return [process.stdout.readline().strip() for process in started if process.stdout]

    def ask(path: Path, question: object) -> list[str]:
        for process in started:
            assert process.stdin is not None
            process.stdin.write(f"{path} {question}\n")
            process.stdin.flush()
        return answers()

    try:
        assert answers() == ["ready"] * count
        yield ask
    finally:
        for process in started:
            process.communicate(timeout=PATIENCE)
        assert [process.returncode for process in started] == [0] * count


@pytest.mark.slow
def test_processes_that_create_a_file_together(tmp_path: Path) -> None:
    """Processes that create a file at the same time share it, and one of them gets the lease."""
    with processes(4) as ask:
        for number in range(20):
            path = tmp_path / f"{number}.db"
            versions = ask(path, "look")
            assert len(set(versions)) == 1
            answers = ask(path, versions[0])
            assert answers.count("None") == 3
            (fence,) = set(answers) - {"None"}
            assert int(fence) > int(versions[0]) > 1_700_000_000_000


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_processes_that_are_forked_while_a_thread_works(path: Path) -> None:
    """After a fork while a thread writes, both processes can use the store."""
    program = """
        import os, sys, threading, trio, warnings
        from trio_anon_session.stores import SQLiteStore, _sqlite

        _sqlite.BUSY_TIMEOUT = 30.0
        # Python warns about a fork in a process with threads, which this program does on purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        store = SQLiteStore(sys.argv[1])
        begun = threading.Event()

        async def write(times=None):
            while times is None or times:
                await store.drop("name", "mark", 1000.0)
                begun.set()
                times = times and times - 1

        async def child():
            with trio.fail_after(30.0):
                await write(2)

        threading.Thread(target=trio.run, args=[write], daemon=True).start()
        begun.wait(30.0)
        for _ in range(30):
            pid = os.fork()
            if not pid:
                try:
                    trio.run(child)
                except BaseException as error:
                    os.write(1, f"{error!r}\\n".encode())
                    os._exit(1)
                os._exit(0)
            os.waitpid(pid, 0)
        begun.clear()
        print("all done", begun.wait(30.0), flush=True)
        os._exit(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "all done True\n", "")


async def test_a_fork_while_a_thread_hangs(
    path: Path, monkeypatch: pytest.MonkeyPatch, impatient_sqlite: None, autojump_clock: object
) -> None:
    """In a process forked while SQLite is busy, calls fail; in its parent, the store works."""
    store = SQLiteStore(path)
    await kept(store)
    turns = _sqlite._ProcessLock()
    monkeypatch.setattr(_sqlite, "_process_lock", turns)
    with turns.take():
        turns.before_fork()
        turns.after_fork_in_parent()
    await kept(store)
    with turns.take():
        turns.before_fork()
        turns.after_fork_in_child()
    await assert_fails(store, "this process was forked while SQLite was busy; restart it")
    # A child of the forked process cannot use SQLite either.
    turns.before_fork()
    turns.after_fork_in_child()
    await assert_fails(store, "this process was forked while SQLite was busy; restart it")
