"""Tests of the public names: completeness, and the modules that importing them loads."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import subprocess
import sys
import types

import pytest

import trio_anon_session as tas
from trio_anon_session.__main__ import main

EXTRAS = {
    "box_sdk_gen",
    "click",
    "cryptography",
    "httpx2",
    "hypercorn",
    "hypothesis",
    "jwt",
    "opentelemetry",
    "pytest",
    "redis",
    "rich",
    "trio.testing",
    "trio_anon_session.boxsdk",
    "trio_anon_session.httpx2",
    "trio_anon_session.otel",
    "trio_anon_session.testing",
    "trio_anon_session.threads",
}


def run_fresh(code: str) -> str:
    """Return the output of a new Python process that runs this code."""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


# Completeness


@pytest.mark.parametrize(
    "module",
    [
        "trio_anon_session",
        "trio_anon_session.boxsdk",
        "trio_anon_session.httpx2",
        "trio_anon_session.otel",
        "trio_anon_session.stores",
        "trio_anon_session.testing",
        "trio_anon_session.threads",
    ],
)
def test_exports_are_sorted_and_exist(module: str) -> None:
    """``__all__`` is sorted, has each name once, and all of its names exist."""
    package = importlib.import_module(module)
    names: list[str] = package.__all__
    assert len(set(names)) == len(names)
    assert names == sorted(names, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(package, name) for name in names)


@pytest.mark.parametrize(
    ("package", "modules", "kept_back"),
    [
        (
            "trio_anon_session",
            [
                "_auth",
                "_authentication._assertion",
                "_authentication._mutual_tls",
                "_authentication._sources",
                "_config",
                "_errors",
                "_events",
                "_manager",
                "_session",
                "_states",
                "_token",
            ],
            # Only annotations name these classes, and users do not need them.
            {"Facts", "MalformedAnswerError"},
        ),
        (
            "trio_anon_session.stores",
            ["_memory", "_protocol", "_redis", "_shared", "_sqlite"],
            set(),
        ),
        (
            "trio_anon_session.testing",
            ["_clients", "_faults", "_open", "_records", "_server"],
            set(),
        ),
        (
            "trio_anon_session.threads",
            ["_auth", "_session_thread"],
            set(),
        ),
    ],
)
def test_every_public_class_is_exported(
    package: str, modules: list[str], kept_back: set[str]
) -> None:
    """``__all__`` has every public class of the modules with public names."""
    exported = set(importlib.import_module(package).__all__)
    defined = {
        name
        for module in modules
        for name, value in vars(importlib.import_module(f"{package}.{module}")).items()
        if isinstance(value, type)
        and not isinstance(value, types.GenericAlias)
        and value.__module__ == f"{package}.{module}"
        and not name.startswith("_")
    }
    assert defined - exported == kept_back


def test_an_unknown_name() -> None:
    """An unknown attribute raises an ``AttributeError`` that names it and the package."""
    with pytest.raises(AttributeError, match=r"'trio_anon_session' has no attribute 'nonsense'"):
        _ = tas.nonsense


def test_version_is_that_of_the_distribution() -> None:
    """The version of the package is that of the distribution."""
    assert tas.__version__ == importlib.metadata.version("trio_anon_session")


def test_command_is_installed() -> None:
    """The distribution installs the command, which calls the main function."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="trio-anon-session")
    assert entry.load() is main


def test_types_are_shipped() -> None:
    """The package contains ``py.typed``."""
    assert importlib.resources.files(tas).joinpath("py.typed").is_file()


# Cost of imports


@pytest.mark.slow
def test_the_core_works_without_the_extras() -> None:
    """A session can be opened if neither the extras nor the test dependencies are installed."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(EXTRAS)}))\n"
        "import trio, trio_anon_session as tas\n"
        "async def main():\n"
        "    async with tas.AnonymousSession(tas.Config(client_id='i', client_secret='s')) as it:\n"
        "        print(it.state.name)\n"
        "trio.run(main)\n"
    )
    assert run_fresh(code) == "EMPTY\n"


@pytest.mark.slow
def test_rarely_used_modules_are_loaded_on_use() -> None:
    """Importing the package does not load rarely used modules; using their names does."""
    code = (
        "import trio, httpx, sys, trio_anon_session as tas\n"
        "ours = {'_auth', '_authentication._assertion', '_events'}\n"
        "late = {'trio_util', *(f'trio_anon_session.{name}' for name in ours)}\n"
        "print(not late & sys.modules.keys())\n"
        "print(set(tas.__all__) <= set(dir(tas)))\n"
        "from trio_anon_session import *\n"
        "print(Granted is tas.Granted, SessionAuth is tas.SessionAuth)\n"
        "print(late <= sys.modules.keys())\n"
        "print('trio_anon_session.testing' not in sys.modules)\n"
        "print(tas.testing is sys.modules['trio_anon_session.testing'])\n"
        "print(not {'pytest', 'hypothesis', 'hypercorn'} & sys.modules.keys())\n"
    )
    assert run_fresh(code).split() == ["True"] * 8
