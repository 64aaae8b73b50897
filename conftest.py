"""Settings of all tests, and the code blocks of the README and of docs/ as tests."""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.sybil import SybilCollection

from tests.docs.blocks import every_block
from tests.ports import served_in_thread
from trio_anon_session.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("brief", settings.get_profile("ci"), max_examples=10)
settings.register_profile("thorough", deadline=None, max_examples=2000)

ROOT = Path(__file__).parent

# Background jobs ignore SIGINT, and so would the processes to which tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_collect_file = SybilCollection(
    [
        Sybil(
            parsers=[every_block],
            patterns=["README.md", "docs/*.md", "docs/**/*.md"],
            fixtures=["example_modules", "examples_copy", "own_log", "served_environment"],
        ),
    ]
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which tests run, and in which order."""
    parser.addoption("--all", action="store_true", help="also run the tests that are marked slow")
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in another order")


def is_quick(config: pytest.Config) -> bool:
    """Return whether the quick suite runs: no files and no ``--all`` on the command line."""
    if not hasattr(config.option, "is_quick"):
        names_nothing = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        # The processes of pytest-xdist get options, but not the command line.
        config.option.is_quick = names_nothing and not config.option.all
    result: bool = config.option.is_quick
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples are drawn."""
    usual = "brief" if is_quick(config) else "ci" if config.option.all else "dev"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", usual))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processes for the suite.

    Many slow tests wait, so that one process more than cores is faster for all tests. Files that
    the command line names run in pytest's own process.
    """
    if is_quick(config) or config.option.all:
        return (os.cpu_count() or 1) + (not is_quick(config))
    return 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect slow tests, unless the command line has ``--all``, names files, or has a marker."""
    if config.option.shuffle is not None:
        shuffle(items, random.Random(config.option.shuffle))
    names_something = not (is_quick(config) or config.option.all)
    if names_something or "nightly" in config.option.markexpr:
        return
    left_out = [item for item in items if is_left_out(item, config)]
    config.hook.pytest_deselected(items=left_out)
    gone = {*left_out}
    items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """Exclude what exists now from garbage collections.

    The modules and thousands of tests stay until the end, and a full collection that looks at all
    of them takes 0.2 s.
    """
    gc.freeze()


def shuffle(items: list[pytest.Item], chance: random.Random) -> None:
    """Shuffle the files, and the tests of each file.

    The blocks of a page stay in order, because they build on each other.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    order = [*files.items()]
    chance.shuffle(order)
    for path, tests in order:
        if path.suffix != ".md":
            chance.shuffle(tests)
    items[:] = [item for _, tests in order for item in tests]


def is_left_out(item: pytest.Item, config: pytest.Config) -> bool:
    """Return whether a test belongs to a larger suite than the one that runs."""
    has = item.get_closest_marker
    is_slow = has("slow") is not None and has("quick") is None
    leaves_slow_ones = is_quick(config) and not config.option.markexpr
    return has("nightly") is not None or (leaves_slow_ones and is_slow)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print how to run the tests that were deselected."""
    if is_quick(config):
        terminalreporter.write_line(
            "These were the quick tests. `pytest --all` also runs the slow ones."
        )


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the machine from the environment of every test."""
    for name in tuple(os.environ):
        if name.startswith(("BOX_", "TRIO_ANON_SESSION_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _same_jitter() -> None:
    """Draw the same jitter each time; Hypothesis seeds its examples by itself."""
    random.seed(0)


@pytest.fixture
def example_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page import the modules of the examples."""
    for folder in (ROOT / "examples").iterdir():
        monkeypatch.syspath_prepend(folder)


@pytest.fixture
def examples_copy(tmp_path: Path) -> Path:
    """Copy the examples, so that the commands of a page can write files."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)
    # `pytest examples` runs this test with all of its timelines.
    test = tmp_path / "examples" / "mirror" / "test_mirror.py"
    test.write_text(test.read_text().replace("max_examples=100", "max_examples=5"))
    return tmp_path


@pytest.fixture
def own_log() -> Iterator[None]:
    """Let a page configure logging, and restore it afterwards."""
    logger = logging.getLogger("trio_anon_session")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def served_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a token server on loopback, and set the variables that ``serve`` prints."""
    server = TokenServer()
    with served_in_thread(server) as url:
        (client,) = server.clients.values()
        monkeypatch.setenv("BOX_API_ROOT_URL", url)
        monkeypatch.setenv("BOX_CLIENT_ID", client.client_id)
        monkeypatch.setenv("BOX_CLIENT_SECRET", client.client_secret or "")
        yield
    assert server.verdicts.keys() <= {"good"}
