"""The example of a fleet, run as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores.valkey import find_program

from . import run_example

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.slow

SMALL = ("--processes", 2, "--tasks", 3)


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a small fleet."""
    return run_example("fleet/fleet.py", *SMALL, *args)


def rows(ended: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """Return the table of figures, after a run without errors."""
    assert ended.stderr == ""
    assert "WRONG" not in ended.stdout
    assert ended.returncode == 0
    head, *lines = ended.stdout.splitlines()
    names = head.replace("held for", "held_for").split()
    table = {}
    for line in lines:
        if line.endswith(" s"):
            cells = line.removesuffix(" s").split()
            table[" ".join(cells[: -len(names)])] = dict(
                zip(names, cells[-len(names) :], strict=True)
            )
    return table


def test_one_grant_in_each_lifetime() -> None:
    """In each lifetime, two processes have one grant with a store, and two without one."""
    table = rows(run("--lives", 2, "--lifetime", 6, "--store", "sqlite", "--store", "none"))
    shared, alone = table["SQLite"], table["no store"]
    assert int(shared["lives"]) >= 2
    assert shared["grants"] == shared["lives"]
    assert int(alone["grants"]) >= 4
    for row in (shared, alone):
        assert (row["processes"], row["tasks"]) == ("2", "6")
        assert (row["kills"], row["failed"]) == ("0", "0")
        assert int(row["gets"]) > 0


def test_a_holder_that_is_killed() -> None:
    """If the process that holds the lease is killed, there is one more grant, and no call fails."""
    row = rows(run("--kill", "--lives", 1, "--store", "sqlite"))["SQLite"]
    assert (row["kills"], row["grants"], row["failed"]) == ("1", "2", "0")


def test_a_valkey_that_is_restarted() -> None:
    """A restart of Valkey adds no grant between two requests, and at most one during a request."""
    find_program()
    table = rows(run("--restart", "--lives", 2, "--store", "valkey", "--processes", 4))
    quiet, busy = table["Valkey, between grants"], table["Valkey, during a grant"]
    assert quiet["grants"] == quiet["lives"]
    assert int(busy["grants"]) <= int(busy["lives"]) + 1
    assert quiet["failed"] == busy["failed"] == "0"


def test_a_token_that_is_dropped() -> None:
    """Revoking and invalidating a token are each measured five times."""
    ended = run("--revoke", "--store", "sqlite")
    assert (ended.returncode, ended.stderr) == (0, "")
    # The log has a warning for each token that is reported invalid.
    head, *lines = (line for line in ended.stdout.splitlines() if "reported invalid" not in line)
    assert head.split() == ["dropped", "by", "times", "median", "longest"]
    assert [line.split()[:3] for line in lines] == [
        ["SQLite", "revoke", "5"],
        ["SQLite", "invalidate", "5"],
    ]


def test_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    """If the store cannot be used, the program reports that there are too many grants."""
    ended = run("--lives", 1, "--store", f"sqlite:{tmp_path / 'missing' / 'tokens.db'}")
    assert ended.returncode == 1
    *_, logged, wrong = ended.stdout.splitlines()
    assert "2 x: the token store fails" in logged
    assert wrong == "WRONG: sqlite: 2 grants, at most 1 expected"


def test_a_process_that_ends_early() -> None:
    """If a process ends early, the program reports it in the last line."""
    ended = run("--lives", 1, "--store", "sqlite:")
    assert ended.returncode == 1
    assert "ValueError: path must be the path of a file" in ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert last == "WRONG: a process of the fleet has ended; see its output above"
