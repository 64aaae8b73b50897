"""Try mutants one after the other, each in a fork."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import types
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from .loading import PACKAGE, load_from, module_name
from .suite import is_own, name_of, options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .mutants import Mutant
    from .suite import Suite

    Report = Callable[[str, Mutant, str, str], None]

SURVIVED, KILLED, TIMED_OUT, STILLBORN = "survived", "killed", "timed out", "stillborn"
_STATUS = {
    0: SURVIVED,
    1: KILLED,
    2: KILLED,
    # The mutant keeps a conftest.py from being imported.
    pytest.ExitCode.USAGE_ERROR: KILLED,
    98: STILLBORN,
    -signal.SIGALRM: TIMED_OUT,
    -signal.SIGVTALRM: TIMED_OUT,
}
_UNFIT = 96


def fork(work: Callable[[], int], *, silent: bool = True) -> int:
    """Run a function in a fork, and return its exit status."""
    child = os.fork()
    if child == 0:
        status = 97
        try:
            if silent:
                nothing = os.open(os.devnull, os.O_RDWR)
                for descriptor in (0, 1, 2):
                    os.dup2(nothing, descriptor)
            status = work()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == _UNFIT:
        raise RuntimeError("a mutant could not be put in place")
    return status


def _limit(seconds: float) -> None:
    """Let the kernel end this process if a test takes far too long.

    The limits are on processor time, for a test that spins, and on real time, for one that waits.
    """
    signal.setitimer(signal.ITIMER_VIRTUAL, 3.0 + 4.0 * seconds)
    signal.setitimer(signal.ITIMER_REAL, 15.0 + 20.0 * seconds)


@attrs.frozen
class _Running:
    """A plugin that reports the running test to the parent process."""

    file: Path
    suite: Suite

    def begin(self, test: str) -> None:
        self.file.write_text(test)
        _limit(self.suite.seconds[test])

    def last(self) -> str:
        return self.file.read_text() if self.file.exists() else ""


@attrs.frozen
class Bodies:
    """A plugin that runs the collected tests for each mutant of a function's body."""

    suite: Suite
    wanted: list[tuple[str, Mutant]]
    running: _Running
    report: Report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        assert items.keys() == self.suite.seconds.keys()
        for module, mutant in self.wanted:
            status = fork(functools.partial(self._try, session, items, module, mutant))
            self.report(module, mutant, _STATUS.get(status, KILLED), self.running.last())
        return True

    def _try(
        self, session: pytest.Session, items: dict[str, pytest.Item], module: str, mutant: Mutant
    ) -> int:
        try:
            _put_in(module, mutant)
        except BaseException:
            return _UNFIT
        tests = self.suite.tests_of(module, mutant)
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            self.running.begin(test)
            item = items[test]
            item.config.hook.pytest_runtest_protocol(
                item=item, nextitem=items[following] if following else None
            )
            if session.testsfailed:
                return 1
        return 0


def _put_in(module: str, mutant: Mutant) -> None:
    # Some modules are imported only when they are used.
    real = importlib.import_module(module_name(module))
    assert real.__file__ is not None
    changed = types.ModuleType(real.__name__)
    changed.__dict__.update(__file__=real.__file__, __package__=real.__package__)
    # attrs looks up the module of a class in sys.modules.
    sys.modules[real.__name__] = changed
    exec(compile(mutant.code, real.__file__, "exec", dont_inherit=True), changed.__dict__)
    sys.modules[real.__name__] = real
    _function(real, mutant.place).__code__ = _function(changed, mutant.place).__code__


def _function(module: types.ModuleType, place: str) -> types.FunctionType:
    found: Any = module
    for name in place.split("."):
        found = vars(found)[name]
    if isinstance(found, property):
        found = found.fget
    found = getattr(found, "__func__", found)
    # A context manager wraps its generator function.
    found = getattr(found, "__wrapped__", found)
    assert isinstance(found, types.FunctionType)
    return found


# pytest puts its plugins into sets.
@attrs.frozen(eq=False)
class _Chosen:
    """A plugin that keeps only the chosen tests, in their order."""

    tests: list[str]
    running: _Running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running.begin(nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {test: place for place, test in enumerate(self.tests)}
        chosen = (item for item in items if item.nodeid in order)
        items[:] = sorted(chosen, key=lambda item: order[item.nodeid])


def try_bodies(
    suite: Suite, wanted: list[tuple[str, Mutant]], report: Report, file: Path, *, everything: bool
) -> int:
    """Try mutants that change the body of a function. The tests are collected once."""
    plugin = Bodies(suite, wanted, _Running(file, suite), report)
    return int(pytest.main(options(everything=everything), plugins=[plugin]))


def try_with_import(module: str, mutant: Mutant, suite: Suite, file: Path) -> tuple[str, str]:
    """Try a mutant of code that runs at import, and return the outcome and the last test."""
    running = _Running(file, suite)
    tests = suite.tests_of(module, mutant)
    killer = name_of(suite.killers.get(mutant.key(module), ""))
    outcome = SURVIVED
    # Run the tests in several passes, because pytest collects a single file in no time.
    goes = (
        [test for test in tests if name_of(test) == killer],
        [test for test in tests if is_own(module, test)],
        [test for test in tests if not is_own(module, test)],
    )
    for chosen in goes:
        if chosen and outcome == SURVIVED:
            outcome = _try_tests(module, mutant, chosen, running)
    return outcome, running.last()


def _try_tests(module: str, mutant: Mutant, tests: list[str], running: _Running) -> str:
    def work() -> int:
        # This limit is for the imports. Later, each test sets its own limit.
        _limit(10.0)
        load_from(module, mutant.code)
        try:
            importlib.import_module(PACKAGE)
            importlib.import_module(module_name(module))
        except BaseException:
            return 98
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        chosen = [one for one in options(everything=True) if not one.startswith("tests/")]
        return int(pytest.main([*chosen, *files], plugins=[_Chosen(tests, running)]))

    return _STATUS[fork(work)]
