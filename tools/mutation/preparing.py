"""Prepare the run of mutants: one run of the suite, and processes that share the work."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

import hypothesis

from .loading import ROOT
from .suite import Recorder, Suite
from .trying import fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = ROOT / ".mutation"
# Imports of the package and its tests, so that forks do not repeat them.
LIBRARIES = (
    *("attrs", "httpx", "hypercorn.trio", "hypothesis.strategies", "hypothesis.stateful"),
    *("sybil", "trio.testing", "trio_util"),
)


def prepare() -> None:
    """Import what the tests need, choose how many examples they draw, and go to the root."""
    for name in LIBRARIES:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=10,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    os.chdir(ROOT)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")


def record(
    modules: Sequence[str], killers: dict[str, str], enough: float, *, everything: bool
) -> Suite:
    """Run all tests once on the unchanged package."""
    file = RESULTS / "suite.json"
    recorder = functools.partial(Recorder, modules)
    if fork(lambda: recorder().run(file, everything=everything)) != 0:
        sys.exit("the tests fail without any mutant: see pytest")
    return Suite.read(file, killers, enough)


def side_by_side(jobs: int, work: Callable[[int], int]) -> None:
    """Run a function in several processes, with the number of each."""
    children = []
    for number in range(jobs):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = work(number)
            except BaseException:
                # Nothing else would print it.
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        sys.exit("not all mutants were tried")
