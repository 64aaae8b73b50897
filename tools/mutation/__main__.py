"""Run the tests on every mutant of the core, and list those that no test notices.

    python -m tools.mutation [--again] [MODULE ...]

A mutant is tried in a fork: nothing is written to the source, and one that hangs is killed.
Most mutants are another body of a function. For those the tests are collected once, and
each fork puts the body in. For the others a fork imports the package anew.

Of the tests, those are run that reach the changed lines, the quickest first, up to the
first that fails. Hypothesis draws fewer examples than usual, the same ones each time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import re
import signal
import sys
import time
import types
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import coverage
import hypothesis
import pytest

from .loading import PACKAGE, ROOT, load_from, source_path
from .mutants import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CORE = (
    *("lifecycle", "rounds", "session", "gate", "backoff", "token", "revocation", "reporter"),
    *("nursery", "states", "auth", "flow"),
    *("advice", "manager", "config", "secrets", "errors", "events", "logging", "wire_logs"),
)
ACCEPTED = Path(__file__).with_name("survivors.md")
RESULTS = ROOT / ".mutation"

# The others are of the command, the demo and the test kit.
TESTS = [
    "tests/promises",
    *(str(path) for path in map("tests/test_{}.py".format, CORE) if (ROOT / path).exists()),
    *("tests/auth", "tests/faults", "tests/leaks", "tests/test_client_authentication.py"),
    *("tests/test_misuse.py", "tests/test_claims.py", "tests/test_exports.py"),
]
# What the package and its tests import, so that a fork need not.
LIBRARIES = (
    *("attrs", "httpx", "hypercorn.trio", "hypothesis.strategies", "hypothesis.stateful"),
    *("sybil", "trio.testing", "trio_util"),
)
OPTIONS = [
    # Subprocesses see no mutant, and real time is slow.
    *("-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0"),
    *("--tb=no", "-W", "ignore::pytest.PytestAssertRewriteWarning"),
]
AT_IMPORT = "import"
SURVIVED, KILLED, TIMED_OUT, STILLBORN = "survived", "killed", "timed out", "stillborn"
_STATUS = {
    0: SURVIVED,
    98: STILLBORN,
    -signal.SIGALRM: TIMED_OUT,
    -signal.SIGVTALRM: TIMED_OUT,
}
_UNFIT = 96


def _fork(work: Callable[[], int], *, silent: bool = True) -> int:
    """Return the exit status of a piece of work in a fork."""
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
    """Have the kernel end this process if a test takes far longer than it should.

    By its own time, and by the clock's, for a test that spins and for one that waits.
    """
    signal.setitimer(signal.ITIMER_VIRTUAL, 3.0 + 4.0 * seconds)
    signal.setitimer(signal.ITIMER_REAL, 15.0 + 20.0 * seconds)


class _Recorder:
    """A plugin that notes which lines each test runs, and how long it takes."""

    def __init__(self) -> None:
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, branch=False, source_pkgs=[PACKAGE]
        )
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[int, list[str]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._coverage.switch_context(item.nodeid)
        begun = time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.perf_counter() - begun
            self._coverage.switch_context("")

    def run(self) -> int:
        self._coverage.start()
        self._coverage.switch_context(AT_IMPORT)
        importlib.import_module(PACKAGE)
        self._coverage.switch_context("")
        status = pytest.main([*OPTIONS, *TESTS], plugins=[self])
        self._coverage.stop()
        data = self._coverage.get_data()
        for file in data.measured_files():
            self.lines[Path(file).stem] = data.contexts_by_lineno(file)
        return int(status)


@attrs.frozen
class _Suite:
    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    @classmethod
    def record(cls) -> _Suite:
        """Run all tests once on the package as it is."""
        file = RESULTS / f"suite-{os.getpid()}.json"

        def work() -> int:
            recorder = _Recorder()
            status = recorder.run()
            file.write_text(json.dumps([recorder.seconds, recorder.lines]))
            return status

        if _fork(work) != 0:
            sys.exit("the tests fail without any mutant: see pytest")
        suite = cls(*json.loads(file.read_text()))
        file.unlink()
        return suite

    def _reached_by(self, module: str, mutant: Mutant) -> set[str]:
        lines = self.lines.get(f"_{module}", {})
        return {test for line in mutant.lines for test in lines.get(str(line), ())}

    def is_for_tests_alone(self, module: str, mutant: Mutant) -> bool:
        """Return whether a mutant is a body that has not been run when the tests begin."""
        return mutant.is_in_body and AT_IMPORT not in self._reached_by(module, mutant)

    def tests_of(self, module: str, mutant: Mutant) -> list[str]:
        """Return the tests that can notice a mutant, the quick ones first."""
        found = self._reached_by(module, mutant) - {"", AT_IMPORT}

        def rank(test: str) -> tuple[float, bool, float]:
            seconds = self.seconds[test]
            return seconds // 0.1, not _is_own(module, test), seconds

        # What is run at import, every test may notice.
        return sorted(found or self.seconds, key=rank)


def _is_own(module: str, test: str) -> bool:
    own = f"tests/test_{module}.py"
    return test.startswith(own if own in TESTS else "tests/promises/")


# What has changed is the body of a function


@attrs.frozen
class _Bodies:
    """A plugin that runs the collected tests not once, but for each mutant."""

    suite: _Suite
    wanted: list[tuple[str, Mutant]]
    tell: Callable[[str, Mutant, str], None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        assert items.keys() == self.suite.seconds.keys()
        for module, mutant in self.wanted:
            status = _fork(functools.partial(self._try, session, items, module, mutant))
            self.tell(module, mutant, _STATUS.get(status, KILLED))
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
            _limit(self.suite.seconds[test])
            item = items[test]
            item.config.hook.pytest_runtest_protocol(
                item=item, nextitem=items[following] if following else None
            )
            if session.testsfailed:
                return 1
        return 0


def _put_in(module: str, mutant: Mutant) -> None:
    real = sys.modules[f"{PACKAGE}._{module}"]
    assert real.__file__ is not None
    changed = types.ModuleType(real.__name__)
    changed.__dict__.update(__file__=real.__file__, __package__=PACKAGE)
    # attrs looks for the module of a class there.
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
    assert isinstance(found, types.FunctionType)
    return found


# What has changed is run when the package is imported


@attrs.frozen
class _Chosen:
    """A plugin that leaves the tests that were chosen, in their order."""

    tests: list[str]
    suite: _Suite

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        _limit(self.suite.seconds[nodeid])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {test: place for place, test in enumerate(self.tests)}
        chosen = (item for item in items if item.nodeid in order)
        items[:] = sorted(chosen, key=lambda item: order[item.nodeid])


def _try_anew(module: str, mutant: Mutant, suite: _Suite) -> str:
    tests = suite.tests_of(module, mutant)
    # In two goes: to collect the one file that mirrors the module takes no time.
    for own in (True, False):
        chosen = [test for test in tests if _is_own(module, test) is own]
        outcome = _try_tests(module, mutant, suite, chosen) if chosen else SURVIVED
        if outcome != SURVIVED:
            break
    return outcome


def _try_tests(module: str, mutant: Mutant, suite: _Suite, tests: list[str]) -> str:
    def work() -> int:
        # For the imports, until the tests have limits of their own.
        _limit(10.0)
        load_from(module, mutant.code)
        try:
            importlib.import_module(PACKAGE)
            importlib.import_module(f"{PACKAGE}._{module}")
        except BaseException:
            return 98
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        return int(pytest.main([*OPTIONS, *files], plugins=[_Chosen(tests, suite)]))

    return _STATUS.get(_fork(work), KILLED)


# Results


@attrs.define
class _Results:
    """What became of the mutants of each module, also of those of an earlier run."""

    accepted: set[str]
    outcomes: dict[str, dict[str, str]] = attrs.field(factory=dict)
    # pytest captures the other one.
    out: TextIO = attrs.field(factory=lambda: os.fdopen(os.dup(1), "w"))

    @staticmethod
    def key(module: str, mutant: Mutant) -> str:
        return f"{module} {mutant.place}: {mutant.change}"

    def tell(self, module: str, mutant: Mutant, outcome: str) -> None:
        key = self.key(module, mutant)
        self.outcomes[module][key] = outcome
        self.save(module)
        if outcome == SURVIVED and key not in self.accepted:
            print(f"survived  {key}", file=self.out, flush=True)

    def save(self, module: str) -> None:
        text = json.dumps(self.outcomes[module], indent=0, ensure_ascii=False)
        (RESULTS / f"{module}.json").write_text(text)

    def load(self, module: str) -> None:
        file = RESULTS / f"{module}.json"
        if file.exists():
            self.outcomes[module] = json.loads(file.read_text())

    def show(self) -> bool:
        """Print the table, and return whether the survivors are those that are accepted."""
        columns = (KILLED, TIMED_OUT, SURVIVED, "accepted", STILLBORN)
        print("module".ljust(11), *(column.rjust(9) for column in columns), "score".rjust(8))
        table = {}
        for module, outcomes in self.outcomes.items():
            table[module] = Counter(outcomes.values())
            survivors = {key for key, outcome in outcomes.items() if outcome == SURVIVED}
            table[module]["accepted"] = len(survivors & self.accepted)
        total: Counter[str] = sum(table.values(), Counter())
        for module, counts in [*table.items(), ("all", total)]:
            killed = counts[KILLED] + counts[TIMED_OUT]
            score = 100 * killed / max(1, killed + counts[SURVIVED])
            cells = (str(counts[column]).rjust(9) for column in columns)
            print(module.ljust(11), *cells, f"{score:7.1f}%")
        known = {key for outcomes in self.outcomes.values() for key in outcomes}
        listed = {key for key in self.accepted if key.partition(" ")[0] in self.outcomes}
        for key in sorted(listed - known):
            print(f"listed in {ACCEPTED.name}, and no mutant: {key}")
        return total[SURVIVED] == total["accepted"] and listed <= known


def _accepted() -> set[str]:
    """Return the keys of the survivors that are listed with a reason."""
    if not ACCEPTED.exists():
        return set()
    return set(re.findall(r"^- `` ?(.+?) ?``$", ACCEPTED.read_text(), re.MULTILINE))


def _run(modules: Sequence[str], results: _Results) -> None:
    suite = _Suite.record()
    wanted = []
    for module in modules:
        known = results.outcomes.get(module, {})
        results.outcomes[module] = {}
        for mutant in mutants(source_path(module).read_text()):
            key = results.key(module, mutant)
            if key in known and (known[key] != SURVIVED or key in results.accepted):
                results.outcomes[module][key] = known[key]
            else:
                wanted.append((module, mutant))
        results.save(module)

    def bodies() -> int:
        plugin = _Bodies(
            suite, [one for one in wanted if suite.is_for_tests_alone(*one)], results.tell
        )
        with (RESULTS / "pytest.log").open("w") as log, contextlib.redirect_stdout(log):
            return int(pytest.main([*OPTIONS, *TESTS], plugins=[plugin]))

    if _fork(bodies, silent=False) != 0:
        sys.exit(f"the tests could not be run on the mutants: see {RESULTS / 'pytest.log'}")
    for module in modules:
        results.load(module)
    for module, mutant in wanted:
        if not suite.is_for_tests_alone(module, mutant):
            results.tell(module, mutant, _try_anew(module, mutant, suite))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as session; else all")
    parser.add_argument("--again", action="store_true", help="only what is open from the last time")
    options = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=25,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    os.chdir(ROOT)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")
    results = _Results(_accepted())
    modules = options.modules or CORE
    if options.again:
        for module in modules:
            results.load(module)
    _run(modules, results)
    if not results.show():
        sys.exit(1)


if __name__ == "__main__":
    main()
