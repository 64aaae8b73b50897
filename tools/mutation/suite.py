"""The tests that run on mutants, and the lines that each reaches."""

from __future__ import annotations

import ast
import importlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

import attrs
import coverage
import pytest

from .loading import module_name, source_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .mutants import Mutant

CORE = (
    *("lifecycle", "rounds", "dropped", "session", "gate", "backoff", "token", "revocation"),
    *("reporter", "nursery", "states", "auth", "flow", "body", "challenges", "origins"),
    *("advice", "reading", "manager", "exchange", "judging", "config", "checks", "secrets"),
    *("errors", "events", "misuse", "logging", "wire_logs", "http_libraries"),
    *("_authentication.credentials", "_authentication.sources"),
)
STORES = tuple(
    f"stores.{name}" for name in ("claimant", "known", "entry", "attempts", "questions", "shared")
)

# The other folders test the command, the test kit and the pages.
TESTS = [
    *("tests/promises", "tests/unit", "tests/session", "tests/http", "tests/stores"),
    *("tests/authentication", "tests/cancellation", "tests/threads", "tests/tools/faults"),
    *("tests/tools/leaks/test_leaks.py", "tests/tools/lifecycle", "tests/tools/claimant"),
]
OPTIONS = [
    *("-x", "-q", "-n0", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0", "--tb=no"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
]
AT_IMPORT = "import"


def options(*, everything: bool) -> list[str]:
    """Return pytest's options: for the quick suite, or for slow tests as well."""
    return [*OPTIONS, "-m", "not nightly" if everything else "not nightly and not slow", *TESTS]


class Recorder:
    """A plugin that records the lines and the time of each test."""

    def __init__(self, modules: Iterable[str]) -> None:
        self._files = {module: str(source_path(module)) for module in modules}
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, branch=False, include=[*self._files.values()]
        )
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._coverage.switch_context(item.nodeid)
        begun = time.perf_counter()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.perf_counter() - begun
            self._coverage.switch_context("")

    def run(self, file: Path, *, everything: bool) -> int:
        """Run all tests, and write the results."""
        self._coverage.start()
        self._coverage.switch_context(AT_IMPORT)
        for module in self._files:
            importlib.import_module(module_name(module))
        self._coverage.switch_context("")
        status = pytest.main(options(everything=everything), plugins=[self])
        self._coverage.stop()
        tests = [*self._seconds, AT_IMPORT]
        place = {test: 1 << number for number, test in enumerate(tests)}
        lines: dict[str, dict[int, str]] = {}
        data = self._coverage.get_data()
        for module, path in self._files.items():
            reached = data.contexts_by_lineno(path)
            lines[module] = {
                line: hex(sum({place[test] for test in found if test in place}))
                for line, found in reached.items()
            }
        file.write_text(json.dumps([self._seconds, tests, lines]))
        return int(status)


@attrs.frozen
class Suite:
    """The results of a run of all tests on the unchanged package.

    Attributes:
        seconds: the time of each test.
        tests: all tests, and the import.
        lines: by module and line, a bit for each test that runs it.
        killers: the test that failed on a mutant before, by the key of the mutant.
        enough: seconds of tests after which a mutant counts as a survivor.
    """

    seconds: dict[str, float]
    tests: list[str]
    lines: dict[str, dict[str, str]]
    killers: dict[str, str]
    enough: float

    @classmethod
    def read(cls, file: Path, killers: dict[str, str], enough: float) -> Suite:
        seconds, tests, lines = json.loads(file.read_text())
        return cls(seconds, tests, lines, killers, enough)

    def _reached_by(self, module: str, mutant: Mutant) -> set[str]:
        return self._that_run(module, mutant.lines)

    def _users_of(self, module: str, mutant: Mutant) -> set[str]:
        """Return the tests that run a line with the name that a changed line defines."""
        name = _name_at(min(mutant.lines), ast.parse(mutant.code).body)
        if name is None:
            return set()
        word = re.compile(rf"\b{name}\b")
        source = mutant.code.splitlines()
        lines = {number for number, line in enumerate(source, start=1) if word.search(line)}
        return self._that_run(module, lines - mutant.lines) - {AT_IMPORT}

    def _that_run(self, module: str, lines: Iterable[int]) -> set[str]:
        found = 0
        for line in lines:
            found |= int(self.lines[module].get(str(line), "0"), 16)
        return {test for number, test in enumerate(self.tests) if found >> number & 1}

    def needs_no_import(self, module: str, mutant: Mutant) -> bool:
        """Return whether a mutant changes a body that has not run when the tests begin."""
        return mutant.is_in_body and AT_IMPORT not in self._reached_by(module, mutant)

    def tests_of(self, module: str, mutant: Mutant) -> list[str]:
        """Return the tests that can fail on a mutant, the fastest first.

        The test that failed the last time comes before all others.
        """
        found = self._reached_by(module, mutant) - {AT_IMPORT}
        killer = name_of(self.killers.get(mutant.key(module), ""))

        # Every test can fail on code that runs at import, but few do.
        own = {test for test in self.seconds if _is_in_file_of(module, test)}
        near = set() if found else own | self._users_of(module, mutant)

        def rank(test: str) -> tuple[bool, bool, float, bool, float]:
            seconds = self.seconds[test]
            return (
                name_of(test) != killer,
                test not in near,
                seconds // 0.1,
                not is_own(module, test),
                seconds,
            )

        chosen: list[str] = []
        spent = 0.0
        for test in sorted(found or self.seconds, key=rank):
            if spent > self.enough:
                break
            chosen.append(test)
            spent += self.seconds[test]
        return chosen


def is_own(module: str, test: str) -> bool:
    """Return whether a test is in the file of a module, or in tests/promises."""
    return _is_in_file_of(module, test) or test.startswith("tests/promises/")


def _is_in_file_of(module: str, test: str) -> bool:
    return f"/test_{module.rpartition('.')[2]}.py" in test


def _name_at(line: int, body: list[ast.stmt]) -> str | None:
    """Return the name of the variable, function or class that a line belongs to."""
    for node in body:
        first = min(
            (one.lineno for one in getattr(node, "decorator_list", [])), default=node.lineno
        )
        if first <= line <= (node.end_lineno or first):
            match node:
                case ast.ClassDef(name=name):
                    return _name_at(line, node.body) or name
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    return name
                case ast.Assign(targets=[ast.Name(id=name)]):
                    return name
                case (
                    ast.AnnAssign(target=ast.Name(id=name))
                    | ast.AugAssign(target=ast.Name(id=name))
                ):
                    return name
    return None


def name_of(test: str) -> str:
    """Return the name of a test, without its file."""
    return test.rpartition("::")[2]
